"""The normal distributions that variational inference looks among, and their expectations of the loss.

Legend: K networks, P weights, S draws; q = N(µ, F Fᵀ). What differs between the two is how the expectation is taken.
"""

from __future__ import annotations

import copy
import math
from typing import Any

import torch
from torch import nn
from torch.func import grad

from nastavnik.nets import Function
from nastavnik.noise import Noise, stream_of
from nastavnik.selection.evidence._joint import Joint, batched
from nastavnik.selection.evidence._laplace import scale_of
from nastavnik.selection.evidence._layers import plain_products
from nastavnik.selection.evidence._posterior import Normal, standard_normal
from nastavnik.selection.evidence._structures import Full
from nastavnik.training.optimizers import Tensors

JUDGED = 256  # draws for the bound's value
_FIRST = 1e-2  # deviations at first, of networks without a known quadratic, over that of the prior


class Quadratic:
    """q of a small network, measured from Laplace's; the loss's expectation with its quadratic as control variate."""

    def __init__(self, joint: Joint, structure: str, seed: int) -> None:
        self.joint, self.full, self.seed = joint, structure == "full", seed
        s = scale_of(joint)
        whole = Full.of(joint)
        self.h = s[:, None, None] * whole.h
        diagonal = self.h.diagonal(dim1=1, dim2=2) + joint.layout.each(joint.precision)
        self.start = diagonal.rsqrt()  # [K, P]
        if self.full:
            inverse = [whole.covariance(k, joint.precision[k], s[k]) for k in range(len(joint))]
            self.start = torch.stack([torch.linalg.cholesky_ex(c)[0] for c in inverse])
        self.slopes = fit_slopes(joint, joint.weights)
        self.values = -joint.log_likelihoods(joint.weights)
        self.share = torch.ones_like(self.values)  # of the quadratic that is taken off, [K]

    def parameters(self) -> Tensors:
        """Mean-field: moves in the start's deviations and logs of deviations over the start's; full: µ and F."""
        if self.full:
            return {"mean": self.joint.weights, "factor": self.start}
        return {n: torch.zeros_like(self.joint.weights) for n in ("move", "spread")}

    def narrowed(self, q: Tensors, log_times: float) -> Tensors:
        """q with all deviations so many times as wide."""
        if self.full:
            return {**q, "factor": q["factor"] * math.exp(log_times)}
        return {**q, "spread": q["spread"] + log_times}

    def shape(self, q: Tensors, start: torch.Tensor, w0: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """µ and F of ONE network."""
        if self.full:
            return q["mean"], q["factor"]
        return w0 + start * q["move"], start * q["spread"].exp()

    def moments(self, q: Tensors, start: torch.Tensor, w0: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """µ, the variances, log |F Fᵀ| of ONE network."""
        mean, factor = self.shape(q, start, w0)
        if not self.full:
            return mean, factor.square(), 2 * factor.log().sum()
        return mean, factor.square().sum(1), 2 * factor.diagonal().log().sum()

    def drawn(self, q: Tensors, noise: torch.Tensor, own: tuple[Any, ...]) -> tuple[torch.Tensor, ...]:
        """Of ONE network: draws' losses [S], their quadratics [S], and the quadratic's expectation."""
        w0, start, h, g, value, _, c, x, y, f = own
        mean, factor = self.shape(q, start, w0)
        away = noise @ factor.T if self.full else noise * factor
        moved = mean - w0
        d = away + moved
        quadratic = value + d @ g + 0.5 * ((d @ h) * d).sum(1)
        losses = batched(lambda e: self.joint.losses(w0 + e, c, x, y, f).sum(), (0,))(d)
        hf = h @ factor if self.full else h.diagonal() * factor
        expected = value + g @ moved + 0.5 * (moved @ h @ moved) + 0.5 * (hf * factor).sum()
        return losses, quadratic, expected

    def arguments(self) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        """What differs between networks, and how it is mapped."""
        joint = self.joint
        own = (joint.weights, self.start, self.h, self.slopes, self.values, self.share)
        data = joint.data_dims()
        return (*own, joint.constants, joint.inputs, joint.targets, joint.factor), (0, 0, 0, 0, 0, 0, 0, data, data, 0)

    def noise(self, step: int, count: int) -> torch.Tensor:
        """Antithetic draws [count, P] of a step, for every network the same."""
        half = standard_normal(
            (count // 2, self.joint.layout.size), stream_of(self.seed, f"{step}"), self.joint.weights
        )
        return torch.cat([half, -half])

    def loss(self, q: Tensors, noise: torch.Tensor, own: tuple[Any, ...]) -> torch.Tensor:
        """An estimate of E_q of the loss of ONE network."""
        losses, quadratic, expected = self.drawn(q, noise, own)
        share = own[5]
        return (losses - share * quadratic).mean() + share * expected

    def judged(self, q: Tensors) -> tuple[torch.Tensor, torch.Tensor]:
        """E_q of each network's loss [K], and its standard error; sees anew how much of the quadratic helps."""
        own, dims = self.arguments()
        noise = self.noise(-1, JUDGED)
        with torch.no_grad():
            found = batched(lambda p, *o: self.drawn(p, noise, o), (0, *dims), chunk=4)(q, *own)
        sound = torch.isfinite(found[0]).all(1) & torch.isfinite(found[1]).all(1)
        losses, quadratic, expected = (t.nan_to_num(posinf=0.0, neginf=0.0) for t in found)
        centred = quadratic - quadratic.mean(1, keepdim=True)
        power = centred.square().sum(1)
        along = (centred * (losses - losses.mean(1, keepdim=True))).sum(1)
        self.share = torch.where(power > 0, along / power.clamp(min=1e-300), torch.ones_like(power)).clamp(0, 1)
        values = losses - self.share[:, None] * (quadratic - expected[:, None])
        pairs = values.reshape(len(values), 2, -1).mean(1)
        # one draw where the loss is no number is enough: the expectation is none
        mean = torch.where(sound, values.mean(1), torch.inf)
        return mean, pairs.std(1) / pairs.shape[1] ** 0.5

    def normal(self, q: Tensors, k: int) -> Normal:
        """The k-th network's q."""
        mine = {n: t[k] for n, t in q.items()}
        return Normal(self.joint, k, *self.shape(mine, self.start[k], self.joint.weights[k]))


class Local:
    """Mean-field q of a larger network; layers' outputs are drawn instead of their weights (Kingma et al. 2015)."""

    full = False

    def __init__(self, joint: Joint, structure: str, seed: int) -> None:
        self.joint, self.seed = joint, seed
        self.module = copy.deepcopy(joint.module)
        # a layer whose weights act more than once on a row must draw its weights: its outputs share one draw
        self.products = {
            name
            for name, dimensions in plain_products(joint).items()
            if dimensions == 2 and isinstance(joint.module.get_submodule(name), nn.Linear)
        }
        for name in sorted(self.products):
            parent = self.module.get_submodule(name.rpartition(".")[0])
            setattr(parent, name.rpartition(".")[2], _DrawnLinear(self.module.get_submodule(name), name))
        self.function = Function(self.module)
        self.start = joint.layout.each(joint.precision).rsqrt() * _FIRST

    def parameters(self) -> Tensors:
        """Moves in the start's deviations, and logs of deviations over the start's."""
        return {n: torch.zeros_like(self.joint.weights) for n in ("move", "spread")}

    def narrowed(self, q: Tensors, log_times: float) -> Tensors:
        """q with all deviations so many times as wide."""
        return {**q, "spread": q["spread"] + log_times}

    def moments(self, q: Tensors, start: torch.Tensor, w0: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """µ, the variances, log |F Fᵀ| of ONE network."""
        return w0 + start * q["move"], (start * q["spread"].exp()).square(), 2 * (start.log() + q["spread"]).sum()

    def arguments(self) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        """What differs between networks, and how it is mapped."""
        joint = self.joint
        data = joint.data_dims()
        own = (joint.weights, self.start, joint.constants, joint.inputs, joint.targets, joint.factor)
        return own, (0, 0, 0, data, data, 0)

    def noise(self, step: int, count: int) -> torch.Tensor:
        """The step's number, from which each layer draws its own."""
        return torch.tensor(step + 1, dtype=torch.int32)

    def losses(self, q: Tensors, noise: torch.Tensor, own: tuple[Any, ...]) -> torch.Tensor:
        """Each row's loss [n] with its own draw of the layers' outputs."""
        w0, start, c, x, y, f = own
        mean, variance, _ = self.moments(q, start, w0)
        stream = Noise(torch.tensor(stream_of(self.seed, "local"), dtype=torch.int32), noise)
        means, deviations = self.joint.layout.split(mean), self.joint.layout.split(variance.sqrt())
        tensors = {}
        for name, m in means.items():
            if name.rpartition(".")[0] in self.products:
                tensors[name], tensors[f"{name}_deviation"] = m, deviations[name]
            else:
                tensors[name] = m + deviations[name] * stream.normal(name, m)
        steps = {f"{name}.step": noise for name in self.products}
        streams = {f"{name}.stream": stream.stream for name in self.products}
        return self.function({**tensors, **c, **steps, **streams}, (x, y, f))

    def loss(self, q: Tensors, noise: torch.Tensor, own: tuple[Any, ...], weight: float = 1.0) -> torch.Tensor:
        """An estimate of E_q of the loss of ONE network."""
        return weight * self.losses(q, noise, own).sum()

    def judged(self, q: Tensors) -> tuple[torch.Tensor, torch.Tensor]:
        """E_q of each network's loss [K], and its standard error over passes."""
        own, dims = self.arguments()
        found = []
        with torch.no_grad():
            for i in range(JUDGED // 8):
                noise = self.noise(-2 - i, 1)
                found.append(batched(lambda p, *o, noise=noise: self.loss(p, noise, o), (0, *dims))(q, *own))
        values = torch.stack(found)
        return values.mean(0), values.std(0) / len(values) ** 0.5

    def normal(self, q: Tensors, k: int) -> Normal:
        """The k-th network's q."""
        mine = {n: t[k] for n, t in q.items()}
        mean, variance, _ = self.moments(mine, self.start[k], self.joint.weights[k])
        return Normal(self.joint, k, mean, variance.sqrt())


class _DrawnLinear(nn.Module):
    """A linear layer whose outputs are drawn: N(x µᵀ, x² σ²ᵀ)."""

    step: torch.Tensor
    stream: torch.Tensor

    def __init__(self, linear: nn.Module, name: str) -> None:
        super().__init__()
        assert isinstance(linear, nn.Linear)
        self.name = name
        self.weight, self.bias = linear.weight, linear.bias
        self.weight_deviation = nn.Parameter(torch.zeros_like(linear.weight))
        self.bias_deviation = None if linear.bias is None else nn.Parameter(torch.zeros_like(linear.bias))
        self.register_buffer("step", torch.zeros((), dtype=torch.int32))
        self.register_buffer("stream", torch.zeros((), dtype=torch.int32))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mean = nn.functional.linear(x, self.weight, self.bias)
        bias = None if self.bias_deviation is None else self.bias_deviation.square()
        variance = nn.functional.linear(x.square(), self.weight_deviation.square(), bias)
        return mean + (variance + 1e-20).sqrt() * Noise(self.stream, self.step).normal(self.name, mean)


def fit_slopes(joint: Joint, weights: torch.Tensor) -> torch.Tensor:
    """The negative log likelihood's gradients [K, P]."""

    def one(w: Any, c: Any, x: Any, y: Any, f: Any) -> torch.Tensor:
        return grad(lambda v: joint.losses(v, c, x, y, f).sum())(w)

    dims = (0, 0, joint.data_dims(), joint.data_dims(), 0)
    with torch.no_grad():
        return batched(one, dims)(weights, joint.constants, joint.inputs, joint.targets, joint.factor)


Family = Quadratic | Local
