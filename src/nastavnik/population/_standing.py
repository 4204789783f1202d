"""How candidates stand: the best moment of each so far, and how long ago that was."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from nastavnik.population._learner import Learner
from nastavnik.recipe import Recipe
from nastavnik.training.optimizers import Tensors


@dataclass(frozen=True)
class Outcome:
    """What became of one candidate: its networks with the weights of their best moment.

    ``score`` is in nats per validation example, infinite when no score was ever finite; ``best_step`` is the moment of
    it, ``steps`` how far training went; ``status`` is finished, stopped (by patience), dropped (by the search), cut (by
    the deadline) or diverged.
    """

    recipe: Recipe
    numbers: tuple[int, ...]
    status: str
    score: float
    best_step: int
    steps: int
    learners: tuple[Learner, ...]

    def to_json(self) -> dict[str, Any]:
        """The record beside the learners' weights."""
        kept = {name: getattr(self, name) for name in ("status", "score", "best_step", "steps")}
        return {**kept, "recipe": self.recipe.to_json(), "numbers": list(self.numbers)}

    @classmethod
    def from_json(cls, record: Mapping[str, Any], learners: tuple[Learner, ...]) -> Outcome:
        """Read what ``to_json`` wrote."""
        score = math.inf if record["score"] is None else record["score"]
        known = {"recipe": Recipe.from_json(record["recipe"]), "numbers": tuple(record["numbers"]), "score": score}
        return cls(**{**record, **known}, learners=learners)


def gone(outcomes: Sequence[Outcome]) -> tuple[np.ndarray, list[Learner], list[int]]:
    """Numbers, learners and parts of the data of all networks that have gone, in the order of their numbers."""
    known = [
        (n, learner, g) for o in outcomes for g, (n, learner) in enumerate(zip(o.numbers, o.learners, strict=True))
    ]
    known.sort(key=lambda each: each[0])
    return np.array([n for n, _, _ in known], dtype=int), [one for _, one, _ in known], [g for _, _, g in known]


@dataclass
class Standing:
    """Arrays [C]: the best score (nats) and what is watched at the best moment, its step, evaluations waited since,
    plateaus acted upon and when the last was; ``tensors`` are the networks' weights at their best moments [K, …]."""

    score: np.ndarray
    watched: np.ndarray
    step: np.ndarray
    waited: np.ndarray
    plateaus: np.ndarray
    acted: np.ndarray
    tensors: Tensors = field(default_factory=dict)

    @classmethod
    def of(cls, candidates: int) -> Standing:
        """Nothing seen yet."""
        step, waited, plateaus, acted = (np.zeros(candidates, dtype=int) for _ in range(4))
        return cls(np.full(candidates, np.inf), np.full(candidates, np.inf), step, waited, plateaus, acted)

    def take(self, score: np.ndarray, watched: np.ndarray, step: int) -> np.ndarray:
        """Enter an evaluation; which candidates [C] had none better before."""
        better = watched < self.watched
        self.score = np.where(better, score, self.score)
        self.watched = np.where(better, watched, self.watched)
        self.step = np.where(better, step, self.step)
        self.waited = np.where(better, 0, self.waited + 1)
        return better

    def kept(self, stay: np.ndarray, tensors: Tensors) -> Standing:
        """Of those that stay (a mask [C]), with their networks' tensors."""
        return replace(self, **{name: getattr(self, name)[stay] for name in _ARRAYS}, tensors=tensors)

    def to_record(self) -> dict[str, Any]:
        """The arrays as lists."""
        return {name: getattr(self, name).tolist() for name in _ARRAYS}

    @classmethod
    def from_record(cls, record: Mapping[str, Sequence[Any]], tensors: Tensors) -> Standing:
        """Read what ``to_record`` gave; JSON has no infinity and says null."""
        kinds = {"score": float, "watched": float}
        arrays: dict[str, Any] = {
            name: np.asarray([math.inf if v is None else v for v in record[name]], dtype=kinds.get(name, int))
            for name in _ARRAYS
        }
        return cls(**arrays, tensors=tensors)


_ARRAYS = ("score", "watched", "step", "waited", "plateaus", "acted")
