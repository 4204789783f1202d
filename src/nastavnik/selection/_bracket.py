"""A bracket: recipes drawn together, trained side by side, thinned out between rungs; and how to save one half-way."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from nastavnik.population import Outcome, Population
from nastavnik.recipe import Recipe, Value
from nastavnik.runs import Deadline
from nastavnik.selection._abreast import Gate, side_by_side
from nastavnik.selection._cost import CostModel, Spent
from nastavnik.selection._forecast import SHARES
from nastavnik.selection.pareto import best_first

_CAUTION = 0.85  # of the time that is left is planned when it has become short
_REST = 1.0  # seconds between two moments when everything is at rest
_WAIT = 0.02  # seconds
_FEW = 4  # a smaller bracket is not thinned out
_THIRD = 1 / 3
_WORTH = 0.1  # of its schedule: a training that has come to an early end goes on for no less

Drawn = list[tuple[dict[str, Value], Recipe]]
Rung = tuple[float, float]  # share of the training, share of the candidates that stay after it
Condemn = Callable[[float, Population], np.ndarray]  # at a share of the training: which candidates [C] go

HALVINGS: dict[str, tuple[tuple[Rung, ...], ...]] = {
    "halving": (((0.15, 0.5), (0.4, 0.5)),),
    # Li et al. 2018 with η = 3: brackets that trust early scores and brackets that do not take turns
    "hyperband": (
        ((0.04, _THIRD), (0.11, _THIRD), (0.33, _THIRD)),
        ((0.11, _THIRD), (0.33, _THIRD)),
        ((0.33, _THIRD),),
        (),
    ),
    "none": ((),),
}


def rungs_of(halving: str, generation: int, count: int, forecasts: bool) -> tuple[Rung, ...]:
    """The rungs of a bracket of so many recipes; where only forecasts drop anyone, the share that stays is 1."""
    plans = HALVINGS[halving]
    own = dict(plans[generation % len(plans)]) if count >= _FEW else {}
    every = {**(dict.fromkeys(SHARES, 1.0) if forecasts else {}), **own, 1.0: 1.0}
    return tuple(sorted(every.items()))


def cost_share(rungs: Sequence[Rung]) -> float:
    """What a bracket with these rungs costs of what its recipes would cost without."""
    cost, alive, before = 0.0, 1.0, 0.0
    for share, stay in rungs:
        cost += alive * (share - before)
        alive, before = alive * stay, share
    return cost


@dataclass
class Bracket:
    """Recipes with what the sampler was asked, and their populations by shape; ``rung`` is the one in training.

    ``offsets`` are added to each population's scores, so that targets prepared otherwise can be compared; ``spared``
    are trained to their end whatever they promise; ``seen`` holds, by the candidate's first network, its best scores
    so far at the rungs that were reached. ``apart``: each population is thinned out by itself, so that shapes are told
    apart by networks that were trained to their end, not by how fast they begin.
    """

    drawn: Drawn
    populations: list[Population]
    rungs: tuple[Rung, ...]
    offsets: tuple[float, ...]
    spared: frozenset[Recipe] = frozenset()
    rung: int = 0
    seconds: list[float] = field(default_factory=list)
    seen: dict[int, list[tuple[float, float]]] = field(default_factory=dict)
    apart: bool = False

    def __post_init__(self) -> None:
        self.seconds = self.seconds or [0.0] * len(self.populations)
        self._pace: dict[int, float] = {}  # of each population that has run: its latest seconds over the cost model's
        self.spent = Spent(len(self.populations))
        self._gate, self._lock = Gate(), threading.Lock()
        self._workers, self._rested = 1, 0.0

    @property
    def network_steps(self) -> int:
        """Steps taken by all networks together."""
        return sum(p.network_steps for p in self.populations)

    def train(
        self,
        deadline: Deadline,
        tell: Callable[[Population, float], None],
        pause: Callable[[], None],
        condemn: Condemn,
        others: Callable[[Population], np.ndarray],
        cost: CostModel,
    ) -> None:
        """Through the rungs that are left.

        Under a deadline candidates are let go as soon as the rest would not be done in time, the least promising
        first, so that those which stay are trained to their end.

        Args:
            deadline: when to stop, at whatever step.
            tell: hears of each population and the share of its steps that it is trained to next.
            pause: a moment when everything may be saved.
            condemn: which candidates of a population have no hope any more.
            others: a population's objectives beside the score [C, m - 1], for a halving that knows the front.
            cost: what steps cost.
        """
        while self.rung < len(self.rungs):
            share, stay = self.rungs[self.rung]
            self._to(share, deadline, tell, pause, cost)
            if deadline.passed():
                return
            if share < 1.0:
                self._note(share)
                for population in self.populations:
                    population.release(condemn(share, population) & ~self._spared(population), "dropped")
                if stay < 1.0:
                    self._thin(stay, others)
            self.rung += 1

    def _to(
        self,
        share: float,
        deadline: Deadline,
        tell: Callable[[Population, float], None],
        pause: Callable[[], None],
        cost: CostModel,
    ) -> None:
        """All populations to a share of their steps: one after the other, or under a clock several side by side, those
        first whose step is compiled, while the others' is being.
        """
        waiting = [i for i, population in enumerate(self.populations) if len(population)]
        if deadline.unlimited:
            for i in waiting:
                tell(self.populations[i], share)
                self._train_one(i, self._end(i, share), deadline, pause, cost)
            return
        for i in waiting:
            self.populations[i].begin(deadline)
        at_work: set[int] = set()
        failed = threading.Event()

        def work() -> None:
            while not deadline.passed() and self._work_left(share) and not failed.is_set():
                i = self._take(share, at_work)
                if i is None:
                    time.sleep(_WAIT)
                    self._gate.pass_by()
                    continue
                try:
                    tell(self.populations[i], share)
                    self._train_one(i, self._next_stop(i, share), deadline, pause, cost)
                except BaseException:
                    failed.set()  # nobody goes on, so that it is heard of at once
                    raise
                finally:
                    at_work.discard(i)

        while (unfinished := self._unfinished(share)) and not deadline.passed():
            self._workers = min(len(unfinished), torch.get_num_threads())
            side_by_side(work, self._workers, self._gate)

    def _unfinished(self, share: float) -> list[int]:
        return [i for i, p in enumerate(self.populations) if len(p) and p.step < self._end(i, share)]

    def _work_left(self, share: float) -> bool:
        """Whether there is some for as many workers; the last population is for one, with all threads."""
        return len(self._unfinished(share)) > (1 if self._workers > 1 else 0)

    def _end(self, i: int, share: float) -> int:
        return math.ceil(share * self.populations[i].total_steps)

    def _take(self, share: float, at_work: set[int]) -> int | None:
        """The population that nobody is at work on and that is least far; of those whose step is compiled, if any."""
        with self._lock:
            free = [i for i in self._unfinished(share) if i not in at_work]
            ready = [i for i in free if not self.populations[i].is_compiling]
            if not free or (not ready and at_work):  # what is being compiled is not held up by training it
                return None
            chosen = min(ready or free, key=lambda i: self.populations[i].step / self._end(i, share))
            at_work.add(chosen)
            return chosen

    def _next_stop(self, i: int, share: float) -> int:
        """As far as a population is trained in one go: to its next evaluation, or a moment while it is compiled."""
        population = self.populations[i]
        stop = population.step + population.stride if population.is_compiling else population.next_evaluation
        return min(self._end(i, share), stop)

    def _train_one(self, i: int, until: int, deadline: Deadline, pause: Callable[[], None], cost: CostModel) -> None:
        """Train one population; its seconds are counted at each pause, so that a saved bracket knows them."""
        population = self.populations[i]
        started, step, settled = time.monotonic(), population.step, not population.is_compiling and population.step > 0

        def counted() -> None:
            nonlocal started, step, settled
            now = time.monotonic()
            seconds = now - started
            self.seconds[i] += seconds
            known, settled = settled, not population.is_compiling  # the first slice of a way warms up
            if len(population) and population.step > step:
                raw = (population.step - step) * cost.step(population, len(population))
                self._count(i, seconds, raw, population.way == "compiled", known)
            if deadline.unlimited:
                pause()
            else:
                self._rest(deadline, pause, cost)
            started, step = time.monotonic(), population.step

        while len(population) and population.step < min(until, population.total_steps):
            population.train(until, deadline, counted)
            if deadline.passed():
                break
        self.seconds[i] += time.monotonic() - started

    def _count(self, i: int, seconds: float, raw: float, compiled: bool, known: bool) -> None:
        """Take note of what a slice took, if that is ``known``, and would take by the cost model."""
        with self._lock:
            self.spent.raw += raw
            self.spent.compiled += raw * compiled
            if known:
                ratio = seconds / raw / self._workers
                self._pace[i] = (self._pace.get(i, ratio) + ratio) / 2
                self.spent.timed_seconds += seconds / self._workers
                self.spent.timed_raw += raw

    def _rest(self, deadline: Deadline, pause: Callable[[], None], cost: CostModel) -> None:
        """Let candidates go where time is short, and save now and then, while everything is at rest."""
        now = time.monotonic()
        with self._lock:
            due = now - self._rested > _REST or deadline.clock.stop_requested
            self._rested = now if due else self._rested
        if due or not self.fits(deadline, cost):
            with self._gate.alone():
                self.shed(deadline, cost)
                pause()
        else:
            self._gate.pass_by()

    # Planning by what this machine does now

    def pace(self, cost: CostModel) -> float:
        """The seconds of a step over the cost model's, as far as they were timed."""
        return cost.blended(self.spent.timed_seconds, self.spent.timed_raw)

    def left(self, cost: CostModel, kept: Collection[int] | None = None, *, planned: bool = False) -> float:
        """Seconds until all, or the candidates ``kept`` (by first network), are trained as the rungs say.

        ``planned``: to the ends that were planned at first, where those have been moved.
        """
        pace = self.pace(cost)
        total = 0.0
        for i, p in enumerate(self.populations):
            names = p.alive[:: p.data.parts].tolist()
            count = len(names) if kept is None else sum(name in kept for name in names)
            alive, before = 1.0, p.step
            own = self._pace.get(i, pace)
            total += p.compilation_left
            for share, stay in self.rungs[self.rung :]:
                until = math.ceil(share * (p.planned_steps if planned else p.total_steps))
                networks = max(1, round(alive * count)) * p.data.parts
                if count and until > before:
                    total += own * (until - before) * cost.step(p, networks)
                before, alive = max(before, until), alive * stay
        return total

    def fits(self, deadline: Deadline, cost: CostModel) -> bool:
        """Whether all will be trained to the ends that were planned before the deadline."""
        moved = any(len(p) and p.total_steps < p.planned_steps for p in self.populations)
        return math.isinf(deadline.left) or (self.left(cost) <= deadline.left and not moved)

    def shed(self, deadline: Deadline, cost: CostModel) -> None:
        """Let candidates go (*cut*) until those that stay will be trained to their end in time.

        One stays; where that is too much still, its schedule ends earlier, so that it is brought to an end; should it
        get on faster later, the end is moved back.
        """
        if self.fits(deadline, cost):
            return
        order, within = self._most_promising(), _CAUTION * max(0.0, deadline.left)
        while len(order) > 1 and self.left(cost, set(order), planned=True) > within:
            order.pop()
        kept = set(order)
        for p in self.populations:
            p.release(np.array([n not in kept for n in p.alive[:: p.data.parts].tolist()], dtype=bool), "cut")
        part = min(1.0, within / max(self.left(cost, planned=True), 1e-9))
        for p in self.populations:
            more = int((p.planned_steps - p.step) * part)
            if len(p) and (p.step < p.total_steps or more > _WORTH * p.planned_steps):
                p.end_after(p.step + more)

    def _most_promising(self) -> list[int]:
        """Those in training by their first networks: by the scores at their last rung, before it as they were drawn."""
        alive = [n for p in self.populations for n in p.alive[:: p.data.parts].tolist()]
        return sorted(alive, key=lambda n: (self.seen[n][-1][1] if n in self.seen else math.inf, n))

    def outcomes(self, cut: bool) -> dict[Recipe, tuple[Outcome, int, float]]:
        """What became of each recipe, the steps of its whole training, and seconds a step of one of its networks.

        The populations are empty afterwards.
        """
        found: dict[Recipe, tuple[Outcome, int, float]] = {}
        for p, seconds in zip(self.populations, self.seconds, strict=True):
            status = "cut" if cut and p.step < p.total_steps else "finished"
            own = seconds / max(1, p.network_steps)
            found |= {o.recipe: (o, p.total_steps, own) for o in p.harvest(status)}
        return found

    def _note(self, share: float) -> None:
        for p, offset in zip(self.populations, self.offsets, strict=True):
            for number, score in zip(p.alive[:: p.data.parts], p.best.score + offset, strict=True):
                self.seen.setdefault(int(number), []).append((share, float(score)))

    def _thin(self, stay: float, others: Callable[[Population], np.ndarray]) -> None:
        """Keep the best share of those in training, by their best score so far, or by the layers of their front."""
        each = [
            np.column_stack([p.best.score + offset, others(p)])
            for p, offset in zip(self.populations, self.offsets, strict=True)
        ]
        best = [_best_of(values, stay) for values in each] if self.apart else _divided(each, stay)
        for p, kept in zip(self.populations, best, strict=True):
            p.release(~(kept | self._spared(p)), "dropped")

    def _spared(self, population: Population) -> np.ndarray:
        return np.array([recipe in self.spared for recipe in population.recipes], dtype=bool)

    # Saving

    def to_record(self) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
        """Everything, as plain JSON and tensors."""
        saved = [population.to_record() for population in self.populations]
        record = {
            "drawn": [{"keys": keys, "recipe": recipe.to_json()} for keys, recipe in self.drawn],
            "rungs": self.rungs,
            "rung": self.rung,
            "seconds": self.seconds,
            "seen": [[number, scores] for number, scores in self.seen.items()],
            "apart": self.apart,
            "populations": [own for own, _ in saved],
        }
        return record, {f"{i}.{name}": t for i, (_, own) in enumerate(saved) for name, t in own.items()}

    @classmethod
    def from_record(
        cls,
        record: Mapping[str, Any],
        tensors: Mapping[str, torch.Tensor],
        populate: Callable[[Sequence[Recipe]], list[Population]],
        offset: Callable[[Population], float],
        spared: Callable[[Drawn], frozenset[Recipe]],
    ) -> Bracket:
        """Read what ``to_record`` gave; ``populate`` makes the populations of recipes as they were at the start.

        ``offset`` is what a population's scores are moved by; ``spared`` says which of the drawn are never dropped.
        """
        drawn = [(dict(d["keys"]), Recipe.from_json(d["recipe"])) for d in record["drawn"]]
        populations = populate([recipe for _, recipe in drawn])
        for i, (population, own) in enumerate(zip(populations, record["populations"], strict=True)):
            start = f"{i}."
            population.restore(own, {n.removeprefix(start): t for n, t in tensors.items() if n.startswith(start)})
        seen = {int(n): [(s, math.inf if v is None else v) for s, v in scores] for n, scores in record["seen"]}
        rungs = tuple((share, stay) for share, stay in record["rungs"])
        offsets = tuple(map(offset, populations))
        seconds = list(record["seconds"])
        apart = record.get("apart", False)  # which earlier checkpoints did not know
        return cls(drawn, populations, rungs, offsets, spared(drawn), record["rung"], seconds, seen, apart)


def _best_of(values: np.ndarray, stay: float) -> np.ndarray:
    """Which of candidates [n] are the best share, by their objectives [n, m]; of a single one that one."""
    kept = np.zeros(len(values), dtype=bool)
    kept[best_first([tuple(v) for v in values])[: math.ceil(stay * len(values))]] = True
    return kept


def _divided(each: Sequence[np.ndarray], stay: float) -> list[np.ndarray]:
    """The same of several populations together, for each."""
    kept = _best_of(np.concatenate(each), stay)
    return np.split(kept, np.cumsum([len(values) for values in each])[:-1])
