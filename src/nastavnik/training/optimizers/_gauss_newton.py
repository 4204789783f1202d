"""Curvature of the likelihood, seen through the network's first derivatives."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch.func import grad, jacrev

from nastavnik.training.optimizers._base import Problem, Tensors
from nastavnik.training.optimizers._second_order import (
    CHUNK,
    Flat,
    SecondOrder,
    hessian,
    made_positive,
    penalty_curvature,
    solved,
    with_damping,
)


def gauss_newton_matrix(problem: Problem, flat: Flat, x: torch.Tensor) -> torch.Tensor:
    """The generalized Gauss–Newton matrix [P, P] of the mean loss, and the curvature of penalties on weights.

    Jᵀ H J over the outputs, H the loss's second derivatives in a row's outputs, made positive. Parameters that
    act on the loss and not on the outputs (a learned noise) enter by their own second derivatives (Schraudolph 2002);
    what they share with the others is left out, as in the Fisher information.
    """
    outputs = problem.outputs(flat.split(x))

    def loss(z: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        return problem.losses_of(z, flat.split(v)).mean()

    slope = grad(loss)

    def column(j: int) -> torch.Tensor:
        def summed(z: torch.Tensor) -> torch.Tensor:
            return slope(z, x)[:, j].sum()

        return grad(summed)(outputs)

    jacobian = jacrev(lambda v: problem.outputs(flat.split(v)), chunk_size=CHUNK)(x)  # [n, o, P]
    curved = made_positive(
        torch.stack([column(j) for j in range(outputs.shape[1])], dim=1)
    )  # [n, o, o]: rows do not mix
    inner = torch.einsum("nij,njp->nip", curved, jacobian).reshape(-1, len(x))
    matrix = jacobian.reshape(-1, len(x)).T @ inner + torch.diag(penalty_curvature(problem, flat, x))
    for name in problem.loss_only:
        start, stop = flat.place(name)

        def own(part: torch.Tensor, start: int = start, stop: int = stop) -> torch.Tensor:
            return loss(outputs, torch.cat([x[:start], part, x[stop:]]))

        block = made_positive(hessian(own, x[start:stop])[None])[0]
        matrix = matrix + torch.nn.functional.pad(block, (start, len(x) - stop, start, len(x) - stop))
    return matrix


class GaussNewton(SecondOrder):
    """Newton's step with the Hessian's positive part; for squared errors the classical method.

    For likelihoods with natural parameters (categorical, Bernoulli, Poisson, Gaussian of fixed noise) it is the natural
    gradient of the model's Fisher information.
    """

    name = "gauss_newton"
    formula = "w = w - rate * (J' H J / n + damping * I)^-1 g, H the likelihood's second derivative in the outputs"
    prefer = "for small networks and all rows at once"
    source = "Schraudolph 2002; Martens 2020"
    settings: ClassVar[Mapping[str, float]] = {"learning_rate": 1.0, "damping": 1e-3, "memory": 0.25}
    needs_curvature = True

    def init(self, parameters: Tensors) -> Tensors:
        """Nothing is remembered."""
        return {}

    def step(self, problem: Problem, state: Tensors, parameters: Tensors, settings: Tensors) -> tuple[Tensors, Tensors]:
        """See ``formula``."""
        flat = Flat(parameters)
        x, g = flat.join(parameters), flat.join(problem.gradients(parameters))
        matrix = gauss_newton_matrix(problem, flat, x)
        move = solved(with_damping(matrix, settings["damping"]), g)
        return flat.split(x - settings["learning_rate"] * move), {}

    def bytes(self, parameters: int, rows: int, outputs: int, itemsize: int = 4) -> int:
        """Jacobians of all outputs, and matrices."""
        return itemsize * (4 * parameters * rows * outputs + 6 * parameters**2)


class LevenbergMarquardt(SecondOrder):
    """Gauss–Newton that trusts itself less after a step that failed, and more after one that did not.

    A step that would make the objective larger is not taken.
    """

    name = "levenberg_marquardt"
    formula = "as gauss_newton; objective fell: damping / 10, else the step is undone and damping * 10"
    prefer = "for small regressions: nothing is surer to reach the bottom"
    source = "Levenberg 1944; Marquardt 1963"
    settings: ClassVar[Mapping[str, float]] = {"learning_rate": 1.0, "damping": 1e-2, "memory": 0.25}

    def init(self, parameters: Tensors) -> Tensors:
        """The damping over its setting."""
        return {"factor": next(iter(parameters.values())).new_ones(())}

    def step(self, problem: Problem, state: Tensors, parameters: Tensors, settings: Tensors) -> tuple[Tensors, Tensors]:
        """See ``formula``."""
        flat = Flat(parameters)
        x, g = flat.join(parameters), flat.join(problem.gradients(parameters))
        matrix = gauss_newton_matrix(problem, flat, x)
        move = solved(with_damping(matrix, settings["damping"] * state["factor"]), g)
        there = x - settings["learning_rate"] * move
        fell = problem.objective(flat.split(there)) < problem.objective(parameters)
        factor = torch.where(fell, state["factor"] / 10, state["factor"] * 10).clamp(1e-12, 1e12)
        return flat.split(torch.where(fell, there, x)), {"factor": factor}

    bytes = GaussNewton.bytes
