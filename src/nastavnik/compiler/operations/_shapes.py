"""Tensors made from nothing, seen under another shape, or put together from parts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch

from nastavnik.compiler._expressions import Constant, Load, NotCompilable, Position, Strides, Value, contiguous
from nastavnik.compiler._kernels import Loop, Store
from nastavnik.compiler._lowering import Lowering, cast
from nastavnik.compiler.operations._table import lowers, natural, valued


def filled(shape: Sequence[int], value: float, dtype: torch.dtype) -> Value:
    return Value((), cast(Constant(value, natural(value)), dtype)).expanded(tuple(shape))


@lowers("full")
def _full(work: Lowering, dtype: torch.dtype, shape: Sequence[int], value: float, **options: Any) -> Value:
    return filled(shape, value, dtype)


@lowers("full_like")
def _full_like(work: Lowering, dtype: torch.dtype, x: Value, value: float, **options: Any) -> Value:
    return filled(x.shape, value, dtype)


@lowers("scalar_tensor")
def _scalar(work: Lowering, dtype: torch.dtype, value: float, **options: Any) -> Value:
    return filled((), value, dtype)


@lowers("zeros", "empty", "empty_permuted", "new_zeros", "new_empty")
def _zeros(work: Lowering, dtype: torch.dtype, first: Any, *rest: Any, **options: Any) -> Value:
    return filled(rest[0] if isinstance(first, Value) else first, 0, dtype)


@lowers("fill")
def _fill(work: Lowering, dtype: torch.dtype, x: Value, value: Any) -> Value:
    return valued(value, dtype).expanded(x.shape)


@lowers("zeros_like", "empty_like")
def _zeros_like(work: Lowering, dtype: torch.dtype, x: Value, **options: Any) -> Value:
    return filled(x.shape, 0, dtype)


@lowers("ones", "ones_like")
def _ones(work: Lowering, dtype: torch.dtype, x: Any, **options: Any) -> Value:
    return filled(x.shape if isinstance(x, Value) else x, 1, dtype)


@lowers("arange")
def _arange(work: Lowering, dtype: torch.dtype, *bounds: int, **options: Any) -> Value:
    start, stop, step = (0, bounds[0], 1) if len(bounds) == 1 else (*bounds, 1)[:3]
    if any(isinstance(b, float) for b in bounds):
        raise NotCompilable("arange of fractions")
    count = max(0, -(-(stop - start) // step))
    return Value((count,), cast(Position((step,), start, torch.int64), dtype))


# Views


@lowers("view", "_unsafe_view", "reshape")
def _view(work: Lowering, dtype: torch.dtype, x: Value, shape: Sequence[int]) -> Value:
    sizes = list(shape)
    if -1 in sizes:
        sizes[sizes.index(-1)] = x.size // max(1, -math.prod(sizes))
    return work.reshaped(x, tuple(sizes))


@lowers("expand")
def _expand(work: Lowering, dtype: torch.dtype, x: Value, shape: Sequence[int], implicit: bool = False) -> Value:
    lead = len(shape) - len(x.shape)
    return work.expanded(x, tuple(x.shape[i - lead] if s == -1 else s for i, s in enumerate(shape)))


@lowers("permute")
def _permute(work: Lowering, dtype: torch.dtype, x: Value, dims: Sequence[int]) -> Value:
    order = [d % len(x.shape) for d in dims]
    return x.seen(tuple(x.shape[d] for d in order), lambda s: (tuple(s[d] for d in order), 0))


@lowers("t")
def _t(work: Lowering, dtype: torch.dtype, x: Value) -> Value:
    return x if len(x.shape) < 2 else _permute(work, dtype, x, (1, 0))


@lowers("transpose")
def _transpose(work: Lowering, dtype: torch.dtype, x: Value, a: int, b: int) -> Value:
    order = list(range(len(x.shape)))
    order[a], order[b] = order[b], order[a]
    return _permute(work, dtype, x, order)


@lowers("unsqueeze")
def _unsqueeze(work: Lowering, dtype: torch.dtype, x: Value, dim: int) -> Value:
    d = dim % (len(x.shape) + 1)
    return x.seen((*x.shape[:d], 1, *x.shape[d:]), lambda s: ((*s[:d], 0, *s[d:]), 0))


@lowers("squeeze")
def _squeeze(work: Lowering, dtype: torch.dtype, x: Value, dims: Any = None) -> Value:
    rank = len(x.shape)
    wanted = range(rank) if dims is None else [dims] if isinstance(dims, int) else dims
    gone = {d % rank for d in wanted if x.shape[d] == 1}
    kept = [d for d in range(rank) if d not in gone]
    return x.seen(tuple(x.shape[d] for d in kept), lambda s: (tuple(s[d] for d in kept), 0))


@lowers("select")
def _select(work: Lowering, dtype: torch.dtype, x: Value, dim: int, index: int) -> Value:
    d = dim % len(x.shape)
    i = index % x.shape[d]
    return x.seen((*x.shape[:d], *x.shape[d + 1 :]), lambda s: ((*s[:d], *s[d + 1 :]), i * s[d]))


@lowers("slice")
def slice_of(
    work: Lowering, dtype: torch.dtype, x: Value, dim: int = 0, start: Any = None, end: Any = None, step: int = 1
) -> Value:
    d = dim % len(x.shape)
    first, last, step = slice(start, end, step).indices(x.shape[d])
    size = max(0, -(-(last - first) // step))
    shape = (*x.shape[:d], size, *x.shape[d + 1 :])
    return x.seen(shape, lambda s: ((*s[:d], s[d] * step, *s[d + 1 :]), first * s[d]))


@lowers("flip")
def _flip(work: Lowering, dtype: torch.dtype, x: Value, dims: Sequence[int]) -> Value:
    flipped = {d % len(x.shape) for d in dims}

    def change(s: Strides) -> tuple[Strides, int]:
        return tuple(-t if d in flipped else t for d, t in enumerate(s)), sum((x.shape[d] - 1) * s[d] for d in flipped)

    return x.seen(x.shape, change)


# Parts put together


def _assembled(
    work: Lowering, shape: Sequence[int], dtype: torch.dtype, parts: list[tuple[Value, Strides, int]]
) -> Value:
    """Fresh memory with values written at (strides, offset)."""
    buffer, place = work.scratch(shape, dtype)
    for value, strides, offset in parts:
        work.kernels.append(Loop(value.shape, [Store(Load(buffer, strides, offset), cast(value.expression, dtype))]))
    return Value(tuple(shape), place)


@lowers("cat")
def _cat(work: Lowering, dtype: torch.dtype, values: Sequence[Value], dim: int = 0) -> Value:
    values = [v for v in values if v.shape != (0,)]
    d = dim % len(values[0].shape)
    total = sum(v.shape[d] for v in values)
    shape = (*values[0].shape[:d], total, *values[0].shape[d + 1 :])
    strides, offset, parts = contiguous(shape), 0, []
    for value in values:
        if value.size:
            parts.append((value, strides, offset * strides[d]))
        offset += value.shape[d]
    return _assembled(work, shape, dtype, parts)


@lowers("stack")
def _stack(work: Lowering, dtype: torch.dtype, values: Sequence[Value], dim: int = 0) -> Value:
    d = dim % (len(values[0].shape) + 1)
    return _cat(work, dtype, [_unsqueeze(work, dtype, v, d) for v in values], d)


@lowers("select_backward")
def _select_backward(
    work: Lowering, dtype: torch.dtype, gradient: Value, shape: Sequence[int], dim: int, index: int
) -> Value:
    return select_scatter(work, dtype, filled(shape, 0, dtype), gradient, dim, index)


@lowers("slice_backward")
def _slice_backward(
    work: Lowering, dtype: torch.dtype, gradient: Value, shape: Sequence[int], dim: int, start: int, end: int, step: int
) -> Value:
    return slice_scatter(work, dtype, filled(shape, 0, dtype), gradient, dim, start, end, step)


@lowers("slice_scatter")
def slice_scatter(
    work: Lowering,
    dtype: torch.dtype,
    x: Value,
    part: Value,
    dim: int = 0,
    start: Any = None,
    end: Any = None,
    step: int = 1,
) -> Value:
    """A copy of x with a part of it replaced."""
    d = dim % len(x.shape)
    first, _, step = slice(start, end, step).indices(x.shape[d])
    s = contiguous(x.shape)
    return _assembled(work, x.shape, dtype, [(x, s, 0), (part, (*s[:d], s[d] * step, *s[d + 1 :]), first * s[d])])


@lowers("select_scatter")
def select_scatter(work: Lowering, dtype: torch.dtype, x: Value, part: Value, dim: int, index: int) -> Value:
    d = dim % len(x.shape)
    s = contiguous(x.shape)
    offset = (index % x.shape[d]) * s[d]
    return _assembled(work, x.shape, dtype, [(x, s, 0), (part, (*s[:d], *s[d + 1 :]), offset)])


@lowers("constant_pad_nd")
def _pad(work: Lowering, dtype: torch.dtype, x: Value, pad: Sequence[int], value: float = 0) -> Value:
    rank = len(x.shape)
    before = [0] * rank
    shape = list(x.shape)
    for i in range(len(pad) // 2):
        low, high = pad[2 * i], pad[2 * i + 1]
        if low < 0 or high < 0:
            raise NotCompilable("padding that cuts")
        before[rank - 1 - i] = low
        shape[rank - 1 - i] += low + high
    s = contiguous(tuple(shape))
    offset = sum(b * t for b, t in zip(before, s, strict=True))
    return _assembled(work, shape, dtype, [(filled(shape, value, dtype), s, 0), (x, s, offset)])
