"""Networks trained together and alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from nastavnik.compiler import NotCompilable
from nastavnik.entry import describe, purpose
from nastavnik.nets import FAMILIES, Signature
from nastavnik.population import Data, Learner, Population
from nastavnik.recipe import Recipe, Value
from nastavnik.targets import make_loss
from nastavnik.training.likelihoods import Categorical, Likelihood

ROWS, INPUTS, CLASSES = 96, 5, 3
TOGETHER = 3
PLAIN: dict[str, Value] = {
    "network.family": "mlp",
    "network.width": 8,
    "network.depth": 2,
    "network.embedding": "none",
    "network.bins": 0,
    "network.activation": "tanh",
    "network.normalization": "none",
    "network.residual": False,
    "network.dropout": 0.0,
    "optimizer.name": "adamw",
    "optimizer.learning_rate": 0.01,
    "schedule.name": "constant",
    "batch_size": 16,
}


def same_as_alone(
    settings: Mapping[str, Value],
    *,
    steps: int = 24,
    varied: tuple[str, ...] = ("optimizer.learning_rate",),
    likelihood: Likelihood | None = None,
    targets: torch.Tensor | None = None,
    tolerance: float = 1e-8,
    ways: tuple[str, ...] = ("batched", "compiled"),
) -> None:
    """Train three networks with different values of ``varied`` in one population, and each alone; compare weights.

    In double precision, batched and (where it can be) compiled against one by one.

    Args:
        settings: put over a small plain recipe.
        steps: of the training.
        varied: names of numbers that differ from network to network: 1, 1.5 and 2 times their value.
        likelihood: of the targets; three classes by default.
        targets: of 96 rows, to go with the likelihood.
        tolerance: of max |Δw| / max |w| of each tensor.
        ways: of running a population that are compared with one by one; "compiled" where it can be.

    Raises:
        AssertionError: they differ.
    """
    base = {**PLAIN, **settings}
    recipes = []
    for k in range(TOGETHER):
        changes: dict[str, Value] = {name: float(base[name]) * (1 + 0.5 * k) for name in varied}
        recipes.append(Recipe({**base, **changes, "seed": k}))
    data = _data(targets)
    alone = [_population([recipe], data, steps, likelihood, "sequential") for recipe in recipes]
    for population in alone:
        population.train(steps)
    for way in ways:
        together = _population(recipes, data, steps, likelihood, way)
        try:
            together.train(steps)
        except NotCompilable:
            continue
        assert len(together) == TOGETHER, f"{TOGETHER - len(together)} of {TOGETHER} networks diverged ({way})"
        for k, one in enumerate(alone):
            found = distance(together.network(k), one.network(0))
            assert found <= tolerance, f"network {k} differs from itself trained alone by {found:.2g} ({way})"
    assert any(distance(alone[0].network(0), one.network(0)) > tolerance for one in alone[1:])


def distance(a: torch.nn.Module, b: torch.nn.Module) -> float:
    """max |Δw| / max |w| over the tensors; infinite where either is not finite."""
    worst = 0.0
    for p, q in zip(a.parameters(), b.parameters(), strict=True):
        both = torch.isfinite(p).all() and torch.isfinite(q).all()
        ratio = float(((p - q).abs().max() / q.abs().max().clamp(min=1e-12)).detach()) if both else float("inf")
        worst = max(worst, ratio)
    return worst


@contextmanager
def entered(table: dict[str, Any], entry: Any) -> Iterator[None]:
    """Have an entry in its table for a while."""
    before = table.get(entry.name)
    table[entry.name] = entry
    try:
        yield
    finally:
        if before is None:
            del table[entry.name]
        else:
            table[entry.name] = before


def check_words(entry: Any) -> None:
    """An entry says what it is for, its formula, when to prefer it, where it comes from, and its numbers.

    Raises:
        AssertionError: something is missing.
    """
    record = describe(entry)
    for key in ("name", "purpose", "formula", "prefer", "source"):
        assert str(record[key]).strip(), f"{entry.__name__} has no {key}"
    assert purpose(entry).endswith((".", "!")), f"{entry.__name__}: the docstring must begin with a sentence"
    assert entry.name == entry.name.lower().replace(" ", "_").replace("-", "_"), f"{entry.name!r} is no_such_name"
    for name, value in record["settings"].items():
        assert isinstance(value, float), f"{entry.__name__}: the setting {name} must be a float, got {value!r}"


def _data(targets: torch.Tensor | None) -> Data:
    g = torch.Generator().manual_seed(0)
    x = torch.randn(ROWS, INPUTS, generator=g, dtype=torch.float64)
    y = (x[:, 0] + 0.5 * x[:, 1] > 0).long() + (x[:, 2] > 1).long() if targets is None else targets
    rows = np.arange(ROWS)
    inputs = (x, torch.zeros(ROWS, 0, dtype=torch.long))
    return Data.of([inputs], [y], [(rows[rows % 4 > 0], rows[rows % 4 == 0])], seed=0)


def _population(
    recipes: list[Recipe], data: Data, steps: int, likelihood: Likelihood | None, engine: str
) -> Population:
    import copy

    from nastavnik.model import build_network

    learners = []
    for recipe in recipes:
        own = Categorical(CLASSES) if likelihood is None else copy.deepcopy(likelihood)
        family = FAMILIES[str(recipe["network.family"])]
        examples = data.rows_of(0, data.train[0])[0]
        signature = Signature(INPUTS, (), own.outputs, (ROWS,) * INPUTS, tuple(_single(x) for x in examples))

        def build(
            recipe: Recipe = recipe, own: Likelihood = own, family: Any = family, signature: Signature = signature
        ) -> tuple[torch.nn.Module, ...]:
            return build_network(recipe, signature, family), own, make_loss(recipe, own)

        learners.append(Learner.seeded(recipe.whole("seed"), build).double())
    return Population(learners, recipes, data, total_steps=steps, engine=engine, evaluations=3)


def _single(x: torch.Tensor) -> torch.Tensor:
    return x.float() if x.is_floating_point() else x
