"""Values of a step as expression trees over affine loads: what one element is, as a function of the loop indices."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch

from nastavnik.errors import UserError

Strides = tuple[int, ...]


class NotCompilable(UserError):
    """This step cannot be put into C; the message names what stands in the way."""


class _NotAffine(Exception):
    """A view that strides cannot express."""


@dataclass(frozen=True)
class Buffer:
    """Memory of one network: an ``argument`` of the step, a ``constant`` tensor, or ``scratch``."""

    name: str
    dtype: torch.dtype
    size: int
    kind: str


@dataclass(frozen=True)
class Load:
    """``buffer[offset + Σ strides·loop indices + Σ stride·index value]``."""

    buffer: Buffer
    strides: Strides
    offset: int = 0
    index: tuple[tuple[Expression, int], ...] = ()

    @property
    def dtype(self) -> torch.dtype:
        """The element's type."""
        return self.buffer.dtype


@dataclass(frozen=True)
class Position:
    """``offset + Σ strides·loop indices`` itself, as ``arange`` gives it."""

    strides: Strides
    offset: int
    dtype: torch.dtype


@dataclass(frozen=True)
class Constant:
    """A number."""

    value: float | int | bool
    dtype: torch.dtype


@dataclass(frozen=True)
class Call:
    """``form`` is C with ``{0}``, ``{1}``, … for the arguments."""

    form: str
    arguments: tuple[Expression, ...]
    dtype: torch.dtype


Expression = Load | Position | Constant | Call


@dataclass(frozen=True)
class Value:
    """A tensor: its shape, and what one element of it is."""

    shape: tuple[int, ...]
    expression: Expression

    @property
    def dtype(self) -> torch.dtype:
        """The elements' type."""
        return self.expression.dtype

    @property
    def size(self) -> int:
        """How many elements."""
        return torch.Size(self.shape).numel()

    def seen(self, shape: tuple[int, ...], change: Callable[[Strides], tuple[Strides, int]]) -> Value:
        """The same elements under another shape; ``change`` maps strides to (strides, what is added to offsets)."""
        return Value(shape, _rearranged(self.expression, change))

    def expanded(self, shape: tuple[int, ...]) -> Value:
        """Broadcast as PyTorch does: new leading dimensions, and sizes of 1 repeated."""
        if shape == self.shape:
            return self
        lead = len(shape) - len(self.shape)

        def change(strides: Strides) -> tuple[Strides, int]:
            own = tuple(
                0 if have != want else s for s, have, want in zip(strides, self.shape, shape[lead:], strict=True)
            )
            return (0,) * lead + own, 0

        return self.seen(shape, change)

    def reshaped(self, shape: tuple[int, ...]) -> Value | None:
        """The same elements in row-major order under another shape; None where strides cannot express it."""
        try:
            return self.seen(shape, lambda strides: (_reshaped(self.shape, strides, shape), 0))
        except _NotAffine:
            return None


def leaves(expression: Expression) -> Iterator[Load | Position]:
    """All loads and positions, those inside indices included."""
    if isinstance(expression, Call):
        for argument in expression.arguments:
            yield from leaves(argument)
    elif isinstance(expression, Load):
        yield expression
        for index, _ in expression.index:
            yield from leaves(index)
    elif isinstance(expression, Position):
        yield expression


def is_plain(expression: Expression) -> bool:
    """Whether repeating it costs nothing: a load without an index, a position or a constant."""
    return not isinstance(expression, Call) and not (isinstance(expression, Load) and expression.index)


def contiguous(shape: tuple[int, ...]) -> Strides:
    """Row-major strides."""
    strides, step = [], 1
    for size in reversed(shape):
        strides.append(step)
        step *= size
    return tuple(reversed(strides))


def _rearranged(e: Expression, change: Callable[[Strides], tuple[Strides, int]]) -> Expression:
    if isinstance(e, Call):
        return replace(e, arguments=tuple(_rearranged(a, change) for a in e.arguments))
    if isinstance(e, Constant):
        return e
    strides, more = change(e.strides)
    if isinstance(e, Position):
        return replace(e, strides=strides, offset=e.offset + more)
    index = tuple((_rearranged(i, change), stride) for i, stride in e.index)
    return replace(e, strides=strides, offset=e.offset + more, index=index)


def _reshaped(shape: tuple[int, ...], strides: Strides, new: tuple[int, ...]) -> Strides:
    """Strides of the row-major regrouping ``new`` of a strided ``shape``."""
    runs: list[tuple[int, int]] = []  # (size, innermost stride) of dimensions that lie one behind the other
    for size, stride in zip(shape, strides, strict=True):
        if size == 1:
            continue
        if runs and runs[-1][1] == stride * size:
            runs[-1] = (runs[-1][0] * size, stride)
        else:
            runs.append((size, stride))
    found = []
    left, stride = 1, 0
    for size in reversed(new):
        if size == 1:
            found.append(0)
            continue
        if left == 1:
            left, stride = runs.pop()
        if left % size:
            raise _NotAffine
        found.append(stride)
        left, stride = left // size, stride * size
    return tuple(reversed(found))
