"""What pictures that do not fit take: the peak of a whole fit under --memory, and its step beside the resident one.

    python benchmarks/memory.py                  # 4 GB of generated pictures under 500 MB: half an hour, 10 GB of disk
    python benchmarks/memory.py --pictures 25000 --memory 50MB
    python benchmarks/memory.py folds DATA       # MNIST in five folds: bytes of inputs over those of the pixels
    python benchmarks/memory.py steps --pictures 60000

A picture is 64×64 pixels of four channels, a bright or a dark square among noise. The peak is what the process
itself held at most (anonymous memory and pages of files), looked at every fiftieth of a second; ``start`` is what it
held before the fit, with PyTorch, pandas and scikit-learn imported. Steps are timed in blocks that take turns, resident
and from the file, and their medians compared.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

SIDE, CHANNELS = 64, 4


def make(folder: Path, count: int) -> None:
    """So many pictures of two classes in their folders."""
    from PIL import Image

    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (256, SIDE, SIDE, CHANNELS), dtype=np.uint8)
    for i in range(count):
        kind = "bright" if i % 2 else "dark"
        pixels = np.roll(noise[i % 256], i // 256, axis=0).copy()
        x, y = rng.integers(0, SIDE - 16, 2)
        pixels[y : y + 16, x : x + 16] = 220 if i % 2 else 40
        place = folder / kind / f"{i // 1000}"
        if i % 1000 < 2:
            place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels, "RGBA").save(place / f"{i}.png", compress_level=0)


def resident() -> float:
    """Megabytes that this process holds in memory now."""
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":" in line)
    return int(fields["VmRSS"].split()[0]) / 1024


class Peak(threading.Thread):
    """The most that is held until ``ended``."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.most, self.ended = 0.0, False

    def run(self) -> None:
        """Look now and again."""
        while not self.ended:
            self.most = max(self.most, resident())
            time.sleep(0.02)


def fit(folder: Path, memory: str | None, out: Path) -> dict[str, Any]:
    """One fit in this process: what it held before and at most, and its model's hash."""
    import pandas  # noqa: F401
    import sklearn.ensemble  # noqa: F401

    import nastavnik
    from nastavnik import jobs, mentor, report, selection  # noqa: F401
    from nastavnik.files import file_hash

    selection.deliver, selection.Workbench  # noqa: B018  imported when they are asked for
    start, peak = resident(), Peak()
    peak.start()
    began = time.perf_counter()
    settings: dict[str, Any] = {"network.family": "cnn", "network.channels": 4, "network.double": False, "epochs": 1}
    options: dict[str, Any] = {} if memory is None else {"memory": memory}
    run = nastavnik.fit(folder, networks=1, out=out, force=True, settings=settings, **options)
    seconds = time.perf_counter() - began
    peak.ended = True
    weights = sum(p.numel() * 4 for p in run.model.members[0].learner.parameters()) / 2**20
    model = file_hash(out / "model" / "model.safetensors")
    accuracy = run.result["test"]["accuracy"]["value"]
    return {
        "memory": memory, "start": start, "peak": peak.most, "taken": peak.most - start,
        "weights": weights, "seconds": seconds, "model": model,
        "accuracy": accuracy,
    }  # fmt: skip


def steps(count: int, blocks: int = 9, length: int = 20) -> dict[str, float]:
    """Seconds a step of one network, resident and from the file, in blocks that take turns."""
    import torch

    from nastavnik import rooms
    from nastavnik.fields import Entry
    from nastavnik.nets import FAMILIES, Signature
    from nastavnik.population import Data, Learner, Population
    from nastavnik.recipe import Recipe
    from nastavnik.training.likelihoods import Bernoulli

    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    resident_array = np.empty((count, SIDE, SIDE, CHANNELS), dtype=np.uint8)
    for start in range(0, count, 1000):
        resident_array[start : start + 1000] = rng.integers(0, 256, resident_array[start : start + 1000].shape)
    with rooms.limited(0):
        stored = rooms.room_for(resident_array.shape, np.uint8)
    stored[:] = resident_array
    rows = np.arange(count)
    y = torch.from_numpy(rng.integers(0, 2, count))
    entry = Entry("image", "picture", (SIDE, SIDE, CHANNELS))
    recipe = Recipe(
        {"network.family": "cnn", "optimizer.name": "adamw", "optimizer.learning_rate": 1e-3, "batch_size": 256,
         "schedule.name": "constant", "seed": 0}
    )  # fmt: skip

    def population(array: np.ndarray) -> Population:
        held = torch.from_numpy(array)
        some = (torch.zeros(64, 0), torch.zeros(64, 0, dtype=torch.int64), held[:64].clone())
        signature = Signature(0, (), 1, (), some, (), (entry,))
        settings = {**FAMILIES["cnn"].space(count, 0, ["picture"]).default(), "network.channels": 4}
        own = {name.removeprefix("network."): value for name, value in settings.items()}
        learner = Learner.seeded(0, lambda: (FAMILIES["cnn"].build(own, signature), Bernoulli()))
        inputs = (torch.zeros(count, 0), torch.zeros(count, 0, dtype=torch.int64), held)
        data = Data.of([inputs], [y], [(rows, rows[:64])], seed=0)
        return Population([learner], [recipe], data, total_steps=10_000, evaluations=0, instruments={})

    both = {"resident": population(resident_array), "from the file": population(stored)}
    times: dict[str, list[float]] = {name: [] for name in both}
    for block in range(blocks + 1):
        for name, one in both.items():
            began = time.perf_counter()
            one.train(one.step + length)
            if block:  # the first warms up
                times[name].append((time.perf_counter() - began) / length)
    found = {name: statistics.median(own) for name, own in times.items()}
    ratios = [b / a for a, b in zip(times["resident"], times["from the file"], strict=True)]
    return {**found, "ratio": statistics.median(ratios)}


def folds(data: Path) -> dict[str, float]:
    """Bytes of all inputs of five folds of MNIST over those of its pixels."""
    from nastavnik.data import read_source
    from nastavnik.dataset import DatasetOptions, make_dataset
    from nastavnik.nets import FAMILIES
    from nastavnik.selection import Workbench

    dataset = make_dataset(read_source(data / "mnist"), DatasetOptions(folds=5))
    bench = Workbench(dataset.columns, dataset.task, dataset.split, families=[FAMILIES["cnn"]], settings={}, seed=0)
    pixels = 60_000 * 784
    return {"bytes": bench.data.bytes, "pixels": pixels, "ratio": bench.data.bytes / pixels}


def main() -> None:
    """Make pictures, fit them both ways in processes of their own, and time steps."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", nargs="*", default=["pictures"])
    parser.add_argument("--pictures", type=int, default=250_000)
    parser.add_argument("--memory", default="500MB")
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--out", type=Path, help="also write the fits' records here")
    parser.add_argument("--one", nargs=3)
    args = parser.parse_args()
    if args.one:
        source, memory, out = args.one
        print(json.dumps(fit(Path(source), None if memory == "none" else memory, Path(out))))
        return
    if args.what[0] == "folds":
        print(json.dumps(folds(Path(args.what[1])), indent=1))
        return
    if args.what[0] == "steps":
        print(json.dumps(steps(args.pictures), indent=1))
        return
    with tempfile.TemporaryDirectory() as made:
        folder = args.folder or Path(made) / "pictures"
        if not folder.exists():
            make(folder, args.pictures)
        found = []
        for memory in (args.memory, "none"):
            command = [sys.executable, __file__, "--one", str(folder), memory, str(Path(made) / "run")]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            print(done.stdout.strip() or done.stderr[-2000:], flush=True)
            found += [{"pictures": args.pictures, **json.loads(done.stdout)}] if done.returncode == 0 else []
            if args.out:
                args.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
