"""A run may be killed, starved of disk, cut short or shared at any moment: nothing is lost or half written."""

from __future__ import annotations

import errno
import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import safetensors.torch
from PIL import Image
from safetensors.torch import load_file

import nastavnik
from nastavnik.errors import UserError
from nastavnik.runs import RunFolder

ASKED = ["breast_cancer", "--networks", "32", "--set", "epochs=6", "--threads", "1", "--checkpoint", "0.2", "--quiet"]


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "nastavnik", "fit", *words]


def outcome(folder: Path) -> tuple[bytes, Any, list[str], pd.DataFrame]:
    """What must be equal: weights, scores, networks, and everything measured."""
    result = json.loads((folder / "result.json").read_text())
    table = pd.read_csv(folder / "networks.csv").drop(columns="seconds")
    parts = sorted((folder / "trace").glob("part-*.parquet"))
    trace = pd.concat([pd.read_parquet(p) for p in parts], ignore_index=True)
    scores = {name: result[name] for name in ("chosen", "validation", "test")}
    return (folder / "model" / "model.safetensors").read_bytes(), scores, table.to_csv().splitlines(), trace


def same(one: Path, other: Path) -> bool:
    a, b = outcome(one), outcome(other)
    return a[:3] == b[:3] and a[3].equals(b[3])


def check_readable(folder: Path) -> None:
    """Every file of a run's folder is whole, whatever moment it was left at."""
    for path in folder.rglob("*"):
        if path.name.startswith(".") or path.is_dir():
            continue
        if path.suffix == ".json":
            json.loads(path.read_text())
        elif path.suffix == ".safetensors":
            load_file(path)
        elif path.suffix == ".parquet":
            pd.read_parquet(path)
        elif path.suffix == ".csv":
            assert len(pd.read_csv(path))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, float]:
    """The run that nothing disturbs, and how long it takes (the second time: steps are compiled once)."""
    for _ in range(2):
        out = tmp_path_factory.mktemp("whole") / "run"
        started = time.monotonic()
        subprocess.run(command(*ASKED, "--out", str(out)), check=True)
        seconds = time.monotonic() - started
    return out, seconds


def killed_and_resumed(out: Path, kills: int, seconds: float, rng: random.Random, asked: Sequence[str] = ASKED) -> None:
    """Kill the run so many times at random moments of its life, then let it end."""
    for left in range(kills, -1, -1):
        going = (out / "run.json").exists()
        words = ["--resume", str(out), "--quiet"] if going else [*asked, "--out", str(out)]
        process = subprocess.Popen(command(*words), stderr=subprocess.PIPE, text=True)
        if left:
            try:
                process.wait(rng.uniform(0, 1.05 * seconds))
            except subprocess.TimeoutExpired:
                process.kill()
        _, said = process.communicate()
        assert process.returncode in (0, -9), said
        check_readable(out) if out.exists() else None


@pytest.mark.parametrize("seed", range(2))
def test_killed_twice_and_resumed(whole: tuple[Path, float], tmp_path: Path, seed: int) -> None:
    killed_and_resumed(tmp_path / "run", 2, whole[1], random.Random(seed))
    assert same(whole[0], tmp_path / "run")


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2, 28))
def test_killed_at_random_moments(whole: tuple[Path, float], tmp_path: Path, seed: int) -> None:
    killed_and_resumed(tmp_path / "run", 2, whole[1], random.Random(seed))
    assert same(whole[0], tmp_path / "run")


def sources(place: Path) -> dict[str, list[str]]:
    """What to fit, of every kind of data and of targets: pictures in memory and in a file, sentences, several targets,
    labels.
    """
    rng = np.random.default_rng(0)
    for i in range(120):
        kind = place / "pictures" / ("dark", "bright")[i % 2]
        kind.mkdir(parents=True, exist_ok=True)
        pixels = np.clip(rng.normal((60, 170)[i % 2], 60, (24, 24)), 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(kind / f"{i}.png")
    x = rng.normal(size=(300, 3))
    frame = pd.DataFrame(x, columns=["a", "b", "c"]).assign(price=x @ [1.0, 2.0, 0.0] + rng.normal(size=300))
    frame["sold"] = np.where(frame["price"] > 0, "yes", "no")
    frame["tags"] = [
        ", ".join(w for w, v in zip(("red", "big", "old"), row, strict=True) if v > 0) or "[]" for row in x
    ]
    frame["said"] = [f"this one is {'good and fine' if v > 0 else 'bad and poor'} for us" for v in x[:, 0]]
    frame.mask(rng.random(frame.shape) < 0.1).drop(columns=["tags", "said"]).to_csv(place / "several.csv", index=False)
    frame[["a", "b", "c", "tags"]].to_csv(place / "labels.csv", index=False)
    frame[["said", "b", "sold"]].to_csv(place / "texts.csv", index=False)
    rest = ["--networks", "8", "--folds", "0", "--threads", "1", "--checkpoint", "0.2", "--quiet", "--set", "epochs=20"]
    return {
        "pictures": [str(place / "pictures"), *rest],
        "pictures in a file": [str(place / "pictures"), "--memory", "0MB", *rest],
        "texts": [str(place / "texts.csv"), "--target", "sold", *rest],
        "several": [str(place / "several.csv"), "--target", "price,sold", *rest],
        "labels": [str(place / "labels.csv"), "--target", "tags", "--kind", "tags=labels", *rest],
    }


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["pictures", "pictures in a file", "texts", "several", "labels"])
def test_every_kind_is_killed_five_times(kind: str, tmp_path: Path) -> None:
    asked = sources(tmp_path)[kind]
    for name in ("first", "whole"):  # the second time steps are compiled already
        started = time.monotonic()
        subprocess.run(command(*asked, "--out", str(tmp_path / name)), check=True)
        seconds = time.monotonic() - started
    killed_and_resumed(tmp_path / "run", 5, seconds, random.Random(0), asked)
    assert same(tmp_path / "whole", tmp_path / "run")


@pytest.mark.slow
def test_killed_in_its_first_second(whole: tuple[Path, float], tmp_path: Path) -> None:
    rng = random.Random(99)
    for _ in range(8):
        process = subprocess.Popen(command(*ASKED, "--out", str(tmp_path / "run")), stderr=subprocess.PIPE)
        time.sleep(rng.uniform(0, 1))
        process.kill()
        process.communicate()
        if (tmp_path / "run").exists():
            check_readable(tmp_path / "run")
        if (tmp_path / "run" / "run.json").exists():
            subprocess.run(command("--resume", str(tmp_path / "run"), "--quiet"), check=True)
            assert same(whole[0], tmp_path / "run")
            shutil.rmtree(tmp_path / "run")


QUICK: dict[str, Any] = {"networks": 24, "folds": 0, "settings": {"epochs": 12}, "threads": 1, "checkpoint": 1e-6}


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run, to be copied."""
    out = tmp_path_factory.mktemp("quick") / "run"
    nastavnik.fit("iris", out=out, **QUICK)
    return out


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS], ids=["disk full", "read-only"])
def test_what_cannot_be_written_ends_the_run_and_the_last_state_is_kept(
    number: int, quick: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, written = safetensors.torch.save_file, []

    def save(tensors: Any, path: Path) -> None:
        written.append(path)
        if len(written) > 4:
            Path(path).write_bytes(b"half")
            raise OSError(number, os.strerror(number))
        real(tensors, path)

    monkeypatch.setattr(safetensors.torch, "save_file", save)
    with pytest.raises(UserError, match=f"cannot write .*{os.strerror(number)}; free the place"):
        nastavnik.fit("iris", out=tmp_path / "run", **QUICK)
    monkeypatch.undo()
    check_readable(tmp_path / "run")
    assert not list((tmp_path / "run").rglob("*.part"))
    nastavnik.fit(resume=tmp_path / "run")
    assert same(quick, tmp_path / "run")


def test_broken_and_foreign_checkpoints_are_refused(quick: Path, tmp_path: Path) -> None:
    shutil.copytree(quick, tmp_path / "run")
    place = tmp_path / "run" / "checkpoint"
    (state,) = place.glob("state-*.safetensors")
    tensors, search = state.read_bytes(), (place / "search.json").read_text()
    before = (tmp_path / "run" / "result.json").read_bytes()

    def refused(words: str) -> None:
        with pytest.raises(UserError, match=words):
            nastavnik.fit(resume=tmp_path / "run", networks=40)
        assert (tmp_path / "run" / "result.json").read_bytes() == before

    state.write_bytes(tensors[: len(tensors) // 2])
    refused("cannot be read .*cut short")
    state.write_bytes(tensors)
    (place / "search.json").write_text(search[: len(search) // 2])
    refused("cannot be read")
    record = json.loads(search)
    del record["history"]
    (place / "search.json").write_text(json.dumps(record))
    refused("search.json is damaged: history is missing")
    nastavnik.fit("wine", out=tmp_path / "other", **QUICK)
    (other,) = (tmp_path / "other" / "checkpoint").glob("state-*.safetensors")
    (place / "search.json").write_text(search)
    state.write_bytes(other.read_bytes())
    refused("belongs to another run")


def test_one_process_a_run(quick: Path, tmp_path: Path) -> None:
    shutil.copytree(quick, tmp_path / "run")
    held = RunFolder.resume(tmp_path / "run")
    held.claim()
    with pytest.raises(UserError, match="another process is at work on the run"):
        nastavnik.fit(resume=tmp_path / "run", networks=40)
    with pytest.raises(UserError, match="another process is at work on the run"):
        nastavnik.fit("iris", out=tmp_path / "run", force=True, **QUICK)
    held.release()
    nastavnik.fit(resume=tmp_path / "run", networks=30)


def test_a_folder_left_by_a_kill_at_birth_is_taken(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".run.json.123.part").write_text("{")
    nastavnik.fit("iris", out=tmp_path / "run", **QUICK)
    assert (tmp_path / "run" / "result.json").exists()


@pytest.mark.parametrize(
    "asked",
    [
        ("--sampler", "genetic", "--pareto", "error,parameters", "--limit", "parameters=3000"),
        pytest.param(
            ("--sampler", "annealing", "--halving", "hyperband", "--limit", "parameters=3000"), marks=pytest.mark.slow
        ),
        pytest.param(
            ("--sampler", "grid", "--set", "network.dropout=0..0.2", "--repeats", "2"), marks=pytest.mark.slow
        ),
    ],
    ids=lambda asked: asked[1],
)
def test_every_search_goes_on_as_if_it_had_not_been_killed(asked: tuple[str, ...], tmp_path: Path) -> None:
    words = ["iris", "--networks", "36", "--folds", "0", "--engine", "batched", "--threads", "1", "--quiet", *asked,
             "--set", "network.family=mlp", "--set", "network.activation=relu", "--set", "network.normalization=none",
             "--set", "network.residual=false", "--set", "epochs=12", "--checkpoint", "0.05"]  # fmt: skip
    subprocess.run(command(*words, "--out", str(tmp_path / "whole")), check=True)
    again = tmp_path / "killed"
    killed = False
    with subprocess.Popen(command(*words, "--out", str(again))) as process:
        place = again / "checkpoint" / "search.json"
        while process.poll() is None:
            if place.exists() and len(json.loads(place.read_text())["history"]) >= 16:
                process.kill()
                killed = True
            time.sleep(0.01)
    assert killed
    check_readable(again)
    subprocess.run(command("--resume", str(again), "--quiet"), check=True)
    assert same(tmp_path / "whole", again)
    ours, theirs = (json.loads((tmp_path / n / "result.json").read_text())["search"] for n in ("whole", "killed"))
    assert ours == theirs
