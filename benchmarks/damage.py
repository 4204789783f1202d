"""Worlds to be damaged, and commands run on them in forked processes: what mutations.py and kills.py share."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

FIT = ["--folds", "0", "--threads", "1", "--engine", "batched", "--checkpoint", "1e-6", "--ladder", "off", "--quiet",
       "--set", "epochs=3", "--set", "network.family=mlp", "--set", "network.width=8", "--set", "optimizer.name=adam",
       "--set", "network.activation=relu", "--set", "network.normalization=none"]  # fmt: skip


@dataclass(frozen=True)
class Ended:
    """How a command ended: its exit code (negative: by that signal; None: it was ended after its time), and what it
    said."""

    code: int | None
    out: str
    err: str
    seconds: float


def command(words: list[str], *, seconds: float = 120.0, before: Callable[[], object] | None = None) -> Ended:
    """Run a command line in a forked process; ``before`` is called in it first."""
    return forked(lambda: _main(words), seconds=seconds, before=before)


def _main(words: list[str]) -> None:
    from nastavnik.cli import main

    main(words)


def forked(job: Callable[[], object], *, seconds: float = 120.0, before: Callable[[], object] | None = None) -> Ended:
    """Call a function in a forked process, and end it after so many seconds."""
    said = [os.memfd_create(name) for name in ("out", "err")]
    started = time.monotonic()
    child = os.fork()
    if child == 0:
        _child(job, before, said)
    code: int | None = None
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            code = os.waitstatus_to_exitcode(status)
            break
        if time.monotonic() - started > seconds:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            break
        time.sleep(0.002)
    took = time.monotonic() - started
    texts = []
    for descriptor in said:
        os.lseek(descriptor, 0, os.SEEK_SET)
        with os.fdopen(descriptor, "rb") as file:
            texts.append(file.read().decode("utf-8", "replace"))
    return Ended(code, texts[0], texts[1], took)


def _child(job: Callable[[], object], before: Callable[[], object] | None, said: list[int]) -> None:
    code = 1
    try:
        os.dup2(said[0], 1)
        os.dup2(said[1], 2)
        sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", closefd=False)
        if before is not None:
            before()
        job()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def killing(nth: int, *, after: bool) -> Callable[[], None]:
    """A shim that kills the process at its n-th renaming, before it or after; counted from 0."""

    def patch() -> None:
        count = 0

        def counted(real: Callable[..., None]) -> Callable[..., None]:
            def rename(*places: Any, **options: Any) -> None:
                nonlocal count
                here, count = count, count + 1
                if here == nth and not after:
                    os.kill(os.getpid(), signal.SIGKILL)
                real(*places, **options)
                if here == nth and after:
                    os.kill(os.getpid(), signal.SIGKILL)

            return rename

        os.replace, os.rename = counted(os.replace), counted(os.rename)

    return patch


def counting(place: Path) -> Callable[[], None]:
    """A shim that writes a byte for each renaming into a file."""

    def patch() -> None:
        file = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)

        def counted(real: Callable[..., None]) -> Callable[..., None]:
            def rename(*places: Any, **options: Any) -> None:
                os.write(file, b".")
                real(*places, **options)

            return rename

        os.replace, os.rename = counted(os.replace), counted(os.rename)

    return patch


def renamings(words: list[str], scratch: Path) -> int:
    """How often a command renames."""
    command(words, before=counting(scratch))
    return scratch.stat().st_size


def warm(worlds: Worlds) -> None:
    """Do everything once in this process, so that forked ones need import nothing."""
    import torch

    torch.set_num_threads(1)
    run = worlds.root / "warm"
    for words in (
        fit_words(worlds, run, 9),
        ["check", str(run), "--quiet"],
        ["compare", str(run), "--criteria", "validation", "--quiet"],
        ["predict", str(run), str(worlds.table)],
    ):
        with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
            _main(words)


@dataclass(frozen=True)
class Worlds:
    """Folders: ``finished`` and ``other`` (of another seed) are whole runs, ``killed`` was killed mid-way, ``failed``
    never reached a finite loss, ``history`` was written by ``Mentor.save``."""

    root: Path
    table: Path

    def __getattr__(self, name: str) -> Path:
        return self.root / name

    def copy(self, name: str, to: Path) -> Path:
        """A copy that may be damaged; files are linked, and our writers never write into one."""
        shutil.rmtree(to, ignore_errors=True)
        return Path(shutil.copytree(self.root / name, to, copy_function=os.link, symlinks=True))


def make_worlds(root: Path) -> Worlds:
    """Make all of them; takes a while."""
    root.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    x, place = rng.normal(size=60), rng.choice(["north", "south", "west"], 60)
    frame = pd.DataFrame({"size": x.round(3), "place": place, "price": (3 * x + (place == "west")).round(3)})
    frame.loc[[3, 9], "size"] = None
    table = root / "table.csv"
    frame.to_csv(table, index=False)
    worlds = Worlds(root, table)
    warm(worlds)
    for name, seed in (("finished", 0), ("other", 1)):
        _done(command(fit_words(worlds, root / name, seed)))
    renames = renamings(fit_words(worlds, root / "counted", 0), root / "count")
    for nth in range(renames // 2, renames):
        shutil.rmtree(root / "killed", ignore_errors=True)
        command(fit_words(worlds, root / "killed", 0), before=killing(nth, after=True))
        if (root / "killed" / "checkpoint" / "search.json").exists():
            break
    ended = command([*fit_words(worlds, root / "failed", 0), "--set", "optimizer.learning_rate=1e30"])
    if ended.code != 2 or "finite loss" not in ended.err:
        raise RuntimeError(f"the failed run did not fail as it should: {ended}")
    _done(forked(lambda: _watched(root / "history")))
    return worlds


def _watched(folder: Path) -> None:
    import torch

    import nastavnik

    torch.manual_seed(0)
    net = torch.nn.Linear(3, 1)
    optimizer = torch.optim.SGD(net.parameters(), 0.1)
    mentor = nastavnik.Mentor(net, optimizer, torch.nn.MSELoss(), every=1)
    for _ in range(12):
        x = torch.randn(8, 3)
        with mentor.step(x, x[:, :1]):
            optimizer.zero_grad()
            torch.nn.functional.mse_loss(net(x), x[:, :1]).backward()
            optimizer.step()
    mentor.save(folder)


def fit_words(worlds: Worlds, out: Path, seed: int, *more: str) -> list[str]:
    """The command line of a small fit."""
    return ["fit", str(worlds.table), "--target", "price", "--networks", "4", "--seed", str(seed), "--out", str(out),
            *FIT, *more]  # fmt: skip


def _done(ended: Ended) -> None:
    if ended.code != 0:
        raise RuntimeError(f"exit code {ended.code}: {ended.err}")


def outcome(folder: Path) -> tuple[Any, ...]:
    """What must be equal whatever happened on the way: weights, model, scores, networks and everything measured."""
    result = json.loads((folder / "result.json").read_text())
    table = pd.read_csv(folder / "networks.csv").drop(columns="seconds").to_csv()
    parts = sorted((folder / "trace").glob("part-*.parquet"))
    trace = pd.concat([pd.read_parquet(p) for p in parts], ignore_index=True)
    hashes = [
        hashlib.sha256((folder / "model" / n).read_bytes()).hexdigest() for n in ("model.safetensors", "model.json")
    ]
    scores = {name: result[name] for name in ("chosen", "validation", "test")}
    return (*hashes, json.dumps(scores, sort_keys=True), table, trace.to_csv())


def leftovers(folder: Path) -> list[str]:
    """Hidden names in a folder, below it and beside it."""
    beside = [p.name for p in folder.parent.iterdir() if p.name.startswith(".")]
    return beside + [str(p.relative_to(folder)) for p in folder.rglob("*") if p.name.startswith(".")]


def without_seconds(record: Any) -> Any:
    """A record without what a clock measured, and without counts of touches."""
    if isinstance(record, dict):
        return {k: without_seconds(v) for k, v in record.items() if k not in ("seconds", "test_touches", "run")}
    return [without_seconds(v) for v in record] if isinstance(record, list) else record
