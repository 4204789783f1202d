"""Does the mentor name what is wrong with trainings as people have them, and accuse none that is healthy?

python benchmarks/mentor_patients.py --out benchmarks/results/mentor-patients.json   # about 5 min on one core
python benchmarks/mentor_patients.py mask_upside_down two_heads                      # some of them, by name
python benchmarks/mentor_patients.py --undisturbed   # are the trainings the same, bit for bit, as without a mentor?

The patients of mentor_reports.py are trained with their fault and mended, the healthy ones of mentor_well.py as they
are; each under ``Mentor(model, optimizer, loss)`` alone (default) and with rows of both parts given (parts). A fault is
found if one of the rules that would say it is among the first three causes; an error on a mended or healthy training is
an accusation. The time that the mentor goes by is the process's own, so that a busy machine changes nothing.
"""

from __future__ import annotations

import argparse
import random
import time
import warnings
from collections import defaultdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

import nastavnik
from mentor_reports import PATIENTS
from mentor_well import WELL
from nastavnik.files import write_json
from nastavnik.mentor import Mentor, root_causes

TOP = 3
MODES = ("default", "parts")


def trained(run: Any, mode: str) -> tuple[list[Any], list[str]]:
    """Train once under a mentor; its findings, and its own faults."""
    torch.manual_seed(0)
    np.random.seed(0)
    random.seed(0)
    mentors: list[Mentor] = []

    def watch(model: Any, optimizer: Any, loss: Any, train: Any = None, validation: Any = None) -> Mentor:
        rows = {"train": train, "validation": validation} if mode == "parts" else {}
        mentors.append(nastavnik.Mentor(model, optimizer, loss, **rows))
        return mentors[-1]

    run(watch)
    found = [f for mentor in mentors for f in mentor.findings()]
    return found, [fault for mentor in mentors for fault in mentor.faults]


def ends(run: Any, on: bool) -> list[torch.Tensor]:
    """Everything that the watched models hold at the end, with the mentor on or off, and what all generators draw."""
    torch.manual_seed(0)
    np.random.seed(0)
    random.seed(0)
    models: list[torch.nn.Module] = []

    def watch(model: Any, optimizer: Any, loss: Any, train: Any = None, validation: Any = None) -> Mentor:
        models.append(model)
        every = 7 if on else None
        mentor = nastavnik.Mentor(model, optimizer, loss, train=train, validation=validation, every=every, on=on)
        mentor.loop.album.most = 0.0  # looked at once, between two steps of the training
        return mentor

    run(watch)
    drawn = [
        torch.get_rng_state(),
        torch.tensor(np.random.rand()),
        torch.tensor(random.random()),
    ]
    return [*(t for model in models for t in model.state_dict().values()), *drawn]


def undisturbed(names: list[str]) -> None:
    """Say of each training whether it is the same with and without a mentor that looks at every seventh step."""
    runs: dict[str, Any] = {
        f"{n}, {'mended' if f else 'faulty'}": partial(p.train, f) for n, p in PATIENTS.items() for f in (False, True)
    }
    runs |= {name: run for name, (_, run) in WELL.items()}
    for name, run in runs.items():
        if not names or name.partition(",")[0] in names:
            with_it, without = ends(run, True), ends(run, False)
            same = all(torch.equal(a, b) or bool(a.isnan().any()) for a, b in zip(with_it, without, strict=True))
            print(f"{name:44} {'the same' if same else 'CHANGED'}", flush=True)


def record(name: str, kind: str, architecture: str, mode: str, run: Any, accept: tuple[str, ...]) -> dict[str, Any]:
    """One training: the causes named, whether the fault is among them, whether an error is said."""
    found, faults = trained(run, mode)
    causes = [f.rule for f in root_causes(found)][:TOP]
    errors = [f.rule for f in found if f.severity == "error"]
    hit = any(rule in accept for rule in causes) if kind == "faulty" else None
    word = "" if hit is None else "found" if hit else "MISSED"
    print(f"{name:32} {kind:8} {mode:8} {word:7} {causes} {errors} {faults}", flush=True)
    return {"name": name, "kind": kind, "architecture": architecture, "mode": mode, "causes": causes, "found": hit,
            "errors": errors, "faults": faults}  # fmt: skip


def everything(names: list[str]) -> list[dict[str, Any]]:
    """All trainings, or those named."""
    records = []
    for mode in MODES:
        for name, p in PATIENTS.items():
            for fixed in (False, True) if not names or name in names else ():
                kind = "mended" if fixed else "faulty"
                records.append(record(name, kind, p.architecture, mode, partial(p.train, fixed), p.accept))
        for name, (architecture, run) in WELL.items():
            if not names or name in names:
                records.append(record(name, "healthy", architecture, mode, run, ()))
    return records


def summary(records: list[dict[str, Any]]) -> dict[str, Any]:
    """By mode and architecture: faults found of all; by mode: trainings without a fault, accused of an error of all."""
    found: dict[str, Any] = {}
    for mode in MODES:
        own = [r for r in records if r["mode"] == mode]
        by: dict[str, list[bool]] = defaultdict(list)
        for r in own:
            if r["kind"] == "faulty":
                by[r["architecture"]].append(r["found"])
        well = [r for r in own if r["kind"] != "faulty"]
        found[mode] = {
            "found": {name: [sum(hits), len(hits)] for name, hits in sorted(by.items())},
            "accused": [sum(bool(r["errors"]) for r in well), len(well)],
        }
    return found


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--undisturbed", action="store_true")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    if args.undisturbed:
        undisturbed(args.names)
        return
    time.perf_counter = time.process_time
    records = everything(args.names)
    told = summary(records)
    for mode, own in told.items():
        hits, asked = (sum(x[i] for x in own["found"].values()) for i in (0, 1))
        print(f"{mode}: {hits} of {asked} found {own['found']}; accused of an error: {own['accused']}")
    if args.out:
        write_json(args.out, {"summary": told, "records": records, "processor": "1 thread"})


if __name__ == "__main__":
    main()
