"""The search: recipes drawn in brackets, trained as populations, thinned out between rungs."""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch

from nastavnik.population import Learner, Outcome, Population
from nastavnik.recipe import Recipe, Value
from nastavnik.runs import Deadline, Progress, Watcher
from nastavnik.selection._bracket import Bracket, Drawn, cost_share, rungs_of
from nastavnik.selection._candidate import Candidate
from nastavnik.selection._cost import CostModel, size_of
from nastavnik.selection._drawing import Drawing
from nastavnik.selection._forecast import Forecast, forecast
from nastavnik.selection._gain import expected_gain, resolution
from nastavnik.selection._held_out import HeldOut
from nastavnik.selection._objectives import known_early, objective_values
from nastavnik.selection._pool import pool_of, pool_tensors
from nastavnik.selection._populating import fitting, populate
from nastavnik.selection._structures import Structure, rivals, structure_of
from nastavnik.selection._workbench import Workbench
from nastavnik.selection.pareto import front
from nastavnik.selection.samplers import SIBLINGS
from nastavnik.space import Limits, Space
from nastavnik.trace import Trace

POOL = 20  # candidates whose weights are kept
_GRACE = 1.0  # seconds that the very first networks get, whatever the budget
LEAST = 0.5  # of the usual training: what takes a smaller part in the time that is left is not begun beside others
_LITTLE = 0.05  # of the usual training: with less nothing is learned
_QUICK = 0.1  # of the time that is left: what takes less is done at once
_ALONE = 2.5e-3  # seconds a step of a network that is trained alone, at least
_BLOCKS = 3  # of siblings, trained side by side
_MANY = 8  # where that takes no more than _SHORT seconds
_SHORT = 3.0
_BEST = 8  # candidates whose differences tell what the rows can show


@dataclass(frozen=True)
class Strategy:
    """How a search goes about it.

    ``objectives`` are what the sampler seeks to lower, by default the score; ``stop`` is "budget", or "gain": when the
    gain still to be expected is less than the rows can show. ``steps`` is a budget in network steps.
    """

    sampler: str = "tpe"
    halving: str = "halving"
    forecasts: bool = True
    objectives: tuple[str, ...] = ("nll",)
    limits: Limits = field(default_factory=Limits)
    stop: str = "budget"
    steps: int | None = None


class Search:
    """Draws brackets of recipes, trains each as populations by shape, and thins them out at each rung.

    Under a budget of networks the sizes of brackets follow a fixed rule; under a budget of time they follow the time
    left and what networks have cost so far.
    """

    def __init__(
        self,
        bench: Workbench,
        space: Space,
        *,
        seed: int,
        deadline: Deadline,
        networks: int | None,
        trace: Trace,
        watcher: Watcher | None = None,
        engine: str = "auto",
        strategy: Strategy | None = None,
    ) -> None:
        self.bench, self.space, self.seed = bench, space, seed
        self.deadline, self.networks, self.trace = deadline, networks, trace
        self.watcher = watcher or Watcher()
        self.engine = engine
        self.strategy = strategy or Strategy()
        self.ways: Counter[str] = Counter()  # networks by the way they ran
        self.history: list[Candidate] = []
        self.pool: dict[int, tuple[Learner, ...]] = {}
        self.held_out = HeldOut(bench)
        self.losses: dict[int, np.ndarray] = {}  # of every candidate on every held-out row
        self.errors: dict[int, np.ndarray] = {}  # whether its class is wrong
        self.forecasts: list[Forecast] = []
        self.ladder: list[dict[str, Any]] = []  # the stages of looking for a first signal
        self.ended = ""  # why, if not for the budget
        self.generation = 0
        self.bracket: Bracket | None = None  # the one in training
        self.network_steps = 0
        self.earlier_seconds = 0.0  # of the sessions before a resumed one
        self.cost = CostModel()
        self.drawing = Drawing(
            bench,
            space,
            sampler=self.strategy.sampler,
            seed=seed,
            objectives=len(self.strategy.objectives),
            limits=self.strategy.limits,
            seconds=lambda recipe, size: self._seconds(recipe, size, 1, 1),
        )
        self._usual = self.drawing.recipe(space.default(), 0)
        self._usual_learner = bench.learner(self._usual, bench.parts[0])

    @property
    def seconds(self) -> float:
        """Seconds since the run began, earlier sessions included as far as their last checkpoint."""
        return self.earlier_seconds + self.deadline.clock.elapsed

    @property
    def ranking(self) -> list[Candidate]:
        """Candidates with a score, best first."""
        scored = [c for c in self.history if math.isfinite(c.score)]
        return sorted(scored, key=lambda c: (c.score, c.number))

    @property
    def simple_so_far(self) -> bool:
        """Whether nothing but the linear family was trained, which comes first under a clock."""
        return all(c.recipe["network.family"] in self.bench.linear_families for c in self.history)

    def run(self, after_bracket: Callable[[], None] = lambda: None, pause: Callable[[], None] = lambda: None) -> None:
        """Search until the budget is used, or nothing is left to be found.

        ``pause`` is called several times a second: a moment when ``to_record`` gives a state to go on from.
        ``after_bracket`` is not called for a bracket that was broken off by hand: its half-trained networks may be
        delivered, but a resumed search goes on training them, as if it had never stopped.
        """
        if not self.history:
            self._tell_of_the_grid()
        while True:
            began = time.monotonic()
            if self.bracket is None:
                count = self._plan() if self.history or self.deadline.unlimited else self._plan_first()
                others = rivals(self.ranking, self.losses, self.bench.linear_families)
                drawn = self._that_fit(self.drawing.draw(count, len(self.history), others)) if count else []
                if count and not drawn:
                    self._end(self.drawing.exhausted)
                if not drawn:
                    return
                rungs = rungs_of(self.strategy.halving, self.generation, len(drawn), self.strategy.forecasts)
                populations = self._populations([recipe for _, recipe in drawn])
                offsets = tuple(map(self._offset, populations))
                apart = any(self.drawing.is_usual(keys) for keys, _ in drawn)
                self.bracket = Bracket(drawn, populations, rungs, offsets, self._spared(drawn), apart=apart)
            self._train(self.bracket, pause, began)
            self.bracket = None
            self.generation += 1
            if not self.deadline.clock.stop_requested:
                after_bracket()

    # Planning

    def _plan(self) -> int:
        """How many recipes the next bracket holds."""
        asked = len(self.history)
        most = bracket = _BLOCKS * SIBLINGS
        part = cost_share(rungs_of(self.strategy.halving, self.generation, bracket, False))
        if not self.deadline.unlimited and self.history and part * self._forecast(_MANY * SIBLINGS) < _SHORT:
            most = bracket = _MANY * SIBLINGS
        if self.networks is not None:
            most = min(most, self.networks // self.bench.folds - asked)
        if self.strategy.steps is not None:
            one = self.total_steps(self._usual) * self.bench.folds
            most = min(most, round((self.strategy.steps - self.network_steps) / (part * one)))
        if most <= 0 or self.deadline.clock.stop_requested or (self.deadline.passed() and asked):
            return 0
        if self._nothing_to_gain(most):
            return 0
        left = self.deadline.left
        if math.isinf(left):
            return most
        one_seconds = self._forecast(1)
        if one_seconds > 0.8 * left:
            return int(not asked or (self.simple_so_far and left > _LITTLE * one_seconds))  # its end moves
        # a thinned bracket costs less than its recipes would alone
        fits = [n for n in range(1, most + 1) if max(0.5, part) * self._forecast(n) < 0.6 * left]
        return max(fits, default=1)

    def _plan_first(self) -> int:
        """Under a clock the linear family comes first, alone: whatever happens later, it is there and finished."""
        count = self.drawing.first(self.bench.linear_families)
        if not count or self.deadline.clock.stop_requested:
            return self._plan()
        recipe = self.drawing.recipe(self.drawing.sampler.point(self.drawing.queue[0]), 0)
        seconds = self._seconds(recipe, size_of(self.bench.learner(recipe, self.bench.parts[0])), 1, 1)
        seconds *= self.deadline.clock.slowness
        return count if count * seconds < _QUICK * self.deadline.left else 1

    def _tell_of_the_grid(self) -> None:
        """A grid says beforehand what it costs, and when the budget will not finish it."""
        points = self.drawing.sampler.size
        if points is None:
            return
        seconds = self._forecast(points)
        if self.networks is not None:
            fits = self.networks // self.bench.folds
        else:
            fits = points if math.isinf(self.deadline.left) else int(points * self.deadline.left / max(seconds, 1e-9))
        self.watcher.note(f"a grid of {points:,} points, about {seconds:,.0f} s if all are trained to their end")
        if fits < points:
            self.watcher.note(
                f"the budget is enough for about {fits:,} of them: a random part of the grid; give fewer options, a "
                "larger budget, or take --sampler random or tpe"
            )

    def _nothing_to_gain(self, bracket: int) -> bool:
        """Whether all that the budget still allows is expected to gain less than the rows can show."""
        best = [self.losses[c.number] for c in self.ranking[:_BEST] if c.number in self.losses]
        if self.strategy.stop != "gain" or len(self.strategy.objectives) > 1 or len(best) < 2:
            return False
        more = bracket
        if self.networks is not None:
            more = self.networks // self.bench.folds - len(self.history)
        elif not math.isinf(self.deadline.left):
            rate = len(self.history) / max(self.seconds, 1e-9)
            more = max(bracket, round(rate * self.deadline.left))
        gain, shown = expected_gain(self.history, more, seed=self.seed), resolution(best)
        if gain < shown:
            self._end(
                f"{more} more candidates are expected to gain {gain:.2g} nats, and these rows can show {shown:.2g}"
            )
        return gain < shown

    def _end(self, why: str) -> None:
        self.ended = why
        self.watcher.note(f"the search ends: {why}")

    def final_seconds(self) -> float:
        """What training the best candidate anew on all rows will take."""
        split = self.bench.split
        if not self.ranking or split.folds is None:  # they are taken as they are
            return 0.0
        c = self.ranking[0]
        batch = self.bench.data.batch_size(c.recipe.whole("batch_size"))
        seconds = self.cost.seconds(size_of(self.pool[c.number][0]), 1, 1, c.best_step, batch)
        alone = c.best_step * _ALONE * self.deadline.clock.slowness
        return max(seconds, alone) * len(split.development) / max(1, len(split.parts[0][0]))

    def alone_seconds(self) -> float:
        """What training the best candidate's recipe anew for each of several targets will take."""
        targets = len(self.bench.task.target.parts)
        if targets < 2 or not self.ranking:
            return 0.0
        best = self.ranking[0]
        return targets * self._seconds(best.recipe, size_of(self.pool[best.number][0]), 1, 1)

    def _forecast(self, count: int) -> float:
        """Seconds that so many recipes of the usual kind take, all folds, in blocks of one shape, as long as lately."""
        lately = [c.total_steps for c in self.history[-SIBLINGS * _BLOCKS :]]
        longer = float(np.mean(lately)) / self.total_steps(self._usual) if lately else 1.0
        return longer * self._seconds(self._usual, size_of(self._usual_learner), count, math.ceil(count / SIBLINGS))

    def _seconds(self, recipe: Recipe, size: int, count: int, shapes: int) -> float:
        batch = self.bench.data.batch_size(recipe.whole("batch_size"))
        return self.cost.seconds(size, count * self.bench.folds, shapes, self.total_steps(recipe), batch)

    def total_steps(self, recipe: Recipe) -> int:
        """Of a whole training."""
        data = self.bench.data
        batch = data.batch_size(recipe.whole("batch_size"))
        return recipe.whole("epochs") * data.steps_per_epoch(batch)

    # Training

    def _train(self, bracket: Bracket, pause: Callable[[], None], began: float) -> None:
        """Train one bracket, which was begun then, through its rungs and enter its candidates."""

        def tell(population: Population, share: float) -> None:
            self.watcher.doing(f"training {len(population)} networks of one shape to {share:.0%} of their steps")
            self._tell(bracket.populations)

        def early(population: Population) -> np.ndarray:
            return known_early(self.strategy.objectives, population)

        def train(deadline: Deadline) -> bool:
            """Whether it was cut short."""
            bracket.train(deadline, tell, pause, self._condemned, early, self.cost)
            return deadline.passed()

        def moment() -> Deadline:
            """The very first networks get one, whatever the budget."""
            return Deadline(self.deadline.clock, self.deadline.clock.left - _GRACE)

        very_first = not self.history
        cut = train(moment() if very_first and self.deadline.left < _GRACE else self.deadline)
        if cut and very_first and not bracket.network_steps and not self.deadline.clock.stop_requested:
            cut = train(moment())  # to make them ready took all the time there was
        self._note_ways(bracket)
        self.network_steps += bracket.network_steps
        outcomes = bracket.outcomes(cut)
        first = len(self.history)
        for keys, recipe in bracket.drawn:
            outcome, total, seconds = outcomes[recipe]
            self._record(keys, outcome, total, seconds * self.bench.folds, bracket)
        self.drawing.tell(self.history[first:])
        self._keep_best()
        self.cost.learn(bracket.spent, time.monotonic() - began)
        self._tell([])

    def _condemned(self, share: float, population: Population) -> np.ndarray:
        """Which candidates [C] are forecast to miss the best one whatever happens."""
        gone = np.zeros(len(population.best.score), dtype=bool)
        if not self.strategy.forecasts or len(self.strategy.objectives) > 1:
            return gone
        numbers = population.alive[:: self.bench.folds]
        scores = population.best.score + self._offset(population)
        for c, (number, score) in enumerate(zip(numbers.tolist(), scores.tolist(), strict=True)):
            made = forecast(number, share, score, self.history)
            if made is not None:
                self.forecasts.append(made)
                gone[c] = made.condemned and not made.control
        return gone

    def _note_ways(self, bracket: Bracket) -> None:
        """Count which way networks ran, and say it once."""
        first = not self.ways
        for p in bracket.populations:
            if p.step:
                self.ways[p.way] += len(p) + sum(len(o.numbers) for o in p.outcomes)
        if first:
            self.watcher.note("; ".join(dict.fromkeys(p.words for p in bracket.populations if p.step)))

    def _that_fit(self, drawn: Drawn) -> Drawn:
        """As many of the recipes drawn as memory holds side by side; what is left out may be drawn anew."""
        count = fitting(self.bench, [recipe for _, recipe in drawn], self._usual_learner)
        if count < len(drawn):
            self.watcher.note(f"memory holds {count} of {len(drawn)} recipes at a time")
            self.drawing.withdraw(drawn[count:])
        return drawn[:count]

    def _populations(self, recipes: Sequence[Recipe]) -> list[Population]:
        groups: dict[Any, list[tuple[int, Recipe]]] = {}
        for i, recipe in enumerate(recipes):
            groups.setdefault(recipe.shape, []).append((i, recipe))
        first = len(self.history) * self.bench.folds
        return [
            populate(
                self.bench,
                members,
                first=first,
                total_steps=self.total_steps(members[0][1]),
                trace=self.trace,
                engine=self.engine,
                measure=self.networks is None,
            )
            for members in groups.values()
        ]

    def _spared(self, drawn: Drawn) -> frozenset[Recipe]:
        """The first linear models: what simplicity can do is known for certain, and it costs little."""
        linear = self.bench.linear_families
        spared = [(k, r) for k, r in drawn if self.generation == 0 and r["network.family"] in linear]
        return frozenset(recipe for keys, recipe in spared if self.drawing.is_usual(keys))

    def _offset(self, population: Population) -> float:
        """What a population's scores are moved by, so that all candidates are in the same units."""
        recipes = population.recipes
        return self.bench.of(recipes[0]).offset if recipes else 0.0

    def _record(
        self, keys: dict[str, Value], outcome: Outcome, total_steps: int, seconds_a_step: float, bracket: Bracket
    ) -> None:
        number, bench = len(self.history), self.bench.of(outcome.recipe)
        score = outcome.score + bench.offset
        if math.isfinite(outcome.score):
            self.losses[number], wrong = self.held_out.losses(outcome.learners, bench)
            if wrong is not None:
                self.errors[number] = wrong
        parameters = sum(p.numel() for p in outcome.learners[0].network.parameters())
        known = {"nll": score, "parameters": float(parameters), "seconds": seconds_a_step * total_steps}
        known["error"] = float(self.errors[number].mean()) if number in self.errors else math.inf
        candidate = Candidate(
            number,
            self.generation,
            keys,
            outcome.recipe,
            outcome.numbers,
            outcome.status,
            score,
            objective_values(self.strategy.objectives, known, outcome, bench, self.seed),
            outcome.best_step,
            outcome.steps,
            total_steps,
            seconds_a_step * outcome.steps,
            parameters,
            tuple(bracket.seen.get(outcome.numbers[0], ())),
        )
        self.history.append(candidate)
        self.pool[number] = outcome.learners

    def _keep_best(self) -> None:
        """Weights are kept of the best few only, and of the best two of each structure."""
        kept = {c.number for c in self.ranking[:POOL]}
        seen: Counter[Structure] = Counter()
        for c in self.ranking:
            seen[structure_of(c)] += 1
            kept |= {c.number} if seen[structure_of(c)] <= 2 else set()
        if len(self.strategy.objectives) > 1:
            ranked = self.ranking
            kept |= {ranked[i].number for i in front(np.array([c.values for c in ranked]))} if ranked else set()
        self.pool = {number: learners for number, learners in self.pool.items() if number in kept}

    def _tell(self, populations: list[Population]) -> None:
        gone = [o for p in populations for o in p.outcomes]
        each = [(p.best.score, self._offset(p)) for p in populations]  # taken once: others may let candidates go now
        scores = [float(score.min()) + offset for score, offset in each if len(score)]
        scores += [o.score + self.bench.of(o.recipe).offset for o in gone]
        recorded = min((c.score for c in self.ranking[:1]), default=math.inf)
        best = min([recorded, *scores])
        folds = self.bench.folds
        alive = sum(len(p) for p in populations)
        every = [o.status for o in gone] + [c.status for c in self.history]
        dropped = sum(status in ("dropped", "diverged") for status in every)
        trained = (len(self.history) + len(gone)) * folds + alive
        interval = self._best_interval() if recorded <= best else None
        self.watcher.progress(Progress(trained, alive, dropped * folds, best, interval))

    def _best_interval(self) -> tuple[float, float] | None:
        """The best candidate's loss on its validation rows, 1.96 standard errors each way."""
        if not self.ranking:
            return None
        losses = self.losses[self.ranking[0].number]
        half = 1.96 * float(losses.std()) / max(len(losses), 1) ** 0.5
        return float(losses.mean()) - half, float(losses.mean()) + half

    # Checkpoints

    def to_record(self) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
        """What a resumed search needs: plain JSON and tensors."""
        record: dict[str, Any] = {name: getattr(self, name) for name in ("generation", "network_steps", "seconds")}
        record |= {"ways": dict(self.ways), "ladder": list(self.ladder), "drawing": self.drawing.to_record()}
        record |= {"history": [c.to_json() for c in self.history], "forecasts": [f.to_json() for f in self.forecasts]}
        record["of"] = self._of
        tensors = pool_tensors(self.pool)
        for name, table in (("losses", self.losses), ("errors", self.errors)):
            if table:
                record[name] = list(table)
                tensors[f"held_out.{name}"] = torch.from_numpy(np.stack(list(table.values())))
        if self.bracket is not None:
            record["bracket"], own = self.bracket.to_record()
            tensors |= {f"bracket.{name}": t for name, t in own.items()}
        return record, tensors

    @cached_property
    def _of(self) -> dict[str, Any]:
        """What a state of this search belongs to."""
        rows = json.dumps(self.bench.split.to_json(), sort_keys=True)
        return {"seed": self.seed, "split_sha256": hashlib.sha256(rows.encode()).hexdigest()}

    def restore(self, record: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> None:
        """Take up where ``to_record`` was written.

        Raises:
            ValueError: that was for other rows, or with another seed.
        """
        if record.get("of", self._of) != self._of:
            raise ValueError("it was written for other rows, or with another seed")
        self.generation, self.network_steps = record["generation"], record["network_steps"]
        self.earlier_seconds = record["seconds"]
        self.ways, self.ladder = Counter(record["ways"]), record["ladder"]
        self.history = [Candidate.from_json(c) for c in record["history"]]
        self.forecasts = [Forecast(**f) for f in record["forecasts"]]
        for name, table in (("losses", self.losses), ("errors", self.errors)):
            if name in record:
                table.update(zip(record[name], tensors[f"held_out.{name}"].numpy(), strict=True))
        self.drawing.restore(record["drawing"], self.history)
        self.pool = pool_of(self.history, self.bench, tensors)
        if "bracket" in record:
            own = {n.removeprefix("bracket."): t for n, t in tensors.items() if n.startswith("bracket.")}
            self.bracket = Bracket.from_record(record["bracket"], own, self._populations, self._offset, self._spared)
