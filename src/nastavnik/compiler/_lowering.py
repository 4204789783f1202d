"""From the operations of one network's step to kernels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from nastavnik.compiler._expressions import (
    Buffer,
    Call,
    Constant,
    Expression,
    Load,
    NotCompilable,
    Position,
    Value,
    contiguous,
    is_plain,
    leaves,
)
from nastavnik.compiler._kernels import Kernel, Loop, Product, Reduction, Store, merged
from nastavnik.compiler._tracing import Operation, Recording, Tensor

TYPES = {
    torch.float32: "float",
    torch.float64: "double",
    torch.int64: "long",
    torch.int32: "int",
    torch.bool: "unsigned char",
    torch.uint8: "unsigned char",
}
_MOST_LEAVES = 24  # a longer expression is computed in two loops
_LANES = 16  # products are laid out in multiples of this many columns


@dataclass
class Lowered:
    """A step as kernels, with the buffers they touch."""

    kernels: list[Kernel]
    arguments: list[Buffer]
    constants: dict[Buffer, torch.Tensor]


@dataclass
class Lowering:
    """The state of one translation; ``LOWERINGS`` holds a function for each aten operation."""

    kernels: list[Kernel] = field(default_factory=list)
    constants: dict[Buffer, torch.Tensor] = field(default_factory=dict)
    names: int = 0

    # Building blocks for the operations

    def scratch(self, shape: Sequence[int], dtype: torch.dtype) -> tuple[Buffer, Load]:
        """Fresh memory, and the row-major place of its elements."""
        if dtype not in TYPES:
            raise NotCompilable(f"the type {dtype}")
        self.names += 1
        size = torch.Size(shape).numel()
        buffer = Buffer(f"s{self.names}", dtype, size, "scratch")
        return buffer, Load(buffer, contiguous(tuple(shape)))

    def constant(self, tensor: torch.Tensor) -> Value:
        """A tensor that the step carries with it."""
        tensor = tensor.detach().contiguous().cpu()
        if tensor.dtype not in TYPES:
            raise NotCompilable(f"the type {tensor.dtype}")
        if tensor.ndim == 0:
            return Value((), Constant(tensor.item(), tensor.dtype))
        self.names += 1
        buffer = Buffer(f"c{self.names}", tensor.dtype, tensor.numel(), "constant")
        self.constants[buffer] = tensor
        return Value(tuple(tensor.shape), Load(buffer, contiguous(tuple(tensor.shape))))

    def realized(self, value: Value) -> Value:
        """The same value, lying in memory."""
        plain = isinstance(value.expression, Load) and not value.expression.index
        return value if plain else self.stored(value)

    def stored(self, value: Value) -> Value:
        """The same value in fresh memory, row by row."""
        _, place = self.scratch(value.shape, value.dtype)
        self.kernels.append(Loop(value.shape, [Store(place, value.expression)]))
        return Value(value.shape, place)

    def packed(self, value: Value) -> Value:
        """The same value, lying in memory row by row."""
        e = value.expression
        if isinstance(e, Load) and not e.index and _same(e.strides, contiguous(value.shape), value.shape):
            return value
        return self.stored(value)

    def expanded(self, value: Value, shape: tuple[int, ...]) -> Value:
        """Broadcast; what costs anything is computed before it is repeated."""
        if torch.Size(shape).numel() > value.size and not is_plain(value.expression):
            value = self.realized(value)
        return value.expanded(shape)

    def reshaped(self, value: Value, shape: tuple[int, ...]) -> Value:
        """Another shape in row-major order."""
        return value.reshaped(shape) or _given(self.packed(value).reshaped(shape))

    def pointwise(self, form: str, values: Sequence[Value], dtype: torch.dtype, of: torch.dtype | None = None) -> Value:
        """``form`` of broadcast values, each taken as type ``of`` (``dtype`` itself by default)."""
        if dtype not in TYPES:
            raise NotCompilable(f"the type {dtype}")
        shape = np.broadcast_shapes(*(v.shape for v in values))
        arguments = tuple(cast(self.expanded(v, tuple(shape)).expression, of or dtype) for v in values)
        return Value(tuple(shape), Call(form, arguments, dtype))

    def reduced(self, kind: str, value: Value, dims: Sequence[int] | None, keep: bool) -> Value:
        """Sum, largest or smallest over some dimensions (all when None or empty)."""
        rank = len(value.shape)
        chosen = {d % rank for d in dims} if dims else set(range(rank))
        flags = tuple(d in chosen for d in range(rank))
        kept = tuple(1 if flag else size for size, flag in zip(value.shape, flags, strict=True))
        buffer, _ = self.scratch(kept, value.dtype)
        strides = tuple(0 if flag else s for s, flag in zip(contiguous(kept), flags, strict=True))
        self.kernels.append(Reduction(value.shape, flags, kind, value.expression, Load(buffer, strides)))
        result = Value(kept, Load(buffer, contiguous(kept)))
        if keep:
            return result
        return self.reshaped(result, tuple(s for s, flag in zip(value.shape, flags, strict=True) if not flag))

    def product(self, left: Value, right: Value) -> Value:
        """Matrix product [c, m, k] · [c, k, n]."""
        left, right = self.realized(left), self.realized(right)
        count, m, k = left.shape
        n = right.shape[2]
        assert isinstance(left.expression, Load)
        assert isinstance(right.expression, Load)
        a, b = left.expression, right.expression
        if b.strides[2] != 1 and n > 1 and a.strides[1] == 1:  # the transposed product reads both in order
            swapped = self.product(_transposed(right), _transposed(left))
            return _transposed(swapped)
        _, place = self.scratch((count, m, n), left.dtype)
        pack, _ = self.scratch((k * (-(-n // _LANES) * _LANES) + 8 * _LANES,), left.dtype)
        self.kernels.append(Product((count, m, k, n), a, b, place, pack))
        return Value((count, m, n), place)

    def adding(self, start: Value, index: Sequence[tuple[Value, int]], strides: Sequence[int], update: Value) -> Value:
        """A copy of ``start`` with ``update`` added at ``strides``·loop indices plus each index times its stride."""
        buffer, place = self.scratch(start.shape, start.dtype)
        self.kernels.append(Loop(start.shape, [Store(place, start.expression)]))
        shape = update.shape
        parts = tuple((i.expanded(shape).expression, stride) for i, stride in index)
        target = Load(buffer, tuple(strides), 0, parts)
        self.kernels.append(Loop(shape, [Store(target, cast(update.expression, start.dtype), adds=True)]))
        return Value(start.shape, place)

    # The recording

    def operate(self, operation: Operation, values: dict[Tensor, Value]) -> None:
        """Enter the values of an operation's results."""
        name = operation.name
        if name not in LOWERINGS:
            raise NotCompilable(f"the operation {name}")
        arguments = _valued(operation.arguments, values)
        options = {n: _valued(v, values) for n, v in operation.options.items() if n != "dtype"}  # the result knows it
        dtype = next(r.example.dtype for r in operation.results if r)
        try:
            found = LOWERINGS[name](self, dtype, *arguments, **options)
        except (TypeError, ValueError, LookupError, ArithmeticError, AssertionError) as error:
            raise NotCompilable(f"this use of the operation {name} ({error})") from error
        if name == "native_batch_norm":  # it changes its running statistics in place, which are copies by now
            *found, values[operation.arguments[3]], values[operation.arguments[4]] = found
        for result, value in zip(operation.results, [found] if isinstance(found, Value) else found, strict=True):
            if result is not None:
                values[result] = self.kept(value, result.users)

    def kept(self, value: Value, users: int) -> Value:
        """The value, in memory when it is used more than once or long to compute."""
        long = users > 1 or sum(1 for _ in leaves(value.expression)) > _MOST_LEAVES
        return self.realized(value) if long and not is_plain(value.expression) else value


LOWERINGS: dict[str, Callable[..., Any]] = {}


def lower(recording: Recording, state: Sequence[tuple[int, int]]) -> Lowered:
    """Translate a step.

    Args:
        recording: its operations.
        state: pairs (argument, output): this output is the argument's new value and takes its place. Every other
            output is written to one more argument, appended in order.

    Raises:
        NotCompilable: an operation or a type is not known here.
    """
    work = Lowering()
    values: dict[Tensor, Value] = {}
    arguments: list[Buffer] = []
    for tensor in recording.arguments:
        example = tensor.example
        if example.dtype not in TYPES:
            raise NotCompilable(f"the type {example.dtype}")
        arguments.append(Buffer(f"x{len(arguments)}", example.dtype, example.numel(), "argument"))
        shape = tuple(example.shape)
        values[tensor] = Value(shape, Load(arguments[-1], contiguous(shape)))
    values |= {tensor: work.constant(tensor.example) for tensor in recording.constants}
    for operation in recording.operations:
        work.operate(operation, values)
    outputs = [values[tensor] for tensor in recording.outputs]
    places = {output: arguments[argument] for argument, output in state}
    for number, value in enumerate(outputs):
        if number not in places:
            arguments.append(Buffer(f"x{len(arguments)}", value.dtype, value.size, "argument"))
            places[number] = arguments[-1]
    _finish(work, [(value, places[number]) for number, value in enumerate(outputs)])
    return Lowered(merged(work.kernels), arguments, work.constants)


def _finish(work: Lowering, outputs: list[tuple[Value, Buffer]]) -> None:
    """Write the outputs to their places, all reads of the old state first."""
    pending = []
    targets = {buffer for _, buffer in outputs}
    for value, buffer in outputs:
        place = Load(buffer, contiguous(value.shape))
        if value.expression == place:
            continue
        loads = [leaf for leaf in leaves(value.expression) if isinstance(leaf, Load)]
        if any(load.buffer in targets and load != place for load in loads):  # another element's old state
            value = work.stored(value)
        pending.append((value, place))
    for value, place in pending:
        work.kernels.append(Loop(value.shape, [Store(place, value.expression)]))


def cast(e: Expression, dtype: torch.dtype) -> Expression:
    """The same number as another type."""
    if e.dtype == dtype:
        return e
    if isinstance(e, Constant):
        return Constant(torch.tensor(e.value, dtype=e.dtype).to(dtype).item(), dtype)
    if isinstance(e, Position) and dtype == torch.int32:
        return Position(e.strides, e.offset, dtype)
    if dtype == torch.bool:
        return Call("({0} != 0)", (e,), dtype)
    return Call(f"(({TYPES[dtype]}){{0}})", (e,), dtype)


def _valued(x: Any, values: dict[Tensor, Value]) -> Any:
    """An argument with its tensors' values."""
    if isinstance(x, Tensor):
        return values[x]
    if isinstance(x, (list, tuple)):
        return [_valued(v, values) for v in x]
    return x


def _transposed(value: Value) -> Value:
    c, m, n = value.shape
    return value.seen((c, n, m), lambda s: ((s[0], s[2], s[1]), 0))


def _same(strides: Sequence[int], wanted: Sequence[int], shape: Sequence[int]) -> bool:
    return all(a == b or size == 1 for a, b, size in zip(strides, wanted, shape, strict=True))


def _given(value: Value | None) -> Value:
    assert value is not None
    return value
