"""The search: recipes drawn in brackets, trained as populations, halved between rungs."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch

from nastavnik.clock import Deadline
from nastavnik.population import Learner, Outcome, Population, estimate, memory_of, tensors_of
from nastavnik.progress import Progress, Watcher
from nastavnik.recipe import Recipe, Value
from nastavnik.selection._bracket import Bracket, Drawn
from nastavnik.selection._cost import CostModel
from nastavnik.selection._sampler import ask
from nastavnik.selection._workbench import Workbench
from nastavnik.space import Choice, Node, Space, default_of
from nastavnik.trace import Trace
from nastavnik.training.likelihoods import TEMPERATURES

POOL = 12  # candidates whose weights are kept
_PATIENCE = 8  # evaluations
_EVALUATIONS = 20  # in a whole training
_GRACE = 2.0  # seconds
_BRACKET = 16  # most recipes trained side by side
_MEMORY = 0.7  # of a device, for a bracket
_BLOCK_PARAMETERS = 4_000_000  # networks run together have at most about so many parameters


@dataclass(frozen=True, eq=False)
class Candidate:
    """A recipe that was trained: its place in the search, its score and what became of it.

    ``score`` is in nats per validation example (mean over folds); ``numbers`` are its networks' numbers in the trace.
    """

    number: int
    generation: int
    keys: dict[str, Value]
    recipe: Recipe
    numbers: tuple[int, ...]
    status: str
    score: float
    best_step: int
    steps: int
    total_steps: int
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """The record kept in the checkpoint."""
        return {**asdict(replace(self, recipe=Recipe({}))), "recipe": self.recipe.to_json()}

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Candidate:
        """Read what ``to_json`` wrote."""
        score = math.inf if record["score"] is None else record["score"]
        changed = {"recipe": Recipe.from_json(record["recipe"]), "numbers": tuple(record["numbers"]), "score": score}
        return cls(**{**record, **changed})


class Search:
    """Draws brackets of recipes, trains each as populations by shape, and drops the worse half at each rung.

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
    ) -> None:
        self.bench, self.space, self.seed = bench, space, seed
        self.deadline, self.networks, self.trace = deadline, networks, trace
        self.watcher = watcher or Watcher()
        self.engine = engine
        self.ways: Counter[str] = Counter()  # networks by the way they ran
        self.history: list[Candidate] = []
        self.pool: dict[int, tuple[Learner, ...]] = {}
        self.generation = 0
        self.bracket: Bracket | None = None  # the one in training
        self.network_steps = 0
        self.earlier_seconds = 0.0  # of the sessions before a resumed one
        self.cost = CostModel()
        self._interval: tuple[float, float] | None = None
        self._usual = bench.learner(self._recipe(space.default(), 0), bench.parts[0])

    @property
    def seconds(self) -> float:
        """Seconds since the run began, earlier sessions included as far as their last checkpoint."""
        return self.earlier_seconds + self.deadline.clock.elapsed

    @property
    def ranking(self) -> list[Candidate]:
        """Candidates with a score, best first."""
        scored = [c for c in self.history if math.isfinite(c.score)]
        return sorted(scored, key=lambda c: (c.score, c.number))

    def run(self, after_bracket: Callable[[], None] = lambda: None, pause: Callable[[], None] = lambda: None) -> None:
        """Search until the budget is used.

        ``pause`` is called several times a second: a moment when ``to_record`` gives a state to go on from.
        ``after_bracket`` is not called for a bracket that was broken off by hand: its half-trained networks may be
        delivered, but a resumed search goes on training them, as if it had never stopped.
        """
        while True:
            if self.bracket is None:
                count, share = self._plan()
                if count == 0:
                    return
                drawn = self._that_fit(self._draw(count))
                self.bracket = Bracket(drawn, share, self._populations([recipe for _, recipe in drawn], share))
            self._train(self.bracket, pause)
            self.bracket = None
            self.generation += 1
            if not self.deadline.clock.stop_requested:
                after_bracket()

    # Planning

    def _plan(self) -> tuple[int, float]:
        """How many recipes the next bracket holds, and which share of the usual epochs they are trained."""
        asked = len(self.history)
        most = _BRACKET
        if self.networks is not None:
            most = min(most, self.networks // self.bench.folds - asked)
        if most <= 0 or self.deadline.clock.stop_requested or (self.deadline.passed() and asked):
            return 0, 1.0
        left = self.deadline.left
        if math.isinf(left):
            return most, 1.0
        one = self._forecast(1)
        if one > 0.8 * left:
            if asked:
                return 0, 1.0
            return 1, max(0.02, 0.8 * left / one)
        # a bracket costs about half of what its recipes would cost without halving
        fits = [n for n in range(1, most + 1) if 0.5 * self._forecast(n) < 0.6 * left]
        return max(fits, default=1), 1.0

    def final_seconds(self, members: int) -> float:
        """What training so many of the best candidates anew on all rows will take."""
        if self.bench.folds == 1 or not self.ranking:
            return 0.0
        longest = 0.0
        for c in self.ranking[:members]:
            size = sum(p.numel() for p in self.pool[c.number][0].parameters() if p.ndim >= 2)
            batch = self.bench.data.batch_size(c.recipe.whole("batch_size"))
            longest = max(longest, self.cost.seconds(size, 1, 1, c.total_steps, batch))
        return members * longest * self.bench.folds / (self.bench.folds - 1)

    def _forecast(self, count: int) -> float:
        """Seconds that so many recipes of the usual kind take, all folds, three of one shape at a time."""
        recipe = self._recipe(self.space.default(), 0)
        batch = self.bench.data.batch_size(recipe.whole("batch_size"))
        size = sum(p.numel() for p in self._usual.parameters() if p.ndim >= 2)
        shapes = math.ceil(count / 3)
        return self.cost.seconds(size, count * self.bench.folds, shapes, self._total_steps(recipe), batch)

    def _draw(self, count: int) -> list[tuple[dict[str, Value], Recipe]]:
        """The first bracket begins with each family's own default; the rest is asked of the sampler."""
        asked = len(self.history)
        drawn: list[tuple[dict[str, Value], dict[str, Value]]] = []
        if self.generation == 0:
            drawn = _defaults(self.space)[:count]
        history = [(c.keys, c.score) for c in self.history]
        rest = count - len(drawn)
        if rest:
            leader = drawn[0][0] if drawn else None
            drawn += ask(self.space, history, rest, seed=self.seed, generation=self.generation, leader=leader)
        return [(keys, self._recipe(point, asked + i)) for i, (keys, point) in enumerate(drawn)]

    def _recipe(self, point: dict[str, Value], number: int) -> Recipe:
        return Recipe({**point, "seed": (self.seed * 100_003 + number) % 2**31})

    def _total_steps(self, recipe: Recipe, share: float = 1.0) -> int:
        data = self.bench.data
        batch = data.batch_size(recipe.whole("batch_size"))
        return max(1, round(share * recipe.whole("epochs") * data.steps_per_epoch(batch)))

    # Training

    def _train(self, bracket: Bracket, pause: Callable[[], None]) -> None:
        """Train one bracket through its rungs and enter its candidates."""
        deadline = self.deadline
        if not self.history and deadline.left < _GRACE:  # the very first networks get a moment, whatever the budget
            deadline = Deadline(deadline.clock, deadline.clock.left - _GRACE)

        def tell(population: Population, share: float) -> None:
            self.watcher.doing(f"training {len(population)} networks of one shape to {share:.0%} of their steps")
            self._tell(bracket.populations)

        bracket.train(deadline, tell, self.cost.learn, pause)
        self._note_ways(bracket)
        steps = max(1, bracket.network_steps)
        self.network_steps += bracket.network_steps
        outcomes = bracket.outcomes(deadline.passed())
        per_step = sum(bracket.seconds) / steps
        for keys, recipe in bracket.drawn:
            outcome, total = outcomes[recipe]
            self._record(keys, outcome, total, per_step * outcome.steps * self.bench.folds)
        self._keep_best()
        self._interval = self._best_interval()
        self._tell([])

    def _note_ways(self, bracket: Bracket) -> None:
        """Count which way networks ran, and say it once."""
        first = not self.ways
        for p in bracket.populations:
            if p.step:
                self.ways[p.way] += len(p) + sum(len(o.numbers) for o in p.outcomes)
        if first:
            self.watcher.note("; ".join(dict.fromkeys(p.words for p in bracket.populations if p.step)))

    def _that_fit(self, drawn: Drawn) -> Drawn:
        """The first of the recipes drawn, as many as memory holds side by side; what is left out is drawn anew."""
        data, room = self.bench.data, _MEMORY * memory_of(self.bench.data.device)
        rough = 6 * len(drawn) * self.bench.folds * sum(p.numel() * p.itemsize for p in self._usual.parameters())
        if rough < 0.1 * room:
            return drawn
        fitting: Drawn = []
        for keys, recipe in drawn:
            learner = self.bench.learner(recipe, self.bench.parts[0])
            block = _block(learner)
            room -= estimate(learner, recipe, data, self.bench.folds, block=block, way="batched", judged=True)
            if fitting and room < 0:
                self.watcher.note(f"memory holds {len(fitting)} of {len(drawn)} recipes at a time")
                break
            fitting.append((keys, recipe))
        return fitting

    def _populations(self, recipes: Sequence[Recipe], share: float) -> list[Population]:
        groups: dict[Any, list[tuple[int, Recipe]]] = {}
        for i, recipe in enumerate(recipes):
            groups.setdefault(recipe.shape, []).append((i, recipe))
        first = len(self.history) * self.bench.folds
        populations = []
        for members in groups.values():
            learners = [self.bench.learner(recipe, part) for _, recipe in members for part in self.bench.parts]
            numbers = [first + i * self.bench.folds + g for i, _ in members for g in range(self.bench.folds)]
            population = Population(
                learners,
                [recipe for _, recipe in members],
                self.bench.data,
                total_steps=self._total_steps(members[0][1], share),
                numbers=numbers,
                patience=_PATIENCE,
                evaluations=_EVALUATIONS,
                block=_block(learners[0]),
                trace=self.trace,
                engine=self.engine,
                measure=self.networks is None,
            )
            populations.append(population)
        return populations

    def _record(self, keys: dict[str, Value], outcome: Outcome, total_steps: int, seconds: float) -> None:
        number = len(self.history)
        candidate = Candidate(
            number,
            self.generation,
            keys,
            outcome.recipe,
            outcome.numbers,
            outcome.status,
            outcome.score,
            outcome.best_step,
            outcome.steps,
            total_steps,
            seconds,
        )
        self.history.append(candidate)
        self.pool[number] = outcome.learners

    def _keep_best(self) -> None:
        """Weights are kept of the best few only, and of the best two of each family."""
        kept = {c.number for c in self.ranking[:POOL]}
        for family in {c.recipe["network.family"] for c in self.ranking}:
            kept |= {c.number for c in [c for c in self.ranking if c.recipe["network.family"] == family][:2]}
        self.pool = {number: learners for number, learners in self.pool.items() if number in kept}

    def _tell(self, populations: list[Population]) -> None:
        alive = sum(len(p) for p in populations)
        gone = sum(len(o.numbers) for p in populations for o in p.outcomes)
        scores = [float(p.best.score.min()) for p in populations if len(p)]
        best = min([c.score for c in self.ranking[:1]] + scores, default=math.inf)
        folds = self.bench.folds
        dropped = gone + folds * sum(c.status in ("dropped", "stopped", "diverged") for c in self.history)
        trained = len(self.history) * folds + alive + gone
        self.watcher.progress(Progress(trained, alive, dropped, best, self._interval))

    def _best_interval(self) -> tuple[float, float] | None:
        """The best candidate's loss on its validation rows, 1.96 standard errors each way."""
        if not self.ranking:
            return None
        best = self.ranking[0]
        data = self.bench.data
        profiles = []
        with torch.no_grad():
            for g, learner in enumerate(self.pool[best.number]):
                rows = data.validation[g]
                inputs, targets = data.rows_of(g, rows)
                outputs = learner(*inputs)
                each = [learner.likelihood.neg_log_likelihood(outputs, targets, t) for t in TEMPERATURES]
                profiles.append(torch.stack(each))
        losses = torch.cat(profiles, dim=1).double()
        chosen = losses[int(losses.mean(1).argmin())]
        half = 1.96 * float(chosen.std()) / max(len(chosen), 1) ** 0.5
        return float(chosen.mean()) - half, float(chosen.mean()) + half

    # Checkpoints

    def to_record(self) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
        """What a resumed search needs: plain JSON and tensors."""
        record = {
            "generation": self.generation,
            "network_steps": self.network_steps,
            "seconds": self.seconds,
            "ways": dict(self.ways),
            "history": [c.to_json() for c in self.history],
        }
        tensors = {
            f"{number}.{g}.{name}": tensor.detach().cpu().contiguous().clone()
            for number, learners in self.pool.items()
            for g, learner in enumerate(learners)
            for name, tensor in tensors_of(learner).items()
        }
        if self.bracket is not None:
            record["bracket"], own = self.bracket.to_record()
            tensors |= {f"bracket.{name}": t for name, t in own.items()}
        return record, tensors

    def restore(self, record: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> None:
        """Take up where ``to_record`` was written."""
        self.generation, self.network_steps = record["generation"], record["network_steps"]
        self.earlier_seconds = record["seconds"]
        self.ways = Counter(record["ways"])
        self.history = [Candidate.from_json(c) for c in record["history"]]
        current = {n.removeprefix("bracket."): t for n, t in tensors.items() if n.startswith("bracket.")}
        pooled = {int(name.split(".")[0]) for name in tensors if not name.startswith("bracket.")}
        for candidate in (c for c in self.history if c.number in pooled):
            learners = []
            for g, part in enumerate(self.bench.parts):
                start = f"{candidate.number}.{g}."
                learner = self.bench.learner(candidate.recipe, part)
                saved = {n.removeprefix(start): t for n, t in tensors.items() if n.startswith(start)}
                with torch.no_grad():
                    for name, tensor in tensors_of(learner).items():
                        if tensor.shape != saved[name].shape:
                            raise ValueError(f"{name} has another shape")
                        tensor.copy_(saved[name])
                learners.append(learner.to(self.bench.device).eval())
            self.pool[candidate.number] = tuple(learners)
        if "bracket" in record:
            self.bracket = Bracket.from_record(record["bracket"], current, self._populations)


def _block(learner: Learner) -> int:
    """Networks of this size that run together."""
    return max(1, min(64, _BLOCK_PARAMETERS // sum(p.numel() for p in learner.parameters())))


def _defaults(space: Space) -> list[tuple[dict[str, Value], dict[str, Value]]]:
    """Each family's default point, the default family's first; with the keys a sampler would have asked."""
    node = space.nodes.get("network.family")
    families: list[Value | None] = [None]
    if isinstance(node, Choice):
        families = sorted(node.options, key=lambda f: f != node.default)
    points = []
    for family in families:
        keys: dict[str, Value] = {}

        def answer(key: str, node: Node, family: Value | None = family, keys: dict[str, Value] = keys) -> Value:
            keys[key] = family if key == "network.family" and family is not None else default_of(node)
            return keys[key]

        point = space.draw(answer)
        points.append((keys, point))
    return points
