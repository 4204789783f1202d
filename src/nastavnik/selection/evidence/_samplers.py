"""Chains that draw weights from tempered posteriors, K networks × T temperatures × C chains as one program.

Legend: B = K·T·C chains, P weights; U_t(w) = -t log p(D|w) - log p(w), which a chain at temperature t has for its
energy; F [.., P, P] (or its diagonal [.., P]) the *scale*, F Fᵀ ≈ the covariance at that temperature, in which steps
are measured.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch.func import grad_and_value

from nastavnik.noise import stream_of
from nastavnik.selection.evidence._joint import Joint, batched
from nastavnik.selection.evidence._structures import Diagonal, Full

SAMPLERS = ("hmc", "sgld", "sghmc", "constant_sgd")
_FULL = 1500  # weights up to which the scale is a full matrix
_WANTED = 0.8  # of proposals to be taken, by which the step's length is found
_FRICTION = 0.1
_NEAR = 0.1  # where samplers begin that take every step: far out a network's energy is too steep for them
_AHEAD = 16  # noise drawn together


class Draws(NamedTuple):
    """``weights`` [K, T, C, S, P] (only of the last temperature: [K, 1, …] if ``kept`` says so), ``log_likelihood``
    [K, T, C, S], ``accepted`` [K, T], ``steps`` gradient evaluations of each chain."""

    weights: torch.Tensor
    log_likelihood: torch.Tensor
    accepted: torch.Tensor
    steps: int


@dataclass(frozen=True)
class Plan:
    """How long, how many, how far.

    ``rate`` is the step β in the units of the scale; None for the sampler's own. ``batch`` rows a step for samplers
    with stochastic gradients; None for all rows.
    """

    sampler: str
    chains: int
    warmup: int
    draws: int
    leapfrog: int
    rate: float | None
    batch: int | None
    seed: int


class Chains:
    """The chains of one call.

    Args:
        joint: K networks at the weights the chains begin around.
        temperatures: rising, the last one 1.
        plan: what to do.
    """

    def __init__(self, joint: Joint, temperatures: torch.Tensor, plan: Plan) -> None:
        self.plan, self.networks, self.temperatures = plan, len(joint), temperatures
        self.each = len(temperatures) * plan.chains
        self.joint = joint.repeated(self.each)
        self.t = temperatures.to(joint.weights).repeat_interleave(plan.chains).repeat(self.networks)
        self.scale = _scales(joint, temperatures).repeat_interleave(plan.chains, 0)
        self.generators = [
            torch.Generator().manual_seed(stream_of(plan.seed, f"chains {k}")) for k in range(len(joint))
        ]
        self._ready: list[torch.Tensor] = []
        far = 1.0 if plan.sampler == "hmc" else _NEAR
        self.weights = self.joint.weights + far * self.scaled(self.noise())
        self.steps = 0

    def run(self) -> Draws:
        """Warm up, then draw."""
        kernel: Callable[[bool], torch.Tensor]
        if self.plan.sampler == "hmc":
            kernel = _Hamiltonian(self).step
        else:
            kernel = _Stochastic(self).step
        for _ in range(self.plan.warmup):
            kernel(True)
        weights, values, accepted = [], [], torch.zeros_like(self.t)
        last = torch.arange(len(self.t)).reshape(self.networks, len(self.temperatures), -1)[:, -1].reshape(-1)
        for _ in range(self.plan.draws):
            accepted += kernel(False)
            values.append(self.log_likelihood.clone())
            weights.append(self.weights[last].clone())
        shape = (self.networks, len(self.temperatures), self.plan.chains)
        return Draws(
            torch.stack(weights, 1).reshape(self.networks, 1, self.plan.chains, len(weights), -1),
            torch.stack(values, 1).reshape(*shape, -1),
            (accepted / self.plan.draws).reshape(shape).mean(2),
            self.steps,
        )

    log_likelihood: torch.Tensor  # at the present weights [B]

    def noise(self) -> torch.Tensor:
        """Standard normal [B, P], each network's from its own generator."""
        if not self._ready:
            shape = (_AHEAD, self.each, self.joint.weights.shape[1])
            own = [torch.randn(shape, generator=g, dtype=self.joint.weights.dtype) for g in self.generators]
            self._ready = list(torch.cat(own, dim=1))
        return self._ready.pop()

    def uniform(self) -> torch.Tensor:
        """Uniform on (0, 1) [B]."""
        return torch.cat([torch.rand(self.each, generator=g, dtype=self.t.dtype) for g in self.generators])

    def scaled(self, v: torch.Tensor) -> torch.Tensor:
        """F v."""
        return v * self.scale if self.scale.ndim == 2 else (self.scale @ v[..., None])[..., 0]

    def pulled(self, g: torch.Tensor) -> torch.Tensor:
        """Fᵀ g."""
        return g * self.scale if self.scale.ndim == 2 else (self.scale.mT @ g[..., None])[..., 0]

    def energies(
        self, weights: torch.Tensor, rows: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """(∇U [B, P], U [B], log p(D|w) [B]); ``rows`` [B, b] for an estimate from some of them."""
        joint = self.joint
        inputs, targets = joint.inputs, joint.targets
        weight, data = 1.0, joint.data_dims()
        if rows is not None:
            chain = torch.arange(len(rows))[:, None]
            weight, data = joint.rows / rows.shape[1], 0
            inputs = tuple(x[chain, rows] if joint.own else x[rows] for x in inputs)
            targets = targets[chain, rows] if joint.own else targets[rows]

        def one(w: Any, c: Any, x: Any, y: Any, f: Any, a: Any, t: Any) -> Any:
            def energy(v: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
                fit = -weight * joint.losses(v, c, x, y, f).sum()
                return -t * fit - joint.log_prior(v, a), fit

            return grad_and_value(energy, has_aux=True)(w)

        dims = (0, 0, data, data, 0, 0, 0)
        with torch.no_grad():
            slopes, (values, fits) = batched(one, dims)(
                weights, joint.constants, inputs, targets, joint.factor, joint.precision, self.t
            )
        self.steps += 1
        return slopes, values, fits


class _Hamiltonian:
    """Hamiltonian Monte Carlo (Duane et al. 1987; Neal 2011): leapfrog steps, then taken or not; exact in the limit.

    The step's length is found in the warm-up (Robbins–Monro), one for a network's chains of one temperature. After each
    proposal neighbours in temperature may change places (Geyer 1991), so that modes are reached through the prior.
    """

    def __init__(self, chains: Chains) -> None:
        self.c = chains
        p = chains.joint.weights.shape[1]
        start = chains.plan.rate or min(0.5 * p**-0.25, math.pi / 2 / chains.plan.leapfrog)
        self.log_length = torch.full_like(chains.t, math.log(start))
        # a quarter of a normal posterior's period: a whole or a half one would come back to the same energy
        self.longest = math.log(math.pi / 2 / chains.plan.leapfrog)
        self.turn = self.exchanges = 0
        self.slopes, self.values, chains.log_likelihood = chains.energies(chains.weights)

    def step(self, warming: bool) -> torch.Tensor:
        """One proposal of each chain; which were taken [B]."""
        c = self.c
        velocity = c.noise()
        length = self.log_length.exp() * (0.6 + 0.8 * c.uniform())
        start = self.values + 0.5 * velocity.square().sum(1)
        weights, slopes = c.weights, self.slopes
        values, fits = self.values, c.log_likelihood
        v = velocity - 0.5 * length[:, None] * c.pulled(slopes)
        for i in range(c.plan.leapfrog):
            weights = weights + length[:, None] * c.scaled(v)
            slopes, values, fits = c.energies(weights)
            last = i == c.plan.leapfrog - 1
            v = v - (0.5 if last else 1.0) * length[:, None] * c.pulled(slopes)
        gain = (start - values - 0.5 * v.square().sum(1)).nan_to_num(nan=-torch.inf)
        taken = c.uniform().log() < gain
        c.weights = torch.where(taken[:, None], weights, c.weights)
        self.slopes = torch.where(taken[:, None], slopes, self.slopes)
        self.values = torch.where(taken, values, self.values)
        c.log_likelihood = torch.where(taken, fits, c.log_likelihood)
        if warming and c.plan.rate is None:
            self._adapt(gain.clamp(max=0).exp())
        if len(c.temperatures) > 1:
            self._exchange()
        return taken.to(c.t)

    def _exchange(self) -> None:
        """Even pairs of neighbouring temperatures in one turn, odd ones in the next."""
        c = self.c
        self.exchanges += 1
        place = torch.arange(len(c.t)).reshape(c.networks, len(c.temperatures), -1)
        first = torch.arange(self.exchanges % 2, len(c.temperatures) - 1, 2)
        low, high = place[:, first].reshape(-1), place[:, first + 1].reshape(-1)
        gain = (c.t[high] - c.t[low]) * (c.log_likelihood[low] - c.log_likelihood[high])
        swapped = c.uniform()[low].log() < gain.nan_to_num(nan=-torch.inf)
        low, high = low[swapped], high[swapped]
        order = torch.arange(len(c.t))
        order[low], order[high] = high, low
        c.weights = c.weights[order]
        self.slopes, self.values, c.log_likelihood = c.energies(c.weights)

    def _adapt(self, chance: torch.Tensor) -> None:
        self.turn += 1
        together = chance.reshape(-1, self.c.plan.chains).mean(1).repeat_interleave(self.c.plan.chains)
        moved = self.log_length + (together - _WANTED) * 2.0 / (self.turn + 3) ** 0.6
        self.log_length = moved.clamp(max=self.longest)


class _Stochastic:
    """Samplers that take every step: Langevin dynamics, with momentum, or the noise of the gradient alone.

    In the scale's units, with step β: sgld w - β∇U + N(0, 2β) (Welling & Teh 2011); sghmc with friction
    a, v = (1 - a) v - β∇U + N(0, 2aβ), w + v (Chen et al. 2014); constant_sgd w - β∇U with the β at which the noise of
    a batch's gradient alone gives the posterior's spread (Mandt et al. 2017, eq. 15). Slopes are tamed,
    ∇U / (1 + β|∇U|) or cut, so that steep places do not throw chains out (Brosse et al. 2019).
    """

    def __init__(self, chains: Chains) -> None:
        self.c = chains
        self.velocity = torch.zeros_like(chains.weights)
        self.rate = torch.full_like(chains.t, chains.plan.rate or 0.02)
        if chains.plan.sampler == "constant_sgd":
            assert chains.plan.batch is not None
            self.rate = self._derived() if chains.plan.rate is None else self.rate

    def step(self, warming: bool) -> torch.Tensor:
        """One step of each chain; all are taken [B]."""
        c, beta = self.c, self.rate[:, None]
        slopes, _, c.log_likelihood = c.energies(c.weights, self._rows())
        slopes = c.pulled(slopes)
        length = beta * slopes.norm(dim=1, keepdim=True)
        if c.plan.sampler == "constant_sgd":  # which lives on its noise: only steps beyond the posterior's size are cut
            slopes = slopes / (length / slopes.shape[1] ** 0.5).clamp(min=1)
        else:
            slopes = slopes / (1 + length)
        if c.plan.sampler == "sgld":
            move = -beta * slopes + (2 * beta).sqrt() * c.noise()
        elif c.plan.sampler == "constant_sgd":
            move = -beta * slopes
        else:
            move = (1 - _FRICTION) * self.velocity - beta * slopes + (2 * _FRICTION * beta).sqrt() * c.noise()
            self.velocity = move
        c.weights = c.weights + c.scaled(move)
        return torch.ones_like(c.t)

    def _rows(self) -> torch.Tensor | None:
        if self.c.plan.batch is None:
            return None
        shape = (self.c.each, self.c.plan.batch)  # each chain its own, or their noise would be one
        return torch.cat([torch.randint(self.c.joint.rows, shape, generator=g) for g in self.c.generators])

    def _derived(self) -> torch.Tensor:
        """β = 2P / tr V, V the covariance of a batch's estimate of ∇U in the scale's units, at the start."""
        c = self.c
        centre, _, _ = c.energies(c.joint.weights)
        squares = torch.zeros_like(c.t)
        tries = 32
        for _ in range(tries):
            slopes, _, _ = c.energies(c.joint.weights, self._rows())
            squares += c.pulled(slopes - centre).square().sum(1) / tries
        return 2 * c.joint.weights.shape[1] / squares.clamp(min=1e-30)


def _scales(joint: Joint, temperatures: torch.Tensor) -> torch.Tensor:
    """F of every network and temperature [K·T, P, P], or its diagonal [K·T, P], by Laplace's approximation."""
    s = joint.factor**-2 if joint.has_noise else torch.ones_like(joint.factor)
    curved = joint.likelihood.curved
    p = joint.layout.size
    found = []
    if curved and p <= _FULL:
        full = Full.of(joint)
        for k in range(len(joint)):
            for t in temperatures.tolist():
                factor = full.factor(k, joint.precision[k], s[k] * t)
                found.append(torch.linalg.solve_triangular(factor.T, torch.eye(p).to(factor), upper=True))
        return torch.stack(found)
    h = Diagonal.of(joint).h if curved else torch.zeros_like(joint.weights)
    for k in range(len(joint)):
        for t in temperatures.tolist():
            found.append((s[k] * t * h[k] + joint.layout.each(joint.precision[k])).rsqrt())
    return torch.stack(found)
