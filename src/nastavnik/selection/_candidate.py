"""A recipe that was trained, and what became of it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from nastavnik.recipe import Recipe, Value


@dataclass(frozen=True, eq=False)
class Candidate:
    """A recipe that was trained: its place in the search, its score and what became of it.

    ``score`` is in nats per validation example (mean over folds); ``values`` are the search's objectives, by default
    the score alone; ``numbers`` are its networks' numbers in the trace; ``rungs`` the best scores so far when so large
    a share of the training was done; ``parameters`` the weights of one of its networks.
    """

    number: int
    generation: int
    keys: dict[str, Value]
    recipe: Recipe
    numbers: tuple[int, ...]
    status: str
    score: float
    values: tuple[float, ...]
    best_step: int
    steps: int
    total_steps: int
    seconds: float
    parameters: int
    rungs: tuple[tuple[float, float], ...] = ()

    @property
    def lacking(self) -> float:
        """Share of its steps that it lacks because a budget ended; 0 where its training came to an end of its own."""
        return 1 - self.steps / max(1, self.total_steps) if self.status == "cut" else 0.0

    def to_json(self) -> dict[str, Any]:
        """The record kept in the checkpoint."""
        return {**asdict(replace(self, recipe=Recipe({}))), "recipe": self.recipe.to_json()}

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Candidate:
        """Read what ``to_json`` wrote; JSON has no infinity and says null."""
        changed = {
            "recipe": Recipe.from_json(record["recipe"]),
            "numbers": tuple(record["numbers"]),
            "score": _number(record["score"]),
            "values": tuple(_number(v) for v in record["values"]),
            "rungs": tuple((share, _number(score)) for share, score in record["rungs"]),
        }
        return cls(**{**record, **changed})


def _number(value: float | None) -> float:
    return math.inf if value is None else value
