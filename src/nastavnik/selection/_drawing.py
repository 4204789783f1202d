"""Which recipes are trained next: each family's default first, then what the sampler draws, within the limits."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from nastavnik.errors import UserError
from nastavnik.population import estimate
from nastavnik.recipe import Recipe, Value, varies
from nastavnik.selection._bracket import Drawn
from nastavnik.selection._candidate import Candidate
from nastavnik.selection._workbench import Workbench
from nastavnik.selection.samplers import SAMPLERS, Keys, Sampler
from nastavnik.space import Choice, Limits, Node, Number, Space, default_of, nodes_by_key

_TRIES = 200  # draws for one recipe within the limits
_MOST_SEEDS = 2**31


@dataclass(frozen=True)
class Taken:
    """What a recipe would take: weights of its network, seconds of its training (a forecast), megabytes of memory."""

    parameters: float
    seconds: float
    megabytes: float


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
        self.rejected = 0  # recipes drawn that were beyond a limit
        self.queue: list[Keys] = []  # points to be trained before others
        self._seconds = seconds

    def draw(self, count: int, first: int) -> Drawn:
        """So many recipes, numbered from ``first``; fewer when the space has no more.

        Raises:
            UserError: nothing that is drawn keeps the limits.
        """
        drawn: Drawn = []
        if first == 0 and self.sampler.name != "grid":
            for keys in _defaults(self.space)[:count]:
                recipe = self.recipe(self.sampler.point(keys), len(drawn))
                if self._beyond(recipe) is None:
                    self.sampler.adopt(keys)
                    drawn.append((keys, recipe))
        while self.queue and len(drawn) < count:
            keys = self.queue.pop(0)
            self.sampler.adopt(keys)
            drawn.append((keys, self.recipe(self.sampler.point(keys), first + len(drawn))))
        refused: list[Keys] = []
        while len(drawn) < count:
            found = self._one(drawn, first, refused)
            if found is None:
                break
            drawn.append(found)
        for keys in refused:
            self.sampler.withdraw(keys)
        return drawn

    def enqueue(self, settings: Mapping[str, Value]) -> bool:
        """Train the default with these numbers next; whether all of them lie in their ranges (else at the ends)."""
        keys, inside = _defaults(self.space)[0], True
        for key, node in nodes_by_key(self.space).items():
            value = settings.get(key.rsplit("/", 1)[-1])
            if key in keys and isinstance(node, Number) and isinstance(value, (int, float)):
                keys[key] = node.at(node.place(min(max(value, node.low), node.high)))
                inside &= node.low <= value <= node.high
        self.queue.append(keys)
        return inside

    def tell(self, candidates: Sequence[Candidate]) -> None:
        """What candidates were worth."""
        self.sampler.tell([c.keys for c in candidates], [c.values for c in candidates])

    def withdraw(self, drawn: Drawn) -> None:
        """These were not trained: they may be drawn again."""
        for keys, _ in drawn:
            self.sampler.withdraw(keys)

    def recipe(self, point: Mapping[str, Value], number: int) -> Recipe:
        """A point as the recipe of the candidate of this number."""
        return Recipe({**point, "seed": (self.seed * 100_003 + number) % _MOST_SEEDS})

    def _one(self, drawn: Drawn, first: int, refused: list[Keys]) -> tuple[Keys, Recipe] | None:
        given: dict[str, Value] = {}
        if self.sampler.siblings > 1:
            place = len(drawn) % self.sampler.siblings
            given = _shape(drawn[-1][0]) if place else self._start()
        problem = None
        for attempt in range(_TRIES):
            keys = self.sampler.ask(1, given if attempt < _TRIES // 4 else {})
            if not keys:
                break
            recipe = self.recipe(self.sampler.point(keys[0]), first + len(drawn))
            problem = self._beyond(recipe)
            if problem is None:
                return keys[0], recipe
            refused.append(keys[0])
            self.rejected += 1
        if problem is not None and not drawn and first == 0:
            raise UserError(f"no recipe of {self.rejected} drawn keeps the limits: {problem}")
        return None

    def _start(self) -> dict[str, Value]:
        """Random draws at the start are not spent on the small families."""
        family = self.space.nodes.get("network.family")
        if isinstance(family, Choice) and family.default is not None and self.sampler.told < self.sampler.startup:
            return {"network.family": family.default}
        return {}

    def _beyond(self, recipe: Recipe) -> str | None:
        """What a recipe takes too much of, in words."""
        if self.limits == Limits():
            return None
        taken = self.taken(recipe)
        for name in ("parameters", "seconds", "megabytes"):
            own, most = getattr(taken, name), getattr(self.limits, name)
            if own > most:
                return f"{name} would be {own:,.3g}, at most {most:,.3g} are allowed"
        return None

    def taken(self, recipe: Recipe) -> Taken:
        """What a recipe would take, all folds."""
        bench = self.bench.of(recipe)
        learner = bench.learner(recipe, bench.parts[0])
        parameters = sum(p.numel() for p in learner.network.parameters())
        size = sum(p.numel() for p in learner.parameters() if p.ndim >= 2)
        bytes_taken = estimate(learner, recipe, bench.data, bench.folds, block=1, way="batched", judged=True)
        return Taken(parameters, self._seconds(recipe, size), bytes_taken / 2**20)


def _shape(keys: Mapping[str, Value]) -> dict[str, Value]:
    return {key: value for key, value in keys.items() if not varies(key.rsplit("/", 1)[-1], value)}


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
