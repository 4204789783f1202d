"""Description length: how many bits it takes to send the targets to somebody who has the inputs.

Two-part code (Rissanen 1978), every number of it decodable:
- *model*: each parameter tensor's shape by Rissanen's code for whole numbers;
- *weights*: each tensor's precision δ = 2^-k and scale s = 2^(j/2) as whole numbers, then each weight rounded to a
  multiple of δ with -log2 of what N(0, s²) gives its cell; k is what the data repay;
- *data*: -log2 of what the network with the rounded weights gives the targets; real ones to ``resolution``.
Prequential code (Dawid 1984): rows in portions, each sent by a network trained on the portions before it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn
from torch.func import grad

from nastavnik.errors import UserError, nearest
from nastavnik.noise import stream_of
from nastavnik.selection.evidence._descent import start_deviations
from nastavnik.selection.evidence._joint import Joint, Networks, batched
from nastavnik.selection.evidence._laplace import scale_of
from nastavnik.selection.evidence._making import make_joint
from nastavnik.selection.evidence._posterior import standard_normal
from nastavnik.selection.evidence._preconditions import check_ready
from nastavnik.selection.evidence._record import Cost
from nastavnik.selection.evidence._structures import Diagonal
from nastavnik.training.likelihoods import Likelihood
from nastavnik.training.optimizers import OPTIMIZERS, FirstOrder

CODES = ("two_part", "prequential")
_LN2 = math.log(2)
_ROUNDS = 6  # of the search for precisions
_FINEST, _COARSEST = 24, -8  # k
_FIRST_ROWS = 2  # of the first portion


@dataclass(frozen=True)
class DescriptionLength:
    """``bits`` of the whole message and of its ``parts``; None where there is a ``problem``.

    Lengths of different codes are not comparable. ``precisions`` are each tensor's bits after the binary point.
    """

    code: str
    bits: float | None
    parts: Mapping[str, float]
    assumptions: tuple[str, ...]
    cost: Cost
    precisions: Mapping[str, int]
    problem: str | None = None

    @property
    def nats(self) -> float | None:
        """The same as a log probability of the data, to stand beside a log evidence."""
        return None if self.bits is None else -self.bits * _LN2

    def comparable(self, other: DescriptionLength) -> bool:
        """Whether the two numbers may be ranked against each other."""
        return self.code == other.code


def description_length(
    networks: Networks,
    x: Any,
    y: Any,
    *,
    likelihood: Likelihood | None = None,
    code: str = "two_part",
    resolution: float = 1.0,
    prior_precision: float | Mapping[str, float] = 1.0,
    steps: int = 400,
    rate: float = 0.01,
    seed: int = 0,
    own_data: bool = False,
    dtype: torch.dtype | None = None,
) -> Any:
    """How short a message networks make of the targets.

    Args:
        networks: a module, several of one architecture, or a population; the prequential code takes their architecture.
        x: inputs, as for ``laplace``.
        y: targets.
        likelihood: of the targets given the outputs.
        code: "two_part" (model, weights, data), or "prequential".
        resolution: to which real targets are told, in the targets' units; it shifts all models alike.
        prior_precision: of the trainings of the prequential code.
        steps: of each of its trainings (Adam on all rows so far).
        rate: of Adam.
        seed: of the order of rows and of the starts.
        own_data: each network has rows of its own: x and y are [K, n, …].
        dtype: of the computation.

    Returns:
        One record a network.

    Raises:
        UserError: a precondition does not hold, or an option is wrong.
    """
    started = time.monotonic()
    if code not in CODES:
        raise UserError(f"code cannot be {code!r}{nearest(code, CODES)}")
    if not resolution > 0 or not rate > 0 or steps < 1:
        raise UserError(f"resolution, rate > 0 and steps >= 1 must hold, but got {resolution}, {rate}, {steps}")
    joint = make_joint(
        networks,
        x,
        y,
        likelihood=likelihood,
        prior_precision=prior_precision,
        per_layer=code == "two_part",
        own_data=own_data,
        dtype=dtype,
    )
    check_ready(joint)
    shift = -joint.rows * math.log2(resolution) if joint.likelihood.target == "real" else 0.0
    if code == "prequential":
        found = _prequential(joint, steps, rate, seed, shift, started)
    else:
        found = _two_part(joint, shift, started)
    return found[0] if isinstance(networks, nn.Module) else found


def _two_part(joint: Joint, shift: float, started: float) -> list[DescriptionLength]:
    exponents = _first_exponents(joint)  # [K, T]
    parts = message(joint, exponents)
    evaluations = 1
    tensors = exponents.shape[1]
    for _ in range(_ROUNDS):
        moved = False
        for t in range(tensors):
            for step in (1, -1):
                trial = exponents.clone()
                trial[:, t] = (trial[:, t] + step).clamp(_COARSEST, _FINEST)
                there = message(joint, trial)
                evaluations += 1
                better = there.sum(1) < parts.sum(1) - 1e-9
                moved |= bool(better.any())
                exponents = torch.where(better[:, None], trial, exponents)
                parts = torch.where(better[:, None], there, parts)
        if not moved:
            break
    shape = sum(
        whole_number_bits(len(s) + 1) + sum(whole_number_bits(d) for d in s) for s in joint.layout.shapes.values()
    )
    seconds = (time.monotonic() - started) / len(joint)
    names = [name.removeprefix("network.") for name in joint.layout.shapes]
    found = []
    for k in range(len(joint)):
        weights, data = float(parts[k, 0]), float(parts[k, 1]) + shift
        bits = shape + weights + data
        fine = math.isfinite(bits)
        found.append(
            DescriptionLength(
                "two_part",
                bits if fine else None,
                {"model": shape, "weights": weights, "data": data},
                ("sender and receiver share the inputs, the likelihood with its noise, and this code",),
                Cost(seconds, float(evaluations)),
                dict(zip(names, (int(e) for e in exponents[k]), strict=True)),
                None if fine else "the rounded weights give a loss that is no finite number",
            )
        )
    return found


def message(joint: Joint, exponents: torch.Tensor) -> torch.Tensor:
    """Bits of weights and of data [K, 2] with precisions 2^-k, k [K, T]."""
    weights = joint.weights.double()
    delta = joint.layout.each(2.0 ** -exponents.double())
    whole = (weights / delta).round()
    rounded = whole * delta
    counts = joint.layout.counts
    power = joint.layout.summed(rounded.square()) / counts
    scale = 2.0 ** ((power.clamp(min=1e-12).sqrt().log2() * 2).round() / 2)
    s = joint.layout.each(scale.clamp(min=2.0**-20))
    cells = torch.special.ndtr((whole.abs() + 0.5) * delta / s) - torch.special.ndtr((whole.abs() - 0.5) * delta / s)
    # far out the difference of two numbers near 1 is lost; the density times the cell stands in
    far = -0.5 * (rounded / s).square() + (delta / s).log() - 0.5 * math.log(2 * math.pi)
    each = -torch.where(cells > 1e-12, cells.clamp(min=1e-300).log(), far) / _LN2
    heads = _signed_bits(exponents).sum(1) + _signed_bits((scale.clamp(min=2.0**-20).log2() * 2).round()).sum(1)
    data = -joint.log_likelihoods(rounded.to(joint.weights)).double() / _LN2
    return torch.stack([each.sum(1) + heads, torch.where(data.isnan(), math.inf, data)], dim=1)


def _first_exponents(joint: Joint) -> torch.Tensor:
    """Where rounding costs about half a nat a weight, δ² = 12 / curvature; without curvature an eighth of the scale."""
    counts = joint.layout.counts
    if joint.likelihood.curved:
        h = scale_of(joint)[:, None] * Diagonal.of(joint).h
        mean = (joint.layout.summed(h).double() / counts).clamp(min=1e-12)
        delta = (12 / mean).sqrt()
    else:
        delta = (joint.layout.summed(joint.weights.square()).double() / counts).clamp(min=1e-12).sqrt() / 8
    return (-delta.log2()).round().clamp(_COARSEST, _FINEST)


def whole_number_bits(n: int) -> float:
    """Rissanen's universal code for n >= 1: log2 2.865 + log2 n + log2 log2 n + …"""
    bits, rest = math.log2(2.865064), math.log2(n)
    while rest > 0:
        bits += rest
        rest = math.log2(rest)
    return bits


def _signed_bits(n: torch.Tensor) -> torch.Tensor:
    """Of whole numbers of either sign: 0, 1, -1, 2, … as 1, 2, 3, 4, …"""
    place = torch.where(n > 0, 2 * n, -2 * n + 1)
    return torch.tensor([[whole_number_bits(int(v)) for v in row] for row in place.tolist()], dtype=torch.float64)


def _prequential(
    joint: Joint, steps: int, rate: float, seed: int, shift: float, started: float
) -> list[DescriptionLength]:
    """Portions that double; the first is sent by the untrained network, whose start both sides know."""
    ends = [min(_FIRST_ROWS, joint.rows)]
    while ends[-1] < joint.rows:
        ends.append(min(2 * ends[-1], joint.rows))
    generator = torch.Generator().manual_seed(stream_of(seed, "order"))
    order = torch.randperm(joint.rows, generator=generator)
    axis = 1 if joint.own else 0
    joint = replace(
        joint,
        inputs=tuple(t.index_select(axis, order) for t in joint.inputs),
        targets=joint.targets.index_select(axis, order),
    )
    start = start_deviations(joint) * standard_normal((joint.layout.size,), stream_of(seed, "start"), joint.weights)
    total = torch.zeros(len(joint), dtype=torch.float64)
    for i, end in enumerate(ends):
        begin = ends[i - 1] if i else 0
        weights = _trained(_rows(joint, slice(0, begin)), start, steps, rate) if begin else start
        total -= _rows(joint, slice(begin, end)).log_likelihoods(weights).double()
    seconds = (time.monotonic() - started) / len(joint)
    found = []
    for k in range(len(joint)):
        bits = float(total[k]) / _LN2 + shift
        fine = math.isfinite(bits)
        found.append(
            DescriptionLength(
                "prequential",
                bits if fine else None,
                {"data": bits},
                (
                    "sender and receiver share the inputs, the likelihood with its noise, the start and the training",
                    "rows come in a random order that both know",
                ),
                Cost(seconds, 2.0 * steps * sum(ends[:-1]) / joint.rows),
                {},
                None if fine else "a training ran away to what is no number; take a smaller rate",
            )
        )
    return found


def _rows(joint: Joint, rows: slice) -> Joint:
    """With some of the rows."""
    if joint.own:
        return replace(joint, inputs=tuple(t[:, rows] for t in joint.inputs), targets=joint.targets[:, rows])
    return replace(joint, inputs=tuple(t[rows] for t in joint.inputs), targets=joint.targets[rows])


def _trained(joint: Joint, weights: torch.Tensor, steps: int, rate: float) -> torch.Tensor:
    """Weights [K, P] after Adam on the negative log joint of the joint's rows."""
    optimizer = OPTIMIZERS["adam"]({})
    assert isinstance(optimizer, FirstOrder)
    parameters = {"weights": weights}
    state = optimizer.init(parameters)
    settings = {n: weights.new_tensor(v) for n, v in optimizer.settings.items()}

    def one(w: Any, c: Any, x: Any, y: Any, f: Any, a: Any) -> torch.Tensor:
        return grad(lambda v: joint.losses(v, c, x, y, f).sum() - joint.log_prior(v, a))(w)

    slope = batched(one, (0, 0, joint.data_dims(), joint.data_dims(), 0, 0))
    with torch.no_grad():
        for step in range(steps):
            settings["learning_rate"] = weights.new_tensor(rate * min(1.0, 2 * (1 - step / steps)))
            own = (joint.constants, joint.inputs, joint.targets, joint.factor, joint.precision)
            slopes = {"weights": slope(parameters["weights"], *own)}
            parameters, state = optimizer.update(slopes, state, parameters, settings)
    return parameters["weights"]
