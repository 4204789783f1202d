"""The covariance matrix adaptation evolution strategy, by the package ``cmaes``."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from nastavnik.errors import UserError
from nastavnik.recipe import Value
from nastavnik.selection.samplers._base import Keys, Sampler, keys_of
from nastavnik.space import Choice, Number, Space, nodes_by_key

_SIGMA = 0.25  # the first spread, a share of an axis


class CmaEs(Sampler):
    """Draws from a normal distribution that learns the shape of the valley; for spaces of numbers only.

    Raises:
        UserError: the space has a choice, or a single number.
    """

    name = "cma_es"
    formula = "x ~ N(m, σ² C), all three learned"
    prefer = "for up to some thirty numbers that depend on each other, without branches"
    source = "Hansen & Ostermeier 2001; the package cmaes"

    def __init__(self, space: Space, *, seed: int, objectives: int = 1) -> None:
        super().__init__(space, seed=seed, objectives=objectives)
        nodes = nodes_by_key(space)
        choices = [name for name, node in nodes.items() if isinstance(node, Choice) and len(node.options) > 1]
        if choices:
            raise UserError(
                f"cma_es draws numbers only, and {choices[0]} is a choice; give it one value, or take --sampler tpe"
            )
        self._numbers = {key: node for key, node in nodes.items() if isinstance(node, Number)}
        if len(self._numbers) < 2:
            raise UserError(
                f"cma_es needs at least two numbers, but the space has {len(self._numbers)}; take --sampler tpe"
            )
        self._cma = self._fresh()
        self._heard: list[tuple[np.ndarray, float]] = []

    def _fresh(self) -> Any:
        from cmaes import CMA

        count = len(self._numbers)
        bounds = np.tile([0.0, 1.0], (count, 1))
        return CMA(np.full(count, 0.5), _SIGMA, bounds=bounds, seed=self.seed % 2**31)

    def propose(self, rng: np.random.Generator, given: Mapping[str, Value]) -> Keys:
        """A draw of the distribution as it stands."""
        self._cma.reseed_rng(int(rng.integers(2**31)))
        places = dict(zip(self._numbers, self._cma.ask(), strict=True))
        return keys_of(
            self.space,
            lambda key, node: node.options[0] if isinstance(node, Choice) else node.at(float(places[key])),
        )

    def hear(self, keys: Keys, values: tuple[float, ...]) -> None:
        """Learn from a generation when it is full."""
        x = np.array([n.place(v) for key, n in self._numbers.items() if not isinstance(v := keys[key], str)])
        self._heard.append((x, values[0]))
        if len(self._heard) == self._cma.population_size:
            worst = max((v for _, v in self._heard if math.isfinite(v)), default=0.0)
            self._cma.tell([(x, v if math.isfinite(v) else worst + abs(worst) + 1.0) for x, v in self._heard])
            self._heard = []
            if self._cma.should_stop():
                self._cma = self._fresh()
