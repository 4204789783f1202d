"""Variational inference: the normal distribution nearest to the posterior, and the bound it gives on the evidence.

Legend: K networks, P weights; q = N(µ, F Fᵀ), F diagonal (mean field) or lower triangular (full); log p(D) ≥
E_q log p(D|w) - KL(q ‖ p(w)). A small network's q starts at Laplace's, as wide as the bound likes, and the expectation
is taken of what the quadratic around the start leaves over, the quadratic's own being known.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import nn
from torch.func import functional_call, grad

from nastavnik.errors import UserError, nearest
from nastavnik.noise import Noise, stream_of
from nastavnik.selection.evidence._curvature import gauss_newton, plain_products
from nastavnik.selection.evidence._joint import Joint, Networks, batched, make_joint
from nastavnik.selection.evidence._laplace import scale_of
from nastavnik.selection.evidence._posterior import Normal, standard_normal
from nastavnik.selection.evidence._preconditions import check_ready
from nastavnik.selection.evidence._record import Cost, Evidence
from nastavnik.selection.evidence._structures import Full
from nastavnik.training.likelihoods import Likelihood
from nastavnik.training.optimizers import OPTIMIZERS, FirstOrder, Tensors

STRUCTURES = ("mean_field", "full")
_SMALL = 1000  # weights up to which the quadratic is known in full
_DRAWS = 8  # of a step, in antithetic pairs
_JUDGED = 256  # draws for the bound's value
_NATURAL = 60  # natural-gradient steps at most
_NARROWER = tuple(-0.7 * i for i in range(8))  # logarithms
_RENEWED = 50  # steps after which the quadratic's use is seen anew
_FIRST = 1e-2  # deviations at first, of networks without a known quadratic, over that of the prior


def variational(
    networks: Networks,
    x: Any,
    y: Any,
    *,
    likelihood: Likelihood | None = None,
    structure: str = "mean_field",
    prior_precision: float | Mapping[str, float] = 1.0,
    per_layer: bool = False,
    optimise: str | tuple[str, ...] = (),
    temperature: float = 1.0,
    steps: int = 1000,
    rate: float = 0.1,
    batch: int | None = None,
    seed: int = 0,
    own_data: bool = False,
    dtype: torch.dtype | None = None,
) -> Any:
    """The bound on the evidence of networks by a normal distribution of their weights.

    Networks of up to 1,000 weights draw weights and use the quadratic around the start against the draws' noise (none
    is left for linear models); larger ones draw the layers' outputs (local reparameterization, Kingma et al. 2015).

    Args:
        networks: a module, several of one architecture, or a population, trained or not.
        x: inputs, as for ``laplace``.
        y: targets.
        likelihood: of the targets given the outputs.
        structure: "mean_field" (weights independent), or "full" (up to 1,000 weights).
        prior_precision: of the normal prior.
        per_layer: a prior for each parameter tensor.
        optimise: "prior_precision", or with it "prior_mean", both by the bound (Graves 2011: µ = mean, σ² = mean square
            distance), which makes it an empirical Bayes bound.
        temperature: λ of the KL term while q is looked for; the bound itself is always told at λ = 1.
        steps: of Adam.
        rate: of Adam, in the start's deviations, falling to zero.
        batch: rows a step, for larger networks; all by default.
        seed: of the draws.
        own_data: each network has rows of its own: x and y are [K, n, …].
        dtype: of the computation.

    Returns:
        One record a network; ``bound`` is true and ``error`` the standard error of the expectation.

    Raises:
        UserError: a precondition does not hold, or an option is wrong.

    Source: Graves 2011; Blundell et al. 2015; Opper & Archambeau 2009 (notes/000 Z8–Z15).
    """
    started = time.monotonic()
    wanted = (optimise,) if isinstance(optimise, str) else tuple(optimise)
    _check_options(structure, wanted, temperature, steps, rate, batch)
    joint = make_joint(
        networks,
        x,
        y,
        likelihood=likelihood,
        prior_precision=prior_precision,
        per_layer=per_layer,
        own_data=own_data,
        dtype=dtype,
    )
    check_ready(joint)
    small = joint.layout.size <= _SMALL and joint.likelihood.curved
    if structure == "full" and not small:
        raise UserError(
            f"structure='full' is for curved likelihoods and at most {_SMALL} weights, but the network has "
            f"{joint.layout.size}; take 'mean_field'"
        )
    family = (_Quadratic if small else _Local)(joint, structure, seed)
    prior = Prior(joint, wanted)
    q, bound = _search(family, prior, temperature, steps, rate, batch)
    seconds = (time.monotonic() - started) / len(joint)
    passes = steps * (_DRAWS if small else 1.0) * (1.0 if batch is None else batch / joint.rows) + 2 * _JUDGED
    records = _records(family, prior, structure, temperature, q, bound, Cost(seconds, passes))
    return records[0] if isinstance(networks, nn.Module) else records


class Prior:
    """N(m_g, 1 / α_g) of each group, both [K, G]; what is to be optimised follows q."""

    def __init__(self, joint: Joint, wanted: tuple[str, ...]) -> None:
        self.layout, self.wanted = joint.layout, wanted
        self.precision, self.mean = joint.precision, torch.zeros_like(joint.precision)

    def follow(self, mean: torch.Tensor, variance: torch.Tensor) -> None:
        """Take the prior of the smallest KL for q's moments [K, P]."""
        counts = self.layout.counts.to(mean)
        if "prior_mean" in self.wanted:
            self.mean = self.layout.summed(mean) / counts
        if "prior_precision" in self.wanted:
            far = (mean - self.layout.each(self.mean)).square()
            self.precision = counts / self.layout.summed(variance + far).clamp(min=1e-12)

    def kl(self, mean: torch.Tensor, variance: torch.Tensor, logdet: torch.Tensor, m: Any, a: Any) -> torch.Tensor:
        """KL(q ‖ prior) of ONE network: ``logdet`` = log |F Fᵀ|."""
        alpha = self.layout.each(a)
        far = (mean - self.layout.each(m)).square()
        return 0.5 * ((alpha * (variance + far)).sum() - self.layout.size - alpha.log().sum() - logdet)


class _Quadratic:
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
        losses = torch.func.vmap(lambda e: self.joint.losses(w0 + e, c, x, y, f).sum())(d)
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
        noise = self.noise(-1, _JUDGED)
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


class _Local:
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
        return functional_call(self.module, {**tensors, **c, **steps, **streams}, (x, y, f))

    def loss(self, q: Tensors, noise: torch.Tensor, own: tuple[Any, ...], weight: float = 1.0) -> torch.Tensor:
        """An estimate of E_q of the loss of ONE network."""
        return weight * self.losses(q, noise, own).sum()

    def judged(self, q: Tensors) -> tuple[torch.Tensor, torch.Tensor]:
        """E_q of each network's loss [K], and its standard error over passes."""
        own, dims = self.arguments()
        found = []
        with torch.no_grad():
            for i in range(_JUDGED // 8):
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


_Family = _Quadratic | _Local


def _search(
    family: _Family, prior: Prior, temperature: float, steps: int, rate: float, batch: int | None
) -> tuple[Tensors, tuple[torch.Tensor, torch.Tensor]]:
    """The better of the start and what the steps come to, network by network, with the bound [K] and its error."""
    q = family.parameters()
    _follow(family, prior, q)
    q, bound = _narrowed(family, prior, q)
    first_prior, best = copy.copy(prior), q
    if isinstance(family, _Quadratic) and family.full:
        q = _natural(family, prior, q, temperature, steps)
    else:
        q = _adam(family, prior, q, temperature, steps, rate, batch)
    there = _bound(family, prior, q)
    better = (there[0] > bound[0]) | ~torch.isfinite(bound[0])
    kept = {n: torch.where(better.reshape(-1, *[1] * (t.ndim - 1)), t, best[n]) for n, t in q.items()}
    prior.precision = torch.where(better[:, None], prior.precision, first_prior.precision)
    prior.mean = torch.where(better[:, None], prior.mean, first_prior.mean)
    return kept, (torch.where(better, there[0], bound[0]), torch.where(better, there[1], bound[1]))


def _adam(
    family: _Family, prior: Prior, q: Tensors, temperature: float, steps: int, rate: float, batch: int | None
) -> Tensors:
    """Steps along the bound's slope, at a rate that falls to zero."""
    optimizer = OPTIMIZERS["adam"]({})
    assert isinstance(optimizer, FirstOrder)
    state = optimizer.init(q)
    settings = {n: family.joint.weights.new_tensor(v) for n, v in optimizer.settings.items()}
    for step in range(steps):
        settings["learning_rate"] = family.joint.weights.new_tensor(rate * (1 - step / steps))
        if step % _RENEWED == 0 and isinstance(family, _Quadratic):
            family.judged(q)
        q, state = optimizer.update(_slopes(family, prior, q, step, temperature, batch), state, q, settings)
        _follow(family, prior, q)
    return q


def _natural(family: _Quadratic, prior: Prior, q: Tensors, temperature: float, steps: int) -> Tensors:
    """Natural-gradient steps (Khan & Rue 2023): Σ⁻¹ follows E_q[H] / λ + α, and µ moves by Σ E_q[slope] against it.

    Of a linear model one whole step is the optimum.
    """
    joint = family.joint
    mean, factor = q["mean"], q["factor"]
    inverse = torch.cholesky_inverse(factor)
    eye = torch.eye(joint.layout.size).to(mean)
    for step in range(min(steps, _NATURAL)):
        share = 1 / (step + 2) ** 0.6
        noise = family.noise(step, _DRAWS)
        weights = mean[:, None] + noise @ factor.mT  # [K, S, P]
        many = joint.repeated(_DRAWS)
        flat = weights.flatten(0, 1)
        s = scale_of(many)[:, None, None]
        h = (s * gauss_newton(many, flat)).reshape(len(joint), _DRAWS, *inverse.shape[1:]).mean(1)
        slopes = fit_slopes(many, flat).reshape(weights.shape).mean(1)
        alpha = joint.layout.each(prior.precision)
        slopes = slopes / temperature + alpha * (mean - joint.layout.each(prior.mean))
        wanted = h / temperature + torch.diag_embed(alpha)
        inverse = (1 - share) * inverse + share * wanted
        root, info = torch.linalg.cholesky_ex(inverse.nan_to_num())
        fine = (info == 0) & torch.isfinite(slopes).all(1)
        root = torch.where(fine[:, None, None], root, eye)
        move = torch.cholesky_solve(slopes[..., None], root)[..., 0]
        mean = torch.where(fine[:, None], mean - share * move, mean)
        factor = torch.where(fine[:, None, None], _lower(root), factor)
        _follow(family, prior, {"mean": mean, "factor": factor})
    return {"mean": mean, "factor": factor}


def _lower(root: torch.Tensor) -> torch.Tensor:
    """The lower factor of A⁻¹ from that of A = L Lᵀ."""
    return torch.linalg.cholesky_ex(torch.cholesky_inverse(root))[0]


def _narrowed(family: _Family, prior: Prior, q: Tensors) -> tuple[Tensors, tuple[torch.Tensor, torch.Tensor]]:
    """The start with deviations as many times narrower as the bound likes best, network by network.

    Where the loss is no quadratic, Laplace's deviations along flat directions may be far too wide.
    """
    best = None
    for log_times in _NARROWER if isinstance(family, _Quadratic) else (0.0,):
        trial = family.narrowed(q, log_times)
        bound = _bound(family, prior, trial)
        if best is None:
            best, values = trial, bound
            continue
        better = bound[0] > values[0]
        best = {n: torch.where(better.reshape(-1, *[1] * (t.ndim - 1)), trial[n], t) for n, t in best.items()}
        values = torch.where(better, bound[0], values[0]), torch.where(better, bound[1], values[1])
    assert best is not None
    _follow(family, prior, best)
    return best, _bound(family, prior, best)


def _follow(family: _Family, prior: Prior, q: Tensors) -> None:
    if prior.wanted:
        mean, variance, _ = torch.func.vmap(family.moments)(q, family.start, family.joint.weights)
        prior.follow(mean, variance)


def _bound(family: _Family, prior: Prior, q: Tensors) -> tuple[torch.Tensor, torch.Tensor]:
    loss, error = family.judged(q)
    moments = torch.func.vmap(family.moments)(q, family.start, family.joint.weights)
    mean, variance, logdet = moments
    kl = torch.func.vmap(prior.kl)(mean, variance, logdet, prior.mean, prior.precision)
    return -(loss + kl).double(), error.double()


def _slopes(family: _Family, prior: Prior, q: Tensors, step: int, temperature: float, batch: int | None) -> Tensors:
    own, dims = family.arguments()
    noise = family.noise(step, _DRAWS)
    weight = 1.0
    if batch is not None and isinstance(family, _Local):
        own, weight = _some_rows(family, own, step, batch)

    def objective(p: Tensors, m: torch.Tensor, a: torch.Tensor, *o: Any) -> torch.Tensor:
        mean, variance, logdet = family.moments(p, o[1], o[0])
        loss = family.loss(p, noise, o, weight) if isinstance(family, _Local) else family.loss(p, noise, o)
        return loss + temperature * prior.kl(mean, variance, logdet, m, a)

    with torch.no_grad():
        return batched(grad(objective), (0, 0, 0, *dims))(q, prior.mean, prior.precision, *own)


def _some_rows(family: _Local, own: tuple[Any, ...], step: int, batch: int) -> tuple[tuple[Any, ...], float]:
    joint = family.joint
    generator = torch.Generator().manual_seed(stream_of(family.seed, f"rows {step}"))
    rows = torch.randperm(joint.rows, generator=generator)[:batch]
    axis = 1 if joint.own else 0
    w, start, c, x, y, f = own
    some = tuple(t.index_select(axis, rows) for t in x), y.index_select(axis, rows)
    return (w, start, c, *some, f), joint.rows / len(rows)


def _records(
    family: _Family,
    prior: Prior,
    structure: str,
    temperature: float,
    q: Tensors,
    bound: tuple[torch.Tensor, torch.Tensor],
    cost: Cost,
) -> list[Evidence]:
    joint = replace(family.joint, precision=prior.precision)
    noise = joint.noise()
    names = [name.removeprefix("network.") for name in joint.layout.names]
    chosen = ("the prior was chosen by these data (empirical Bayes)",) if prior.wanted else ()
    heated = (f"q was looked for with λ = {temperature:g}; the bound is that of λ = 1",) if temperature != 1 else ()
    found = []
    for k in range(len(joint)):
        value, error = float(bound[0][k]), float(bound[1][k])
        fine = value == value and abs(value) < float("inf")
        found.append(
            Evidence(
                "variational",
                structure,
                value if fine else None,
                error if fine else None,
                True,
                ("a lower bound, which may be much too low: weights have one normal mode", *chosen, *heated),
                dict(zip(names, prior.precision[k].tolist(), strict=True)),
                None if noise is None else float(noise[k]),
                cost,
                None if fine else "the bound ran away to what is no number; take a smaller rate",
                {"prior_mean": prior.mean[k].tolist()},
                family.normal(q, k) if fine else None,
            )
        )
    return found


def _check_options(
    structure: str, optimise: tuple[str, ...], temperature: float, steps: int, rate: float, batch: int | None
) -> None:
    if structure not in STRUCTURES:
        raise UserError(f"structure cannot be {structure!r}{nearest(structure, STRUCTURES)}")
    for name in optimise:
        if name not in ("prior_precision", "prior_mean"):
            raise UserError(f"optimise cannot be {name!r}{nearest(name, ('prior_precision', 'prior_mean'))}")
    if not temperature > 0 or not rate > 0:
        raise UserError(f"temperature and rate must be positive, but got {temperature} and {rate}")
    if steps < 0 or (batch is not None and batch < 1):
        raise UserError(f"steps must be at least 0 and batch at least 1, but got {steps} and {batch}")
