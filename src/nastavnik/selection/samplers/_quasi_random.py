"""Quasi-random search."""

from __future__ import annotations

import warnings
from collections.abc import Mapping

import numpy as np

from nastavnik.recipe import Value
from nastavnik.selection.samplers._base import Keys, Sampler, keys_of
from nastavnik.space import Choice, Space, nodes_by_key

_AHEAD = 64  # points of the sequence made at a time


class QuasiRandom(Sampler):
    """Points of a scrambled Sobol sequence: more even than random ones. A dead branch's dimensions go unused."""

    name = "quasi_random"
    several = True
    formula = "the n-th point of a scrambled Sobol sequence, a dimension for each key"
    prefer = "for an even cover of a few numbers by a few dozen points"
    source = "Sobol 1967; Owen 1998; scipy.stats.qmc"

    def __init__(self, space: Space, *, seed: int, objectives: int = 1) -> None:
        super().__init__(space, seed=seed, objectives=objectives)
        self._dimension = {key: i for i, key in enumerate(nodes_by_key(space))}
        self._points = np.empty((0, max(1, len(self._dimension))))
        self._engine: object = None

    def propose(self, rng: np.random.Generator, given: Mapping[str, Value]) -> Keys:
        """The next of the sequence that was not drawn before."""
        index = self.told + len(self.pending) + self.refused
        keys = self._at(index)
        for further in range(_AHEAD):
            if frozenset(keys.items()) not in self._seen:
                break
            keys = self._at(index + further + 1)
        return keys

    def _at(self, index: int) -> Keys:
        places = self._place(index)
        return keys_of(
            self.space,
            lambda key, node: (
                node.options[min(int(places[self._dimension[key]] * len(node.options)), len(node.options) - 1)]
                if isinstance(node, Choice)
                else node.at(float(places[self._dimension[key]]))
            ),
        )

    def hear(self, keys: Keys, values: tuple[float, ...]) -> None:
        """Nothing is learned."""

    def _place(self, index: int) -> np.ndarray:
        from scipy.stats import qmc

        if self._engine is None:
            self._engine = qmc.Sobol(self._points.shape[1], scramble=True, rng=self.seed)
        assert isinstance(self._engine, qmc.Sobol)
        while index >= len(self._points):
            with warnings.catch_warnings():  # any count will do: the sequence goes on
                warnings.simplefilter("ignore", UserWarning)
                self._points = np.concatenate([self._points, self._engine.random(max(_AHEAD, len(self._points)))])
        return self._points[index]
