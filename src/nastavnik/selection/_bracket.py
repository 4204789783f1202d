"""A bracket: recipes drawn together, trained side by side, halved between rungs; and how to save one in the middle."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from nastavnik.clock import Deadline
from nastavnik.population import Outcome, Population
from nastavnik.recipe import Recipe, Value

RUNGS = (0.15, 0.4)  # shares of the training after which the worse half is dropped
_FEW = 4  # a smaller bracket is not halved

Drawn = list[tuple[dict[str, Value], Recipe]]


@dataclass
class Bracket:
    """Recipes with what the sampler was asked, and their populations by shape; ``rung`` is the one in training."""

    drawn: Drawn
    share: float
    populations: list[Population]
    rung: int = 0
    seconds: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.seconds = self.seconds or [0.0] * len(self.populations)

    @property
    def rungs(self) -> tuple[float, ...]:
        """Shares of the training, the last of them the whole."""
        return (*RUNGS, 1.0) if len(self.drawn) >= _FEW else (1.0,)

    @property
    def network_steps(self) -> int:
        """Steps taken by all networks together."""
        return sum(p.network_steps for p in self.populations)

    def train(
        self,
        deadline: Deadline,
        tell: Callable[[Population, float], None],
        learn: Callable[[dict[Population, float]], None],
        pause: Callable[[], None],
    ) -> None:
        """Through the rungs that are left.

        Args:
            deadline: when to stop, at whatever step.
            tell: hears of each population and the share of its steps that it is trained to next.
            learn: hears what populations have cost in seconds, after each rung.
            pause: a moment when everything may be saved.
        """
        while self.rung < len(self.rungs):
            share = self.rungs[self.rung]
            for i, population in enumerate(self.populations):
                if not len(population):
                    continue
                tell(population, share)
                started = time.monotonic()
                population.train(math.ceil(share * population.total_steps), deadline, pause)
                self.seconds[i] += time.monotonic() - started
            learn(dict(zip(self.populations, self.seconds, strict=True)))
            if deadline.passed():
                return
            if share < 1.0:
                self._halve()
            self.rung += 1

    def outcomes(self, cut: bool) -> dict[Recipe, tuple[Outcome, int]]:
        """What became of each recipe, with the steps of its whole training; the populations are empty afterwards."""
        found: dict[Recipe, tuple[Outcome, int]] = {}
        for p in self.populations:
            status = "cut" if cut and p.step < p.total_steps else "finished"
            found |= {o.recipe: (o, p.total_steps) for o in p.harvest(status)}
        return found

    def _halve(self) -> None:
        """Drop the worse half of all candidates by their best score so far."""
        scores = np.concatenate([p.best.score for p in self.populations])
        if len(scores) < 2:
            return
        bar = np.sort(scores)[(len(scores) - 1) // 2]
        for p in self.populations:
            p.release(p.best.score > bar, "dropped")

    # Saving

    def to_record(self) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
        """Everything, as plain JSON and tensors."""
        saved = [population.to_record() for population in self.populations]
        record = {
            "drawn": [{"keys": keys, "recipe": recipe.to_json()} for keys, recipe in self.drawn],
            "share": self.share,
            "rung": self.rung,
            "seconds": self.seconds,
            "populations": [own for own, _ in saved],
        }
        return record, {f"{i}.{name}": t for i, (_, own) in enumerate(saved) for name, t in own.items()}

    @classmethod
    def from_record(
        cls,
        record: Mapping[str, Any],
        tensors: Mapping[str, torch.Tensor],
        populate: Callable[[Sequence[Recipe], float], list[Population]],
    ) -> Bracket:
        """Read what ``to_record`` gave; ``populate`` makes the populations of recipes as they were at the start."""
        drawn = [(dict(d["keys"]), Recipe.from_json(d["recipe"])) for d in record["drawn"]]
        populations = populate([recipe for _, recipe in drawn], record["share"])
        for i, (population, own) in enumerate(zip(populations, record["populations"], strict=True)):
            start = f"{i}."
            population.restore(own, {n.removeprefix(start): t for n, t in tensors.items() if n.startswith(start)})
        return cls(drawn, record["share"], populations, record["rung"], list(record["seconds"]))
