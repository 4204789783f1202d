"""Newton's method on the objective itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from nastavnik.training.optimizers._base import Problem, Tensors
from nastavnik.training.optimizers._second_order import (
    CHUNK,
    Flat,
    SecondOrder,
    hessian,
    symmetric_solved,
    with_damping,
)


class Newton(SecondOrder):
    """Jumps to the stationary point of the second-order expansion: a minimum, where the Hessian is positive.

    With a small ``damping`` it is attracted by saddle points as much as by minima. Directions without curvature (the
    weights of dead units) are left alone.
    """

    name = "newton"
    formula = "w = w - rate * (H + damping * I)^-1 g"
    prefer = "to polish small smooth problems near their minimum; one step solves a quadratic"
    source = "Levenberg 1944; Nielsen 2015, ch. 3"
    settings: ClassVar[Mapping[str, float]] = {"learning_rate": 1.0, "damping": 0.0, "memory": 0.25}

    def init(self, parameters: Tensors) -> Tensors:
        """Nothing is remembered."""
        return {}

    def step(self, problem: Problem, state: Tensors, parameters: Tensors, settings: Tensors) -> tuple[Tensors, Tensors]:
        """See ``formula``."""
        flat = Flat(parameters)
        x, g = flat.join(parameters), flat.join(problem.gradients(parameters))
        h = hessian(lambda v: problem.objective(flat.split(v)), x)
        move = symmetric_solved(with_damping(h, settings["damping"]), g)
        return flat.split(x - settings["learning_rate"] * move), {}

    def bytes(self, parameters: int, rows: int, outputs: int, itemsize: int = 4) -> int:
        """The Hessian, its transpose's mean, its factors, and a chunk of passes."""
        return itemsize * (4 * parameters**2 + 2 * CHUNK * parameters)
