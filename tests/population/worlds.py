"""Small data and populations that the engine's tests share."""

from typing import Any

import numpy as np
import torch
from torch import nn

from nastavnik.nets import FAMILIES, Signature
from nastavnik.population import Data, Learner, Population
from nastavnik.recipe import Recipe
from nastavnik.training.likelihoods import Categorical

N, D = 120, 6
BASE: dict[str, Any] = {
    "network.family": "mlp",
    "network.width": 16,
    "network.depth": 2,
    "network.embedding": "piecewise",
    "network.bins": 4,
    "network.activation": "relu",
    "network.normalization": "none",
    "network.residual": False,
    "network.dropout": 0.2,
    "optimizer.name": "adamw",
    "optimizer.learning_rate": 2e-3,
    "optimizer.weight_decay": 0.01,
    "schedule.name": "cosine",
    "batch_size": 16,
    "seed": 0,
}


def make_data(parts: int = 1, dtype: torch.dtype = torch.float32) -> Data:
    g = torch.Generator().manual_seed(0)
    x = torch.randn(N, D, generator=g, dtype=dtype)
    y = (x[:, 0] + 0.5 * x[:, 1] > 0).long() + (x[:, 2] > 1).long()
    inputs = (x, (x[:, 3:4] > 0).long())
    rows = np.arange(N)
    pairs = [(rows[rows % 5 != g], rows[rows % 5 == g]) for g in range(parts)]
    return Data.of([inputs] * parts, [y] * parts, pairs, seed=0)


def make(changes: list[dict[str, Any]], data: Data, block: int = 8, steps: int = 200, **options: Any) -> Population:
    recipes = [Recipe({**BASE, **change}) for change in changes]
    examples = data.rows_of(0, data.train[0])[0]
    signature = Signature(D, (2,), 3, (100,) * D, examples)

    def learner(recipe: Recipe) -> Learner:
        family = FAMILIES[str(recipe["network.family"])]
        made = Learner.seeded(
            recipe.whole("seed"), lambda: (family.build(recipe.section("network"), signature), Categorical(3))
        )
        return made.to(data.inputs[0].dtype)

    learners = [learner(r) for r in recipes for _ in range(data.parts)]
    return Population(learners, recipes, data, total_steps=steps, block=block, **options)


def distance(a: nn.Module, b: nn.Module) -> float:
    """max |Δw| / max |w| over the tensors."""
    pairs = zip(a.parameters(), b.parameters(), strict=True)
    return max(float(((p - q).abs().max() / q.abs().max().clamp(min=1e-12)).detach()) for p, q in pairs)
