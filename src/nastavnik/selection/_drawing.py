"""Which recipes are trained next: each family's default first, then what the sampler draws, within the limits."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import fields
from typing import Any

from nastavnik.errors import UserError
from nastavnik.population import estimate
from nastavnik.recipe import Recipe, Value, varies
from nastavnik.selection._bracket import Drawn
from nastavnik.selection._candidate import Candidate
from nastavnik.selection._cost import size_of
from nastavnik.selection._portfolio import first_points
from nastavnik.selection._workbench import PLAIN, Workbench
from nastavnik.selection.samplers import SAMPLERS, Keys, Sampler
from nastavnik.space import Choice, Limits, Node, Number, Space, default_of, nodes_by_key

_SIMILAR = 50  # draws that keep the shape of the one before
_LEAST_BLOCK = 4  # recipes that share a shape, where what is queued begins a block
_MOST_SEEDS = 2**31
_DECAY = "optimizer.weight_decay"
_STRONG_DECAY = 2.0  # for a table of more columns than its rows can tell apart


class Drawing:
    """Draws recipes for a search: a function of the space, the seed and the history that it is told."""

    def __init__(
        self,
        bench: Workbench,
        space: Space,
        *,
        sampler: str,
        seed: int,
        objectives: int,
        limits: Limits,
        seconds: Callable[[Recipe, int], float],
    ) -> None:
        self.bench, self.space, self.seed, self.limits = bench, space, seed, limits
        self.sampler: Sampler = SAMPLERS[sampler](space, seed=seed, objectives=objectives)
        self.queue: list[Keys] = []  # points to be trained before others
        self.refused: list[Keys] = []  # points that were beyond a limit
        self.exhausted = ""  # why no more could be drawn
        defaults = _defaults(space)
        self._plain = [keys for keys in map(_plainly, reversed(defaults)) if keys not in defaults]
        self._usual: list[Keys] = []  # each once: what is pinned may make two of them one
        for keys in [*defaults, *self._plain, *first_points(space, bench.task.target, bench.columns.numbers.shape[1])]:
            if keys not in self._usual:
                self._usual.append(keys)
        self._least: dict[str, float] = {}  # taken by any recipe
        self._seconds = seconds
        self._sizes: dict[tuple[str, object], float] = {}  # of what is limited, by its name and the recipe's shape

    def draw(self, count: int, first: int, rivals: Sequence[Keys] = ()) -> Drawn:
        """So many recipes, numbered from ``first``; fewer when no more are found.

        Of the blocks of siblings the first begins as the sampler will, each further one with one of the ``rivals``:
        keys that name a structure.

        Raises:
            UserError: nothing that is drawn keeps the limits.
        """
        drawn: Drawn = []
        if first == 0 and self.sampler.size is None:  # a grid holds its own points only
            self.queue += [keys for keys in self._usual if keys not in self.queue]
        self.queue = [keys for keys in self.queue if not self.sampler.knows(keys)]  # nothing is trained twice
        for keys in self._next_queued(count):
            self.queue.remove(keys)
            self.sampler.adopt(keys)
            self._enter(keys, drawn, first)
        starts = iter([{}, *rivals])
        while len(drawn) < count and self._draw_one(drawn, first, starts):
            continue
        return drawn

    def _next_queued(self, count: int) -> list[Keys]:
        """Of the queue what enters a bracket of so many: no more than it can give siblings, but all that is linear."""
        most = max(1, count // _LEAST_BLOCK) if self.sampler.siblings > 1 else count
        found: list[Keys] = []
        for keys in self.queue[:]:
            linear = keys.get("network.family", self._family) in self.bench.linear_families
            if len(found) < count and (linear or most > 0):
                found.append(keys)
                most -= not linear
        return found

    def _given(self, drawn: Drawn, starts: Iterator[Keys]) -> dict[str, Value]:
        """What the next point shares: the shape of a block that is not full yet, or what a new one begins with.

        What came from the queue begins blocks too, but for linear models, which cost nothing, and for preparations
        that are tried beside the usual ones.
        """
        size = self.sampler.siblings
        blocks = Counter(recipe.shape for _, recipe in drawn)
        for keys, recipe in drawn:
            alone = recipe["network.family"] in self.bench.linear_families or keys in self._plain
            if blocks[recipe.shape] < size and not alone:
                return _shape(keys)
        return next(starts, {}) or self._start()

    def enqueue(self, settings: Mapping[str, Value]) -> bool:
        """Train the default with these numbers next, moved into their ranges; whether they were inside them."""
        keys, inside, changed = _defaults(self.space)[0], True, False
        for key, node in nodes_by_key(self.space).items():
            value = settings.get(key.rsplit("/", 1)[-1])
            if key in keys and isinstance(node, Number) and isinstance(value, (int, float)):
                keys[key] = node.at(node.place(min(max(value, node.low), node.high)))
                inside &= node.low <= value <= node.high
                changed = True
        if changed:
            self.queue.append(keys)
        return inside and changed

    def first(self, families: Collection[str]) -> int:
        """Put the usual points of these families before all others; how many they are (a grid has its own points).

        The second is the first one, shrunk: what a ridge regression with a penalty of its choice would try.
        """
        own = [k for k in self._usual if k.get("network.family", self._family) in families]
        if self.sampler.size is not None or not own:
            return 0
        own[1:1] = [shrunk for shrunk in [self._shrunk(own[0])] if shrunk not in own]
        self.queue = [*own, *[keys for keys in self.queue if keys not in own]]
        return len(own)

    def _shrunk(self, keys: Keys) -> Keys:
        """The same with a strong decay, where that is searched."""
        nodes = nodes_by_key(self.space)
        return {
            key: _STRONG_DECAY if key.rsplit("/", 1)[-1] == _DECAY and _holds(nodes.get(key), _STRONG_DECAY) else value
            for key, value in keys.items()
        }

    @property
    def _family(self) -> Value | None:
        return self.space.fixed.get("network.family")

    def is_usual(self, keys: Keys) -> bool:
        """Whether a point is one of those that are trained before anything is drawn."""
        return keys in self._usual or any(keys == self._shrunk(point) for point in self._usual)

    def withdraw(self, drawn: Drawn) -> None:
        """These were not trained: they come first the next time."""
        self.queue = [keys for keys, _ in drawn] + self.queue

    def tell(self, candidates: Sequence[Candidate]) -> None:
        """What candidates were worth, bracket by bracket."""
        begun = [c for c in candidates if c.steps]  # of the others nothing is known
        for _, bracket in itertools.groupby(begun, key=lambda c: c.generation):
            own = list(bracket)
            self.sampler.tell([c.keys for c in own], [c.values for c in own])

    def to_record(self) -> dict[str, Any]:
        """What a resumed search needs beside the history, as it is now: it is written while the search goes on."""
        return {"queue": list(self.queue), "refused": list(self.refused)}

    def restore(self, record: Mapping[str, Any], history: Sequence[Candidate]) -> None:
        """Take up where ``to_record`` was written."""
        self.tell(history)
        self.queue, self.refused = record["queue"], record["refused"]
        for keys in self.refused:
            self.sampler.refuse(keys)

    def recipe(self, point: Mapping[str, Value], number: int) -> Recipe:
        """A point as the recipe of the candidate of this number."""
        return Recipe({**point, "seed": (self.seed * 100_003 + number) % _MOST_SEEDS})

    def _draw_one(self, drawn: Drawn, first: int, starts: Iterator[Keys]) -> bool:
        """Add one recipe, if any is found; ``starts`` are what new blocks begin with."""
        given = self._given(drawn, starts) if self.sampler.siblings > 1 else {}
        problem = None
        for attempt in range(self.sampler.tries):
            keys = self.sampler.ask(1, given if attempt < _SIMILAR else {})
            if not keys:
                self.exhausted = "every point of the space that keeps the limits has been tried"
                break
            problem = self._enter(keys[0], drawn, first)
            if problem is None:
                return True
        else:
            self.exhausted = f"{self.sampler.tries} recipes in a row were beyond a limit ({problem})"
        if problem is not None and not drawn and first == 0:
            raise UserError(f"none of {len(self.refused)} recipes drawn keeps the limits: {problem}")
        return False

    def _enter(self, keys: Keys, drawn: Drawn, first: int) -> str | None:
        """Add a point to those drawn, or say what it takes too much of."""
        recipe = self.recipe(self.sampler.point(keys), first + len(drawn))
        problem = self._beyond(recipe)
        if problem is None:
            drawn.append((keys, recipe))
        else:
            self.refused.append(keys)
            self.sampler.refuse(keys)
        return problem

    def _start(self) -> dict[str, Value]:
        """Random draws at the start are not spent on the small families, nor on preparations that are not usual."""
        if self.sampler.told >= self.sampler.startup:
            return {}
        nodes = {name: self.space.nodes.get(name) for name in ("network.family", *PLAIN)}
        return {n: c.default for n, c in nodes.items() if isinstance(c, Choice) and c.default is not None}

    def _beyond(self, recipe: Recipe) -> str | None:
        """What a recipe takes too much of, and the least of it that was seen, in words."""
        limits = {f.name: getattr(self.limits, f.name) for f in fields(Limits)}
        for name, most in ((name, most) for name, most in limits.items() if math.isfinite(most)):
            own = self._taken(name, recipe)
            self._least[name] = min(own, self._least.get(name, own))
            if own > most:
                return f"the least {name} seen would be {self._least[name]:,.3g}, at most {most:,.3g} are allowed"
        return None

    def _taken(self, name: str, recipe: Recipe) -> float:
        """What a recipe would take of what a limit names, all folds; of its seconds, a forecast."""
        if (name, recipe.shape) not in self._sizes:
            bench = self.bench.of(recipe)
            learner = bench.learner(recipe, bench.parts[0])
            if name == "parameters":
                size: float = sum(p.numel() for p in learner.network.parameters())
            elif name == "seconds":
                size = size_of(learner)
            else:
                memory = estimate(learner, recipe, bench.data, bench.folds, block=1, way="batched", judged=True)
                size = memory / 2**20
            self._sizes[name, recipe.shape] = size
        size = self._sizes[name, recipe.shape]
        return self._seconds(recipe, int(size)) if name == "seconds" else size


def _shape(keys: Mapping[str, Value]) -> dict[str, Value]:
    return {key: value for key, value in keys.items() if not varies(key.rsplit("/", 1)[-1], value)}


def _holds(node: Node | None, value: float) -> bool:
    return isinstance(node, Number) and node.low <= value <= node.high


def _plainly(keys: Keys) -> Keys:
    """The same with every preparation plain that may be so."""
    return {name: PLAIN.get(name, value) for name, value in keys.items()}


def _defaults(space: Space) -> list[Keys]:
    """The keys of each family's default point, the default family's first."""
    node = space.nodes.get("network.family")
    families: list[Value | None] = [None]
    if isinstance(node, Choice):
        families = sorted(node.options, key=lambda f: f != node.default)
    found = []
    for family in families:
        keys: Keys = {}

        def answer(key: str, node: Node, family: Value | None = family, keys: Keys = keys) -> Value:
            keys[key] = family if key == "network.family" and family is not None else default_of(node)
            return keys[key]

        space.draw(answer)
        found.append(keys)
    return found
