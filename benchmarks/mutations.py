"""Are damaged files believed? Seeded mutations over all files of runs, and what the commands then say.

python benchmarks/mutations.py --count 2000 --processes 2

Every file of a finished, a killed and a failed run and of a mentor's history is damaged in one way: values, types and
names in records, tensors and tables, bytes, lengths, links. Then ``predict``, ``check``, ``compare`` or ``fit
--resume`` runs on it. It must end within ten seconds beyond its usual time, without a traceback, and either refuse in
one sentence or find exactly what it finds on the undamaged run.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from damage import Ended, Worlds, command, make_worlds, outcome, without_seconds

PATIENCE = 10.0  # seconds beyond a command's usual time
WEIGHTS = {"finished": 6, "killed": 3, "failed": 1, "history": 1}
COMMANDS = {
    "finished": ("predict", "predict", "check", "compare", "resume", "show"),
    "killed": ("resume", "resume", "predict", "check", "compare"),
    "failed": ("check", "resume", "predict"),
    "history": ("check",),
}
ODD: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2, 3, 1e9, -1e9, 1e308, 1e-308, 10**30, 0.5, "", "x", "nan", "1", [], {}, [1],
    {"a": 1}, float("nan"), float("inf"), "../../etc/passwd", "\x00", "é" * 300, [[[]]],
)  # fmt: skip


def words_of(name: str, worlds: Worlds, run: Path) -> list[str]:
    """The command line of a name."""
    return {
        "predict": ["predict", str(run), str(worlds.table)],
        "check": ["check", str(run), "--quiet"],
        "compare": ["compare", str(run), "--criteria", "validation", "--quiet"],
        "resume": ["fit", "--resume", str(run), "--quiet", *(["--networks", "5"] if "finished" in run.name else [])],
        "show": ["fit", "--resume", str(run), "--json", "--quiet"],
    }[name]


def found(name: str, ended: Ended, run: Path) -> Any:
    """What a command has said or written, as far as it must repeat."""
    if name in ("predict", "show"):
        return ended.out
    if name == "check":
        return without_seconds(json.loads((run / "findings.json").read_text()))
    if name == "compare":
        return without_seconds(json.loads((run / "compare.json").read_text()))
    return outcome(run)


def mutate(rng: random.Random, run: Path, worlds: Worlds) -> str:
    """Damage one file of a run in one way; what was done, in words."""
    files = sorted(p for p in run.rglob("*") if p.is_file())
    weights = [0.25 if p.suffix in (".html", ".md", ".csv") or p.name == "dataset.json" else 1.0 for p in files]
    path = rng.choices(files, weights)[0]
    ways: list[Callable[[random.Random, Path, Worlds], str]] = [_bytes, _length, _link]
    ways += {".json": [_record] * 6, ".safetensors": [_tensor] * 3, ".parquet": [_table] * 3}.get(path.suffix, [])
    return f"{path.relative_to(run)}: {rng.choice(ways)(rng, path, worlds)}"


def _put(path: Path, content: bytes) -> None:
    path.unlink()  # the file itself is shared with the undamaged run
    path.write_bytes(content)


def _bytes(rng: random.Random, path: Path, worlds: Worlds) -> str:
    content = bytearray(path.read_bytes())
    for _ in range(rng.choice((1, 1, 1, 4, 64))):
        if content:
            content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    _put(path, bytes(content))
    return "bits flipped"


def _length(rng: random.Random, path: Path, worlds: Worlds) -> str:
    content = path.read_bytes()
    cut = rng.choice((0, 1, len(content) // 2, max(len(content) - 1, 0), rng.randrange(len(content) + 1)))
    changed = {
        "cut short": content[:cut],
        "longer": content + bytes(rng.randrange(256) for _ in range(rng.choice((1, 8, 100)))),
        "twice": content + content,
        "its middle gone": content[: cut // 2] + content[cut:],
        "zeros": bytes(len(content)),
    }
    way = rng.choice(sorted(changed))
    _put(path, changed[way])
    return way


def _link(rng: random.Random, path: Path, worlds: Worlds) -> str:
    way = rng.choice(("gone", "itself", "/dev/zero", "/dev/null", "nowhere", "folder", "pipe", "another run's"))
    other = worlds.root / "other" / path.relative_to(path.parents[1] if path.parent.name in _INNER else path.parent)
    path.unlink()
    if way == "folder":
        path.mkdir()
    elif way == "pipe":
        os.mkfifo(path)
    elif way == "another run's":
        near = other if other.exists() else worlds.root / "other" / "run.json"
        path.symlink_to(near)
    elif way != "gone":
        path.symlink_to({"itself": path, "nowhere": path.with_name("nowhere")}.get(way, Path(way)))
    return f"a link to {way}"


_INNER = ("model", "checkpoint", "trace")


def _record(rng: random.Random, path: Path, worlds: Worlds) -> str:
    """A value, a type, a name or a version."""
    record = json.loads(path.read_text())
    if rng.random() < 0.1:
        record["format_version"] = rng.choice((0, 1, 2, 3, 99, "1", 1.0, None, True, -1))
        _put(path, json.dumps(record).encode())
        return f"format_version {record['format_version']!r}"
    place, keys = record, []
    while True:
        key: Any = rng.choice(list(place) if isinstance(place, dict) else range(len(place)))
        keys.append(key)
        inner = place[key]
        if isinstance(inner, (dict, list)) and inner and rng.random() < 0.85:
            place = inner
            continue
        break
    value, way = place[key], rng.choice(("value", "value", "near", "near", "gone", "name", "twice"))
    if way == "near" and isinstance(value, (int, float)) and not isinstance(value, bool):
        place[key] = rng.choice((value + 1, value * 2, -value, value * 1.001, value - 1))
    elif way == "near" and isinstance(value, str):
        place[key] = rng.choice((value[:-1], value + "x", value.upper(), value[::-1]))
    elif way == "gone":
        del place[key]
    elif way == "name" and isinstance(place, dict):
        place[f"{key}x"] = place.pop(key)
    elif way == "twice" and isinstance(place, list):
        place.append(value)
    else:
        place[key] = rng.choice(ODD)
    _put(path, json.dumps(record).encode())
    return f"{'.'.join(map(str, keys))} {way}"


def _tensor(rng: random.Random, path: Path, worlds: Worlds) -> str:
    """Numbers, names, shapes or types of tensors."""
    import torch
    from safetensors.torch import load, save

    tensors = dict(load(path.read_bytes())) or {"": torch.zeros(0)}  # a run without a finite loss has kept none
    name = rng.choice(sorted(tensors))
    tensor = tensors[name].clone()
    way = rng.choice(("value", "nan", "inf", "name", "gone", "shape", "type", "more", "all zero"))
    if way in ("value", "nan", "inf") and tensor.numel():
        number = {"value": 0.5, "nan": float("nan"), "inf": float("inf")}[way]
        flat = tensor.reshape(-1)
        flat[rng.randrange(len(flat))] = number if tensor.is_floating_point() else 1
    tensors[name] = tensor
    if way == "name":
        tensors[f"{name}x"] = tensors.pop(name)
    elif way == "gone":
        del tensors[name]
    elif way == "shape":
        tensors[name] = tensor.unsqueeze(0).contiguous()
    elif way == "type":
        tensors[name] = tensor.to(torch.float64 if tensor.dtype != torch.float64 else torch.float16)
    elif way == "more":
        tensors["members.0.more"] = torch.ones(2)
    elif way == "all zero":
        tensors[name] = torch.zeros_like(tensor)
    _put(path, save(tensors))
    return f"{name} {way}"


def _table(rng: random.Random, path: Path, worlds: Worlds) -> str:
    """Cells, columns or types of a part of the trace."""
    table = pd.read_parquet(path)
    way = rng.choice(("value", "column", "type", "rows"))
    if way == "value":
        table.loc[rng.randrange(len(table)), "value"] = rng.choice((0.0, 1e9, np.nan))
    elif way == "column":
        table = table.drop(columns=rng.choice(list(table.columns)))
    elif way == "type":
        table["value"] = table["value"].astype(str)
    else:
        table = table.iloc[: len(table) // 2]
    path.unlink()
    table.to_parquet(path, index=False)
    return way


def usual(worlds: Worlds, scratch: Path) -> dict[tuple[str, str], tuple[Ended, Any]]:
    """What each command does on each undamaged world."""
    known = {}
    for world, names in COMMANDS.items():
        for name in sorted(set(names)):
            run = worlds.copy(world, scratch / world)
            ended = command(words_of(name, worlds, run))
            if ended.code not in (0, 2) or "Traceback" in ended.err:
                raise RuntimeError(f"{name} of the undamaged {world} run: {ended}")
            known[world, name] = ended, found(name, ended, run) if ended.code == 0 else None
    return known


def one(seed: int, worlds: Worlds, known: dict[tuple[str, str], tuple[Ended, Any]], scratch: Path) -> tuple[str, str]:
    """One mutation: how it was taken (refused, unharmed, or a fault), and what was done."""
    rng = random.Random(seed)
    world = rng.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
    name = rng.choice(COMMANDS[world])
    place = scratch / str(seed)
    run = worlds.copy(world, place / world)
    done = f"{seed}: {world} {mutate(rng, run, worlds)}, {name}"
    before, right = known[world, name]
    ended = command(words_of(name, worlds, run), seconds=before.seconds * 3 + PATIENCE)
    fault = judged(name, ended, before, right, run)
    shutil.rmtree(place)
    return fault, done if not fault or fault == "refused" else f"{done}\n{ended.err[-600:]}"


def judged(name: str, ended: Ended, before: Ended, right: Any, run: Path) -> str:
    """ "refused" or "unharmed" if it is as it should be."""
    if ended.code is None:
        return "HANGS"
    if "Traceback" in ended.err or ended.code not in (0, 2):
        return "TRACEBACK" if "Traceback" in ended.err else f"EXIT {ended.code}"
    if ended.code == 2:
        last = ended.err.strip().splitlines()
        return "refused" if last and last[-1].startswith("nastavnik: ") and not ended.out else "NO SENTENCE"
    return "unharmed" if before.code == 0 and found(name, ended, run) == right else "BELIEVED"


def run_all(count: int, first: int, worlds: Worlds, scratch: Path, processes: int) -> dict[str, list[str]]:
    """So many mutations; what was done, by how it was taken."""
    known = usual(worlds, scratch / "usual")
    taken: dict[str, list[str]] = {}
    with ThreadPoolExecutor(processes) as pool:
        for i, (verdict, done) in enumerate(
            pool.map(lambda s: one(s, worlds, known, scratch), range(first, first + count)), 1
        ):
            taken.setdefault(verdict, []).append(done)
            if verdict not in ("refused", "unharmed") or i % 100 == 0:
                print(f"{i}: {verdict}: {done}", file=sys.stderr, flush=True)
    return taken


def main() -> None:
    """Damage, run, count; exit code 1 if anything was not as it should be."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--processes", type=int, default=2)
    args = parser.parse_args()
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        worlds = make_worlds(Path(folder, "worlds"))
        taken = run_all(args.count, args.first, worlds, Path(folder, "scratch"), args.processes)
    faults = {verdict: done for verdict, done in taken.items() if verdict not in ("refused", "unharmed")}
    for verdict, done in faults.items():
        for what in done:
            print(f"{verdict}: {what}")
    print(dict(Counter({verdict: len(done) for verdict, done in taken.items()})), f"{time.monotonic() - started:.0f} s")
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main()
