"""Every operation of the compiler against PyTorch's own result."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.func import functional_call, grad
from torch.nn import functional as F

from nastavnik.compiler import NotCompilable, Program
from nastavnik.compiler._tracing import check_same, record
from nastavnik.compiler.operations import LOWERINGS

Tensors = Sequence[torch.Tensor]


def run(function: Callable[..., list[torch.Tensor]], examples: Tensors) -> list[torch.Tensor]:
    """The compiled function's outputs for one network and one step."""
    program = Program(function, [t.clone() for t in examples], [])
    outputs = [torch.zeros_like(t.contiguous()) for t in function(*(t.clone() for t in examples))]
    bound = [(t[None], "k") for t in (*examples, *outputs)]
    program.run(bound, torch.zeros(1, dtype=torch.long), steps=1, threads=1)
    return outputs


def check(function: Callable[..., Any], *examples: torch.Tensor) -> None:
    def several(*given: torch.Tensor) -> list[torch.Tensor]:
        found = function(*given)
        return [found] if isinstance(found, torch.Tensor) else list(found)

    wide = torch.float64 in {t.dtype for t in examples}
    wanted = several(*(t.clone() for t in examples))
    for got, want in zip(run(several, examples), wanted, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-12 if wide else 2e-5, atol=1e-12 if wide else 2e-5)


def numbers(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


X, Y = numbers(5, 7), numbers(5, 7, seed=1)
POSITIVE = X.abs() + 0.1


def each(names: str, *examples: torch.Tensor) -> dict[str, Callable[[], None]]:
    """A check for each of PyTorch's functions of these names."""
    return {n: partial(check, getattr(torch if hasattr(torch, n) else F, n), *examples) for n in names.split()}


ACTIVATIONS = "gelu silu elu selu leaky_relu mish softplus hardsigmoid logsigmoid relu6"
POINTWISE: dict[str, Callable[[], None]] = {
    **each("exp expm1 sin cos tan tanh sinh cosh atan asinh erf erfc abs neg sign floor ceil trunc round square", X),
    **each("sigmoid relu isnan", X),
    **each("log log1p log2 sqrt rsqrt reciprocal lgamma", POSITIVE),
    **each("add sub mul div maximum minimum atan2 eq ne lt le gt ge", X, Y),
    **each(ACTIVATIONS, X),
    "power": lambda: check(lambda x, y: (x**2, x**3, x**0.5, x**-1, x**1.7, x**y), POSITIVE, Y),
    "numbers on either side": lambda: check(lambda x: (2 - x, 3 / x, 1.5 * x + 2, x > 0.5), POSITIVE),
    "where": lambda: check(lambda x, y: (torch.where(x > 0, x, y), torch.where(x > 0, 1.0, y), x.masked_fill(y > 0, 3.0)), X, Y),
    "clamp": lambda: check(lambda x: (x.clamp(-0.5, 0.5), x.clamp(min=0.1), x.clamp(max=0.2)), X),
    "lerp, addcmul, addcdiv": lambda: check(
        lambda x, y: (torch.lerp(x, y, 0.3), torch.addcmul(x, y, y, value=2), torch.addcdiv(x, y, y.square() + 1)), X, Y
    ),
    "logic": lambda: check(lambda x, y: ((x > 0) & (y > 0), (x > 0) | (y > 0), torch.logical_not(x > 0), ~(x > 0)), X, Y),
    "whole numbers": lambda: check(
        lambda i: (i * 2146121005, i >> 3, i ^ (i << 2), i & 255, i.long() + 5_000_000_000, i.double() / 3),
        torch.arange(-20, 20, dtype=torch.int32) * 99_999_999,
    ),
    "logic of whole numbers": lambda: check(
        lambda i: (torch.logical_not(i), ((i > 1) + (i < 5)).double(), (i > 1).double().mean(), i.double().mean()),
        torch.tensor([0, 3, 5, -1]),
    ),
    "casts": lambda: check(lambda x: (x.float(), x.int(), x.long(), (x > 0).double(), x.bool()), X),
    "broadcasts": lambda: check(lambda x, y: (x[:, None] * y[None, :], x.exp()[:, None] + y), X[:, 0].clone(), Y[0]),
}  # fmt: skip

SHAPES: dict[str, Callable[[], None]] = {
    "views": lambda: check(lambda x: (x.t().exp(), x.view(7, 5) * 1, x.t().reshape(35), x.unsqueeze(1).expand(5, 3, 7) + 0), X),
    "view of an expression": lambda: check(lambda x: (x.exp().view(35), x.t().exp().reshape(5, 7)), X),
    "picks": lambda: check(lambda x: (x[2] * 2, x[:, 1:6:2] * 2, x[-1, ::3] * 2, x.flip(1) * 1, x.squeeze() + 0), X),
    "puts together": lambda: check(lambda x, y: (torch.cat([x, y, x[:, :2]], 1), torch.stack([x, y]), F.pad(x, (1, 2, 0, 1), value=4.0)), X, Y),
    "made": lambda: check(lambda x: (x + torch.arange(7), torch.full_like(x, 2.5), x.new_zeros(3) + x[0, 0], torch.ones_like(x) * x), X),
    "four dimensions": lambda: check(lambda x: (x.permute(3, 1, 0, 2).contiguous(), x.transpose(0, 2).sum(1)), numbers(2, 3, 4, 5)),
}  # fmt: skip

INDEX = torch.tensor([3, 0, 3, 4])
INDEXING: dict[str, Callable[[], None]] = {
    "rows": lambda: check(lambda x, i: (x[i], x.index_select(1, i), x[:, i]), X, INDEX),
    "from the end": lambda: check(lambda x, i: (x[:, i], x.index_put((i,), x[:2], accumulate=True)), X, torch.tensor([0, -1])),
    "embedding": lambda: check(lambda w, i: F.embedding(i, w), X, INDEX.view(2, 2)),
    "gather": lambda: check(lambda x, i: x.gather(1, i), X, torch.tensor([[1, 2], [0, 6], [3, 3], [4, 1], [5, 5]])),
    "scatter": lambda: check(lambda x, i, y: x.scatter_add(1, i, y), X, torch.tensor([[1, 1], [0, 6], [3, 3], [4, 1], [5, 5]]), Y),
    "put": lambda: check(lambda x, i, y: x.index_put((i,), y[:4], accumulate=True), X, INDEX, Y),
}  # fmt: skip

REDUCTIONS: dict[str, Callable[[], None]] = {
    "sums": lambda: check(lambda x: (x.sum(), x.sum(0), x.sum(1, keepdim=True), x.mean(), x.mean((0, 1)), x.t().sum(0)), X),
    "three dimensions": lambda: check(
        lambda x: (x.sum(1), x.sum((0, 2)), x.permute(2, 0, 1).mean(2), x.amax((0, 1)), x.exp().sum((1, 2))), numbers(3, 4, 5)
    ),
    "extremes": lambda: check(lambda x: (x.amax(0), x.amax(1), x.amin((0, 1)), x.t().amin(0)), X),
    "variances": lambda: check(lambda x: (x.var(0), x.var((0, 1), correction=0), x.var(1, keepdim=True), x.std(0)), X),
    "softmax": lambda: check(lambda x: (x.softmax(1), x.softmax(0), F.log_softmax(x, 1), x.logsumexp(1)), X),
    "products": lambda: check(lambda x, y: (x @ y.t(), x.t() @ y, torch.addmm(y[0, :5], x, y.t()), x @ y[0]), X, Y),
    "of a single row or column": lambda: check(lambda x, y: (x[:1] @ y.t(), x @ y[:1].t(), x[:, :1] @ y[:1]), X, Y),
    "batches of products": lambda: check(lambda x, y: (x @ y, y.transpose(1, 2) @ x.transpose(1, 2)), numbers(3, 4, 5), numbers(3, 5, 2)),
}  # fmt: skip

ALL = {**POINTWISE, **SHAPES, **INDEXING, **REDUCTIONS}


@pytest.mark.parametrize("name", list(ALL))
def test_as_pytorch(name: str) -> None:
    ALL[name]()


@settings(max_examples=12, deadline=None)
@given(st.integers(1, 70), st.integers(1, 70), st.integers(1, 70), st.sampled_from([torch.float32, torch.float64]))
def test_products_of_every_size(m: int, k: int, n: int, dtype: torch.dtype) -> None:
    a, b = numbers(m, k, dtype=dtype), numbers(k, n, seed=1, dtype=dtype)
    check(lambda a, b: (a @ b, (b.t() @ a.t()).t() * 1, a.t().contiguous().t() @ b.t().contiguous().t()), a, b)


def layers(width: int) -> dict[str, nn.Module]:
    return {
        "batch norm": nn.BatchNorm1d(width),
        "batch norm without weights": nn.BatchNorm1d(width, affine=False),
        "layer norm": nn.LayerNorm(width),
        "layer norm without weights": nn.LayerNorm(width, elementwise_affine=False),
        "group norm": nn.GroupNorm(3, width),
        "rms norm": nn.RMSNorm(width),
        "activations": nn.Sequential(nn.GELU(), nn.SiLU(), nn.Tanh(), nn.Sigmoid()),
        "rarer activations": nn.Sequential(nn.Mish(), nn.PReLU(), nn.ELU(), nn.Softplus(), nn.Hardtanh()),
        "gated": nn.Sequential(nn.GLU(), nn.Linear(width // 2, width)),
        "attention": _Attention(width),
        "in place": nn.Sequential(nn.Linear(width, width), nn.ReLU(inplace=True)),
    }


class _Attention(nn.Module):
    """Softmax attention of a row's thirds to each other."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.query = nn.Linear(width // 3, width // 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        parts = x.view(len(x), 3, -1)
        weights = (self.query(parts) @ parts.transpose(1, 2)).softmax(-1)
        return (weights @ parts).reshape(x.shape)


@pytest.mark.parametrize("name", list(layers(6)))
def test_gradients_of_layers(name: str) -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(5, 6), layers(6)[name], nn.Linear(6, 2)).double()
    parameters, buffers = dict(module.named_parameters()), dict(module.named_buffers())
    x = numbers(9, 5)

    def step(*given: torch.Tensor) -> list[torch.Tensor]:
        own = dict(zip(parameters, given, strict=False))

        def loss(own: dict[str, torch.Tensor]) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
            changed = {n: b.clone() for n, b in zip(buffers, given[len(parameters) :], strict=False)}
            return functional_call(module, {**own, **changed}, (given[-1],)).square().mean(), changed

        found, changed = grad(loss, has_aux=True)(own)
        return [*found.values(), *changed.values()]

    check(step, *(p.detach() for p in parameters.values()), *buffers.values(), x)


def test_what_cannot_be_compiled_is_named() -> None:
    with pytest.raises(NotCompilable, match="operation convolution"):
        run(lambda x: [F.conv1d(x, x)], [numbers(1, 1, 5)])
    with pytest.raises(NotCompilable, match="value of a tensor decides"):
        run(lambda x: [x * 2 if x.sum() > 0 else x], [X])
    with pytest.raises(NotCompilable, match="that others look at"):
        run(lambda x: [(x * 2).view(35).add_(1)], [X])
    with pytest.raises(NotCompilable, match="that others look at"):
        run(lambda x: [torch.tensor([1.0, 2.0]).add_(x.sum())], [X])
    with pytest.raises(NotCompilable, match="whole numbers"):
        run(lambda x: [x.long() @ x.long().t()], [X])
    with pytest.raises(NotCompilable, match="this use of the operation round"):
        run(lambda x: [x.round(decimals=2)], [X])
    with pytest.raises(NotCompilable, match="float16"):
        run(lambda x: [x * 2], [X.half()])


def test_without_a_compiler(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setenv("NASTAVNIK_CACHE", str(tmp_path))
    with pytest.raises(NotCompilable, match="no C compiler"):
        run(lambda x: [x * 2], [X])


def test_a_cache_that_cannot_be_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("NASTAVNIK_CACHE", str(tmp_path / "file"))
    with pytest.raises(NotCompilable, match="cannot be written"):
        run(lambda x: [x * 2], [X])


def test_the_same_function_gives_the_same_text_and_is_compiled_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    monkeypatch.setenv("NASTAVNIK_CACHE", str(tmp_path))
    programs = [Program(lambda x, y: [(x @ y.t()).tanh().sum(0)], [X, Y], []) for _ in range(2)]
    assert programs[0].source == programs[1].source
    for program in programs:
        program.build()
    built = sorted((p.name, p.stat().st_mtime_ns) for p in (tmp_path / "steps").iterdir())
    assert len(built) == 2  # the step, and the product of matrices
    assert all(name.endswith((".so", ".o")) for name, _ in built)
    assert os.listdir(tmp_path) == ["steps"]


def test_state_is_changed_in_place_over_steps_networks_and_threads() -> None:
    """w ← w - row, for each network its own w, and a sum of what was seen."""

    def step(w: torch.Tensor, rows: torch.Tensor, index: torch.Tensor, seen: torch.Tensor) -> list[torch.Tensor]:
        batch = rows[index]
        return [w - batch.sum(0), seen + batch.sum()]

    w, rows = numbers(6, 7), numbers(2, 10, 7, seed=1)
    index = torch.randint(0, 10, (4, 2, 3), generator=torch.Generator().manual_seed(0))
    part = torch.tensor([0, 1, 0, 1, 1, 0])
    wanted = torch.stack([w[k] - rows[p][index[:, p]].sum((0, 1)) for k, p in enumerate(part)])
    seen = torch.stack([rows[p][index[:, p]].sum() for p in part])
    for threads in (1, 3):
        program = Program(step, [w[0], rows[0], index[0, 0], torch.tensor(0.0, dtype=torch.float64)], [(0, 0), (3, 1)])
        state, total = w.clone(), torch.zeros(6, dtype=torch.float64)
        program.run([(state, "k"), (rows, "p"), (index, "sp"), (total, "k")], part, steps=4, threads=threads)
        torch.testing.assert_close(state, wanted)
        torch.testing.assert_close(total, seen)
    with pytest.raises(ValueError, match="must be"):
        program.run([(state.float(), "k"), (rows, "p"), (index, "sp"), (total, "k")], part, steps=4, threads=1)


def test_swapped_and_shifted_state_reads_the_old_values() -> None:
    """Outputs that read each other's old values, as an exchange does."""

    def step(a: torch.Tensor, b: torch.Tensor) -> list[torch.Tensor]:
        return [b * 2, a.flip(0) + b]

    a, b = numbers(1, 5), numbers(1, 5, seed=1)
    wanted = [b * 2, a.flip(1) + b]
    program = Program(step, [a[0], b[0]], [(0, 0), (1, 1)])
    program.run([(a, "k"), (b, "k")], torch.zeros(1, dtype=torch.long), steps=1, threads=1)
    torch.testing.assert_close([a, b], wanted)


def test_an_index_out_of_range_is_said() -> None:
    program = Program(lambda x, i: [x[i]], [X, INDEX], [])
    bound = [(X[None], "k"), (torch.full_like(INDEX, 99)[None], "k"), (numbers(1, 4, 7), "k")]
    with pytest.raises(IndexError, match="out of range"):
        program.run(bound, torch.zeros(1, dtype=torch.long), steps=1, threads=1)


def test_state_that_reads_its_own_other_elements_reads_the_old_ones() -> None:
    """A slice and an index into the very tensor that is overwritten."""

    def step(a: torch.Tensor, b: torch.Tensor, i: torch.Tensor) -> list[torch.Tensor]:
        return [torch.cat([a[1:], a[:1]]), b[i] * 2]

    a, b = numbers(1, 64), numbers(1, 64, seed=1)
    i = (torch.arange(64) * 7 + 3) % 64
    wanted = [a.roll(-1, 1), b[:, i] * 2]
    program = Program(step, [a[0], b[0], i], [(0, 0), (1, 1)])
    program.run([(a, "k"), (b, "k"), (i, "")], torch.zeros(1, dtype=torch.long), steps=1, threads=1)
    torch.testing.assert_close([a, b], wanted)


def test_a_constant_is_the_same_whether_made_now_or_kept_from_before() -> None:
    kept: list[torch.Tensor] = []

    def step(x: torch.Tensor) -> list[torch.Tensor]:
        if not kept:
            kept.append(torch.from_numpy(np.arange(3, dtype=np.float32)))
        return [x * kept[0]]

    first = record(step, [torch.ones(3)], LOWERINGS)
    check_same(first, record(step, [torch.full((3,), 2.0)], LOWERINGS))
    assert [o.name for o in first.operations] == ["mul"]
    with pytest.raises(NotCompilable, match="values of tensors decide"):
        check_same(first, record(lambda x: [x * (kept[0] + 1)], [torch.ones(3)], LOWERINGS))
