"""Batch, layer and group normalization and their gradients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from nastavnik.compiler._expressions import NotCompilable, Value
from nastavnik.compiler._lowering import Lowering
from nastavnik.compiler.operations._reductions import mean_of, variance_of
from nastavnik.compiler.operations._table import lowers, suffix, valued


def _normalization_gradient(work: Lowering, gradient: Value, normal: Value, scale: Value, dims: Sequence[int]) -> Value:
    """What comes back through (x - mean) * scale, ``normal`` being its output."""
    dtype = gradient.dtype
    mean = work.realized(mean_of(work, dtype, gradient, dims, True))
    along = work.realized(mean_of(work, dtype, work.pointwise("({0} * {1})", [gradient, normal], dtype), dims, True))
    return work.pointwise("({4} * ({0} - {2} - {1} * {3}))", [gradient, normal, mean, along, scale], dtype)


@lowers("native_layer_norm_backward")
def _layer_norm_backward(
    work: Lowering,
    dtype: torch.dtype,
    gradient: Value,
    x: Value,
    shape: Sequence[int],
    mean: Value,
    scale: Value,
    weight: Any,
    bias: Any,
    wanted: Sequence[bool],
) -> tuple[Value, Value, Value]:
    rank = len(x.shape) - len(shape)
    gradient = work.realized(gradient)
    normal = work.realized(work.pointwise("(({0} - {1}) * {2})", [x, mean, scale], dtype))
    inner = gradient if weight is None else work.realized(work.pointwise("({0} * {1})", [gradient, weight], dtype))
    back = _normalization_gradient(work, inner, normal, scale, list(range(rank, len(x.shape))))
    along = work.pointwise("({0} * {1})", [gradient, normal], dtype)
    rows = list(range(rank))
    return back, _added(work, along, rows), _added(work, gradient, rows)


@lowers("native_batch_norm_backward")
def _batch_norm_backward(
    work: Lowering,
    dtype: torch.dtype,
    gradient: Value,
    x: Value,
    weight: Any,
    running_mean: Any,
    running_var: Any,
    mean: Value,
    scale: Value,
    training: bool,
    epsilon: float,
    wanted: Sequence[bool],
) -> tuple[Value, Value, Value]:
    if not training:
        raise NotCompilable("batch normalization outside training")
    wide = (1, x.shape[1], *(1,) * (len(x.shape) - 2))
    rows = [d for d in range(len(x.shape)) if d != 1]
    gradient = work.realized(gradient)
    mean, scale = (work.reshaped(v, wide) for v in (mean, scale))
    normal = work.realized(work.pointwise("(({0} - {1}) * {2})", [x, mean, scale], dtype))
    inner = gradient
    if weight is not None:
        inner = work.realized(work.pointwise("({0} * {1})", [gradient, work.reshaped(weight, wide)], dtype))
    back = _normalization_gradient(work, inner, normal, scale, rows)
    along = work.pointwise("({0} * {1})", [gradient, normal], dtype)
    return back, _added(work, along, rows), _added(work, gradient, rows)


def _added(work: Lowering, x: Value, dims: Sequence[int]) -> Value:
    return work.reduced("sum", x, dims, False) if dims else x


def _normalized(work: Lowering, x: Value, dims: Sequence[int], epsilon: float) -> tuple[Value, Value, Value]:
    """(x - mean) / deviation over some dimensions, the mean, and one over the deviation."""
    x = work.realized(x)
    mean = work.realized(mean_of(work, x.dtype, x, dims, True))
    variance = variance_of(work, x.dtype, x, dims, 0, True)
    f = suffix(x.dtype)
    scale = work.pointwise(f"(1 / sqrt{f}({{0}} + {{1}}))", [variance, valued(epsilon, x.dtype)], x.dtype)
    scale = work.realized(scale)
    return work.pointwise("(({0} - {1}) * {2})", [x, mean, scale], x.dtype), mean, scale


def _scaled(work: Lowering, x: Value, weight: Value | None, bias: Value | None, shape: tuple[int, ...]) -> Value:
    """x * weight + bias, both seen under a shape that broadcasts."""
    for form, factor in (("({0} * {1})", weight), ("({0} + {1})", bias)):
        if factor is not None:
            x = work.pointwise(form, [x, work.reshaped(factor, shape)], x.dtype)
    return x


@lowers("native_layer_norm")
def _layer_norm(
    work: Lowering, dtype: torch.dtype, x: Value, shape: Sequence[int], weight: Any, bias: Any, epsilon: float
) -> tuple[Value, Value, Value]:
    dims = list(range(len(x.shape) - len(shape), len(x.shape)))
    out, mean, scale = _normalized(work, x, dims, epsilon)
    return _scaled(work, out, weight, bias, tuple(shape)), mean, scale


@lowers("native_group_norm")
def _group_norm(
    work: Lowering,
    dtype: torch.dtype,
    x: Value,
    weight: Any,
    bias: Any,
    rows: int,
    channels: int,
    rest: int,
    groups: int,
    epsilon: float,
) -> tuple[Value, Value, Value]:
    grouped = work.reshaped(x, (rows, groups, channels // groups * rest))
    out, mean, scale = _normalized(work, grouped, [2], epsilon)
    wide = (1, channels, *(1,) * (len(x.shape) - 2))
    flat = [work.reshaped(v, (rows, groups)) for v in (mean, scale)]
    return _scaled(work, work.reshaped(work.realized(out), x.shape), weight, bias, wide), flat[0], flat[1]


@lowers("native_batch_norm")
def _batch_norm(
    work: Lowering,
    dtype: torch.dtype,
    x: Value,
    weight: Any,
    bias: Any,
    running_mean: Any,
    running_var: Any,
    training: bool,
    momentum: float,
    epsilon: float,
) -> tuple[Value, Value, Value, Any, Any]:
    """The output, what the backward pass wants, and the new running statistics."""
    if not training or running_mean is None:
        raise NotCompilable("batch normalization outside training or without running statistics")
    x = work.realized(x)
    channels = x.shape[1]
    wide = (1, channels, *(1,) * (len(x.shape) - 2))
    out, mean, scale = _normalized(work, x, [d for d in range(len(x.shape)) if d != 1], epsilon)
    mean, scale = work.reshaped(mean, (channels,)), work.reshaped(scale, (channels,))
    count = x.size // channels
    spread = f"(1 / ({{1}} * {{1}}) - {epsilon!r}) * {count / max(count - 1, 1)!r}"
    blend = f"({{0}} * {1 - momentum!r} + {momentum!r} * {{1}})"
    means = work.realized(work.pointwise(blend, [running_mean, mean], running_mean.dtype))
    variances = blend.replace("{1}", f"({spread})")
    deviations = work.realized(work.pointwise(variances, [running_var, scale], running_var.dtype))
    return _scaled(work, out, weight, bias, wide), mean, scale, means, deviations
