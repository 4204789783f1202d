"""What watching costs: the bare loop and the watched one in interleaved blocks of one process.

python benchmarks/mentor_overhead.py --out benchmarks/results/mentor-overhead.json

Two networks of MNIST's size on random numbers (values do not change the time): a perceptron 784-100-10 and a small
convolutional network (20 and 40 filters of 5×5), SGD with momentum, batches of 64. *default*: ``Mentor(model,
optimizer, loss_fn)`` as it is, its dense first looks included; *second order*: the Hessian's beside them, every 64
steps. Each block runs both loops, now the one first, now the other. A training is 40 blocks, its dense first looks
all in the first; there are four trainings. The ratio is that of all blocks' sums; its interval a bootstrap over the
four for each block by itself, so that each drawn training has one beginning.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from nastavnik import Mentor
from nastavnik.files import plain, write_json

BLOCKS = 40
TRAININGS = 4
BATCH = 64


def mlp() -> nn.Module:
    """784-100-10."""
    return nn.Sequential(nn.Linear(784, 100), nn.ReLU(), nn.Linear(100, 10))


def cnn() -> nn.Module:
    """Two convolutions of 5×5 with pooling, a hidden layer."""
    return nn.Sequential(
        nn.Unflatten(1, (1, 28, 28)), nn.Conv2d(1, 20, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(20, 40, 5), nn.ReLU(),
        nn.MaxPool2d(2), nn.Flatten(), nn.Linear(640, 100), nn.ReLU(), nn.Linear(100, 10),
    )  # fmt: skip


NETS: dict[str, tuple[Callable[[], nn.Module], int]] = {"mlp": (mlp, 256), "cnn": (cnn, 128)}
WATCHED: dict[str, dict[str, Any]] = {
    "default": {},
    "second order": {"every": {"curvature": 64}},
}


class Loop:
    """One training that goes on block by block."""

    def __init__(self, make: Callable[[], nn.Module], options: dict[str, Any] | None) -> None:
        torch.manual_seed(0)
        self.net = make()
        self.optimizer = torch.optim.SGD(self.net.parameters(), lr=0.01, momentum=0.9)
        self.x, self.y = torch.randn(4096, 784), torch.randint(0, 10, (4096,))
        self.mentor = None if options is None else Mentor(self.net, self.optimizer, nn.CrossEntropyLoss(), **options)
        self.loss_fn = nn.CrossEntropyLoss()

    def run(self, steps: int) -> float:
        """Seconds for so many steps."""
        started = time.perf_counter()
        for _ in range(steps):
            rows = torch.randint(0, 4096, (BATCH,))
            x, y = self.x[rows], self.y[rows]
            if self.mentor is None:
                self._step(x, y)
            else:
                with self.mentor.step(x, y):
                    self._step(x, y)
        return time.perf_counter() - started

    def _step(self, x: torch.Tensor, y: torch.Tensor) -> None:
        self.optimizer.zero_grad()
        self.loss_fn(self.net(x), y).backward()
        self.optimizer.step()


def measure(net: str, kind: str) -> dict[str, Any]:
    """Ratio of the watched loop to the bare one, with its interval."""
    make, steps = NETS[net]
    Loop(make, None).run(steps)
    Loop(make, WATCHED[kind]).run(10)  # imports, caches
    times = np.zeros((TRAININGS, BLOCKS, 2))
    for training in range(TRAININGS):
        bare, watched = Loop(make, None), Loop(make, WATCHED[kind])
        for block in range(BLOCKS):
            for which in ((0, 1), (1, 0))[(block + training) % 2]:
                times[training, block, which] = (bare, watched)[which].run(steps)
    assert watched.mentor is not None
    assert not watched.mentor.faults
    looks = max(len(watched.mentor.history.steps(*k)) for k in (("rate", ""), ("curvature", "trace")))
    chosen = np.random.default_rng(0).integers(0, TRAININGS, (10_000, TRAININGS, BLOCKS))
    drawn = times[chosen, np.arange(BLOCKS)].sum((1, 2))
    low, high = np.quantile(drawn[:, 1] / drawn[:, 0], (0.025, 0.975))
    bare_seconds, watched_seconds = times.sum((0, 1))
    return {"net": net, "kind": kind, "blocks": TRAININGS * BLOCKS, "steps": BLOCKS * steps, "looks": looks,
            "ratio": float(watched_seconds / bare_seconds), "low": float(low), "high": float(high),
            "median of blocks": float(np.median(times[..., 1] / times[..., 0]))}  # fmt: skip


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    found = [measure(net, kind) for net in NETS for kind in WATCHED]
    for record in found:
        print(json.dumps(record))
    if args.out:
        write_json(args.out, plain({"threads": args.threads, "rows": found}))


if __name__ == "__main__":
    main()
