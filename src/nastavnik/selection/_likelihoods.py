"""Which likelihood suits a target: the few that may are each trained shortly, and compared on validation rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from nastavnik.data import Columns, Split
from nastavnik.model import Member, member_predictive
from nastavnik.nets import Family
from nastavnik.population import Population
from nastavnik.recipe import Recipe, Value
from nastavnik.selection._workbench import Workbench
from nastavnik.task import Task

_FEWEST_ROWS, _FEWEST_HELD = 100, 20  # with fewer nothing is told apart
_STEPS = 500
_MOST_ROWS = 4000


def suitable(task: Task, split: Split) -> tuple[str, ...]:
    """The likelihoods to be compared for a target, the usual one first; none without a question, or with few rows."""
    train, validation = split.parts[0]
    if len(train) < _FEWEST_ROWS or len(validation) < _FEWEST_HELD:
        return ()
    return task.target.rivals(task.values)


def compare_likelihoods(
    names: Sequence[str],
    columns: Columns,
    task: Task,
    split: Split,
    *,
    families: Sequence[Family],
    point: Callable[[str], Mapping[str, Value]],
    seed: int,
    device: str,
) -> tuple[str, dict[str, float]]:
    """The name to be taken, the first unless another is better by a standard error, and each one's mean loss.

    The loss is what the kind of target is surprised by: the negative log likelihood for grades; for values the
    continuous ranked probability score (Gneiting & Raftery 2007, §4.2), as a density and a probability of zero do not
    compare.

    Args:
        names: the likelihoods.
        columns: inputs of all rows.
        task: whose target it is.
        split: whose first part is trained and validated on.
        families: of the networks that may be tried.
        point: by likelihood the recipe's point that is trained.
        seed: of rows and networks.
        device: where to train.
    """
    rng = np.random.default_rng(seed)
    train, validation = (np.sort(rng.permutation(rows)[:_MOST_ROWS]) for rows in split.parts[0])
    part = Split(train, validation, np.array([], dtype=np.int64), None, "a part")
    losses: dict[str, np.ndarray] = {}
    for name in names:
        settings = {"likelihood.name": name}
        bench = Workbench(columns, task, part, families=families, settings=settings, seed=seed, device=device)
        recipe = Recipe({**point(name), "seed": seed})
        own = bench.parts[0]
        population = Population(
            [bench.learner(recipe, own)],
            [recipe],
            bench.data,
            total_steps=_STEPS,
            evaluations=10,
            instruments={},
            engine="batched",
        )
        population.train(_STEPS)
        (outcome,) = population.harvest()
        inputs, _ = own.rows(validation)
        predictive = member_predictive(Member(outcome.learners[0], recipe), inputs, own.target)
        losses[name] = task.target.surprise(predictive, task.values[validation])
    chosen = names[0]
    for name in names[1:]:
        gain = losses[chosen] - losses[name]
        error = float(gain.std(ddof=1)) / len(gain) ** 0.5
        if np.isfinite(losses[name]).all() and not float(gain.mean()) <= error:
            chosen = name
    return chosen, {name: float(own.mean()) for name, own in losses.items()}
