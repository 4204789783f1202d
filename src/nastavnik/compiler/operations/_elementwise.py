"""Operations on single elements, activation functions among them. Most are a line in ``_ELEMENTWISE``."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch

from nastavnik.compiler._expressions import Call, NotCompilable, Value
from nastavnik.compiler._lowering import LOWERINGS, Lowering, cast
from nastavnik.compiler.operations._table import lowers, suffix, valued

# {f} is the suffix of C's functions for the type: expf for float, exp for double
_ELEMENTWISE = {
    "mul": "({0} * {1})",
    "maximum": "(({0} != {0} || {0} > {1}) ? {0} : {1})",
    "minimum": "(({0} != {0} || {0} < {1}) ? {0} : {1})",
    "neg": "(-{0})",
    "abs": "({0} < 0 ? -{0} : {0})",
    "sign": "(({0} > 0) - ({0} < 0))",
    "relu": "({0} <= 0 ? 0 : {0})",
    "reciprocal": "(1 / {0})",
    "square": "({0} * {0})",
    "bitwise_and": "({0} & {1})",
    "__and__": "({0} & {1})",
    "__or__": "({0} | {1})",
    "__xor__": "({0} ^ {1})",
    "bitwise_or": "({0} | {1})",
    "bitwise_xor": "({0} ^ {1})",
    "__rshift__": "({0} >> {1})",
    "__lshift__": "({0} << {1})",
    "bitwise_right_shift": "({0} >> {1})",
    "bitwise_left_shift": "({0} << {1})",
    "atan2": "atan2{f}({0}, {1})",
    "sigmoid": "(1 / (1 + exp{f}(-{0})))",
    "rsqrt": "(1 / sqrt{f}({0}))",
    **{
        name: f"{name}{{f}}({{0}})"
        for name in (
            "exp",
            "expm1",
            "log",
            "log1p",
            "log2",
            "sqrt",
            "sin",
            "cos",
            "tan",
            "tanh",
            "sinh",
            "cosh",
            "asin",
        )
    },
    **{name: f"{name}{{f}}({{0}})" for name in ("acos", "atan", "asinh", "acosh", "atanh", "erf", "erfc", "lgamma")},
    **{name: f"{name}{{f}}({{0}})" for name in ("floor", "ceil", "trunc")},
    "round": "nearbyint{f}({0})",
}
_COMPARISONS = {"eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}
_SAME = ("clone", "alias", "detach", "lift_fresh_copy", "lift_fresh", "contiguous")


def _enter_elementwise(name: str, form: str) -> None:
    @lowers(name)
    def operation(work: Lowering, dtype: torch.dtype, *values: Any) -> Value:
        floating = dtype.is_floating_point or "{f}" not in form
        if not floating:
            raise NotCompilable(f"{name} of {dtype}")
        text = form.replace("{f}", suffix(dtype))
        return work.pointwise(text, [valued(v, dtype) for v in values], dtype)


for _name, _form in _ELEMENTWISE.items():
    _enter_elementwise(_name, _form)


def _enter_comparison(name: str, sign: str) -> None:
    @lowers(name)
    def comparison(work: Lowering, dtype: torch.dtype, left: Any, right: Any) -> Value:
        dtypes = [v.dtype if isinstance(v, Value) else None for v in (left, right)]
        known = [d for d in dtypes if d is not None]
        of = known[0] if len(known) == 1 else torch.promote_types(known[0], known[1])
        number = next((v for v in (left, right) if not isinstance(v, Value)), 0)
        if isinstance(number, float) and not of.is_floating_point:
            of = torch.float32
        return work.pointwise(f"({{0}} {sign} {{1}})", [valued(left, of), valued(right, of)], torch.bool, of)


for _name, _form in _COMPARISONS.items():
    _enter_comparison(_name, _form)


@lowers("bitwise_not")
def _bitwise_not(work: Lowering, dtype: torch.dtype, x: Value) -> Value:
    return work.pointwise("(!{0})" if x.dtype == torch.bool else "(~{0})", [x], dtype, x.dtype)


@lowers("logical_not")
def _logical_not(work: Lowering, dtype: torch.dtype, x: Value) -> Value:
    return work.pointwise("({0} == 0)", [x], torch.bool, x.dtype)


@lowers("logical_and")
def _and(work: Lowering, dtype: torch.dtype, x: Value, y: Value) -> Value:
    return work.pointwise("({0} && {1})", [x, y], torch.bool)


@lowers("logical_or")
def _or(work: Lowering, dtype: torch.dtype, x: Value, y: Value) -> Value:
    return work.pointwise("({0} || {1})", [x, y], torch.bool)


@lowers("add")
def _add(work: Lowering, dtype: torch.dtype, x: Any, y: Any, alpha: float = 1) -> Value:
    if alpha != 1:
        y = work.pointwise("({0} * {1})", [valued(y, dtype), valued(alpha, dtype)], dtype)
    sign = "|" if dtype == torch.bool else "+"
    return work.pointwise(f"({{0}} {sign} {{1}})", [valued(x, dtype), valued(y, dtype)], dtype)


@lowers("sub")
def _sub(work: Lowering, dtype: torch.dtype, x: Any, y: Any, alpha: float = 1) -> Value:
    if alpha != 1:
        y = work.pointwise("({0} * {1})", [valued(y, dtype), valued(alpha, dtype)], dtype)
    return work.pointwise("({0} - {1})", [valued(x, dtype), valued(y, dtype)], dtype)


@lowers("rsub")
def _rsub(work: Lowering, dtype: torch.dtype, x: Any, y: Any, alpha: float = 1) -> Value:
    return _sub(work, dtype, y, x, alpha)


@lowers("div")
def _div(work: Lowering, dtype: torch.dtype, x: Any, y: Any, rounding_mode: str | None = None) -> Value:
    if rounding_mode is not None or not dtype.is_floating_point:
        raise NotCompilable(f"division with rounding_mode={rounding_mode}")
    return work.pointwise("({0} / {1})", [valued(x, dtype), valued(y, dtype)], dtype)


@lowers("pow")
def _pow(work: Lowering, dtype: torch.dtype, x: Any, y: Any) -> Value:
    if not dtype.is_floating_point:
        raise NotCompilable(f"pow of {dtype}")
    f = suffix(dtype)
    known = {2: "({0} * {0})", 3: "({0} * {0} * {0})", 1: "({0})", 0.5: f"sqrt{f}({{0}})", -1: "(1 / {0})"}
    if not isinstance(y, Value) and y in known:
        return work.pointwise(known[y], [valued(x, dtype)], dtype)
    return work.pointwise(f"pow{f}({{0}}, {{1}})", [valued(x, dtype), valued(y, dtype)], dtype)


@lowers("where")
def _where(work: Lowering, dtype: torch.dtype, condition: Value, x: Any, y: Any) -> Value:
    values = [condition, valued(x, dtype), valued(y, dtype)]
    shape = tuple(np.broadcast_shapes(*(v.shape for v in values)))
    arguments = [work.expanded(v, shape).expression for v in values]
    return Value(shape, Call("({0} ? {1} : {2})", (arguments[0], *(cast(a, dtype) for a in arguments[1:])), dtype))


@lowers("masked_fill")
def _masked_fill(work: Lowering, dtype: torch.dtype, x: Value, mask: Value, value: Any) -> Value:
    return _where(work, dtype, mask, value, x)


@lowers("lerp")
def _lerp(work: Lowering, dtype: torch.dtype, x: Value, y: Value, share: Any) -> Value:
    return work.pointwise("({0} + {2} * ({1} - {0}))", [x, y, valued(share, dtype)], dtype)


@lowers("addcmul")
def _addcmul(work: Lowering, dtype: torch.dtype, x: Value, y: Value, z: Value, value: float = 1) -> Value:
    return work.pointwise("({0} + {3} * {1} * {2})", [x, y, z, valued(value, dtype)], dtype)


@lowers("addcdiv")
def _addcdiv(work: Lowering, dtype: torch.dtype, x: Value, y: Value, z: Value, value: float = 1) -> Value:
    return work.pointwise("({0} + {3} * {1} / {2})", [x, y, z, valued(value, dtype)], dtype)


@lowers("threshold_backward")
def _threshold_backward(work: Lowering, dtype: torch.dtype, gradient: Value, x: Value, threshold: float) -> Value:
    return work.pointwise("({1} <= {2} ? 0 : {0})", [gradient, x, valued(threshold, dtype)], dtype)


@lowers("tanh_backward")
def _tanh_backward(work: Lowering, dtype: torch.dtype, gradient: Value, y: Value) -> Value:
    return work.pointwise("({0} * (1 - {1} * {1}))", [gradient, y], dtype)


@lowers("sigmoid_backward")
def _sigmoid_backward(work: Lowering, dtype: torch.dtype, gradient: Value, y: Value) -> Value:
    return work.pointwise("({0} * (1 - {1}) * {1})", [gradient, y], dtype)


@lowers("silu")
def _silu(work: Lowering, dtype: torch.dtype, x: Value) -> Value:
    return work.pointwise(f"({{0}} / (1 + exp{suffix(dtype)}(-{{0}})))", [x], dtype)


@lowers("silu_backward")
def _silu_backward(work: Lowering, dtype: torch.dtype, gradient: Value, x: Value) -> Value:
    s = work.realized(work.pointwise(f"(1 / (1 + exp{suffix(dtype)}(-{{0}})))", [x], dtype))
    return work.pointwise("({0} * {2} * (1 + {1} * (1 - {2})))", [gradient, x, s], dtype)


@lowers("clamp", "clamp_min", "clamp_max")
def _clamp(work: Lowering, dtype: torch.dtype, x: Value, low: Any = None, high: Any = None, **other: Any) -> Value:
    low, high = other.get("min", low), other.get("max", high)
    if low is not None:
        x = work.pointwise("({0} < {1} ? {1} : {0})", [x, valued(low, dtype)], dtype)
    if high is not None:
        x = work.pointwise("({0} > {1} ? {1} : {0})", [x, valued(high, dtype)], dtype)
    return x


LOWERINGS["clamp_max"] = lambda work, dtype, x, high: _clamp(work, dtype, x, None, high)


@lowers("hardtanh")
def _hardtanh(work: Lowering, dtype: torch.dtype, x: Value, low: float = -1, high: float = 1) -> Value:
    return _clamp(work, dtype, x, low, high)


@lowers("hardtanh_backward")
def _hardtanh_backward(work: Lowering, dtype: torch.dtype, gradient: Value, x: Value, low: float, high: float) -> Value:
    bounds = [valued(low, dtype), valued(high, dtype)]
    return work.pointwise("({1} <= {2} || {1} >= {3} ? 0 : {0})", [gradient, x, *bounds], dtype)


@lowers("isnan")
def _isnan(work: Lowering, dtype: torch.dtype, x: Value) -> Value:
    return work.pointwise("({0} != {0})", [x], torch.bool, x.dtype)


@lowers("_to_copy", *_SAME)
def _same(work: Lowering, dtype: torch.dtype, x: Any, **options: Any) -> Value:
    x = valued(x, dtype)
    return Value(x.shape, cast(x.expression, dtype))


@lowers("copy")
def _copy(work: Lowering, dtype: torch.dtype, x: Value, source: Value, non_blocking: bool = False) -> Value:
    return work.expanded(Value(source.shape, cast(source.expression, x.dtype)), x.shape)


@lowers("elu")
def _elu(
    work: Lowering, dtype: torch.dtype, x: Value, alpha: float = 1, scale: float = 1, input_scale: float = 1
) -> Value:
    f = suffix(dtype)
    form = f"({{0}} > 0 ? {{0}} * {{1}} : expm1{f}({{0}} * {{3}}) * {{2}})"
    return work.pointwise(form, [x, *(valued(v, dtype) for v in (scale, alpha * scale, input_scale))], dtype)


@lowers("leaky_relu")
def _leaky_relu(work: Lowering, dtype: torch.dtype, x: Value, slope: float = 0.01) -> Value:
    return work.pointwise("({0} > 0 ? {0} : {0} * {1})", [x, valued(slope, dtype)], dtype)


@lowers("gelu")
def _gelu(work: Lowering, dtype: torch.dtype, x: Value, approximate: str = "none") -> Value:
    f = suffix(dtype)
    if approximate == "none":
        root, half = valued(0.5**0.5, dtype), valued(0.5, dtype)
        return work.pointwise(f"({{2}} * {{0}} * (1 + erf{f}({{0}} * {{1}})))", [x, root, half], dtype)
    numbers = [valued(v, dtype) for v in ((2 / math.pi) ** 0.5, 0.044715, 0.5)]
    inner = "{1} * ({0} + {2} * {0} * {0} * {0})"
    return work.pointwise(f"({{3}} * {{0}} * (1 + tanh{f}({inner})))", [x, *numbers], dtype)


@lowers("gelu_backward")
def _gelu_backward(work: Lowering, dtype: torch.dtype, gradient: Value, x: Value, approximate: str = "none") -> Value:
    f = suffix(dtype)
    if approximate != "none":
        raise NotCompilable("the gradient of the approximate GELU")
    numbers = [valued(v, dtype) for v in (0.5**0.5, 0.5, (2 * math.pi) ** -0.5)]
    form = f"({{0}} * ({{3}} * (1 + erf{f}({{1}} * {{2}})) + {{1}} * {{4}} * exp{f}(-{{3}} * {{1}} * {{1}})))"
    return work.pointwise(form, [gradient, x, *numbers], dtype)
