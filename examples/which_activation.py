"""Does the activation matter here? Eight seeds of each, every activation one population, the answer with its spread.

python examples/which_activation.py
"""

from __future__ import annotations

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn

from nastavnik.nets import initialize, make_activation
from nastavnik.population import Data, Learner, Population
from nastavnik.recipe import Recipe, Value
from nastavnik.training.likelihoods import Categorical

NAMES = ("relu", "silu", "gelu", "tanh", "prelu", "mish", "softsign", "sin", "sigmoid", "blend")
SEEDS = 8
STEPS = 600


def network(recipe: Recipe) -> nn.Module:
    """64-64-64-10, initialized as its activation asks for."""
    settings = recipe.section("network")
    layers = [nn.Linear(64, 64), make_activation(settings), nn.Linear(64, 64), make_activation(settings)]
    module = nn.Sequential(*layers, nn.Linear(64, 10))
    initialize(module, {"name": "matched"})
    return module


def scores(name: str, data: Data) -> np.ndarray:
    """Each seed's best validation loss, in nats a row."""
    base: dict[str, Value] = {
        "network.activation": name,
        "optimizer.name": "adamw",
        "optimizer.learning_rate": 3e-3,
        "schedule.name": "cosine",
        "batch_size": 32,
    }
    recipes = [Recipe({**base, "seed": seed}) for seed in range(SEEDS)]
    learners = [
        Learner.seeded(recipe.whole("seed"), lambda recipe=recipe: (network(recipe), Categorical(10)))  # type: ignore[misc]
        for recipe in recipes
    ]
    population = Population(learners, recipes, data, total_steps=STEPS, evaluations=12, own_order=True)
    population.train(STEPS)
    return np.array([outcome.score for outcome in population.harvest()])


def main() -> None:
    """Train all, and say which differ from the best by more than luck."""
    x, y = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(y))
    inputs = (torch.from_numpy((x / 16).astype(np.float32)),)
    data = Data.of([inputs], [torch.from_numpy(y)], [(order[:1200], order[1200:])], seed=0)
    found = {name: scores(name, data) for name in NAMES}
    best = min(found, key=lambda name: found[name].mean())
    print(f"validation loss in nats a row, mean of {SEEDS} seeds and its standard error; the best is {best}")
    for name in sorted(found, key=lambda name: found[name].mean()):
        own = found[name]
        difference = own - found[best]  # the same seeds and orders: paired
        error = difference.std(ddof=1) / SEEDS**0.5
        word = "" if name == best else "worse" if difference.mean() > 2.4 * error else "no difference these seeds show"
        print(f"  {name:9} {own.mean():.4f} ± {own.std(ddof=1) / SEEDS**0.5:.4f}  {word}")


if __name__ == "__main__":
    main()
