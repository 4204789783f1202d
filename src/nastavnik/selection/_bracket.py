"""A bracket: recipes drawn together, trained side by side, thinned out between rungs; and how to save one half-way."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from nastavnik.clock import Deadline
from nastavnik.population import Outcome, Population
from nastavnik.recipe import Recipe, Value
from nastavnik.selection._cost import CostModel
from nastavnik.selection._forecast import SHARES
from nastavnik.selection.pareto import best_first

_CAUTION = 0.85  # of the time that is left is planned when it has become short
_COMPILED = 3.0  # times as fast at least, once the step that is being compiled beside the training is there
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
    so far at the rungs that were reached.
    """

    drawn: Drawn
    populations: list[Population]
    rungs: tuple[Rung, ...]
    offsets: tuple[float, ...]
    spared: frozenset[Recipe] = frozenset()
    rung: int = 0
    seconds: list[float] = field(default_factory=list)
    seen: dict[int, list[tuple[float, float]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.seconds = self.seconds or [0.0] * len(self.populations)
        self._pace: dict[int, float] = {}  # of each population that has run: its latest seconds over the cost model's

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
        condemn: Condemn,
        others: Callable[[Population], np.ndarray],
        cost: CostModel | None = None,
    ) -> None:
        """Through the rungs that are left.

        Under a deadline candidates are let go as soon as the rest would not be done in time, the least promising
        first, so that those which stay are trained to their end.

        Args:
            deadline: when to stop, at whatever step.
            tell: hears of each population and the share of its steps that it is trained to next.
            learn: hears what populations have cost in seconds, after each rung.
            pause: a moment when everything may be saved.
            condemn: which candidates of a population have no hope any more.
            others: a population's objectives beside the score [C, m - 1], for a halving that knows the front.
            cost: what steps cost; none where no clock limits the training.
        """
        while self.rung < len(self.rungs):
            share, stay = self.rungs[self.rung]
            for i, population in enumerate(self.populations):
                if not len(population):
                    continue
                tell(population, share)
                self._train_one(i, share, deadline, pause, cost)
            learn(dict(zip(self.populations, self.seconds, strict=True)))
            if deadline.passed():
                return
            if share < 1.0:
                self._note(share)
                for population in self.populations:
                    population.release(condemn(share, population) & ~self._spared(population), "dropped")
                if stay < 1.0:
                    self._thin(stay, others)
            self.rung += 1

    def _train_one(
        self, i: int, share: float, deadline: Deadline, pause: Callable[[], None], cost: CostModel | None
    ) -> None:
        """Train one population; its seconds are counted at each pause, so that a saved bracket knows them."""
        population = self.populations[i]
        started, step, slices = time.monotonic(), population.step, 0

        def counted() -> None:
            nonlocal started, step, slices
            now = time.monotonic()
            self.seconds[i] += now - started
            slices += 1
            if cost is not None and len(population) and population.step > step and slices > 1:  # the first one warms up
                ratio = (now - started) / (population.step - step) / cost.step(population, len(population))
                self._pace[i] = (self._pace.get(i, ratio) + ratio) / 2
                self.shed(deadline, cost)
            started, step = now, population.step
            pause()

        while len(population) and population.step < (until := math.ceil(share * population.total_steps)):
            population.train(until, deadline, counted)
            if deadline.passed():
                break
        self.seconds[i] += time.monotonic() - started

    # Planning by what this machine does now

    @property
    def pace(self) -> float | None:
        """The latest seconds of a step over the cost model's, mean over populations; None where none was timed."""
        return float(np.mean(list(self._pace.values()))) if self._pace else None

    def left(self, cost: CostModel, kept: Collection[int] | None = None, *, planned: bool = False) -> float:
        """Seconds until all, or the candidates ``kept`` (by first network), are trained as the rungs say.

        ``planned``: to the ends that were planned at first, where those have been moved.
        """
        pace = cost.correction if self.pace is None else self.pace
        total = 0.0
        for i, p in enumerate(self.populations):
            names = p.alive[:: p.data.parts].tolist()
            count = len(names) if kept is None else sum(name in kept for name in names)
            alive, before = 1.0, p.step
            own = self._pace.get(i, pace) / (_COMPILED if p.is_compiling else 1.0)
            for share, stay in self.rungs[self.rung :]:
                until = math.ceil(share * (p.planned_steps if planned else p.total_steps))
                networks = max(1, round(alive * count)) * p.data.parts
                if count and until > before:
                    total += own * (until - before) * cost.step(p, networks)
                before, alive = max(before, until), alive * stay
        return total

    def shed(self, deadline: Deadline, cost: CostModel) -> None:
        """Let candidates go (*cut*) until those that stay will be trained to their end in time.

        One stays; where that is too much still, its schedule ends earlier, so that it is brought to an end; should it
        get on faster later, the end is moved back.
        """
        moved = any(len(p) and p.total_steps < p.planned_steps for p in self.populations)
        if math.isinf(deadline.left) or (self.left(cost) <= deadline.left and not moved):
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
        each = zip(self.populations, self.offsets, strict=True)
        values = np.concatenate([np.column_stack([p.best.score + offset, others(p)]) for p, offset in each])
        if len(values) < 2:
            return
        count = math.ceil(stay * len(values))
        kept = np.zeros(len(values), dtype=bool)
        kept[best_first([tuple(v) for v in values])[:count]] = True
        kept |= np.concatenate([self._spared(p) for p in self.populations])
        start = 0
        for p in self.populations:
            own = kept[start : start + len(p.best.score)]
            start += len(own)
            p.release(~own, "dropped")

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
        return cls(drawn, populations, rungs, offsets, spared(drawn), record["rung"], seconds, seen)
