"""Elements picked, or added to, by index."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from nastavnik.compiler._expressions import Call, Load, NotCompilable, Value, contiguous
from nastavnik.compiler._lowering import Lowering, cast
from nastavnik.compiler.operations._shapes import filled, slice_of
from nastavnik.compiler.operations._table import lowers


@lowers("embedding")
def _embedding(work: Lowering, dtype: torch.dtype, weight: Value, index: Value, *options: Any) -> Value:
    return _indexed(work, weight, 0, index)


@lowers("index_select")
def _index_select(work: Lowering, dtype: torch.dtype, x: Value, dim: int, index: Value) -> Value:
    return _indexed(work, x, dim % len(x.shape), index)


@lowers("index")
def _index(work: Lowering, dtype: torch.dtype, x: Value, indices: Sequence[Any]) -> Value:
    given = [d for d, i in enumerate(indices) if i is not None]
    if len(given) != 1 or indices[given[0]].dtype == torch.bool:
        raise NotCompilable("an index of several tensors or of a mask")
    return _indexed(work, x, given[0], indices[given[0]])


def _within(work: Lowering, index: Value, size: int) -> Value:
    """An index that counts from the end where it is negative; one out of range is reported by the program."""
    index = work.realized(index)
    return Value(index.shape, Call(f"within({{0}}, {size}, &bad)", (cast(index.expression, torch.int64),), torch.int64))


def _indexed(work: Lowering, x: Value, d: int, index: Value) -> Value:
    """x with dimension d replaced by the index's dimensions."""
    x, index = work.realized(x), _within(work, index, x.shape[d])
    assert isinstance(x.expression, Load)
    before, after, rank = d, len(x.shape) - d - 1, len(index.shape)
    shape = (*x.shape[:d], *index.shape, *x.shape[d + 1 :])
    place = index.seen(shape, lambda s: ((0,) * before + s + (0,) * after, 0)).expression
    s = x.expression.strides
    strides = (*s[:d], *(0,) * rank, *s[d + 1 :])
    return Value(shape, Load(x.expression.buffer, strides, x.expression.offset, ((place, s[d]),)))


@lowers("gather")
def _gather(work: Lowering, dtype: torch.dtype, x: Value, dim: int, index: Value, **options: Any) -> Value:
    d = dim % len(x.shape)
    x, index = work.realized(x), _within(work, index, x.shape[d])
    assert isinstance(x.expression, Load)
    s = x.expression.strides
    strides = tuple(0 if i == d else t for i, t in enumerate(s))
    return Value(index.shape, Load(x.expression.buffer, strides, x.expression.offset, ((index.expression, s[d]),)))


@lowers("scatter_add")
def _scatter_add(work: Lowering, dtype: torch.dtype, x: Value, dim: int, index: Value, update: Value) -> Value:
    d = dim % len(x.shape)
    s = contiguous(x.shape)
    strides = [0 if i == d else t for i, t in enumerate(s)]
    part = update
    for i, size in enumerate(index.shape):
        part = slice_of(work, dtype, part, i, 0, size)
    return work.adding(x, [(_within(work, index, x.shape[d]), s[d])], strides, part)


@lowers("embedding_dense_backward")
def _embedding_backward(
    work: Lowering, dtype: torch.dtype, gradient: Value, index: Value, rows: int, padding: int, by_frequency: bool
) -> Value:
    if padding >= 0 or by_frequency:
        raise NotCompilable("an embedding with padding_idx or scale_grad_by_freq")
    width = gradient.shape[-1]
    place = _within(work, index, rows).seen((*index.shape, 1), lambda s: ((*s, 0), 0))
    strides = [0] * len(index.shape) + [1]
    return work.adding(filled((rows, width), 0, dtype), [(place, width)], strides, gradient)


@lowers("index_put", "_unsafe_index_put")
def _index_put(
    work: Lowering, dtype: torch.dtype, x: Value, indices: Sequence[Any], update: Value, accumulate: bool = False
) -> Value:
    given = [d for d, i in enumerate(indices) if i is not None]
    if not accumulate or len(given) != 1 or indices[given[0]].dtype == torch.bool:
        raise NotCompilable("index_put that overwrites, or with several indices")
    d, index = given[0], indices[given[0]]
    before, after = d, len(x.shape) - d - 1
    shape = (*x.shape[:d], *index.shape, *x.shape[d + 1 :])
    place = _within(work, index, x.shape[d]).seen(shape, lambda s: ((0,) * before + s + (0,) * after, 0))
    s = contiguous(x.shape)
    strides = [*s[:d], *[0] * len(index.shape), *s[d + 1 :]]
    return work.adding(x, [(place, s[d])], strides, work.expanded(update, shape))
