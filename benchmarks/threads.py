"""When are two threads worth it? Seconds of a step with all of torch's threads over those with one, by its arithmetic.

python benchmarks/threads.py

Perceptrons of several widths, batches and numbers of networks, one after the other and under vmap, their trainings
interleaved stretch by stretch; medians. The ways take one thread below ``_WORTH_THREADS`` operations of a forward pass.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path
from statistics import median

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # as the command line has it

import numpy as np
import torch
from torch import nn

from nastavnik.population import Data, Learner, Population
from nastavnik.population import _work as work
from nastavnik.recipe import Recipe
from nastavnik.training.likelihoods import Categorical

ROWS, INPUTS, CLASSES = 2000, 64, 10
SHAPES = (  # width, batch, networks
    *((16, 16, 1), (64, 64, 1), (64, 64, 5), (256, 64, 1)),
    *((256, 64, 5), (256, 256, 5), (512, 256, 1), (512, 256, 5)),
)


def main() -> None:
    """Print a line for each way and shape."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=6, help="stretches of each")
    parser.add_argument("--out", type=Path, help="also write all results as JSON here")
    args = parser.parse_args()
    every = torch.get_num_threads()
    records = []
    for engine in ("sequential", "batched"):
        for width, batch, networks in SHAPES:
            r = measured(engine, width, batch, networks, every, args.times)
            records.append(r)
            print(
                f"{engine:10} width {width:3}, batch {batch:3}, {networks} networks: {r['flops']:.1e} operations, "
                f"{every} threads over one {r['ratio']:.2f}",
                flush=True,
            )
    if args.out:
        args.out.write_text(json.dumps(records, indent=1) + "\n", encoding="utf-8")


def measured(engine: str, width: int, batch: int, networks: int, every: int, times: int) -> dict[str, object]:
    """One shape, trained by turns with one thread and with all."""
    work._WORTH_THREADS = 0.0  # no choice here
    population = made(engine, width, batch, networks)
    seconds: dict[int, list[float]] = {1: [], every: []}
    for i in range(1 + times):
        for threads in (1, every):
            torch.set_num_threads(threads)
            first, started = population.step, time.perf_counter()
            population.train(first + 10)
            if i:
                seconds[threads].append((time.perf_counter() - started) / 10)
    stretch = population._stretch(0, 1, False)
    flops = population.training.flops(stretch) * (1 if engine == "sequential" else networks)
    return {
        "engine": engine,
        "width": width,
        "batch": batch,
        "networks": networks,
        "flops": flops,
        "ratio": median(seconds[every]) / median(seconds[1]),
    }


def made(engine: str, width: int, batch: int, networks: int) -> Population:
    """Perceptrons of two hidden layers on noise."""
    draw = torch.Generator().manual_seed(0)
    inputs = torch.randn(ROWS, INPUTS, generator=draw)
    targets = torch.randint(0, CLASSES, (ROWS,), generator=draw)
    rows = np.arange(ROWS)
    data = Data.of([(inputs,)], [targets], [(rows[100:], rows[:100])], seed=0)
    recipes = [
        Recipe({"optimizer.name": "adamw", "optimizer.learning_rate": 1e-3, "batch_size": batch, "seed": i})
        for i in range(networks)
    ]

    def network() -> nn.Module:
        layers = [nn.Linear(INPUTS, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, CLASSES)]
        return nn.Sequential(*layers)

    learners = [Learner.seeded(i, lambda: (network(), Categorical(CLASSES))) for i in range(networks)]
    return Population(learners, recipes, data, total_steps=10**6, evaluations=0, engine=engine, instruments={})


if __name__ == "__main__":
    main()
