"""What second-order optimizers share: parameters as one vector, derivatives of it, a search along a line."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import torch
from torch.func import grad, jacrev

from nastavnik.space import Number, Space
from nastavnik.training.optimizers._base import DECAY, RATE, Optimizer, Problem, Tensors

CHUNK = 64  # rows of a Jacobian computed together
_HALVINGS = 10
_FURTHEST = 100  # times the first trial
_SUFFICIENT = 1e-4  # Armijo's share of the promised fall
Function = Callable[[torch.Tensor], torch.Tensor]


class SecondOrder(Optimizer):
    """An optimizer that looks at curvature. It asks for large batches, best all rows, and for small networks.

    Everything is done for all networks alike, without branches on values: what must not happen to one network is
    masked out, so K of them run as one program.
    """

    rate: ClassVar[Number] = Number(0.1, 1.0, default=1.0)
    needs_curvature: ClassVar[bool] = False  # of the loss in the outputs

    @classmethod
    def space(cls, rate: Number = RATE, decay: Number = DECAY) -> Space:
        """The full step by default, whatever suits first-order methods."""
        base = super().space(rate, decay)
        return Space({**base.nodes, "optimizer.learning_rate": cls.rate}, optional=base.optional)


class Flat:
    """Parameters as one vector [P] and back."""

    def __init__(self, parameters: Tensors) -> None:
        self._shapes = {name: p.shape for name, p in parameters.items()}
        self.sizes = {name: p.numel() for name, p in parameters.items()}

    def join(self, tensors: Tensors) -> torch.Tensor:
        """Tensors -> [P]."""
        return torch.cat([tensors[name].reshape(-1) for name in self._shapes])

    def place(self, name: str) -> tuple[int, int]:
        """Where one parameter's numbers begin and end."""
        before = list(self.sizes)[: list(self.sizes).index(name)]
        start = sum(self.sizes[other] for other in before)
        return start, start + self.sizes[name]

    def split(self, vector: torch.Tensor) -> Tensors:
        """[P] -> tensors."""
        parts: Tensors = {}
        start = 0
        for name, shape in self._shapes.items():
            parts[name] = vector[start : start + self.sizes[name]].reshape(shape)
            start += self.sizes[name]
        return parts


def solved(matrix: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """The solution of a positive definite system; not a number where it is not, so that this network stops alone.

    By Cholesky, which has no pivots: LAPACK's LU of an exactly singular matrix may never come back.
    """
    matrix, right, fine = _finite(matrix, right)
    factor, info = torch.linalg.cholesky_ex(matrix)
    fine = fine & (info == 0)
    eye = torch.eye(matrix.shape[0], dtype=matrix.dtype, device=matrix.device)
    solution = torch.cholesky_solve(right[:, None], torch.where(fine, factor, eye))[:, 0]
    return torch.where(fine, solution, torch.full_like(solution, torch.nan))


def symmetric_solved(matrix: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """The least solution of a symmetric system: nothing along directions without curvature."""
    matrix, right, fine = _finite(matrix, right)
    values, vectors = _eigen(matrix)
    flat = values.abs() <= len(right) * torch.finfo(matrix.dtype).eps * values.abs().max()
    inverse = torch.where(flat, torch.zeros_like(values), 1 / torch.where(flat, torch.ones_like(values), values))
    solution = vectors @ (inverse * (vectors.T @ right))
    return torch.where(fine, solution, torch.full_like(solution, torch.nan))


def _eigen(matrix: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Eigenvalues and -vectors; where LAPACK does not converge, tried in double precision and slightly moved.

    Not numbers if that fails too: an error would stop all networks.
    """
    size = matrix.abs().amax().detach()
    apart = torch.diag(torch.arange(matrix.shape[0], dtype=torch.float64, device=matrix.device))
    for attempt in (matrix, matrix.double(), matrix.double() + 1e-9 * size * apart / matrix.shape[0]):
        try:
            values, vectors = torch.linalg.eigh(attempt)
        except torch.linalg.LinAlgError:
            continue
        return values.to(matrix.dtype), vectors.to(matrix.dtype)
    return torch.full_like(matrix[0], torch.nan), torch.full_like(matrix, torch.nan)


def _finite(matrix: torch.Tensor, right: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The system, or the identity's where it is not finite, and whether it is: LAPACK must not see what is not."""
    fine = torch.isfinite(matrix).all() & torch.isfinite(right).all()
    eye = torch.eye(matrix.shape[0], dtype=matrix.dtype, device=matrix.device)
    return torch.where(fine, matrix, eye), torch.where(fine, right, torch.zeros_like(right)), fine


def hessian(function: Function, x: torch.Tensor) -> torch.Tensor:
    """Second derivatives [P, P] of a scalar function, by reverse mode twice."""
    h = jacrev(grad(function), chunk_size=CHUNK)(x)
    return 0.5 * (h + h.T)


def made_positive(matrices: torch.Tensor) -> torch.Tensor:
    """Symmetric matrices [n, m, m] with as much on their diagonals as makes them positive (Gershgorin 1931).

    A softmax's second derivatives, whose rows add up to zero, stay as they are; a negative number becomes zero.
    """
    diagonal = torch.diagonal(matrices, dim1=-2, dim2=-1)
    others = matrices.abs().sum(-1) - diagonal.abs()
    return matrices + torch.diag_embed((others - diagonal).clamp(min=0))


def penalty_curvature(problem: Problem, flat: Flat, x: torch.Tensor) -> torch.Tensor:
    """Second derivatives [P] of the penalties on weights: each is of one weight, so their matrix is diagonal."""

    def summed(v: torch.Tensor) -> torch.Tensor:
        return grad(lambda u: problem.penalty(flat.split(u)))(v).sum()

    return grad(summed)(x)


def with_damping(matrix: torch.Tensor, damping: torch.Tensor) -> torch.Tensor:
    """matrix + damping · I."""
    return matrix + damping * torch.eye(matrix.shape[0], dtype=matrix.dtype, device=matrix.device)


class Line:
    """The objective along a direction from a point; with ``project``, along the projected path.

    ``start`` is the objective at the point, ``slope`` its derivative along the direction.
    """

    def __init__(
        self,
        problem: Problem,
        flat: Flat,
        x: torch.Tensor,
        gradient: torch.Tensor,
        direction: torch.Tensor,
        project: Function = lambda x: x,
    ) -> None:
        self._problem, self._flat, self._project = problem, flat, project
        self.x, self.gradient, self.direction = x, gradient, direction
        self.start = problem.objective(flat.split(x))
        self.slope = gradient @ direction

    def at(self, t: torch.Tensor) -> torch.Tensor:
        """The point after a step of length t."""
        return self._project(self.x + t * self.direction)

    def objective(self, t: torch.Tensor) -> torch.Tensor:
        """The objective there."""
        return self._problem.objective(self._flat.split(self.at(t)))

    def search(self, t: torch.Tensor) -> torch.Tensor:
        """A step that falls enough: the minimum of a parabola through the first trial, the trial, or halves of it.

        Zero if none falls: the point is then as good as rounding lets it be.
        """
        first = self.objective(t)
        bend = first - self.start - self.slope * t
        vertex = -0.5 * self.slope * t * t / torch.where(bend > 0, bend, torch.ones_like(bend))
        guess = torch.where((bend > 0) & (vertex > 0), torch.minimum(vertex, _FURTHEST * t), t)
        there = self.objective(guess)
        trial = torch.where((there <= first) | first.isnan(), guess, t)
        value = torch.where((there <= first) | first.isnan(), there, first)
        found = torch.zeros_like(t)
        done = torch.zeros_like(t, dtype=torch.bool)
        for _ in range(_HALVINGS):
            promised = _SUFFICIENT * (self.gradient @ (self.at(trial) - self.x))
            enough = (value <= self.start + promised) & ~done & (promised < 0)
            found = torch.where(enough, trial, found)
            done = done | enough
            trial = 0.5 * trial
            value = self.objective(trial)
        return found


def downhill(direction: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
    """The direction, or where it would not fall, the negative gradient."""
    return torch.where(gradient @ direction < 0, direction, -gradient)
