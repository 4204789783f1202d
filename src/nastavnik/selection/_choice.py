"""Choosing among the candidates of a search, training the final network where folds were used, and the one test."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np

from nastavnik.data import Columns
from nastavnik.dataset import Dataset
from nastavnik.errors import UserError
from nastavnik.metrics import Scores, difference, lead, scores
from nastavnik.model import Fold, Member, Model, calibrate, member_predictive
from nastavnik.predictive import Predictive, mixture, stitch
from nastavnik.runs import Deadline, FitRequest
from nastavnik.selection._baselines import Baseline
from nastavnik.selection._blend import blend
from nastavnik.selection._by_target import by_target, gain_of_sharing, networks_for_sharing
from nastavnik.selection._candidate import Candidate
from nastavnik.selection._criteria import CHOOSING, Rows, ask_criterion, mean_of
from nastavnik.selection._ensemble import greedy_ensemble
from nastavnik.selection._final import train_anew
from nastavnik.selection._front import pareto_front
from nastavnik.selection._importance import importance
from nastavnik.selection._search import Search
from nastavnik.selection._trained import is_unfinished, training_of
from nastavnik.selection._wild import absurd, shown_above_zero
from nastavnik.selection._workbench import Part
from nastavnik.task import Task

_IMPORTANCE_SHARE = 0.03  # of a budget of time

Votes = dict[Candidate, int]
Measured = TypeVar("Measured", np.ndarray, np.ndarray | None)


@dataclass(frozen=True)
class Delivery:
    """What was chosen, and everything the report says of it.

    ``held_out`` are the chosen model's predictions of the validation rows ``rows`` (out of fold after
    cross-validation, of the first repeat), ``test_predictive`` those of the test rows; ``comparison`` holds the scores
    of single and ensemble side by side.
    """

    model: Model
    deliver: str
    candidates: tuple[Candidate, ...]  # each once
    votes: tuple[int, ...]
    numbers: tuple[int, ...]
    final_networks: int
    rows: np.ndarray
    held_out: Predictive
    validation: Scores
    test_rows: np.ndarray
    test_predictive: Predictive | None
    test: Scores | None
    touches: int
    baselines: dict[str, dict[str, Any]]
    comparison: dict[str, Any]
    columns: list[dict[str, float | str]]
    finalists: list[dict[str, Any]]
    spread: list[float]  # of the chosen candidate's loss over repeats
    front: list[dict[str, Any]]  # of a search by several criteria
    training: dict[str, Any]  # how far the chosen were trained
    targets: dict[str, dict[str, Any]]  # of several targets, each one's scores
    alone_networks: int  # trained to see what learning them together gained


def deliver(
    search: Search,
    dataset: Dataset,
    request: FitRequest,
    baselines: Sequence[Baseline],
    *,
    touch: Callable[[], int],
    expired: Callable[[], bool],
    deadline: Deadline | None = None,
) -> Delivery:
    """Choose, train finally until the deadline, calibrate, and touch the test part once; ``touch`` counts it before.

    Where the final training after cross-validation is not done in time, the first fold's network is delivered.
    """
    chooser = _Chooser(search, dataset, request.criterion)
    single, ensemble = {chooser.best(): 1}, chooser.ensemble()
    rows, y, weights_of = chooser.rows, dataset.task.values, dataset.task.weights_of
    together = chooser.held_out(ensemble)
    blended = blend(together, baselines, y[rows], dataset.task.weighed(np.ones(len(rows)), rows))
    both = {"single": chooser.held_out(single), "ensemble": together}
    if blended is not None:
        both["blend"] = blended.held_out
    delivered = _what_to_deliver(
        "single" if request.pareto and request.deliver == "best" else request.deliver, both, dataset.task, rows
    )
    one = delivered == "single"
    model, chosen, numbers, finals = chooser.model(single if one else ensemble, deadline, several=not one)
    held_out = chooser.held_out(chosen)  # after folds a final training may have fallen out
    if delivered == "blend" and blended is not None:
        model = replace(model, boosted=blended.boosted, network_votes=blended.networks)
        held_out = blended.held_out
    test_rows = dataset.split.test
    test_columns = dataset.columns.take(test_rows)
    touches = touch() if len(test_rows) else 0
    test_predictive = model.predictive(test_columns) if len(test_rows) else None
    nats = {name: dataset.task.weighed(p.neg_log_likelihood(y[rows]), rows) for name, p in both.items()}
    gain = difference(nats["single"], nats["ensemble"])
    comparison: dict[str, Any] = {
        "members": [c.number for c in ensemble],
        "validation": {
            name: scores(p, y[rows], seed=request.seed, weights=weights_of(rows)) for name, p in both.items()
        },
        "nll_gain_of_ensemble": gain,
    }
    if blended is not None:
        comparison["blend"] = {
            "shares": blended.shares,
            "nll_gain": difference(nats["ensemble"], nats["blend"]),
        }
    if len(test_rows) and dataset.split.folds is None:
        other = ensemble if delivered == "single" else single
        name = "ensemble" if delivered == "single" else "single"
        comparison["test"] = {
            name: scores(chooser.model(other)[0].predictive(test_columns), y[test_rows], weights=weights_of(test_rows))
        }
    targets = by_target(dataset, (rows, held_out), (test_rows, test_predictive), baselines, seed=request.seed)
    shared = request.networks is None or networks_for_sharing(dataset.task.target, search.bench.folds, request.networks)
    alone = 0
    if targets and shared:
        best = next(iter(chosen))
        gains, trained = gain_of_sharing(search, dataset, best, (rows, chooser.held_out({best: 1})), deadline=deadline)
        alone = trained
        for name, gain in gains.items():
            targets[name]["gain_of_sharing"] = gain
    columns = []
    if baselines or len(test_rows):
        held_columns = dataset.columns.take(rows)
        predict = chooser.predictor(chosen)
        budget = request.budget_or_default if request.networks is None else None
        seconds = math.inf if budget is None else _IMPORTANCE_SHARE * budget
        columns = importance(predict, held_columns, y[rows], seed=request.seed, expired=expired, seconds=seconds)
    return Delivery(
        model,
        delivered,
        tuple(chosen),
        tuple(chosen.values()),
        numbers,
        finals,
        rows,
        held_out,
        scores(held_out, y[rows], seed=request.seed, weights=weights_of(rows)),
        test_rows,
        test_predictive,
        None
        if test_predictive is None
        else scores(test_predictive, y[test_rows], seed=request.seed, weights=weights_of(test_rows)),
        touches,
        _baseline_records(baselines, dataset, request.seed, test_predictive),
        comparison,
        columns,
        chooser.finalists(chosen),
        chooser.spread(next(iter(chosen))),
        pareto_front(search, seed=request.seed),
        {
            **training_of(search, chosen),
            "first_fold": dataset.split.folds is not None and not finals and not model.others,
        },
        targets,
        alone,
    )


def _what_to_deliver(asked: str, known: Mapping[str, Predictive], task: Task, rows: np.ndarray) -> str:
    """What was asked for; of "best" the simplest that nothing with more in it is shown to better on held-out rows.

    "Shown" is a paired 95 % interval above zero, in nats or in squares of numbers.
    """
    if asked != "best":
        return asked if asked in known else "ensemble"
    y, found = task.values[rows], "single"
    for name in ("ensemble", "blend"):
        if name in known:
            pairs = [[p.neg_log_likelihood(y) for p in (known[found], known[name])]]
            if task.target.explained(known[name], y) is not None and y.ndim == 1:
                pairs.append([(p.point() - y) ** 2 for p in (known[found], known[name])])
            if any(difference(*(task.weighed(own, rows) for own in pair))["low"] > 0 for pair in pairs):
                found = name
    return found


class _Chooser:
    """The pool of candidates with their held-out predictions; makes models of them."""

    def __init__(self, search: Search, dataset: Dataset, criterion: str = "validation") -> None:
        self.search, self.dataset, self.bench = search, dataset, search.bench
        self.criterion = criterion
        split = dataset.split
        self._per = len(split.parts) // split.repeats  # parts of one repeat
        self._validation = [validation for _, validation in split.parts]
        self.rows = np.sort(np.concatenate(self._validation[: self._per]))
        place = {row: i for i, row in enumerate(self.rows.tolist())}
        self._places = [np.array([place[r] for r in validation.tolist()]) for validation in self._validation]
        self._temperatures: dict[int, float] = {}
        self._members: dict[tuple[int, int], Member] = {}
        self._predictions: dict[tuple[int, int], Predictive] = {}
        pool = [c for c in search.ranking if c.number in search.pool]
        self.ranked = sorted(pool, key=lambda c: float(self.loss(c).mean()))
        explained = {c: self.explained(c) for c in self.ranked}
        wild = absurd({c: value for c, value in explained.items() if value is not None})
        self.absurd: dict[Candidate, float] = wild
        self.ranking = [c for c in self.ranked if c not in wild]  # what may be delivered
        self.unfinished = {c for c in self.ranked if is_unfinished(search, c)}
        if set(self.ranking) - self.unfinished:  # never the hardly trained where there is another
            self.ranking = [c for c in self.ranking if c not in self.unfinished]

    def temperature(self, candidate: Candidate) -> float:
        """Fitted on the candidate's held-out rows, 1 where it does not help."""
        if candidate.number not in self._temperatures:
            parts = self.bench.of(candidate.recipe).parts
            learners = [self._member(candidate, g).judge for g in range(len(parts))]
            pairs = [part.rows(rows) for part, rows in zip(parts, self._validation, strict=True)]
            weights = self.dataset.task.weights
            own = None if weights is None else weights[np.concatenate(self._validation)]
            self._temperatures[candidate.number] = calibrate(
                learners, [x for x, _ in pairs], [t for _, t in pairs], own
            )
        return self._temperatures[candidate.number]

    def _member(self, candidate: Candidate, g: int) -> Member:
        """A candidate's network of one part, ready to be asked."""
        if (candidate.number, g) not in self._members:
            self._members[candidate.number, g] = Member(self.search.pool[candidate.number][g], candidate.recipe)
        return self._members[candidate.number, g]

    def prediction(self, candidate: Candidate, repeat: int = 0) -> Predictive:
        """One candidate's held-out predictions, in the order of ``rows``, by the networks of one repeat."""
        if (candidate.number, repeat) not in self._predictions:
            temperature = self.temperature(candidate)
            own = range(repeat * self._per, (repeat + 1) * self._per)
            pieces = []
            for g in own:
                part, member = self.bench.of(candidate.recipe).parts[g], self._member(candidate, g).at(temperature)
                pieces.append(member_predictive(member, part.rows(self._validation[g])[0], part.target))
            self._predictions[candidate.number, repeat] = stitch(pieces, [self._places[g] for g in own])
        return self._predictions[candidate.number, repeat]

    def loss(self, candidate: Candidate) -> np.ndarray:
        """Held-out nats of each row [n], averaged over repeats, times what the row weighs."""
        each = np.mean(self._by_repeat(candidate, lambda p, y: p.neg_log_likelihood(y)), axis=0)
        return self.dataset.task.weighed(each, self.rows)

    def explained(self, candidate: Candidate) -> float | None:
        """The share of the held-out rows' variance that a candidate explains in the target's own units."""
        task = self.dataset.task
        return task.target.explained(self.prediction(candidate), task.values[self.rows])

    def spread(self, candidate: Candidate) -> list[float]:
        """The mean held-out loss of each repeat."""
        each = self._by_repeat(candidate, lambda p, y: p.neg_log_likelihood(y))
        return [float(self.dataset.task.weighed(losses, self.rows).mean()) for losses in each]

    def _by_repeat(self, candidate: Candidate, measure: Callable[[Predictive, np.ndarray], Measured]) -> list[Measured]:
        y = self.dataset.task.values[self.rows]
        return [measure(self.prediction(candidate, r), y) for r in range(self.dataset.split.repeats)]

    def held_out(self, chosen: Votes, repeat: int = 0) -> Predictive:
        """Held-out predictions of candidates together, by the networks of one repeat."""
        return mixture([self.prediction(c, repeat) for c in chosen], list(chosen.values()))

    def predictor(self, chosen: Votes) -> Callable[[Columns, np.ndarray], Predictive]:
        """Held-out predictions of changed columns: each row by the networks that did not train on it."""
        fold_of = np.empty(len(self.rows), dtype=int)
        for g, places in enumerate(self._places[: self._per]):
            fold_of[places] = g

        def one(candidate: Candidate, columns: Columns, places: np.ndarray) -> Predictive:
            pieces, orders = [], []
            for g, part in enumerate(self.bench.of(candidate.recipe).parts[: self._per]):
                mine = np.flatnonzero(fold_of[places] == g)
                if len(mine):
                    member = self._member(candidate, g).at(self.temperature(candidate))
                    inputs = part.preparation.apply(columns.take(mine))
                    pieces.append(member_predictive(member, inputs, part.target))
                    orders.append(mine)
            return stitch(pieces, orders)

        return lambda columns, places: mixture([one(c, columns, places) for c in chosen], list(chosen.values()))

    def best(self) -> Candidate:
        """The candidate of least held-out loss; but a linear model where a network is not shown to be better.

        "Shown" is a paired difference whose 95 % interval, with Bonferroni's correction for the number of candidates,
        lies beyond zero, in the loss and, for classes, in the errors too: the best of many flatters itself, and what
        these rows cannot tell apart is decided by simplicity. Where a few wild rows widen the interval of the mean,
        that of the mean without them may show it too. Other criteria name their candidate by themselves; of a front
        the least loss is taken.
        """
        if self.criterion != "validation":
            return self._by_criterion()
        from scipy.special import ndtri

        first = self.ranking[0]
        if len(self.search.strategy.objectives) > 1:  # size is a criterion of its own there
            return first
        width = -ndtri(0.025 / max(1, 2 * len(self.search.ranking)))  # in standard errors; two looks at each
        for candidate in self.ranking:
            if candidate.recipe["network.family"] in self.bench.linear_families:
                pairs = zip(self._measures(candidate), self._measures(first), strict=True)
                if not all(shown_above_zero(theirs - ours, width) for theirs, ours in pairs):
                    return candidate
        return first

    def _by_criterion(self) -> Candidate:
        """The candidate of the largest value, mean over folds, each on its own training rows."""
        name = CHOOSING[self.criterion]
        found: list[tuple[float, Candidate]] = []
        problem = None
        for candidate in self.ranking:
            learners, data = self.search.pool[candidate.number], self.bench.of(candidate.recipe).data
            parts = [
                Rows(data.rows_of(g, data.train[g]), data.rows_of(g, data.validation[g])) for g in range(data.parts)
            ]
            each = [
                ask_criterion(name, m, rows, seed=self.search.seed) for m, rows in zip(learners, parts, strict=True)
            ]
            answer = mean_of(each).answer
            problem = answer.problem or problem
            if answer.value is not None:
                found.append((answer.value, candidate))
        if not found:
            raise UserError(f"no candidate has a value by --criterion {self.criterion}: {problem}")
        return max(found, key=lambda pair: pair[0])[1]

    def _measures(self, candidate: Candidate) -> list[np.ndarray]:
        """What is compared row by row: the loss, and whether the class is wrong."""
        measures = [self.loss(candidate)]
        target = self.dataset.task.target
        wrong = [one for one in self._by_repeat(candidate, target.wrong) if one is not None]
        if wrong:
            measures.append(self.dataset.task.weighed(np.mean(wrong, axis=0), self.rows))
        return measures

    def ensemble(self) -> Votes:
        """The greedy ensemble of the pool.

        Its members share the best one's way of preparing the target, and what inputs there are.
        """
        bench = self.bench.of(self.ranking[0].recipe)
        ranking = [c for c in self.ranking if bench.joins(self.bench.of(c.recipe))]
        task = self.dataset.task
        own = task.weighed(np.ones(len(self.rows)), self.rows)
        y = task.values[self.rows]
        near = y.ndim == 1 and self.explained(ranking[0]) is not None
        picks = greedy_ensemble([self.prediction(c) for c in ranking], y, own, near=near)
        return dict(Counter(ranking[i] for i in picks))

    def finalists(self, chosen: Votes) -> list[dict[str, Any]]:
        """The pool, best first: calibrated loss with its half width (1.96 standard errors), and against the chosen."""
        y = self.dataset.task.values[self.rows]
        repeats = range(self.dataset.split.repeats)
        each = np.mean([self.held_out(chosen, r).neg_log_likelihood(y) for r in repeats], axis=0)
        reference = self.dataset.task.weighed(each, self.rows)
        numbers = {c.number for c in chosen}
        found = []
        for c in self.ranked:
            loss = self.loss(c)
            gap = loss - reference
            error = 1.96 * float(gap.std()) / max(len(y), 1) ** 0.5
            sign = "worse" if gap.mean() > 0 else "better"
            shown = abs(gap.mean()) > error
            against = f"{sign} by {abs(gap.mean()):.4f}" if shown else "no difference these rows can show"
            if c in self.absurd:
                against = f"not to be delivered: R² {self.absurd[c]:.4g} on these rows"
            elif c in self.unfinished:
                against = f"hardly trained: {c.steps} of {c.total_steps} steps"
            found.append(
                {
                    "number": c.number,
                    "nll": float(loss.mean()),
                    "half_width": 1.96 * float(loss.std()) / max(len(y), 1) ** 0.5,
                    "chosen": c.number in numbers,
                    "against": "chosen" if c.number in numbers else against,
                    "words": c.recipe.in_words(),
                }
            )
        return sorted(found, key=lambda f: float(f["nll"]))

    def model(
        self, chosen: Votes, deadline: Deadline | None = None, *, several: bool = False
    ) -> tuple[Model, Votes, tuple[int, ...], int]:
        """The candidates as a model.

        After cross-validation the recipe of a single one is trained anew on all but the test rows; of ``several`` the
        networks of all folds are taken as they are, each with its fold's preparation: together they have seen all rows.
        After a hold-out networks are taken as they are.

        Returns the model, its candidates, the numbers of its networks, and how many networks were trained for it. A
        candidate whose final training diverges falls out, a single one for the next best. When the deadline passes
        meanwhile they are the networks of the first part, as they are.
        """
        folds = self.dataset.split.folds is not None
        if folds and not several:
            anew = self._anew(chosen, deadline)
            if anew is not None:
                return anew
        count = self.bench.folds if folds and several else 1
        return self._as_they_are(chosen, count), chosen, tuple(n for c in chosen for n in c.numbers[:count]), 0

    def _anew(self, chosen: Votes, deadline: Deadline | None) -> tuple[Model, Votes, tuple[int, ...], int] | None:
        """The candidates trained on all but the test rows; None where the time was over before all were."""
        bench = self.bench.of(next(iter(chosen)).recipe)
        part, data = bench.whole()
        first = len(self.search.history) * self.bench.folds
        others = [c for c in self.ranking if c not in chosen and self.bench.of(c.recipe) is bench]
        for candidates in ([*chosen], *([c] for c in others)):
            if deadline is not None and deadline.passed():
                return None
            found = train_anew(self.search, candidates, part, data, first, deadline)
            if deadline is not None and deadline.passed() and len(found) < len(candidates):
                return None
            if found:
                kept = {c: chosen.get(c, 1) for c in candidates if c in found}
                members = [Member(found[c], c.recipe, self.temperature(c), votes) for c, votes in kept.items()]
                numbers = tuple(first + candidates.index(c) for c in kept)
                return self._model(part, members), kept, numbers, len(members)
        raise UserError("every final training diverged; try --set optimizer.learning_rate=0.001")

    def _as_they_are(self, chosen: Votes, count: int) -> Model:
        """The candidates' networks of so many parts, each with its own preparation."""
        benches = list(dict.fromkeys(self.bench.of(c.recipe) for c in chosen))
        parts = [part for bench in benches for part in bench.parts[:count]]
        members = [
            Member(learner, c.recipe, self.temperature(c), votes, benches.index(self.bench.of(c.recipe)) * count + g)
            for c, votes in chosen.items()
            for g, learner in enumerate(self.search.pool[c.number][:count])
        ]
        model = self._model(parts[0], members)
        return replace(model, others=tuple(Fold(part.preparation, part.target) for part in parts[1:]))

    def _model(self, part: Part, members: Sequence[Member]) -> Model:
        return Model(
            self.dataset.task.target, self.dataset.infos, part.preparation, part.target, part.signature, tuple(members)
        )


def _baseline_records(
    baselines: Sequence[Baseline], dataset: Dataset, seed: int, ours: Predictive | None
) -> dict[str, dict[str, Any]]:
    """Each baseline's test scores, and how far we are ahead of it; they belong to the one final touch.

    ``ahead`` is how far our headline score is ahead, with the 95 % interval of the paired difference.
    """
    records: dict[str, dict[str, Any]] = {}
    rows, task = dataset.split.test, dataset.task
    y, weights = task.values[rows], task.weights_of(rows)
    for baseline in baselines:
        record: dict[str, Any] = {"seconds": baseline.seconds}
        if baseline.failed is not None:
            record["failed"] = baseline.failed
        if len(rows) and baseline.predictive is not None and ours is not None:
            record["test"] = scores(baseline.predictive, y, seed=seed, weights=weights)
            record["ahead"] = lead(ours, baseline.predictive, y, seed=seed, weights=weights)
        if 0 < baseline.rows < baseline.all_rows:
            record |= {"trained_on_rows": baseline.rows, "of_rows": baseline.all_rows}
        records[baseline.name] = record
    return records
