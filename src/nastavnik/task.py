"""Task: a dataset's target with the values of all rows, and what rows weigh."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from nastavnik.data import TargetPreparation
from nastavnik.targets import Fitting, Target, known_rows
from nastavnik.training.likelihoods import Likelihood
from nastavnik.training.losses import TrainingLoss


@dataclass(frozen=True)
class Task:
    """What is to be predicted.

    ``values`` are the target's in own units [n], or [n, columns]: class numbers, or real values; ``why`` says how its
    kind was found. ``weights`` say how much each row counts, in training and in every score. The score that networks
    are chosen by is the validation negative log likelihood, a proper score.
    """

    target: Target
    values: np.ndarray
    why: str = ""
    class_weights: str = "none"
    weights: np.ndarray | None = None

    @property
    def name(self) -> str:
        """The target's."""
        return self.target.name

    @property
    def kind(self) -> str:
        """The target's."""
        return self.target.kind

    @property
    def classes(self) -> tuple[str, ...]:
        """The target's, empty where it has none."""
        return self.target.classes

    @property
    def strata(self) -> np.ndarray | None:
        """Class numbers [n] where the target is a class, be it one of an order."""
        return self.target.strata(self.values)

    def weighed(self, each: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """What was measured of rows [n], so that its plain mean is the weighed one."""
        if self.weights is None:
            return each
        own = self.weights[rows]
        return each * (own / own.mean())

    def weights_of(self, rows: np.ndarray) -> np.ndarray | None:
        """What these rows weigh, where rows weigh differently."""
        return None if self.weights is None else self.weights[rows]

    def singles(self) -> list[tuple[Task, np.ndarray]]:
        """A task for each target, with the rows in which it is known."""
        found = []
        for target, values in zip(self.target.parts, self.target.divided(self.values), strict=True):
            rows = np.flatnonzero(known_rows(values))
            filled = values if target.strata(values[:0]) is None else np.nan_to_num(values).astype(np.int64)
            found.append((Task(target, filled, self.why, self.class_weights, self.weights), rows))
        return found

    def to_json(self) -> dict[str, Any]:
        """The record that stands in ``result.json``."""
        return self.target.to_json()

    def prepare(self, by: Fitting) -> TargetPreparation:
        """The target's preparation; see ``Target.prepare``."""
        return self.target.prepare(self.values, by)

    def likelihood(self, recipe: Mapping[str, Any]) -> Likelihood:
        """A fresh likelihood, as the recipe says or by default for this kind of target."""
        return self.target.likelihood(recipe)

    def loss(self, recipe: Mapping[str, Any], likelihood: Likelihood, rows: np.ndarray) -> TrainingLoss:
        """A fresh training loss; class weights come from the training rows."""
        return self.target.loss(recipe, likelihood, self.values[rows], self.class_weights)
