"""What watching costs: the bare loop and the watched one in interleaved blocks of one process.

python benchmarks/mentor_overhead.py --out benchmarks/results/mentor-overhead.json   # about 15 min, an idle machine

Two networks of MNIST's size on random numbers (values do not change the time): a perceptron 784-100-10 and a small
convolutional network (20 and 40 filters of 5×5), SGD with momentum, batches of 64. *default*: ``Mentor(model,
optimizer, loss_fn)`` as it is, its dense first looks included; *second order*: the Hessian's beside them, every 64
steps. A training is 40 blocks, each of which runs both loops, now the one first, now the other; its ratio is that of
the blocks' sums. As memory lies otherwise in each process, which alone changes the time of a step by a hundredth or
two, every training has a process of its own: the ratio told is the mean of eight, with Student's 95 % interval.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import stats
from torch import nn

from nastavnik import Mentor
from nastavnik.files import plain, write_json

BLOCKS = 40
TRAININGS = 8
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


NETS: dict[str, tuple[Callable[[], nn.Module], int]] = {"mlp": (mlp, 256), "cnn": (cnn, 64)}
WATCHED: dict[str, dict[str, Any]] = {
    "default": {},
    "second order": {"every": {"curvature": 64}},
}


class Loop:
    """One training that goes on block by block; all share their rows, so that these lie alike in memory."""

    x, y = torch.randn(4096, 784), torch.randint(0, 10, (4096,))

    def __init__(self, make: Callable[[], nn.Module], options: dict[str, Any] | None) -> None:
        torch.manual_seed(0)
        self.net = make()
        self.optimizer = torch.optim.SGD(self.net.parameters(), lr=0.01, momentum=0.9)
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


def train(net: str, kind: str, turn: int, threads: int) -> tuple[np.ndarray, int]:
    """Seconds of one training's blocks [blocks, (bare, watched)], and how often the mentor looked."""
    torch.set_num_threads(threads)
    make, steps = NETS[net]
    Loop(make, None).run(steps)
    Loop(make, WATCHED[kind]).run(10)  # imports, caches
    loops = {which: Loop(make, (None, WATCHED[kind])[which]) for which in ((0, 1), (1, 0))[turn % 2]}
    times = np.zeros((BLOCKS, 2))
    for block in range(BLOCKS):
        for which in ((0, 1), (1, 0))[(block + turn) % 2]:
            times[block, which] = loops[which].run(steps)
    mentor = loops[1].mentor
    assert mentor is not None
    assert not mentor.faults
    return times, max(len(mentor.history.steps(*k)) for k in (("rate", ""), ("curvature", "trace")))


def measure(net: str, kind: str, threads: int) -> dict[str, Any]:
    """Ratio of the watched loop to the bare one, with its interval."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn"), max_tasks_per_child=1) as pool:
        found = [pool.submit(train, net, kind, turn, threads).result() for turn in range(TRAININGS)]
    times = np.stack([t for t, _ in found])
    ratios = times[..., 1].sum(1) / times[..., 0].sum(1)
    half = stats.t.ppf(0.975, TRAININGS - 1) * ratios.std(ddof=1) / TRAININGS**0.5
    return {"net": net, "kind": kind, "blocks": TRAININGS * BLOCKS, "steps": BLOCKS * NETS[net][1],
            "looks": found[0][1], "ratio": ratios.mean(), "low": ratios.mean() - half, "high": ratios.mean() + half,
            "of trainings": ratios.tolist(), "median of blocks": np.median(times[..., 1] / times[..., 0])}  # fmt: skip


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    found = []
    for net in NETS:
        for kind in WATCHED:
            found.append(plain(measure(net, kind, args.threads)))
            print(json.dumps(found[-1]), flush=True)
    if args.out:
        write_json(args.out, {"threads": args.threads, "rows": found})


if __name__ == "__main__":
    main()
