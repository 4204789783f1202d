"""NSGA-II."""

from __future__ import annotations

from nastavnik.errors import UserError
from nastavnik.selection.samplers._genetic import Genetic
from nastavnik.space import Space


class Nsga2(Genetic):
    """The genetic algorithm on several values at once, by layers of the front and loneliness within a layer.

    Raises:
        UserError: there is one value only.
    """

    name = "nsga2"
    formula = "crossed pairs, by layers of the front"
    prefer = "for a front of several criteria"
    source = "Deb et al. 2002"

    def __init__(self, space: Space, *, seed: int, objectives: int = 1) -> None:
        if objectives < 2:
            raise UserError("nsga2 seeks a front of several criteria; name them by --pareto, or take --sampler genetic")
        super().__init__(space, seed=seed, objectives=objectives)
