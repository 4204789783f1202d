"""Laplace's approximation: a normal posterior around the weights, of the shape the curvature there gives it.

Legend: K networks, G groups of weights, A = s·H + diag(α); log p(D) ≈ log p(D|w) + log p(w) + ½ P log 2π - ½ log |A|.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import nn
from torch.func import grad

from nastavnik.errors import UserError, nearest
from nastavnik.population import Learner, Population
from nastavnik.selection.evidence._joint import LARGE, Joint, Networks, batched
from nastavnik.selection.evidence._making import make_joint
from nastavnik.selection.evidence._posterior import Linearised
from nastavnik.selection.evidence._preconditions import check_ready
from nastavnik.selection.evidence._record import Cost, Evidence
from nastavnik.selection.evidence._structures import Diagonal, Full, Kronecker, Structure
from nastavnik.training.likelihoods import Gaussian, Likelihood

STRUCTURES = ("full", "hessian", "kfac", "diagonal", "last_layer")
OPTIMISED = ("prior_precision", "noise")
_TURNS = 200  # of MacKay's updates
_SETTLED = 1e-5  # relative change of every hyperparameter
_MOST, _LEAST = 1e8, 1e-8  # prior precisions


def laplace(
    networks: Networks,
    x: Any,
    y: Any,
    *,
    likelihood: Likelihood | None = None,
    structure: str = "full",
    prior_precision: float | Mapping[str, float] = 1.0,
    per_layer: bool = False,
    optimise: str | Sequence[str] = (),
    own_data: bool = False,
    dtype: torch.dtype | None = None,
) -> Any:
    """The evidence of trained networks by Laplace's approximation, with a linearised predictive distribution.

    Args:
        networks: a module, several of one architecture, or a population (a list comes back).
        x: what ``forward`` takes: a tensor [n, …] or a tuple of them.
        y: targets [n], prepared as the likelihood wants them.
        likelihood: of the targets given the outputs; learners bring their own.
        structure: "full" (generalized Gauss–Newton; up to 5,000 weights), "hessian" (exact second derivatives),
            "kfac", "diagonal", or "last_layer" (all other weights taken as given).
        prior_precision: of the normal prior around zero; the start where it is optimised.
        per_layer: a precision for each parameter tensor instead of one for all.
        optimise: "prior_precision", "noise", or both: chosen by the evidence (MacKay 1992).
        own_data: each network has rows of its own: x and y are [K, n, …].
        dtype: of the computation.

    Returns:
        One record a network. Its number is missing, and ``problem`` says why, where A is not positive.

    Raises:
        UserError: a precondition does not hold (see ``Evidence``), or the structure does not suit the network.

    Example:
        >>> laplace(net, x, y, likelihood=nastavnik.likelihoods.Gaussian(noise=0.3)).log_evidence  # doctest: +SKIP

    Source: MacKay 1992; Ritter et al. 2018 (K-FAC); Immer et al. 2021.
    """
    started = time.monotonic()
    wanted = (optimise,) if isinstance(optimise, str) else tuple(optimise)
    check_words(structure, wanted)
    _check_loss(networks)
    last = last_layer_of(networks) if structure == "last_layer" else None
    joint = make_joint(
        networks,
        x,
        y,
        likelihood=likelihood,
        prior_precision=prior_precision,
        per_layer=per_layer,
        own_data=own_data,
        trained=lambda name: last is None or name.rpartition(".")[0] == last,
        dtype=dtype,
    )
    check_ready(joint)
    shape = build_structure(joint, structure)
    joint, turns = optimised(joint, shape, wanted)
    records = evidences(joint, shape, structure, time.monotonic() - started, turns)
    return records[0] if isinstance(networks, nn.Module) else records


def _check_loss(networks: Networks) -> None:
    """Refuse learners whose weights are at a maximum of something else.

    Raises:
        UserError: the training loss is no density's negative log.
    """
    first = networks.learner if isinstance(networks, Population) else networks
    for module in [first] if isinstance(first, nn.Module) else first:
        if isinstance(module, Learner) and not module.normalized:
            raise UserError(
                f"the network was trained by loss.name={module.loss.name}, which is no density's negative log, so its "
                "weights are at no maximum of a joint density; train it by its likelihood (loss.name=likelihood, "
                "without weights of classes or targets)"
            )


def check_words(structure: str, optimise: Sequence[str]) -> None:
    """Refuse what is not known.

    Raises:
        UserError: a structure or a hyperparameter that does not exist.
    """
    if structure not in STRUCTURES:
        raise UserError(f"structure cannot be {structure!r}{nearest(structure, STRUCTURES)}")
    for name in optimise:
        if name not in OPTIMISED:
            raise UserError(f"optimise cannot be {name!r}{nearest(name, OPTIMISED)}")


def build_structure(joint: Joint, structure: str) -> Structure:
    """The curvature of all networks in one of the shapes."""
    if structure == "kfac":
        return Kronecker.of(joint)
    if structure == "diagonal":
        return Diagonal.of(joint)
    return Full.of(joint, exact=structure == "hessian")


def last_layer_of(networks: Networks) -> str:
    """The name of the last linear layer.

    Raises:
        UserError: there is none.
    """
    if isinstance(networks, Population):
        networks = networks.learner
    first = networks if isinstance(networks, nn.Module) else networks[0]
    inner = first.network if isinstance(first, Learner) else first
    names = [name for name, m in inner.named_modules() if isinstance(m, nn.Linear)]
    if not names:
        raise UserError("structure='last_layer' needs a linear layer, but the network has none")
    return names[-1]


def scale_of(joint: Joint) -> torch.Tensor:
    """s [K]: what the noise's factor does to the curvature."""
    if isinstance(joint.likelihood, Gaussian) and joint.has_noise:
        return joint.factor**-2
    return torch.ones_like(joint.factor)


def log_evidence(joint: Joint, structure: Structure) -> torch.Tensor:
    """log p(D) [K] at the joint's weights, precision and noise."""
    with torch.no_grad():
        p = joint.layout.size
        plain = structure.log_likelihood is not None and bool((joint.factor == 1).all())
        fit = structure.log_likelihood if plain else joint.log_likelihoods(joint.weights).double()
        assert fit is not None
        joint_density = fit + joint.log_priors(joint.weights).double()
        volume = 0.5 * p * torch.tensor(2 * torch.pi, dtype=torch.float64).log()
        return joint_density + volume - 0.5 * structure.logdet(joint.precision, scale_of(joint)).double()


def optimised(joint: Joint, structure: Structure, wanted: Sequence[str]) -> tuple[Joint, int]:
    """The joint at the precision and noise of most evidence for these weights, and the number of turns it took.

    Fixed points: α_g = γ_g / Σ w_g² with γ_g = n_g - α_g tr_g A⁻¹, and noise² = Σ residual² / (n - Σ γ) (MacKay 1992).
    """
    if not wanted:
        return joint, 0
    if "noise" in wanted and not has_gaussian_noise(joint):
        raise UserError(
            f"optimise='noise' is for Gaussian noise of one size, not for {joint.likelihood.name}"
            f"{'' if joint.has_noise else ' without a noise of its own'}"
        )
    turns = 0
    with torch.no_grad():
        squares = joint.layout.summed(joint.weights.square()).double().clamp(min=1e-30)
        residuals = mean_square(joint) if "noise" in wanted else None
        for turns in range(1, _TURNS + 1):  # noqa: B007
            before = joint
            joint = updated(joint, structure, squares, residuals, "prior_precision" in wanted)
            change = max(
                float((joint.precision / before.precision).log().abs().nan_to_num().max()),
                float((joint.factor / before.factor).log().abs().nan_to_num().max()),
            )
            if change < _SETTLED:
                break
    return joint, turns


def has_gaussian_noise(joint: Joint) -> bool:
    """Whether there is one Gaussian noise, which the evidence may choose."""
    return isinstance(joint.likelihood, Gaussian) and joint.has_noise


def updated(
    joint: Joint, structure: Structure, squares: torch.Tensor, residuals: torch.Tensor | None, precision: bool
) -> Joint:
    """One turn of MacKay's updates: ``squares`` [K, G] of the weights, ``residuals`` [K] of the outputs, Σ r² / n."""
    counts = joint.layout.counts
    traces = structure.traces(joint.precision, scale_of(joint)).double()
    gamma = (counts - joint.precision.double() * traces).clamp(min=1e-9)
    if precision:
        alpha = (gamma / squares).clamp(_LEAST, _MOST)
        joint = replace(joint, precision=alpha.to(joint.precision))
    if residuals is not None:
        noise = joint.noise()
        assert noise is not None
        base = noise / joint.factor
        left = (joint.rows - gamma.sum(1)).clamp(min=1.0)
        joint = replace(joint, factor=((residuals * joint.rows / left).sqrt() / base.double()).to(joint.factor))
    return joint


def mean_square(joint: Joint) -> torch.Tensor:
    """The mean squared residual of each network [K], of a likelihood with one output."""

    def one(w: torch.Tensor, c: Any, x: Any, y: torch.Tensor) -> torch.Tensor:
        return (joint.outputs(w, c, x)[:, 0] - y).square().mean()

    dims = (0, 0, joint.data_dims(), joint.data_dims())
    return batched(one, dims)(joint.weights, joint.constants, joint.inputs, joint.targets).double().clamp(min=1e-30)


def slope_norms(joint: Joint) -> torch.Tensor:
    """The length of the negative log joint's gradient at the weights [K]; 0 at a maximum."""

    def one(w: torch.Tensor, c: Any, x: Any, y: torch.Tensor, f: torch.Tensor, a: torch.Tensor) -> torch.Tensor:
        return grad(lambda v: joint.losses(v, c, x, y, f).sum() - joint.log_prior(v, a))(w).norm()

    dims = (0, 0, joint.data_dims(), joint.data_dims(), 0, 0)
    arguments = (joint.weights, joint.constants, joint.inputs, joint.targets, joint.factor, joint.precision)
    with torch.no_grad():
        return batched(one, dims)(*arguments)


def evidences(joint: Joint, shape: Structure, structure: str, seconds: float, turns: int) -> list[Evidence]:
    """A record for each network."""
    values = log_evidence(joint, shape)
    slopes = slope_norms(joint).tolist() if joint.layout.size <= LARGE else [None] * len(joint)
    noise = joint.noise()
    cost = Cost(seconds / len(joint), 1.0 + joint.likelihood.outputs)
    names = [name.removeprefix("network.") for name in joint.layout.names]
    kept = "exact second derivatives" if structure == "hessian" else "generalized Gauss–Newton curvature"
    given = ("all but the last layer taken as given",) if structure == "last_layer" else ()
    found = []
    for k, value in enumerate(values.tolist()):
        fine = torch.isfinite(values[k]).item()
        assumptions = (
            "the posterior is normal around these weights, and these are its only mode",
            f"{kept}{''.join(f'; {note}' for note in shape.notes)}",
            "weights are at a maximum of the joint density"
            + ("" if slopes[k] is None else f" (the gradient's length is {slopes[k]:.3g}; 0 at a maximum)"),
            *given,
        )
        found.append(
            Evidence(
                "laplace",
                structure,
                value if fine else None,
                None,
                False,
                assumptions,
                dict(zip(names, joint.precision[k].tolist(), strict=True)),
                None if noise is None else float(noise[k]),
                cost,
                None if fine else _no_number(structure),
                {"gradient": slopes[k], "turns": turns},
                Linearised(joint, shape, k) if fine else None,
            )
        )
    return found


def _no_number(structure: str) -> str:
    if structure == "hessian":
        return (
            "the curvature is not positive at these weights, so they are no maximum of the joint density; train on, "
            "or take structure='full', whose Gauss–Newton curvature is always positive"
        )
    return "the curvature is not a finite positive matrix; check the network's weights and inputs"
