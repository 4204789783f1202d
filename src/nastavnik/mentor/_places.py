"""Outputs for many places of a row, as of words, steps or pixels: which of them belong to one target."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch


def class_axis(outputs: torch.Tensor, targets: torch.Tensor | None) -> int | None:
    """The axis along which the outputs of one target lie, where a row has many whole-number targets.

    Outputs [n, …, V] have it last, [n, V, …] second, as torch's cross-entropy wants it; [n · …, V] are flattened
    already. Where both could be meant, the last is taken. None where a row has one target, or no shape fits.
    """
    if targets is None or targets.is_floating_point() or targets.ndim < 2 or targets.numel() == len(targets):
        return None
    if outputs.ndim == targets.ndim + 1 and outputs.shape[:-1] == targets.shape and outputs.shape[-1] > 1:
        return outputs.ndim - 1
    if outputs.ndim == targets.ndim + 1 and outputs.shape[:1] + outputs.shape[2:] == targets.shape:
        return 1 if outputs.shape[1] > 1 else None
    return 1 if outputs.ndim == 2 and len(outputs) == targets.numel() else None


def table_of(axis: int | None) -> Callable[[torch.Tensor], torch.Tensor]:
    """A function that makes outputs [places, V] of them, in the order of the flattened targets."""
    return partial(_table, axis)


def _table(axis: int | None, outputs: torch.Tensor) -> torch.Tensor:
    if axis is None or outputs.ndim == 2:
        return outputs
    return outputs.movedim(axis, -1).reshape(-1, outputs.shape[axis])


def untable(axis: int | None, made: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """Numbers made as [places, V] in the shape that the outputs have."""
    if axis is None or like.ndim == 2:
        return made.reshape(like.shape)
    shape = (*like.shape[:axis], *like.shape[axis + 1 :], like.shape[axis])
    return made.reshape(shape).movedim(-1, axis)
