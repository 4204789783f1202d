"""What watching costs: the bare loop and the watched one in interleaved blocks of one process.

python benchmarks/mentor_overhead.py --lengths 400 1200 --out benchmarks/results/mentor-overhead.json   # 10 min, idle
python benchmarks/mentor_overhead.py --lengths 10000 --nets mlp cnn                                     # three hours

Four networks on random numbers (values do not change the time): a perceptron 784-100-10 and a small convolutional
network (20 and 40 filters of 5×5) of MNIST's size with SGD and momentum, an LSTM (64 units over 28 steps of 28) and a
small transformer (two layers, 64 wide, 28 steps) with Adam; batches of 64. *lines*: ``Mentor(model, optimizer, loss)``
as it is, its dense first looks included; *parts*: with 512 rows of both parts given. What is looked at later, when
somebody asks, is not the loop's time and is told beside it (``answering``, seconds of the first ``findings()``).
``--out`` renews the rows of what was measured.

A training is cut into 40 blocks, each of which runs both loops, now the one first, now the other; its ratio is that of
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
ROWS = 4096


def mlp() -> nn.Module:
    """784-100-10."""
    return nn.Sequential(nn.Linear(784, 100), nn.ReLU(), nn.Linear(100, 10))


def cnn() -> nn.Module:
    """Two convolutions of 5×5 with pooling, a hidden layer."""
    return nn.Sequential(
        nn.Unflatten(1, (1, 28, 28)), nn.Conv2d(1, 20, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(20, 40, 5), nn.ReLU(),
        nn.MaxPool2d(2), nn.Flatten(), nn.Linear(640, 100), nn.ReLU(), nn.Linear(100, 10),
    )  # fmt: skip


class Recurrent(nn.Module):
    """An LSTM over the rows of a picture, its last state."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.head = nn.LSTM(28, 64, batch_first=True), nn.Linear(64, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[n, 784] -> [n, 10]."""
        return self.head(self.rnn(x.view(-1, 28, 28))[0][:, -1])


class Transformer(nn.Module):
    """Two layers of attention over the rows of a picture, the mean of them."""

    def __init__(self) -> None:
        super().__init__()
        self.into, self.places = nn.Linear(28, 64), nn.Parameter(0.02 * torch.randn(28, 64))
        layer = nn.TransformerEncoderLayer(64, 4, 128, 0.1, batch_first=True)
        self.layers, self.head = nn.TransformerEncoder(layer, 2), nn.Linear(64, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[n, 784] -> [n, 10]."""
        return self.head(self.layers(self.into(x.view(-1, 28, 28)) + self.places).mean(1))


NETS: dict[str, Callable[[], nn.Module]] = {"mlp": mlp, "cnn": cnn, "lstm": Recurrent, "transformer": Transformer}


class Loop:
    """One training that goes on block by block; all share their rows, so that these lie alike in memory."""

    x, y = torch.randn(ROWS, 784), torch.randint(0, 10, (ROWS,))

    def __init__(self, net: str, kind: str | None) -> None:
        torch.manual_seed(0)
        self.net = NETS[net]()
        plain_descent = net in ("mlp", "cnn")
        self.optimizer: torch.optim.Optimizer = (
            torch.optim.SGD(self.net.parameters(), lr=0.01, momentum=0.9)
            if plain_descent
            else torch.optim.Adam(self.net.parameters(), lr=1e-3)
        )
        self.loss_fn = nn.CrossEntropyLoss()
        parts = (self.x[:512], self.y[:512]), (self.x[512:1024], self.y[512:1024])
        options: dict[str, Any] = dict(zip(("train", "validation"), parts, strict=True)) if kind == "parts" else {}
        self.mentor = None if kind is None else Mentor(self.net, self.optimizer, self.loss_fn, **options)

    def run(self, steps: int) -> float:
        """Seconds for so many steps."""
        started = time.perf_counter()
        for _ in range(steps):
            rows = torch.randint(0, ROWS, (BATCH,))
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


def train(net: str, kind: str, length: int, turn: int, threads: int) -> tuple[np.ndarray, int, float]:
    """Seconds of one training's blocks [blocks, (bare, watched)], how often it looked, seconds of the first answer."""
    torch.set_num_threads(threads)
    steps = max(1, length // BLOCKS)
    Loop(net, None).run(20)
    Loop(net, kind).run(10)  # imports, caches
    loops = {which: Loop(net, (None, kind)[which]) for which in ((0, 1), (1, 0))[turn % 2]}
    times = np.zeros((BLOCKS, 2))
    for block in range(BLOCKS):
        for which in ((0, 1), (1, 0))[(block + turn) % 2]:
            times[block, which] = loops[which].run(steps)
    mentor = loops[1].mentor
    assert mentor is not None
    asked = time.perf_counter()
    mentor.findings()
    answered = time.perf_counter() - asked
    assert not mentor.faults
    return times, len(mentor.history.steps("batch loss")), answered


def measure(net: str, kind: str, length: int, threads: int) -> dict[str, Any]:
    """Ratio of the watched loop to the bare one, with its interval."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn"), max_tasks_per_child=1) as pool:
        found = [pool.submit(train, net, kind, length, turn, threads).result() for turn in range(TRAININGS)]
    times = np.stack([t for t, _, _ in found])
    ratios = times[..., 1].sum(1) / times[..., 0].sum(1)
    half = stats.t.ppf(0.975, TRAININGS - 1) * ratios.std(ddof=1) / TRAININGS**0.5
    return {"net": net, "kind": kind, "steps": max(1, length // BLOCKS) * BLOCKS, "looks": found[0][1],
            "ratio": ratios.mean(), "low": ratios.mean() - half, "high": ratios.mean() + half,
            "of trainings": ratios.tolist(), "median of blocks": np.median(times[..., 1] / times[..., 0]),
            "answering": float(np.median([a for _, _, a in found])),
            "loop": float(np.median(times[..., 0].sum(1)))}  # fmt: skip


def renewed(path: Path, found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows that a file has, those of the same network, kind and length measured anew."""
    known = json.loads(path.read_text(encoding="utf-8"))["rows"] if path.exists() else []
    rows = {(r["steps"], list(NETS).index(r["net"]), r["kind"]): r for r in [*known, *found]}
    return [rows[key] for key in sorted(rows)]


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nets", nargs="+", default=list(NETS), choices=list(NETS))
    parser.add_argument("--kinds", nargs="+", default=["lines", "parts"], choices=["lines", "parts"])
    parser.add_argument("--lengths", nargs="+", type=int, default=[400, 1200])
    parser.add_argument("--out", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    for length in args.lengths:
        for net in args.nets:
            for kind in args.kinds:
                row = plain(measure(net, kind, length, args.threads))
                print(json.dumps(row), flush=True)
                if args.out:  # after each row: hours of measuring are not lost with the last of them
                    write_json(args.out, {"threads": args.threads, "rows": renewed(args.out, [row])})


if __name__ == "__main__":
    main()
