"""Random search."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from nastavnik.recipe import Value
from nastavnik.selection.samplers._base import SIBLINGS, Keys, Sampler, random_keys


class Random(Sampler):
    """Even over options and axes; the baseline of all others.

    In a fit eight in a row share what decides shapes, so that they train as one population.
    """

    name = "random"
    formula = "each option, each place of an axis with even probability"
    prefer = "as the baseline: any time, any space"
    source = "Bergstra & Bengio 2012"
    siblings = SIBLINGS
    several = True

    def propose(self, rng: np.random.Generator, given: Mapping[str, Value]) -> Keys:
        """A random point."""
        return random_keys(self.space, rng, given)

    def hear(self, keys: Keys, values: tuple[float, ...]) -> None:
        """Nothing is learned."""
