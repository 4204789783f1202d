"""Variational inference: the normal distribution nearest to the posterior, and the bound it gives on the evidence.

Legend: K networks, P weights; q = N(µ, F Fᵀ), F diagonal (mean field) or lower triangular (full); log p(D) ≥
E_q log p(D|w) - KL(q ‖ p(w)). A small network's q starts at Laplace's, as wide as the bound likes, and the expectation
is taken of what the quadratic around the start leaves over, the quadratic's own being known.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import nn
from torch.func import grad

from nastavnik.errors import UserError, nearest
from nastavnik.noise import stream_of
from nastavnik.selection.evidence._curvature import gauss_newton
from nastavnik.selection.evidence._families import JUDGED, Family, Local, Quadratic, fit_slopes
from nastavnik.selection.evidence._joint import Joint, Networks, batched
from nastavnik.selection.evidence._laplace import scale_of
from nastavnik.selection.evidence._making import make_joint
from nastavnik.selection.evidence._preconditions import check_ready
from nastavnik.selection.evidence._record import Cost, Evidence
from nastavnik.training.likelihoods import Likelihood
from nastavnik.training.optimizers import OPTIMIZERS, FirstOrder, Tensors

STRUCTURES = ("mean_field", "full")
_SMALL = 1000  # weights up to which the quadratic is known in full
DRAWS = 8  # of a step, in antithetic pairs
_NATURAL = 60  # natural-gradient steps at most
_NARROWER = tuple(-0.7 * i for i in range(8))  # logarithms
_RENEWED = 50  # steps after which the quadratic's use is seen anew


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

    Source: Graves 2011; Blundell et al. 2015; Opper & Archambeau 2009.
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
    family = (Quadratic if small else Local)(joint, structure, seed)
    prior = Prior(joint, wanted)
    q, bound = _search(family, prior, temperature, steps, rate, batch)
    seconds = (time.monotonic() - started) / len(joint)
    passes = steps * (DRAWS if small else 1.0) * (1.0 if batch is None else batch / joint.rows) + 2 * JUDGED
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


def _search(
    family: Family, prior: Prior, temperature: float, steps: int, rate: float, batch: int | None
) -> tuple[Tensors, tuple[torch.Tensor, torch.Tensor]]:
    """The better of the start and what the steps come to, network by network, with the bound [K] and its error."""
    q = family.parameters()
    _follow(family, prior, q)
    q, bound = _narrowed(family, prior, q)
    first_prior, best = copy.copy(prior), q
    if isinstance(family, Quadratic) and family.full:
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
    family: Family, prior: Prior, q: Tensors, temperature: float, steps: int, rate: float, batch: int | None
) -> Tensors:
    """Steps along the bound's slope, at a rate that falls to zero."""
    optimizer = OPTIMIZERS["adam"]({})
    assert isinstance(optimizer, FirstOrder)
    state = optimizer.init(q)
    settings = {n: family.joint.weights.new_tensor(v) for n, v in optimizer.settings.items()}
    for step in range(steps):
        settings["learning_rate"] = family.joint.weights.new_tensor(rate * (1 - step / steps))
        if step % _RENEWED == 0 and isinstance(family, Quadratic):
            family.judged(q)
        q, state = optimizer.update(_slopes(family, prior, q, step, temperature, batch), state, q, settings)
        _follow(family, prior, q)
    return q


def _natural(family: Quadratic, prior: Prior, q: Tensors, temperature: float, steps: int) -> Tensors:
    """Natural-gradient steps (Khan & Rue 2023): Σ⁻¹ follows E_q[H] / λ + α, and µ moves by Σ E_q[slope] against it.

    Of a linear model one whole step is the optimum.
    """
    joint = family.joint
    mean, factor = q["mean"], q["factor"]
    inverse = torch.cholesky_inverse(factor)
    eye = torch.eye(joint.layout.size).to(mean)
    for step in range(min(steps, _NATURAL)):
        share = 1 / (step + 2) ** 0.6
        noise = family.noise(step, DRAWS)
        weights = mean[:, None] + noise @ factor.mT  # [K, S, P]
        many = joint.repeated(DRAWS)
        flat = weights.flatten(0, 1)
        s = scale_of(many)[:, None, None]
        h = (s * gauss_newton(many, flat)).reshape(len(joint), DRAWS, *inverse.shape[1:]).mean(1)
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


def _narrowed(family: Family, prior: Prior, q: Tensors) -> tuple[Tensors, tuple[torch.Tensor, torch.Tensor]]:
    """The start with deviations as many times narrower as the bound likes best, network by network.

    Where the loss is no quadratic, Laplace's deviations along flat directions may be far too wide.
    """
    best = None
    for log_times in _NARROWER if isinstance(family, Quadratic) else (0.0,):
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


def _follow(family: Family, prior: Prior, q: Tensors) -> None:
    if prior.wanted:
        mean, variance, _ = torch.func.vmap(family.moments)(q, family.start, family.joint.weights)
        prior.follow(mean, variance)


def _bound(family: Family, prior: Prior, q: Tensors) -> tuple[torch.Tensor, torch.Tensor]:
    loss, error = family.judged(q)
    moments = torch.func.vmap(family.moments)(q, family.start, family.joint.weights)
    mean, variance, logdet = moments
    kl = torch.func.vmap(prior.kl)(mean, variance, logdet, prior.mean, prior.precision)
    return -(loss + kl).double(), error.double()


def _slopes(family: Family, prior: Prior, q: Tensors, step: int, temperature: float, batch: int | None) -> Tensors:
    own, dims = family.arguments()
    noise = family.noise(step, DRAWS)
    weight = 1.0
    if batch is not None and isinstance(family, Local):
        own, weight = _some_rows(family, own, step, batch)

    def objective(p: Tensors, m: torch.Tensor, a: torch.Tensor, *o: Any) -> torch.Tensor:
        mean, variance, logdet = family.moments(p, o[1], o[0])
        loss = family.loss(p, noise, o, weight) if isinstance(family, Local) else family.loss(p, noise, o)
        return loss + temperature * prior.kl(mean, variance, logdet, m, a)

    with torch.no_grad():
        return batched(grad(objective), (0, 0, 0, *dims))(q, prior.mean, prior.precision, *own)


def _some_rows(family: Local, own: tuple[Any, ...], step: int, batch: int) -> tuple[tuple[Any, ...], float]:
    joint = family.joint
    generator = torch.Generator().manual_seed(stream_of(family.seed, f"rows {step}"))
    rows = torch.randperm(joint.rows, generator=generator)[:batch]
    axis = 1 if joint.own else 0
    w, start, c, x, y, f = own
    some = tuple(t.index_select(axis, rows) for t in x), y.index_select(axis, rows)
    return (w, start, c, *some, f), joint.rows / len(rows)


def _records(
    family: Family,
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
