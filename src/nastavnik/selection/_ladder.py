"""The ladder to a first signal: on hard data, first anything better than chance on a small part, then wider.

Nielsen 2015, ch. 3: fewer classes, fewer rows, the smallest network, many rates at once, and
feedback in a fraction of a second; only what shows a signal is taken to the next stage. Penalties are off while a
signal is looked for; in recipes they are strengths per example (λ / n), which need no rescaling when rows grow.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from nastavnik.data import Split
from nastavnik.population import Learner, Population
from nastavnik.recipe import Recipe, Value
from nastavnik.runs import Watcher
from nastavnik.selection._held_out import HeldOut
from nastavnik.selection._search import Search
from nastavnik.selection._workbench import Workbench
from nastavnik.space import Choice, Space

RATES = tuple(10.0 ** (-4 + i / 2) for i in range(9))
SUSPECTS = (
    "the learning rate, the regularization, the number of units, the number of layers, the target's coding, the number "
    "of epochs, the batch size, the loss, the initialization"
)
_STEPS = 300
_ROWS, _HELD = 1000, 300
_LEVEL = 0.025


def has_signal(search: Search) -> bool:
    """Whether the best candidate is better than a constant on the held-out rows, beyond chance for so many.

    That each one's best moment was chosen on the same rows is not corrected: the interval is a little too sure.
    """
    if not search.ranking:
        return False
    best = search.losses[search.ranking[0].number]
    return _better(constant_losses(search.bench, search.held_out), best, len(search.losses))


def climb(search: Search, watcher: Watcher) -> None:
    """Look for a signal stage by stage; what is found is trained next by the search, and every stage is told.

    Each stage's tries count in the intervals of the next ones. Nothing is begun once the search's time is over.
    """
    bench, space = search.bench, search.space
    found: dict[str, Value] = {}
    tried = 0
    for stage, (classes, rows, family) in enumerate(_stages(bench, _small_family(space)), start=1):
        part = _part(bench, classes, rows, search.seed)
        if part is None or search.deadline.passed():
            continue
        record = _probe(part, search, family, found, tried)
        tried += record["networks"]
        search.network_steps += record.pop("network_steps")
        search.ladder.append({"stage": stage, "classes": classes, **record})
        watcher.note(_words(search.ladder[-1]))
        if record["signal"]:
            found = {"optimizer.learning_rate": record["learning_rate"]}
    if found and not search.drawing.enqueue(found):
        rate = float(found["optimizer.learning_rate"])
        watcher.note(f"the space does not reach that rate; --set optimizer.learning_rate={rate:.2g} does")
    elif not found and search.ladder:
        watcher.note(f"no part of the data gave a signal; suspects, in order: {SUSPECTS}")


def _stages(bench: Workbench, small: str | None) -> list[tuple[int | None, int, str | None]]:
    """Classes (None for all), rows, family (None for the default one): from the smallest question to the whole."""
    whole = len(bench.split.parts[0][0])
    stages: list[tuple[int | None, int, str | None]] = [(None, _ROWS, None)]
    if small is not None:
        stages.insert(0, (None, _ROWS, small))
    if bench.task.strata is not None and len(bench.task.classes) > 2:
        stages.insert(0, (2, _ROWS, small))
    if whole > _ROWS:
        stages.append((None, whole, None))
    return stages


def _small_family(space: Space) -> str | None:
    node = space.nodes.get("network.family")
    options = node.options if isinstance(node, Choice) else ()
    return "linear" if "linear" in options else None


def _part(bench: Workbench, classes: int | None, rows: int, seed: int) -> Workbench | None:
    """A workbench of some rows, of the most frequent classes; None where these are too few."""
    train, validation = bench.split.parts[0]
    if classes is not None:
        values = bench.task.values
        names, counts = np.unique(values[train], return_counts=True)
        kept = names[np.argsort(-counts, kind="stable")[:classes]]
        train, validation = train[np.isin(values[train], kept)], validation[np.isin(values[validation], kept)]
    rng = np.random.default_rng(seed)
    train = np.sort(rng.permutation(train)[:rows])
    validation = np.sort(rng.permutation(validation)[:_HELD])
    if len(train) < 20 or len(validation) < 10:
        return None
    split = Split(train, validation, np.array([], dtype=np.int64), None, "a part")
    return bench.on(split)


def _probe(
    bench: Workbench, search: Search, family: str | None, found: Mapping[str, Value], tried: int
) -> dict[str, Any]:
    """Many rates side by side on a part of the data: which is best, and whether it beats a constant."""
    space = search.space if family is None else search.space.pin({"network.family": family})
    point, seed = space.default(), search.seed
    rates = tuple(float(found["optimizer.learning_rate"]) * f for f in (0.1, 0.3, 1.0, 3.0, 10.0)) if found else RATES
    penalties = {n: 0.0 for n, v in point.items() if n.startswith("regularization.") and isinstance(v, float)}
    base = {**point, "schedule.name": "constant", **penalties}
    recipes = [Recipe({**base, "optimizer.learning_rate": rate, "seed": seed}) for rate in rates]
    learners = [bench.learner(recipe, bench.parts[0]) for recipe in recipes]
    population = Population(
        learners,
        recipes,
        bench.data,
        total_steps=_STEPS,
        evaluations=10,
        instruments={},
        engine=search.engine,
        measure=search.networks is None,
    )
    population.train(_STEPS, search.deadline)
    steps = population.network_steps
    outcomes = {o.recipe: o for o in population.harvest()}
    held = HeldOut(bench)
    losses = {r: held.losses(outcomes[r].learners, bench)[0] for r in recipes if np.isfinite(outcomes[r].score)}
    chance = constant_losses(bench, held)
    best = min(losses, key=lambda r: float(losses[r].mean()), default=None)
    signal = best is not None and _better(chance, losses[best], tried + len(losses))
    return {
        "rows": len(bench.split.train),
        "family": str(point["network.family"]),
        "networks": len(recipes),
        "learning_rate": None if best is None else best.number("optimizer.learning_rate"),
        "nll": None if best is None else float(losses[best].mean()),
        "chance": float(chance.mean()),
        "signal": bool(signal),
        "network_steps": steps,
    }


def _better(chance: np.ndarray, own: np.ndarray, tried: int) -> bool:
    """Whether the best of so many is better than chance: a paired interval with Bonferroni's correction."""
    from scipy.special import ndtri

    gap = chance - own
    return float(gap.mean()) > -ndtri(_LEVEL / max(1, tried)) * float(gap.std(ddof=1)) / len(gap) ** 0.5


def constant_losses(bench: Workbench, held: HeldOut) -> np.ndarray:
    """Nats of each held-out row under the best constant output of the training rows, by the task's own likelihood."""
    learners = [_constant(bench, g) for g in range(bench.folds)]
    return held.losses(learners, bench)[0]


class _Constant(torch.nn.Module):
    """One output for every row."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.value = torch.nn.Parameter(torch.zeros(outputs))

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        return self.value.expand(len(inputs[0]), -1)


def _constant(bench: Workbench, g: int) -> Learner:
    """The constant, with what the likelihood learns beside it, that suits the training rows best."""
    recipe = Recipe({**bench.settings, "seed": 0})
    likelihood = bench.task.likelihood(recipe)
    learner = Learner(_Constant(likelihood.outputs), likelihood)
    targets = bench.data.targets[g][bench.data.train[g]]
    return best_constant(learner, (targets,), targets)  # of its inputs a constant asks only how many there are


def best_constant(learner: Learner, inputs: tuple[torch.Tensor, ...], targets: torch.Tensor) -> Learner:
    """Fit few parameters by the likelihood itself, in float64: quasi-Newton, and where it has kinks a simplex after."""
    from scipy.optimize import minimize

    learner.double()
    parameters = list(learner.parameters())
    targets = targets.double() if targets.is_floating_point() else targets

    def loss(point: np.ndarray) -> tuple[float, np.ndarray]:
        vector_to_parameters(torch.from_numpy(point), parameters)
        value = learner.likelihood.neg_log_likelihood(learner(*inputs), targets).mean()
        slopes = torch.autograd.grad(value, parameters)
        return float(value.detach()), parameters_to_vector(slopes).numpy()

    with torch.enable_grad():
        start = parameters_to_vector(parameters).detach().numpy().copy()
        found = minimize(loss, start, jac=True, method="L-BFGS-B", options={"ftol": 1e-13, "gtol": 1e-9}).x
        if not learner.likelihood.curved:
            found = minimize(lambda point: loss(point)[0], found, method="Nelder-Mead").x
    vector_to_parameters(torch.from_numpy(found), parameters)
    return learner.float().eval()


def _words(record: Mapping[str, Any]) -> str:
    what = f"{record['classes'] or 'all'} classes, " if record["classes"] else ""
    said = "a signal" if record["signal"] else "no signal"
    rate = f" at learning rate {record['learning_rate']:.2g}" if record["learning_rate"] else ""
    return (
        f"ladder, stage {record['stage']}: {what}{record['rows']} rows, {record['family']}, "
        f"{record['networks']} rates: {said}{rate}; {_nats(record['nll'])} nats, chance is {record['chance']:.4f}"
    )


def _nats(value: float | None) -> str:
    return "no finite loss" if value is None else f"{value:.4f}"
