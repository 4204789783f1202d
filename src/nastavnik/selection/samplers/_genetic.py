"""The genetic algorithm with operators for mixed trees."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from nastavnik.recipe import Value
from nastavnik.selection.pareto import best_first
from nastavnik.selection.samplers._base import Keys, Sampler, crossed, mutated, random_keys
from nastavnik.space import Space

_PARENTS = 10
_MUTANTS = 0.8  # children that are mutated after crossing
_WIDE = 0.15  # a mutation's step, a share of an axis


class Genetic(Sampler):
    """Children of the best points so far: crossed, mostly mutated; categories are swapped, never coded by argmax.

    Parents are drawn by tournaments of two among the best ten; of several values, by layers of the front, and
    within a layer by how lonely a point is (Deb et al. 2002).
    """

    name = "genetic"
    formula = "crossed pairs of the best 10, mostly mutated"
    prefer = "for mixed trees of categories and numbers"
    source = "Holland 1975"
    startup = _PARENTS
    several = True

    def __init__(self, space: Space, *, seed: int, objectives: int = 1) -> None:
        super().__init__(space, seed=seed, objectives=objectives)
        self._parents: list[tuple[tuple[float, ...], Keys]] = []  # best first

    def propose(self, rng: np.random.Generator, given: Mapping[str, Value]) -> Keys:
        """A child."""
        if self.told + len(self.pending) < _PARENTS or len(self._parents) < 2:
            return random_keys(self.space, rng, given)
        child = crossed(self.space, self._parent(rng), self._parent(rng), rng)
        if rng.random() < _MUTANTS:
            width = _WIDE * 10 ** -(2 * rng.random())  # coarse and fine steps together
            return mutated(self.space, child, rng, width, given)
        return random_keys(self.space, rng, {**child, **given}) if given else child

    def _parent(self, rng: np.random.Generator) -> Keys:
        """The better of two, the parents being in order."""
        return self._parents[int(rng.integers(len(self._parents), size=2).min())][1]

    def hear(self, keys: Keys, values: tuple[float, ...]) -> None:
        """Keep the best."""
        self._parents.append((values, keys))
        self._parents = [self._parents[i] for i in best_first([v for v, _ in self._parents])[:_PARENTS]]
