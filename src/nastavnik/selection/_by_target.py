"""Scores of each of several targets by itself, and what learning them together gained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from nastavnik.data import Split
from nastavnik.dataset import Dataset
from nastavnik.metrics import difference, lead, scores
from nastavnik.model import Member, calibrate, member_predictive
from nastavnik.population import Population
from nastavnik.predictive import JointPredictive, Predictive, stitch
from nastavnik.recipe import Recipe, Value
from nastavnik.runs import Deadline
from nastavnik.selection._baselines import Baseline
from nastavnik.selection._candidate import Candidate
from nastavnik.selection._search import Search
from nastavnik.selection._workbench import Workbench
from nastavnik.targets import Target
from nastavnik.task import Task

_FEWEST = 10  # rows to train on, and to be judged by, below which nothing is compared


def by_target(
    dataset: Dataset,
    held_out: tuple[np.ndarray, Predictive],
    test: tuple[np.ndarray, Predictive | None],
    baselines: Sequence[Baseline],
    *,
    seed: int,
) -> dict[str, dict[str, Any]]:
    """By a target's name its task, its scores and its baselines', on the rows in which it is known; empty for one.

    Args:
        dataset: whose targets they are.
        held_out: validation rows and what is predicted of them.
        test: test rows likewise.
        baselines: of all targets.
        seed: of the bootstrap.
    """
    singles = dataset.task.singles()
    if len(singles) < 2:
        return {}
    found: dict[str, dict[str, Any]] = {}
    for i, (task, known) in enumerate(singles):
        own = _Own(i, task, known, seed)
        theirs = {b.name: b for b in baselines if b.predictive is not None}
        compared = {name: own.compared(*test, b.predictive) for name, b in theirs.items()}
        found[task.name] = {
            "task": task.to_json(),
            "rows": len(known),
            "validation": own.scores(*held_out),
            "test": own.scores(*test),
            "baselines": {name: record for name, record in compared.items() if record is not None},
        }
    return found


class _Own:
    """One of several targets, of the rows in which it is known."""

    def __init__(self, place: int, task: Task, known: np.ndarray, seed: int) -> None:
        self.place, self.task, self.seed = place, task, seed
        self._known = np.zeros(len(task.values), dtype=bool)
        self._known[known] = True

    def of(self, rows: np.ndarray, predictive: Predictive) -> tuple[np.ndarray, Predictive]:
        """The rows in which it is known, and what is predicted of it there."""
        assert isinstance(predictive, JointPredictive)
        places = np.flatnonzero(self._known[rows])
        return rows[places], predictive.parts[self.place].take(places)

    def scores(self, rows: np.ndarray, predictive: Predictive | None) -> dict[str, Any] | None:
        """Its scores; None without rows."""
        if predictive is None:
            return None
        own, said = self.of(rows, predictive)
        if not len(own):
            return None
        return scores(said, self.task.values[own], seed=self.seed, weights=self.task.weights_of(own))

    def compared(self, rows: np.ndarray, ours: Predictive | None, theirs: Predictive | None) -> dict[str, Any] | None:
        """A baseline's scores of the test rows, and how far we are ahead."""
        if ours is None or theirs is None:
            return None
        own, said = self.of(rows, ours)
        if not len(own):
            return None
        y, weights, other = self.task.values[own], self.task.weights_of(own), self.of(rows, theirs)[1]
        ahead = lead(said, other, y, seed=self.seed, weights=weights)
        return {"test": scores(other, y, seed=self.seed, weights=weights), "ahead": ahead}


def gain_of_sharing(
    search: Search,
    dataset: Dataset,
    candidate: Candidate,
    held_out: tuple[np.ndarray, Predictive],
    *,
    deadline: Deadline | None = None,
) -> tuple[dict[str, dict[str, Any]], int]:
    """By target: how many nats a validation row the candidate gained over the same recipe trained on that target alone.

    The comparison is paired, row by row, with its 95 % interval; above zero learning together helped, as far as the
    candidate's having been chosen by these very rows does not explain it. Targets that the time no longer reached, or
    that have too few rows, are left out. Also how many networks were trained for it.

    Args:
        search: whose candidate it is.
        dataset: the rows.
        candidate: whose recipe is trained for each target.
        held_out: the validation rows, and what the candidate predicts of them.
        deadline: what is not trained then is not compared.
    """
    found: dict[str, dict[str, Any]] = {}
    trained = 0
    for i, (task, known) in enumerate(dataset.task.singles()):
        if deadline is not None and deadline.passed():
            break
        split = _where_known(dataset.split, known)
        if split is None:
            continue
        trained += len(split.parts)
        alone = _alone(search, dataset, task, split, candidate, deadline)
        if alone is None:
            continue
        own, said = _Own(i, task, known, search.seed).of(*held_out)
        rows, other = alone
        y = task.values[own]
        order = np.searchsorted(rows, own)
        ours, theirs = said.neg_log_likelihood(y), other.take(order).neg_log_likelihood(y)
        found[task.name] = difference(task.weighed(theirs, own), task.weighed(ours, own), seed=search.seed)
    return found, trained


def networks_for_sharing(target: Target, folds: int, networks: int) -> int:
    """Of a budget of so many networks those that are kept for ``gain_of_sharing``: a quarter at most, else none."""
    wanted = len(target.parts) * folds if len(target.parts) > 1 else 0
    return wanted if 4 * wanted <= networks else 0


def _where_known(split: Split, known: np.ndarray) -> Split | None:
    """The split of the rows in which a target is known; of repeats the first. None where a part has too few."""

    def some(rows: np.ndarray) -> np.ndarray:
        return rows[np.isin(rows, known)]

    folds = None
    if split.folds is not None:
        first = split.folds[: len(split.folds) // split.repeats]
        folds = tuple((some(train), some(validation)) for train, validation in first)
    own = Split(some(split.train), some(split.validation), some(split.test), folds, split.method)
    judged = sum(len(validation) for _, validation in own.parts)
    fewest = min([judged, *(len(train) for train, _ in own.parts)])
    return own if fewest >= _FEWEST and all(len(validation) for _, validation in own.parts) else None


def _suited(settings: Mapping[str, Value], task: Task) -> Recipe:
    """Settings without the names of losses and likelihoods that are other targets'."""
    own = {"loss.name": task.target.losses(), "likelihood.name": task.target.likelihoods()}
    return Recipe({name: v for name, v in settings.items() if name not in own or v in own[name]})


def _alone(
    search: Search, dataset: Dataset, task: Task, split: Split, candidate: Candidate, deadline: Deadline | None
) -> tuple[np.ndarray, Predictive] | None:
    """Validation rows in their order, and what networks of the recipe say that saw this target only."""
    recipe = _suited(candidate.recipe, task)
    settings = {name: v for name, v in recipe.items() if name.startswith("preparation.")}
    bench = Workbench(
        dataset.columns,
        task,
        split,
        families=search.bench.families,
        settings={**_suited(search.bench.settings, task), **settings},
        seed=search.seed,
        device=search.bench.device,
    )
    population = Population(
        [bench.learner(recipe, part) for part in bench.parts],
        [recipe],
        bench.data,
        total_steps=candidate.total_steps,
        evaluations=10,
        instruments={},
        measure=search.networks is None,
    )
    population.train(candidate.total_steps, deadline)
    search.network_steps += population.network_steps
    (outcome,) = population.harvest()
    if outcome.status == "diverged" or (deadline is not None and deadline.passed()):
        return None
    validation = [rows for _, rows in split.parts]
    pairs = [part.rows(rows) for part, rows in zip(bench.parts, validation, strict=True)]
    weights = task.weights_of(np.concatenate(validation))
    temperature = calibrate(outcome.learners, [x for x, _ in pairs], [t for _, t in pairs], weights)
    said = [
        member_predictive(Member(learner, recipe, temperature), x, part.target)
        for learner, (x, _), part in zip(outcome.learners, pairs, bench.parts, strict=True)
    ]
    return np.sort(np.concatenate(validation)), stitch(said, validation)
