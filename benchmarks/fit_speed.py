"""What the engine's speed is worth to the person who runs `fit`: its network steps against two hand-written processes.

python benchmarks/fit_speed.py TABLE TARGET --budget 2m [--json]     run a fit and account for its core-seconds
python benchmarks/fit_speed.py --run RUN                             only the loops, for a finished run's networks

The loop is what a careful person writes: one network on one thread, fused AdamW, a cosine schedule, inputs prepared and
bins computed beforehand, no evaluation; two processes of it have half the seconds of one. Each group of networks of one
shape is timed by itself, for 150 steps after 30. A step of a linear model is one of that loop with no hidden layer.
Run it on a quiet machine.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import nn
from torch.nn import functional as F

ACTIVATIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "relu": F.relu, "silu": F.silu, "mish": F.mish, "selu": F.selu, "gelu": F.gelu, "tanh": torch.tanh,
}  # fmt: skip
NORMS: dict[str, Callable[[int], nn.Module]] = {"batch": nn.BatchNorm1d, "layer": nn.LayerNorm}


class Plain(nn.Module):
    """The same network, written by hand."""

    def __init__(self, numbers: int, words: list[int], outputs: int, shape: dict[str, Any]) -> None:
        super().__init__()
        embedding, bins = shape["network.embedding"], int(shape["network.bins"] or 0)
        width, depth = int(shape["network.width"] or 0), int(shape["network.depth"] or 0)
        self.waves = embedding == "periodic"
        self.tables = nn.ModuleList(nn.Embedding(k, min(8, k)) for k in words)
        if self.waves:
            self.f, self.p = nn.Parameter(torch.randn(numbers, 16)), nn.Parameter(torch.randn(numbers, 16))
            self.w = nn.Parameter(torch.randn(numbers, 16, bins - 1) * 0.25)
            self.b = nn.Parameter(torch.zeros(numbers, bins - 1))
        self.given = numbers * bins if embedding == "piecewise" else numbers  # bins are computed beforehand
        d = (numbers * bins if embedding in ("piecewise", "periodic") else numbers) + sum(min(8, k) for k in words)
        self.layers, self.norms = nn.ModuleList(), nn.ModuleList()
        for _ in range(depth):
            self.layers.append(nn.Linear(d, width))
            norm = NORMS.get(str(shape["network.normalization"]))
            self.norms.append(norm(width) if norm else nn.Identity())
            d = width
        self.output, self.dropout = nn.Linear(d, outputs), nn.Dropout(0.2)
        self.activation = ACTIVATIONS.get(str(shape["network.activation"]), F.relu)

    def forward(self, x: torch.Tensor, words: torch.Tensor) -> torch.Tensor:
        if self.waves:
            turns = torch.cos(2 * math.pi * (x[:, :, None] * self.f + self.p))
            x = torch.cat([x[:, :, None], torch.einsum("ndh,dhe->nde", turns, self.w) + self.b], 2).flatten(1)
        h = torch.cat([x, *(table(words[:, j]) for j, table in enumerate(self.tables))], 1)
        for layer, norm in zip(self.layers, self.norms, strict=True):
            h = self.dropout(self.activation(norm(layer(h))))
        return self.output(h)


def loop_rate(facts: dict[str, Any], shape: dict[str, Any], steps: int = 150, first: int = 30) -> float:
    """Steps a second of the hand-written loop."""
    torch.set_num_threads(1)
    rows, batch, words = facts["rows"], int(shape["batch_size"]), facts["words"]
    batch = min(batch, rows)
    net = Plain(facts["numbers"], words, facts["outputs"], shape)
    x = torch.randn(rows, net.given)
    c = torch.stack([torch.randint(0, k, (rows,)) for k in words], 1) if words else torch.zeros(rows, 0).long()
    classes = facts["classes"] > 0
    y = torch.randint(0, facts["classes"], (rows,)) if classes else torch.randn(rows)
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3, fused=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps + first)
    loss = nn.CrossEntropyLoss(label_smoothing=0.05) if classes else nn.MSELoss()
    per, started = max(1, rows // batch), 0.0
    for i in range(steps + first):
        if i == first:
            started = time.perf_counter()
        if i % per == 0:
            order = torch.randperm(rows)
        own = order[(i % per) * batch : (i % per + 1) * batch]
        out = net(x[own], c[own])
        value = loss(out if classes else out[:, 0], y[own])
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        schedule.step()
    return steps / (time.perf_counter() - started)


SHAPE = [
    *(f"network.{n}" for n in ("family", "embedding", "bins", "width", "depth", "activation", "normalization")),
    "batch_size",
]


def loops(run: Path, facts: dict[str, Any]) -> dict[str, float]:
    """Steps of a run, and the seconds that two processes take for them."""
    table = pd.read_csv(run / "networks.csv")
    for name in SHAPE:
        table[name] = table.get(name)
    total = 0.0
    for _, group in table.groupby(SHAPE, dropna=False):
        shape = {str(k): None if pd.isna(v) else v for k, v in group.iloc[0][SHAPE].items()}
        total += float(group.steps.sum()) / loop_rate(facts, shape)
    return {"network_steps": int(table.steps.sum()), "two_processes_seconds": total / 2}


def facts_of(run: Path) -> dict[str, Any]:
    """What the loops need to know of the data."""
    model = json.loads((run / "model" / "model.json").read_text())
    data = json.loads((run / "dataset.json").read_text())
    signature, classes = model["signature"], len(model["task"].get("classes", []))
    split = data["split"]
    rows = len(split.get("train") or [])
    if not rows:
        folds = split["folds"]
        rows = sum(map(len, folds)) * (len(folds) - 1) // len(folds)
    words = list(signature["cardinalities"])
    return {
        "numbers": signature["numbers"], "words": words, "rows": rows, "classes": classes,
        "outputs": classes if classes else 1,
    }  # fmt: skip


class Accounts:
    """Thread-seconds by what was done in them."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._lock, self._inside = threading.Lock(), threading.local()

    def watch(self, owner: type, method: str, name: str) -> None:
        """Count a method's seconds, times the threads that torch has there."""
        real = getattr(owner, method)

        def timed(*given: Any, **named: Any) -> Any:
            if getattr(self._inside, "now", False):  # counted by what called it
                return real(*given, **named)
            self._inside.now, started = True, time.perf_counter()
            try:
                return real(*given, **named)
            finally:
                self._inside.now = False
                own = (time.perf_counter() - started) * torch.get_num_threads()
                with self._lock:
                    self.seconds[name] = self.seconds.get(name, 0.0) + own

        setattr(owner, method, timed)


def account(table: str, target: str, budget: str, deliver: str, out: Path) -> dict[str, Any]:
    """A fit, and where its core-seconds went."""
    from nastavnik.jobs import fit
    from nastavnik.population import Population
    from nastavnik.population import _ways as ways

    accounts = Accounts()
    for way in (ways.Compiled, ways.Batched, ways.Sequential):
        accounts.watch(way, "advance", f"steps, {way.name}")
    accounts.watch(Population, "_judge", "evaluations")
    accounts.watch(Population, "_chosen_way", "choosing a way")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    started = time.perf_counter()
    run = fit(table, target=target, budget=budget, deliver=deliver, out=out, force=True)
    wall = time.perf_counter() - started
    steps = sum(v for name, v in accounts.seconds.items() if name.startswith("steps"))
    return {
        "wall": wall,
        "networks": run.result["cost"]["networks"],
        "share_of_core_seconds_in_steps": steps / (cores * wall),
        "core_seconds": {name: round(v, 1) for name, v in sorted(accounts.seconds.items(), key=lambda p: -p[1])},
    }


def main() -> None:
    """See the module's words."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", nargs="?")
    parser.add_argument("target", nargs="?")
    parser.add_argument("--budget", default="2m")
    parser.add_argument("--deliver", default="ensemble")
    parser.add_argument("--run", type=Path)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        run, found = given.run or Path(folder) / "run", {}
        if given.run is None:
            found = account(given.table, given.target, given.budget, given.deliver, run)
        seconds = json.loads((run / "result.json").read_text())["cost"]["seconds"]
        found |= {"fit_seconds": seconds, **loops(run, facts_of(run))}
    found["ratio"] = found["two_processes_seconds"] / seconds
    if given.json:
        print(json.dumps(found, indent=1))
        return
    print(
        f"{found['network_steps']:,} network steps: fit {seconds:.0f} s all in, two hand-written processes "
        f"{found['two_processes_seconds']:.0f} s: {found['ratio']:.2f} times as fast"
    )
    if given.run is None:
        print(f"{found['share_of_core_seconds_in_steps']:.0%} of core-seconds in steps; {found['core_seconds']}")


if __name__ == "__main__":
    main()
