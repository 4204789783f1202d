"""Sums, extremes, softmax and products of matrices."""

from __future__ import annotations

from typing import Any

import torch

from nastavnik.compiler._expressions import Call, NotCompilable, Value
from nastavnik.compiler._lowering import Lowering, cast
from nastavnik.compiler.operations._table import lowers, suffix, valued


@lowers("sum")
def _sum(
    work: Lowering, dtype: torch.dtype, x: Value, dims: Any = None, keepdim: bool = False, **options: Any
) -> Value:
    return work.reduced("sum", Value(x.shape, cast(x.expression, dtype)), dims, keepdim)


@lowers("mean")
def mean_of(
    work: Lowering, dtype: torch.dtype, x: Value, dims: Any = None, keepdim: bool = False, **options: Any
) -> Value:
    total = work.reduced("sum", Value(x.shape, cast(x.expression, dtype)), dims, keepdim)
    return work.pointwise("({0} * {1})", [total, valued(max(total.size, 1) / max(x.size, 1), dtype)], dtype)


@lowers("amax")
def _amax(work: Lowering, dtype: torch.dtype, x: Value, dims: Any = None, keepdim: bool = False) -> Value:
    return work.reduced("largest", x, dims, keepdim)


@lowers("amin")
def _amin(work: Lowering, dtype: torch.dtype, x: Value, dims: Any = None, keepdim: bool = False) -> Value:
    return work.reduced("smallest", x, dims, keepdim)


@lowers("var")
def variance_of(
    work: Lowering, dtype: torch.dtype, x: Value, dims: Any = None, correction: float | None = 1, keepdim: bool = False
) -> Value:
    """The variance over some dimensions, ``correction`` taken off the count."""
    x = work.realized(x)
    mean = mean_of(work, dtype, x, dims, True)
    away = work.pointwise("({0} - {1})", [x, work.realized(mean)], dtype)
    squares = Value(away.shape, Call("({0} * {0})", (away.expression,), dtype))
    total = work.reduced("sum", squares, dims, keepdim)
    count = x.size // max(total.size, 1) - (1 if correction is None else correction)
    return work.pointwise("({0} / {1})", [total, valued(float(count), dtype)], dtype)


@lowers("_log_softmax_backward_data")
def _log_softmax_backward(
    work: Lowering, dtype: torch.dtype, gradient: Value, y: Value, dim: int, of: torch.dtype
) -> Value:
    gradient = work.realized(gradient)
    total = work.reduced("sum", gradient, [dim], True)
    return work.pointwise(f"({{0}} - exp{suffix(dtype)}({{1}}) * {{2}})", [gradient, y, total], dtype)


@lowers("_softmax_backward_data")
def _softmax_backward(
    work: Lowering, dtype: torch.dtype, gradient: Value, y: Value, dim: int, of: torch.dtype
) -> Value:
    weighed = work.realized(work.pointwise("({0} * {1})", [gradient, y], dtype))
    total = work.reduced("sum", weighed, [dim], True)
    return work.pointwise("({0} - {1} * {2})", [weighed, y, total], dtype)


@lowers("_log_softmax")
def _log_softmax(work: Lowering, dtype: torch.dtype, x: Value, dim: int, half: bool) -> Value:
    x = work.realized(x)
    shifted = work.realized(work.pointwise("({0} - {1})", [x, work.reduced("largest", x, [dim], True)], dtype))
    f = suffix(dtype)
    total = work.reduced("sum", work.pointwise(f"exp{f}({{0}})", [shifted], dtype), [dim], True)
    return work.pointwise("({0} - {1})", [shifted, work.pointwise(f"log{f}({{0}})", [total], dtype)], dtype)


@lowers("_softmax")
def _softmax(work: Lowering, dtype: torch.dtype, x: Value, dim: int, half: bool) -> Value:
    x = work.realized(x)
    f = suffix(dtype)
    largest = work.reduced("largest", x, [dim], True)
    powers = work.realized(work.pointwise(f"exp{f}({{0}} - {{1}})", [x, largest], dtype))
    return work.pointwise("({0} / {1})", [powers, work.reduced("sum", powers, [dim], True)], dtype)


@lowers("mm")
def _mm(work: Lowering, dtype: torch.dtype, x: Value, y: Value) -> Value:
    one = [v.seen((1, *v.shape), lambda s: ((0, *s), 0)) for v in (work.realized(x), work.realized(y))]
    product = work.product(*one)
    return product.seen(product.shape[1:], lambda s: (s[1:], 0))


@lowers("bmm")
def _bmm(work: Lowering, dtype: torch.dtype, x: Value, y: Value) -> Value:
    return work.product(x, y)


@lowers("addmm")
def _addmm(
    work: Lowering, dtype: torch.dtype, bias: Value, x: Value, y: Value, beta: float = 1, alpha: float = 1
) -> Value:
    if beta != 1 or alpha != 1:
        raise NotCompilable("addmm with factors")
    return work.pointwise("({0} + {1})", [_mm(work, dtype, x, y), bias], dtype)
