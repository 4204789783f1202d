"""What each aten operation of a step is in loops, reductions and products.

To add one: a function under ``@lowers("name")``, which gets the translation, the result's type and the operation's
own arguments; or, for an operation on single elements, a line in ``_ELEMENTWISE``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from nastavnik.compiler._expressions import Call, Constant, Load, NotCompilable, Position, Strides, Value, contiguous
from nastavnik.compiler._lowering import LOWERINGS, Lowering, cast

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


def lowers(*names: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Enter a function as what these operations are."""

    def enter(function: Callable[..., Any]) -> Callable[..., Any]:
        LOWERINGS.update(dict.fromkeys(names, function))
        return function

    return enter


def valued(x: Value | float | int | bool, dtype: torch.dtype) -> Value:
    """A number as a value of that type; values as they are."""
    return x if isinstance(x, Value) else Value((), cast(Constant(x, _natural(x)), dtype))


def _natural(x: float | int | bool) -> torch.dtype:
    return torch.bool if isinstance(x, bool) else torch.int64 if isinstance(x, int) else torch.float64


def _suffix(dtype: torch.dtype) -> str:
    """What C's mathematical functions end on for this type."""
    return "f" if dtype == torch.float32 else ""


# Element by element


def _enter_elementwise(name: str, form: str) -> None:
    @lowers(name)
    def operation(work: Lowering, dtype: torch.dtype, *values: Any) -> Value:
        floating = dtype.is_floating_point or "{f}" not in form
        if not floating:
            raise NotCompilable(f"{name} of {dtype}")
        text = form.replace("{f}", _suffix(dtype))
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


@lowers("logical_not", "bitwise_not")
def _not(work: Lowering, dtype: torch.dtype, x: Value) -> Value:
    return work.pointwise("(!{0})" if x.dtype == torch.bool else "(~{0})", [x], dtype, x.dtype)


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
    return work.pointwise("({0} + {1})", [valued(x, dtype), valued(y, dtype)], dtype)


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
    suffix = _suffix(dtype)
    known = {2: "({0} * {0})", 3: "({0} * {0} * {0})", 1: "({0})", 0.5: f"sqrt{suffix}({{0}})", -1: "(1 / {0})"}
    if not isinstance(y, Value) and y in known:
        return work.pointwise(known[y], [valued(x, dtype)], dtype)
    return work.pointwise(f"pow{suffix}({{0}}, {{1}})", [valued(x, dtype), valued(y, dtype)], dtype)


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
    return work.pointwise(f"({{0}} / (1 + exp{_suffix(dtype)}(-{{0}})))", [x], dtype)


@lowers("silu_backward")
def _silu_backward(work: Lowering, dtype: torch.dtype, gradient: Value, x: Value) -> Value:
    s = work.realized(work.pointwise(f"(1 / (1 + exp{_suffix(dtype)}(-{{0}})))", [x], dtype))
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


# Made from nothing


def _filled(shape: Sequence[int], value: float, dtype: torch.dtype) -> Value:
    return Value((), cast(Constant(value, _natural(value)), dtype)).expanded(tuple(shape))


@lowers("full")
def _full(work: Lowering, dtype: torch.dtype, shape: Sequence[int], value: float, **options: Any) -> Value:
    return _filled(shape, value, dtype)


@lowers("full_like")
def _full_like(work: Lowering, dtype: torch.dtype, x: Value, value: float, **options: Any) -> Value:
    return _filled(x.shape, value, dtype)


@lowers("scalar_tensor")
def _scalar(work: Lowering, dtype: torch.dtype, value: float, **options: Any) -> Value:
    return _filled((), value, dtype)


@lowers("zeros", "empty", "empty_permuted", "new_zeros", "new_empty")
def _zeros(work: Lowering, dtype: torch.dtype, first: Any, *rest: Any, **options: Any) -> Value:
    return _filled(rest[0] if isinstance(first, Value) else first, 0, dtype)


@lowers("fill")
def _fill(work: Lowering, dtype: torch.dtype, x: Value, value: Any) -> Value:
    return valued(value, dtype).expanded(x.shape)


@lowers("zeros_like", "empty_like")
def _zeros_like(work: Lowering, dtype: torch.dtype, x: Value, **options: Any) -> Value:
    return _filled(x.shape, 0, dtype)


@lowers("ones", "ones_like")
def _ones(work: Lowering, dtype: torch.dtype, x: Any, **options: Any) -> Value:
    return _filled(x.shape if isinstance(x, Value) else x, 1, dtype)


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
def _slice(
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
    from nastavnik.compiler._kernels import Loop, Store

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
    return _select_scatter(work, dtype, _filled(shape, 0, dtype), gradient, dim, index)


@lowers("slice_backward")
def _slice_backward(
    work: Lowering, dtype: torch.dtype, gradient: Value, shape: Sequence[int], dim: int, start: int, end: int, step: int
) -> Value:
    return _slice_scatter(work, dtype, _filled(shape, 0, dtype), gradient, dim, start, end, step)


@lowers("slice_scatter")
def _slice_scatter(
    work: Lowering,
    dtype: torch.dtype,
    x: Value,
    part: Value,
    dim: int = 0,
    start: Any = None,
    end: Any = None,
    step: int = 1,
) -> Value:
    d = dim % len(x.shape)
    first, _, step = slice(start, end, step).indices(x.shape[d])
    s = contiguous(x.shape)
    return _assembled(work, x.shape, dtype, [(x, s, 0), (part, (*s[:d], s[d] * step, *s[d + 1 :]), first * s[d])])


@lowers("select_scatter")
def _select_scatter(work: Lowering, dtype: torch.dtype, x: Value, part: Value, dim: int, index: int) -> Value:
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
    return _assembled(work, shape, dtype, [(_filled(shape, value, dtype), s, 0), (x, s, offset)])


# By index


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


def _indexed(work: Lowering, x: Value, d: int, index: Value) -> Value:
    """x with dimension d replaced by the index's dimensions."""
    x, index = work.realized(x), work.realized(index)
    assert isinstance(x.expression, Load)
    before, after, rank = d, len(x.shape) - d - 1, len(index.shape)
    shape = (*x.shape[:d], *index.shape, *x.shape[d + 1 :])
    place = index.seen(shape, lambda s: ((0,) * before + s + (0,) * after, 0)).expression
    s = x.expression.strides
    strides = (*s[:d], *(0,) * rank, *s[d + 1 :])
    return Value(shape, Load(x.expression.buffer, strides, x.expression.offset, ((place, s[d]),)))


@lowers("gather")
def _gather(work: Lowering, dtype: torch.dtype, x: Value, dim: int, index: Value, **options: Any) -> Value:
    x, index = work.realized(x), work.realized(index)
    assert isinstance(x.expression, Load)
    d = dim % len(x.shape)
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
        part = _slice(work, dtype, part, i, 0, size)
    return work.adding(x, [(index, s[d])], strides, part)


@lowers("embedding_dense_backward")
def _embedding_backward(
    work: Lowering, dtype: torch.dtype, gradient: Value, index: Value, rows: int, padding: int, by_frequency: bool
) -> Value:
    if padding >= 0 or by_frequency:
        raise NotCompilable("an embedding with padding_idx or scale_grad_by_freq")
    width = gradient.shape[-1]
    place = index.seen((*index.shape, 1), lambda s: ((*s, 0), 0))
    strides = [0] * len(index.shape) + [1]
    return work.adding(_filled((rows, width), 0, dtype), [(place, width)], strides, gradient)


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
    place = work.realized(index).seen(shape, lambda s: ((0,) * before + s + (0,) * after, 0))
    s = contiguous(x.shape)
    strides = [*s[:d], *[0] * len(index.shape), *s[d + 1 :]]
    return work.adding(x, [(place, s[d])], strides, work.expanded(update, shape))


# Reductions and products


@lowers("sum")
def _sum(
    work: Lowering, dtype: torch.dtype, x: Value, dims: Any = None, keepdim: bool = False, **options: Any
) -> Value:
    return work.reduced("sum", Value(x.shape, cast(x.expression, dtype)), dims, keepdim)


@lowers("mean")
def _mean(
    work: Lowering, dtype: torch.dtype, x: Value, dims: Any = None, keepdim: bool = False, **options: Any
) -> Value:
    total = work.reduced("sum", x, dims, keepdim)
    return work.pointwise("({0} * {1})", [total, valued(max(total.size, 1) / max(x.size, 1), dtype)], dtype)


@lowers("amax")
def _amax(work: Lowering, dtype: torch.dtype, x: Value, dims: Any = None, keepdim: bool = False) -> Value:
    return work.reduced("largest", x, dims, keepdim)


@lowers("amin")
def _amin(work: Lowering, dtype: torch.dtype, x: Value, dims: Any = None, keepdim: bool = False) -> Value:
    return work.reduced("smallest", x, dims, keepdim)


@lowers("var")
def _var(
    work: Lowering, dtype: torch.dtype, x: Value, dims: Any = None, correction: float | None = 1, keepdim: bool = False
) -> Value:
    x = work.realized(x)
    mean = _mean(work, dtype, x, dims, True)
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
    return work.pointwise(f"({{0}} - exp{_suffix(dtype)}({{1}}) * {{2}})", [gradient, y, total], dtype)


@lowers("_softmax_backward_data")
def _softmax_backward(
    work: Lowering, dtype: torch.dtype, gradient: Value, y: Value, dim: int, of: torch.dtype
) -> Value:
    weighed = work.realized(work.pointwise("({0} * {1})", [gradient, y], dtype))
    total = work.reduced("sum", weighed, [dim], True)
    return work.pointwise("({0} - {1} * {2})", [weighed, y, total], dtype)


def _normalization_gradient(work: Lowering, gradient: Value, normal: Value, scale: Value, dims: Sequence[int]) -> Value:
    """What comes back through (x - mean) * scale, ``normal`` being its output."""
    dtype = gradient.dtype
    mean = work.realized(_mean(work, dtype, gradient, dims, True))
    along = work.realized(_mean(work, dtype, work.pointwise("({0} * {1})", [gradient, normal], dtype), dims, True))
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
    mean = work.realized(_mean(work, x.dtype, x, dims, True))
    variance = _var(work, x.dtype, x, dims, 0, True)
    suffix = _suffix(x.dtype)
    scale = work.pointwise(f"(1 / sqrt{suffix}({{0}} + {{1}}))", [variance, valued(epsilon, x.dtype)], x.dtype)
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


@lowers("elu")
def _elu(
    work: Lowering, dtype: torch.dtype, x: Value, alpha: float = 1, scale: float = 1, input_scale: float = 1
) -> Value:
    suffix = _suffix(dtype)
    form = f"({{0}} > 0 ? {{0}} * {{1}} : expm1{suffix}({{0}} * {{3}}) * {{2}})"
    return work.pointwise(form, [x, *(valued(v, dtype) for v in (scale, alpha * scale, input_scale))], dtype)


@lowers("leaky_relu")
def _leaky_relu(work: Lowering, dtype: torch.dtype, x: Value, slope: float = 0.01) -> Value:
    return work.pointwise("({0} > 0 ? {0} : {0} * {1})", [x, valued(slope, dtype)], dtype)


@lowers("gelu")
def _gelu(work: Lowering, dtype: torch.dtype, x: Value, approximate: str = "none") -> Value:
    suffix = _suffix(dtype)
    if approximate == "none":
        root, half = valued(0.5**0.5, dtype), valued(0.5, dtype)
        return work.pointwise(f"({{2}} * {{0}} * (1 + erf{suffix}({{0}} * {{1}})))", [x, root, half], dtype)
    numbers = [valued(v, dtype) for v in ((2 / math.pi) ** 0.5, 0.044715, 0.5)]
    inner = "{1} * ({0} + {2} * {0} * {0} * {0})"
    return work.pointwise(f"({{3}} * {{0}} * (1 + tanh{suffix}({inner})))", [x, *numbers], dtype)


@lowers("gelu_backward")
def _gelu_backward(work: Lowering, dtype: torch.dtype, gradient: Value, x: Value, approximate: str = "none") -> Value:
    f = _suffix(dtype)
    if approximate != "none":
        raise NotCompilable("the gradient of the approximate GELU")
    numbers = [valued(v, dtype) for v in (0.5**0.5, 0.5, (2 * math.pi) ** -0.5)]
    form = f"({{0}} * ({{3}} * (1 + erf{f}({{1}} * {{2}})) + {{1}} * {{4}} * exp{f}(-{{3}} * {{1}} * {{1}})))"
    return work.pointwise(form, [gradient, x, *numbers], dtype)


@lowers("_log_softmax")
def _log_softmax(work: Lowering, dtype: torch.dtype, x: Value, dim: int, half: bool) -> Value:
    x = work.realized(x)
    shifted = work.realized(work.pointwise("({0} - {1})", [x, work.reduced("largest", x, [dim], True)], dtype))
    suffix = _suffix(dtype)
    total = work.reduced("sum", work.pointwise(f"exp{suffix}({{0}})", [shifted], dtype), [dim], True)
    return work.pointwise("({0} - {1})", [shifted, work.pointwise(f"log{suffix}({{0}})", [total], dtype)], dtype)


@lowers("_softmax")
def _softmax(work: Lowering, dtype: torch.dtype, x: Value, dim: int, half: bool) -> Value:
    x = work.realized(x)
    suffix = _suffix(dtype)
    largest = work.reduced("largest", x, [dim], True)
    powers = work.realized(work.pointwise(f"exp{suffix}({{0}} - {{1}})", [x, largest], dtype))
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
