"""Training to a maximum of the joint density, prior and noise chosen by the evidence on the way.

Legend: K networks, P weights, A = s·H + diag(α) with H the Gauss–Newton matrix at the present weights.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import nn
from torch.func import grad_and_value

from nastavnik.population import Population
from nastavnik.selection.evidence._curvature import check_curved, gauss_newton
from nastavnik.selection.evidence._joint import Joint, Networks, batched
from nastavnik.selection.evidence._laplace import (
    check_words,
    evidences,
    has_gaussian_noise,
    log_evidence,
    mean_square,
    optimised,
    scale_of,
    updated,
)
from nastavnik.selection.evidence._making import make_joint
from nastavnik.selection.evidence._preconditions import check_ready
from nastavnik.selection.evidence._record import Evidence
from nastavnik.selection.evidence._structures import Full, check_size
from nastavnik.training.likelihoods import Likelihood

_DAMPING = 1e-2  # at first, relative to A's mean diagonal
_FIRST = 5  # steps before hyperparameters are moved
_TRIES = 4  # of one step
_POLISH = 20  # steps at most, once prior and noise are chosen
_SETTLED = 1e-4  # relative change of every hyperparameter
_STILL = 1e-6  # relative fall of the objective under which a network has arrived


def train(
    networks: Networks,
    x: Any,
    y: Any,
    *,
    likelihood: Likelihood | None = None,
    prior_precision: float = 1.0,
    per_layer: bool = False,
    optimise: str | Sequence[str] | None = None,
    steps: int = 100,
    own_data: bool = False,
    dtype: torch.dtype | None = None,
) -> tuple[list[nn.Module], list[Evidence]]:
    """Train small networks by Gauss–Newton steps, prior and noise chosen by the evidence on the way.

    Every network takes a damped step to the maximum of its joint density (Levenberg–Marquardt); once it is near, each
    step is followed by MacKay's update of the prior precisions and the noise, so that no validation rows are needed
    (Foresee & Hagan 1997). All networks run as one program.

    Args:
        networks: where to start: a module, several of one architecture, or a population; they are not changed.
        x: inputs, as for ``laplace``.
        y: targets.
        likelihood: of the targets given the outputs.
        prior_precision: at first.
        per_layer: a precision for each parameter tensor.
        optimise: "prior_precision", "noise", both, or () for nothing; by default what the likelihood allows.
        steps: at most.
        own_data: each network has rows of its own: x and y are [K, n, …].
        dtype: of the computation.

    Returns:
        The trained networks, and the evidence of each by Laplace's approximation (full) at its weights.

    Raises:
        UserError: a precondition does not hold, or the networks are too large.
    """
    started = time.monotonic()
    asked = (optimise,) if isinstance(optimise, str) else optimise
    check_words("full", asked or ())
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
    check_size(joint)
    check_ready(joint)
    default = ("prior_precision", "noise") if has_gaussian_noise(joint) else ("prior_precision",)
    wanted = default if asked is None else tuple(asked)
    optimised(joint.only(0), Full.of(joint.only(0)), wanted)  # says so if a hyperparameter cannot be chosen
    joint, taken = climb(joint, wanted, steps)
    joint, more = climb(joint, (), _POLISH)  # to the maximum of the prior and noise that were chosen
    taken += more
    shape = Full.of(joint)
    records = evidences(joint, shape, "full", time.monotonic() - started, taken)
    first = networks.learner if isinstance(networks, Population) else networks
    given = next((first if isinstance(first, nn.Module) else first[0]).parameters()).dtype
    return [joint.network(k).to(given) for k in range(len(joint))], records


def climb(joint: Joint, wanted: Sequence[str], steps: int) -> tuple[Joint, int]:
    """The joint at a maximum, its hyperparameters chosen on the way, and the steps it took.

    MacKay's updates may pass the best place and drift (a layer's weights shrink to nothing while another's grow), so
    the moment of the largest evidence is what each network keeps.
    """
    check_curved(joint)
    best, heights = joint, torch.full_like(joint.factor, -torch.inf, dtype=torch.float64)
    damping = torch.full_like(joint.factor, _DAMPING)
    still = torch.zeros(len(joint), dtype=torch.int64)
    taken = 0
    with torch.no_grad():
        for taken in range(1, steps + 1):
            structure = Full(gauss_newton(joint, joint.weights), joint.layout)
            if wanted and taken > _FIRST:
                best, heights = _higher(best, heights, joint, structure)
            weights, damping, fall = _step(joint, structure, damping)
            joint = replace(joint, weights=weights)
            moved = joint
            if wanted and taken > _FIRST:
                squares = joint.layout.summed(weights.square()).double().clamp(min=1e-30)
                residuals = mean_square(joint) if "noise" in wanted else None
                moved = updated(joint, structure, squares, residuals, "prior_precision" in wanted)
            change = _change(joint, moved)
            joint = moved
            begun = taken > _FIRST or not wanted
            still = torch.where((fall < _STILL) & (change < _SETTLED) & begun, still + 1, 0)
            if bool((still >= 3).all()):
                break
        if wanted:
            best, _ = _higher(best, heights, joint, Full(gauss_newton(joint, joint.weights), joint.layout))
    return (best if wanted else joint), taken


def _higher(best: Joint, heights: torch.Tensor, joint: Joint, structure: Full) -> tuple[Joint, torch.Tensor]:
    """The better of two states by the evidence, network by network."""
    values = log_evidence(joint, structure).nan_to_num(nan=-torch.inf)
    better = values > heights
    chosen = replace(
        joint,
        weights=torch.where(better[:, None], joint.weights, best.weights),
        precision=torch.where(better[:, None], joint.precision, best.precision),
        factor=torch.where(better, joint.factor, best.factor),
    )
    return chosen, torch.where(better, values, heights)


def _step(joint: Joint, structure: Full, damping: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """One damped step of every network: new weights, new damping, the objective's relative fall."""
    slopes, before = objective(joint, joint.weights)
    alpha, s = joint.layout.each(joint.precision), scale_of(joint)
    weights, value = joint.weights.clone(), before.clone()
    open_ = torch.ones(len(joint), dtype=torch.bool)
    for _ in range(_TRIES):
        ks = open_.nonzero()[:, 0]
        moves = torch.stack([_move(structure, k, alpha[k], s[k], damping[k], slopes[k]) for k in ks.tolist()])
        trial = joint.weights.clone()
        trial[ks] -= moves
        _, there = objective(joint, trial)
        better = open_ & (there < value)
        weights = torch.where(better[:, None], trial, weights)
        value = torch.where(better, there, value)
        damping = torch.where(better, damping / 5, torch.where(open_, damping * 10, damping)).clamp(1e-12, 1e6)
        open_ = open_ & ~better
        if not bool(open_.any()):
            break
    return weights, damping, (before - value) / before.abs().clamp(min=1.0)


def _move(
    structure: Full, k: int, alpha: torch.Tensor, s: torch.Tensor, damping: torch.Tensor, slope: torch.Tensor
) -> torch.Tensor:
    """(A + damping · mean A_ii)⁻¹ g; no move where A is no positive matrix."""
    matrix = s * structure.h[k]
    diagonal = matrix.diagonal()
    diagonal += alpha
    diagonal += damping * diagonal.mean()
    if not bool(torch.isfinite(matrix).all()):
        return torch.zeros_like(slope)
    factor, info = torch.linalg.cholesky_ex(matrix)
    return torch.cholesky_solve(slope[:, None], factor)[:, 0] if int(info) == 0 else torch.zeros_like(slope)


def objective(joint: Joint, weights: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The negative log joint's gradient [K, P] and value [K]."""

    def one(w: torch.Tensor, c: Any, x: Any, y: torch.Tensor, f: torch.Tensor, a: torch.Tensor) -> Any:
        return grad_and_value(lambda v: joint.losses(v, c, x, y, f).sum() - joint.log_prior(v, a))(w)

    dims = (0, 0, joint.data_dims(), joint.data_dims(), 0, 0)
    arguments = (weights, joint.constants, joint.inputs, joint.targets, joint.factor, joint.precision)
    with torch.no_grad():
        return batched(one, dims)(*arguments)


def _change(before: Joint, after: Joint) -> torch.Tensor:
    """The largest relative change of a network's hyperparameters [K]."""
    precision = (after.precision / before.precision).log().abs().amax(1)
    return torch.maximum(precision, (after.factor / before.factor).log().abs())
