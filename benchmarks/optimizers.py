"""Every optimizer of the vocabulary on one problem: steps to a target loss, and time a step relative to SGD.

python benchmarks/optimizers.py --out benchmarks/results/optimizers.json

The problem: 400 handwritten digits, grey values from 0 to 1, a network 64-10-10 with tanh, all rows a step,
cross-entropy. Each optimizer trains one population: nine rates from a tenth of its usual one up (second order: 1, 0.5
and 0.2), three seeds. Steps: at the rate whose median over seeds first reaches the target. Time: all populations take
turns of a few steps, batched on the same threads; the median over rounds of the ratio to SGD's turn of the same round.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn

from nastavnik.population import Data, Learner, Population
from nastavnik.recipe import Recipe, Value
from nastavnik.training.likelihoods import Categorical
from nastavnik.training.optimizers import OPTIMIZERS, SecondOrder

ROWS, STEPS, SECOND_ORDER_STEPS, TARGET = 400, 1000, 60, 0.05
SEEDS = range(3)
ROUNDS = 9
EXTRA: dict[str, dict[str, Value]] = {
    "newton": {"optimizer.damping": 0.1},
    "natural_gradient": {"optimizer.damping": 1e-3},
    "sgd": {"optimizer.nesterov": False},
}


def digits() -> Data:
    """Grey values, and the digit."""
    x, y = load_digits(return_X_y=True)
    x = x / 16
    rows = np.arange(ROWS)
    inputs = (torch.from_numpy(x[:ROWS].astype(np.float32)),)
    return Data.of([inputs], [torch.from_numpy(y[:ROWS])], [(rows, rows[:50])], seed=0)


def network() -> tuple[nn.Module, Categorical]:
    """64-10-10."""
    return nn.Sequential(nn.Linear(64, 10), nn.Tanh(), nn.Linear(10, 10)), Categorical(10)


def rates(name: str) -> list[float]:
    """Nine from a tenth of the usual one up, a factor of √10 apart; for second-order methods shares of a full step."""
    if issubclass(OPTIMIZERS[name], SecondOrder):
        return [1.0, 0.5, 0.2]
    centre = 0.01 * OPTIMIZERS[name].rate_scale
    return [centre * 10 ** (k / 2) for k in range(-2, 7)]


def population(name: str, data: Data, steps: int, evaluations: int) -> Population:
    """All rates and seeds of one optimizer."""
    base: dict[str, Value] = {
        "optimizer.name": name,
        "schedule.name": "constant",
        "batch_size": ROWS,
        "optimizer.memory": 1.0,
        **EXTRA.get(name, {}),
    }
    recipes = [
        Recipe({**base, "optimizer.learning_rate": rate, "seed": seed}) for rate in rates(name) for seed in SEEDS
    ]
    learners = [Learner.seeded(recipe.whole("seed"), network) for recipe in recipes]
    return Population(
        learners, recipes, data, total_steps=steps, evaluations=evaluations, instruments={}, engine="batched"
    )


def steps_to_target(name: str, data: Data) -> dict[str, Any]:
    """Train, and find the rate that is there first."""
    steps = SECOND_ORDER_STEPS if issubclass(OPTIMIZERS[name], SecondOrder) else STEPS
    trained = population(name, data, steps, evaluations=steps)
    trained.train(steps)
    seen = trained.trace.frame()
    table = seen[seen["instrument"] == "training loss"].pivot(index="network", columns="step", values="value")
    losses = table.reindex(range(len(rates(name)) * len(SEEDS))).to_numpy()
    reached = np.where(np.isfinite(losses), losses, np.inf) <= TARGET
    first = np.where(reached.any(1), reached.argmax(1) + 1.0, np.inf).reshape(-1, len(SEEDS))
    medians = np.median(first, axis=1)
    best = int(medians.argmin())
    return {
        "rate": rates(name)[best],
        "steps": None if np.isinf(medians[best]) else medians[best],
        "of_seeds": first[best].tolist() if np.isfinite(first[best]).all() else None,
        "diverged": float(np.isnan(losses[:, -1]).mean()),
    }


def times(names: list[str], data: Data, turn: int) -> dict[str, float]:
    """Seconds of a step of one network over SGD's, medians over rounds."""
    running = {name: population(name, data, 100_000, evaluations=0) for name in names}
    for one in running.values():
        one.train(2)
    ratios: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(ROUNDS):
        seconds = {}
        for name, one in running.items():
            steps = 1 if issubclass(OPTIMIZERS[name], SecondOrder) else turn
            started = time.perf_counter()
            one.train(one.step + steps)
            seconds[name] = (time.perf_counter() - started) / steps / len(one)
        for name, spent in seconds.items():
            ratios[name].append(spent / seconds["sgd"])
    return {name: float(np.median(each)) for name, each in ratios.items()}


def main() -> None:
    """Run, and print a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="also write the results as JSON here")
    parser.add_argument("--only", help="names of optimizers, with commas between; sgd is added")
    parser.add_argument("--turn", type=int, default=20, help="steps of a turn")
    args = parser.parse_args()
    names = list(OPTIMIZERS) if args.only is None else sorted({"sgd", *args.only.split(",")})
    data = digits()
    found = {name: steps_to_target(name, data) for name in names}
    spent = times(names, data, args.turn)
    print(f"| optimizer | best rate | steps to a loss of {TARGET} | time a step, SGD = 1 | time to it, SGD = 1 |")
    print("|---|---|---|---|---|")
    whole = {n: spent[n] * found[n]["steps"] for n in names if found[n]["steps"] is not None}
    for name in sorted(names, key=lambda n: found[n]["steps"] or np.inf):
        steps = "not reached" if found[name]["steps"] is None else f"{found[name]['steps']:.0f}"
        time_to = f"{whole[name] / whole['sgd']:.2g}" if name in whole and "sgd" in whole else "-"
        print(f"| {name} | {found[name]['rate']:.3g} | {steps} | {spent[name]:.2f} | {time_to} |")
    if args.out:
        results = {name: {**found[name], "time_a_step": spent[name]} for name in names}
        args.out.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
