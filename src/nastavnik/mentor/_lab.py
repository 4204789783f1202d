"""A lab: trains recipes of one task again, as populations, to see what happens and to try changes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from nastavnik.errors import UserError
from nastavnik.mentor._watching import LOOKS, watch
from nastavnik.model import Member, member_predictive
from nastavnik.population import Data, Learner, Population
from nastavnik.recipe import Recipe
from nastavnik.selection import Workbench
from nastavnik.trace import History

_EVALUATIONS = 30
_PATIENCE = 8


@dataclass(frozen=True)
class Watched:
    """Trainings of one recipe from several seeds: their histories, and their scores (nats a validation row)."""

    histories: list[History]
    scores: np.ndarray


class Lab:
    """Trains networks of one workbench's first part, alike but for recipe and seed.

    Args:
        bench: the rows, prepared as recipes say.
        best: keep each network's best moment and stop it when it stands still, as ``fit`` does; otherwise train to the
            end and keep the last.
        block: networks run together.
        engine: the way to run.
        share: of its steps that a training is given, its schedule with it: as much as a budget gave a run's.
    """

    def __init__(
        self, bench: Workbench, *, best: bool = True, block: int = 64, engine: str = "auto", share: float = 1.0
    ) -> None:
        self.bench, self.best, self.block, self.engine, self.share = bench, best, block, engine, share
        self.network_steps = 0

    @property
    def classes(self) -> int:
        """How many the target has; 0 for numbers."""
        task = self.bench.task
        return len(task.classes) if task.strata is not None else 0

    def scores(self, recipes: Sequence[Recipe]) -> np.ndarray:
        """Each recipe's mean negative log likelihood of the validation rows [n], in the target's own units.

        Infinite for what diverged. Recipes may be of several shapes; the order of rows depends on the seed alone.
        """
        found = np.full(len(recipes), np.inf)
        shapes: dict[object, list[int]] = {}
        for i, recipe in enumerate(recipes):
            shapes.setdefault(recipe.shape, []).append(i)
        for members in shapes.values():
            population = self.population([recipes[i] for i in members], evaluations=_EVALUATIONS if self.best else 0)
            population.train(population.total_steps)
            self.network_steps += population.network_steps
            for outcome in sorted(population.harvest(), key=lambda o: o.numbers):
                i = members[outcome.numbers[0]]
                if outcome.status != "diverged":
                    found[i] = self.score(outcome.learners[0], recipes[i])
        return found

    def watch(
        self, recipes: Sequence[Recipe], *, count: int = LOOKS, dear: bool = True, first: int | None = None
    ) -> Watched:
        """Train recipes of one shape to their end, watched; each knows the others' last scores as its siblings.

        Only the ``first`` so many are watched all the way, where that is given.
        """
        population = self.population(recipes, evaluations=0)
        histories = watch(population, self.classes, count=count, dear=dear, first=first)
        self.network_steps += population.network_steps
        last = [history.last("validation rows' loss") for history in histories]
        names = self.bench.of(recipes[0]).parts[0].preparation.input_names
        for i, history in enumerate(histories):
            if history.facts.get("columns") == len(names):
                history.facts["column names"] = names
            history.facts["siblings"] = [v for j, v in enumerate(last) if j != i]
        scores = [self.score(population.network(i), recipe) for i, recipe in enumerate(recipes)]
        return Watched(histories, np.array(scores))

    def population(self, recipes: Sequence[Recipe], *, evaluations: int) -> Population:
        """The recipes, all of one shape, side by side, each with an order of rows of its own seed."""
        data = self.data(recipes[0])
        batch = data.batch_size(recipes[0].whole("batch_size"))
        return Population(
            [self.learner(recipe) for recipe in recipes],
            recipes,
            data,
            total_steps=max(1, round(self.share * recipes[0].whole("epochs") * data.steps_per_epoch(batch))),
            patience=_PATIENCE if evaluations else None,
            evaluations=evaluations,
            block=self.block,
            instruments={},
            engine=self.engine,
            own_order=True,
        )

    def data(self, recipe: Recipe) -> Data:
        """The first part's rows, prepared as the recipe says."""
        data = self.bench.of(recipe).data
        first = tuple(t[:1] for t in data.inputs), data.targets[:1]
        return replace(data, inputs=first[0], targets=first[1], train=data.train[:1], validation=data.validation[:1])

    def learner(self, recipe: Recipe) -> Learner:
        """A fresh network of the recipe."""
        own = self.bench.of(recipe)
        return own.learner(recipe, own.parts[0])

    def score(self, learner: Learner, recipe: Recipe) -> float:
        """Mean negative log likelihood of the validation rows, in own units; infinite if it is no number."""
        own = self.bench.of(recipe)
        rows = self.bench.split.parts[0][1]
        inputs = own.parts[0].preparation.apply(self.bench.columns.take(rows))
        predictive = member_predictive(Member(learner, recipe), inputs, own.parts[0].target)
        with np.errstate(all="ignore"):
            try:
                value = float(predictive.neg_log_likelihood(self.bench.task.values[rows]).mean())
            except (ValueError, UserError):  # outputs that are no numbers
                return float("inf")
        return value if np.isfinite(value) else float("inf")
