"""Simulated annealing."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from nastavnik.recipe import Value
from nastavnik.selection.samplers._base import Keys, Sampler, mutated, random_keys
from nastavnik.space import Space

_STARTS = 10  # random points, which tell the size of values
_COOLING = 0.94  # of the temperature, a point
_COLD = 1e-3  # of the first temperature: then it is warmed up again, from the best point
_WIDE, _NARROW = 0.25, 0.01  # steps at the first temperature and at the last, shares of an axis


class Annealing(Sampler):
    """Neighbours of where it stands; to worse ones it moves with probability exp(-rise / T), T falling.

    The first T is the quartile range of some random points' values, so that no size of loss need be known; steps
    shorten with T.
    """

    name = "annealing"
    formula = "x' = x + N(0, width²); taken with probability min(1, exp(-rise / T))"
    prefer = "where there are many local optima and networks are cheap"
    source = "Kirkpatrick et al. 1983"
    startup = _STARTS

    def __init__(self, space: Space, *, seed: int, objectives: int = 1) -> None:
        super().__init__(space, seed=seed, objectives=objectives)
        self._first: list[float] = []
        self._current: tuple[float, Keys] | None = None
        self._best: tuple[float, Keys] | None = None
        self._warmth = 1.0  # T as a share of the first T

    def propose(self, rng: np.random.Generator, given: Mapping[str, Value]) -> Keys:
        """A neighbour of where it stands, the nearer the colder."""
        if self._current is None or len(self._first) + len(self.pending) < _STARTS:
            return random_keys(self.space, rng, given)
        width = _NARROW * (_WIDE / _NARROW) ** (1 - math.log(self._warmth) / math.log(_COLD))
        return mutated(self.space, self._current[1], rng, width, given)

    def hear(self, keys: Keys, values: tuple[float, ...]) -> None:
        """Move there, or not."""
        value = values[0]
        if self._best is None or value < self._best[0]:
            self._best = value, keys
        if len(self._first) < _STARTS:
            self._first.append(value)
            self._current = self._best
            return
        assert self._current is not None
        rise = value - self._current[0]
        chance = math.exp(-rise / self._temperature()) if rise > 0 and math.isfinite(rise) else float(rise <= 0)
        if np.random.default_rng([self.seed, self.told]).random() < chance:
            self._current = value, keys
        self._warmth *= _COOLING
        if self._warmth < _COLD:
            self._warmth, self._current = 1.0, self._best

    def _temperature(self) -> float:
        finite = [v for v in self._first if math.isfinite(v)]
        spread = float(np.subtract(*np.quantile(finite, [0.75, 0.25]))) if finite else 1.0
        return max(0.2 * spread * self._warmth, 1e-12)
