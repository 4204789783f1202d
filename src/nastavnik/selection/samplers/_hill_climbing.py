"""Hill climbing."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from nastavnik.recipe import Value
from nastavnik.selection.samplers._base import Keys, Sampler, mutated, random_keys
from nastavnik.space import Space

_STARTS = 8  # random points, of which the best is climbed from
_WIDE, _NARROW = 0.25, 0.002  # the widest and the narrowest step, shares of an axis


class HillClimbing(Sampler):
    """Neighbours of the best point so far; steps widen with success and narrow without, and it starts anew when stuck.

    The step's width is doubled after a gain and shrinks by 2^(-1/4) after none: at a fifth of gains it stays.
    """

    name = "hill_climbing"
    formula = "x' = x + N(0, width²) of some keys; taken if better"
    prefer = "for a smooth space of numbers and little budget"
    source = "Rechenberg 1973, the one-fifth rule"
    startup = _STARTS

    def __init__(self, space: Space, *, seed: int, objectives: int = 1) -> None:
        super().__init__(space, seed=seed, objectives=objectives)
        self._restart()

    def _restart(self) -> None:
        self._current: Keys | None = None
        self._value = float("inf")
        self._width = _WIDE
        self._heard = 0
        self._late = set(self.pending)  # neighbours of where it stood, which are still to be told

    def propose(self, rng: np.random.Generator, given: Mapping[str, Value]) -> Keys:
        """A neighbour of where it stands."""
        if self._current is None or self._heard + len(self.pending.keys() - self._late) < _STARTS:
            return random_keys(self.space, rng, given)
        return mutated(self.space, self._current, rng, self._width, given)

    def hear(self, keys: Keys, values: tuple[float, ...]) -> None:
        """Step there if it is better."""
        if frozenset(keys.items()) in self._late:
            return
        self._heard += 1
        if values[0] < self._value:
            climbing = self._heard > _STARTS
            self._current, self._value = keys, values[0]
            self._width = min(_WIDE, 2.0 * self._width) if climbing else self._width
        elif self._heard > _STARTS:
            self._width *= 2**-0.25
            if self._width < _NARROW:
                self._restart()
