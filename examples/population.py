"""Sixty-four networks of your own kind, each with its own learning rate and dropout, trained as one program.

python examples/population.py
"""

from __future__ import annotations

import time

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn

from nastavnik.population import Data, Learner, Population
from nastavnik.recipe import Recipe
from nastavnik.training.likelihoods import Categorical

NETWORKS = 64


def make(rate: float) -> nn.Module:
    """Your module; its dropout rate may differ from network to network."""
    return nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Dropout(rate), nn.Linear(64, 10))


def main() -> None:
    """Train them, and say which did best."""
    digits = load_digits()
    x = torch.from_numpy((digits.data / 16).astype(np.float32))
    y = torch.from_numpy(digits.target.astype(np.int64))
    order = np.random.default_rng(0).permutation(len(y))
    data = Data.of([(x,)], [y], [(order[:1400], order[1400:])], seed=0)
    rng = np.random.default_rng(1)
    recipes = [
        Recipe(
            {
                "network.dropout": float(rng.uniform(0, 0.5)),
                "optimizer.name": "sgd",
                "optimizer.learning_rate": float(10 ** rng.uniform(-3, -0.3)),
                "optimizer.momentum": 0.9,
                "schedule.name": "cosine",
                "batch_size": 32,
                "seed": k,
            }
        )
        for k in range(NETWORKS)
    ]

    def learner(recipe: Recipe) -> Learner:
        return Learner.seeded(recipe.whole("seed"), lambda: (make(recipe.number("network.dropout")), Categorical(10)))

    learners = [learner(recipe) for recipe in recipes]
    population = Population(learners, recipes, data, total_steps=1300, evaluations=10, patience=4)
    started = time.perf_counter()
    population.train(1300)
    outcomes = sorted(population.harvest(), key=lambda o: o.score)
    print(f"{NETWORKS} networks in {time.perf_counter() - started:.1f} s, {population.words}")
    for outcome in (*outcomes[:3], outcomes[-1]):
        rate, dropout = outcome.recipe["optimizer.learning_rate"], outcome.recipe["network.dropout"]
        print(f"  {outcome.score:.4f} nats a row: learning rate {rate:.3g}, dropout {dropout:.2f}, {outcome.status}")


if __name__ == "__main__":
    main()
