"""Batches of any form: their tensors in a row, and everything else in its place."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn
from torch.utils._pytree import TreeSpec, tree_flatten, tree_unflatten

_LABELS = ("labels", "label", "targets", "target", "y")
_ROW = object()  # stands in a batch's tree where a tensor of rows was taken out


@dataclass(frozen=True)
class Batch:
    """What a model and its loss were given: arguments, keywords and targets, their tensors of rows taken out in a row.

    ``inputs`` are those tensors, ``leaves`` everything else in its place; ``target_at`` is the place among the tensors
    of what rows are judged by, None if there is no one tensor of them.
    """

    inputs: tuple[torch.Tensor, ...]
    target_at: int | None
    leaves: tuple[Any, ...]
    spec: TreeSpec

    @classmethod
    def of(cls, args: tuple[Any, ...], kwargs: Mapping[str, Any], y: Any) -> Batch:
        """Of a model's call and the targets given to the loss; without any, what the keywords call labels."""
        leaves, spec = tree_flatten((args, dict(kwargs), y))
        tensors = [leaf for leaf in leaves if _has_rows(leaf)]
        if y is None:
            y = next((kwargs[name] for name in _LABELS if _has_rows(kwargs.get(name))), None)
        at = next((i for i, t in enumerate(tensors) if t is y), None)
        places = tuple(_ROW if _has_rows(leaf) else leaf for leaf in leaves)
        alike = len({len(t) for t in tensors}) == 1
        return cls(tuple(t.detach() for t in tensors), at if alike else None, places, spec)

    @property
    def targets(self) -> torch.Tensor | None:
        """What rows are judged by [n, …]."""
        return None if self.target_at is None else self.inputs[self.target_at]

    @property
    def numbers(self) -> tuple[torch.Tensor, ...]:
        """The tensors that are not the targets."""
        return tuple(t for i, t in enumerate(self.inputs) if i != self.target_at)

    def rebuilt(self, inputs: Sequence[torch.Tensor]) -> tuple[tuple[Any, ...], dict[str, Any], Any]:
        """Arguments and keywords of the model's call, and the loss's targets, of these tensors."""
        own = iter(inputs)
        args, kwargs, y = tree_unflatten([next(own) if x is _ROW else x for x in self.leaves], self.spec)
        return args, kwargs, y

    def mapped(self, change: Callable[[torch.Tensor], torch.Tensor]) -> Batch:
        """The same with each tensor changed."""
        return replace(self, inputs=tuple(change(t) for t in self.inputs))

    def holding(self, inputs: Sequence[torch.Tensor]) -> Batch:
        """The same form with other tensors in it."""
        return replace(self, inputs=tuple(inputs))

    def first(self, rows: int) -> Batch:
        """Its first rows."""
        return self.mapped(lambda t: t[:rows])

    def kept(self, copy: Callable[[torch.Tensor], torch.Tensor] = torch.clone) -> Batch:
        """A copy that stays as it is when the loop writes over its buffers."""
        return self.mapped(copy)

    def to(self, device: torch.device) -> Batch:
        """The same on another device."""
        return self.mapped(lambda t: t.to(device))

    @staticmethod
    def joined(batches: Sequence[Batch]) -> Batch | None:
        """Several batches of one form as one; None where there are none, or shapes differ."""
        usable = [b for b in batches if b.targets is not None]
        if not usable or len({tuple(t.shape[1:] for t in b.inputs) for b in usable}) > 1:
            return None
        return replace(
            usable[0], inputs=tuple(torch.cat(parts) for parts in zip(*(b.inputs for b in usable), strict=True))
        )


_PAIR = tree_flatten(((0,), {}, 0))[1]


def flat_batch(x: Any, y: Any = None) -> Batch:
    """A batch of any form: ``x`` a tensor, a tuple of arguments or a mapping of keywords; ``y`` as the loss has it."""
    if type(x) is torch.Tensor and type(y) is torch.Tensor and x.ndim and y.ndim and not x.is_nested:  # the usual
        return Batch((x.detach(), y.detach()), 1 if len(x) == len(y) else None, (_ROW, _ROW), _PAIR)
    if isinstance(x, Mapping):
        return Batch.of((), x, y)
    return Batch.of(tuple(x) if isinstance(x, (tuple, list)) else (x,), {}, y)


def _has_rows(leaf: Any) -> bool:
    """Whether a part of a batch is a tensor of rows, and no single number; ragged ones have none."""
    return isinstance(leaf, torch.Tensor) and not leaf.is_nested and leaf.ndim > 0


class Capture:
    """Takes down what the model is first called with; goes off the model then, or when it is told to ``end``.

    A copy of it, as in a model that is copied or saved meanwhile, does nothing.
    """

    def __init__(self, model: nn.Module, y: Any, failed: Callable[[Exception], None]) -> None:
        self.batch: Batch | None = None
        self._y, self._failed = y, failed
        self._handle = model.register_forward_pre_hook(self, with_kwargs=True)

    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.end()
        try:
            self.batch = Batch.of(args, kwargs, self._y)
        except Exception as error:
            self._failed(error)

    def __reduce__(self) -> tuple[Any, ...]:
        return _Nothing, ()

    def end(self) -> None:
        """Take it off the model."""
        self._handle.remove()


class _Nothing:
    """A hook that does nothing."""

    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        pass
