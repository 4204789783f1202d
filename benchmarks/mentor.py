"""The fault bench: are planted faults found, named first, and mended by the advice that its own trial recommends?

python benchmarks/mentor.py bench --out benchmarks/results/mentor.json       # train, judge; about 25 min
python benchmarks/mentor.py cure  --out benchmarks/results/mentor-cure.json  # try the advice; about 20 min
python benchmarks/mentor.py bench --short                                    # two tasks, a few faults: as CI runs it
python benchmarks/mentor.py bench --held-out --out benchmarks/results/mentor.json  # the held-out tasks alone; 15 min

Every fault of ``mentor_faults.py`` is planted in every task it suits, five seeds each, trained as a population and
watched; healthy trainings differ in rate, decay, dropout and seed. A fault counts only where the five trainings score
significantly worse (nats a validation row, last weights) than the task's healthy ones (one-sided rank test, 1 %), or
by construction (leaks, shifts and the like, which do not show in the score).

``cure``: for each fault that a change of recipe can mend, in each held-out task where it does harm, one training is
diagnosed; the advice of its root causes is tried in their order (ten pairs each), and what the first trial recommends
is taken, and trained again from ten other seeds. It counts as mended if that is not inferior to the task's healthy
recipe: the upper bound of a one-sided 95 % interval of the difference of means (Welch, ten seeds each) lies below a
margin of a tenth of the harm, or 0.02 nats a row if that is more. The margin was fixed before the first run.

Thresholds are set on the tasks that are not held out, by their healthy trainings and the faults that are not held out
(``set_thresholds``); nothing else of them is used. ``--histories FOLDER`` keeps what was measured, so that rules can be
worked on without training again.
"""

from __future__ import annotations

import argparse
import gzip
import json
import math
import time
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import stats

from mentor_faults import FAULTS, HEALTHY, Case, healthy_recipes
from mentor_tasks import TASKS
from nastavnik.files import plain, write_json
from nastavnik.mentor import PAIRS, RULES, changed, diagnose, root_causes, try_advice
from nastavnik.trace import History

SEEDS = 5
HEALTHY_SEEDS = {False: 25, True: 60}  # of a task that is not held out, and of one that is
SIGNIFICANT = 0.01
_FARTHEST = 5.0  # times the healthy trainings' highest: beyond it a threshold only misses
FALSE_ALARMS = 0.005  # of healthy trainings, that a threshold aims at
TOP = 3
CALIBRATION = Path(__file__).parents[1] / "src" / "nastavnik" / "mentor" / "calibration.json"
_SHORT = ("waveform", "friedman2")
_SHORT_FAULTS = ("rate x1000", "rate /100", "zeros", "dead units", "softmax twice", "leaked target")


# Training


def train_cell(task: str, fault: str, seeds: int) -> dict[str, Any]:
    """The watched trainings of one task with one fault."""
    torch.set_num_threads(1)
    started = time.perf_counter()
    case = Case(TASKS[task], FAULTS.get(fault, HEALTHY))
    if fault == HEALTHY.name:
        recipes = healthy_recipes(case, seeds, seed=1)
    else:
        recipes = [case.recipe.replace({"seed": 100 + i}) for i in range(seeds)]
    trainings = []
    for start in range(0, seeds, 15):
        watched = case.lab.watch(recipes[start : start + 15])
        for history, score in zip(watched.histories, watched.scores, strict=True):
            trainings.append({"score": float(score), "history": history.to_json()})
    return {"task": task, "fault": fault, "trainings": trainings, "seconds": time.perf_counter() - started}


def cells(short: bool, held_out: bool = False) -> list[tuple[str, str, int]]:
    """What is trained: (task, fault, seeds), on all tasks or on those that are held out."""
    found = []
    for task in TASKS.values():
        if (short and task.name not in _SHORT) or (held_out and not task.held_out):
            continue
        found.append((task.name, HEALTHY.name, 10 if short else HEALTHY_SEEDS[task.held_out]))
        for fault in FAULTS.values():
            if fault.suits(task) and not (short and fault.name not in _SHORT_FAULTS):
                found.append((task.name, fault.name, 3 if short else SEEDS))
    return found


def train_all(wanted: list[tuple[str, str, int]], folder: Path | None, workers: int) -> list[dict[str, Any]]:
    """All cells, those in the folder read from there."""
    known, missing = [], []
    for cell in wanted:
        path = None if folder is None else folder / f"{cell[0]}--{cell[1].replace('/', '_')}.json.gz"
        if path is not None and path.exists():
            known.append(json.loads(gzip.decompress(path.read_bytes())))
        else:
            missing.append((cell, path))
    for trained, path in zip(
        _trained([cell for cell, _ in missing], workers), (path for _, path in missing), strict=True
    ):
        print(f"{trained['seconds']:6.1f} s  {trained['task']}, {trained['fault']}", flush=True)
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(gzip.compress(json.dumps(plain(trained)).encode(), 1))
        known.append(trained)
    return known


def _trained(wanted: list[tuple[str, str, int]], workers: int) -> Iterator[dict[str, Any]]:
    """The cells in their order, in processes of their own; in this one if there is to be one only."""
    if workers == 1 or not wanted:
        yield from (train_cell(*cell) for cell in wanted)
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        yield from pool.map(train_cell, *zip(*wanted, strict=True))


# Thresholds


def is_faulty(cell: Mapping[str, Any], healthy: Mapping[str, Any]) -> tuple[bool, float]:
    """Whether a cell counts as faulty, and by how many nats a row its median is worse."""
    scores = np.array([t["score"] if t["score"] is not None else np.inf for t in cell["trainings"]])
    usual = np.array([t["score"] for t in healthy["trainings"]], dtype=float)
    worse = float(np.median(scores) - np.median(usual))
    if FAULTS[cell["fault"]].constructed:
        return True, worse
    return bool(stats.mannwhitneyu(scores, usual, alternative="greater").pvalue < SIGNIFICANT), worse


def rule_scores(cells: Iterable[Mapping[str, Any]]) -> dict[str, np.ndarray]:
    """Every measured rule's strongest score in each training (0 where it saw nothing)."""
    found: dict[str, list[float]] = {name: [] for name, rule in RULES.items() if rule.measured}
    for cell in cells:
        for training in cell["trainings"]:
            history = History.from_json(training["history"])
            for name, scores in found.items():
                sign = RULES[name].strongest(history)
                scores.append(0.0 if sign is None else min(float(sign.score), 1e12))
    return {name: np.array(scores) for name, scores in found.items()}


def set_thresholds(cells: list[dict[str, Any]], faulty: Mapping[tuple[str, str], bool]) -> dict[str, float]:
    """Between what healthy trainings reach and what the rule's own faults do, on tasks and faults not held out.

    The geometric middle of the healthy trainings' highest (but for half a per cent) and the lower quartile of the
    faulty ones', never below a fifth above the healthy one nor beyond five times it; the usual threshold where that
    separates them as well, or where the rule has no fault to be set by.
    """
    own = [c for c in cells if not TASKS[c["task"]].held_out]
    healthy = rule_scores([c for c in own if c["fault"] == HEALTHY.name])
    thresholds = {}
    for name, usual in ((n, RULES[n].usual) for n in healthy):
        high = max(float(np.quantile(healthy[name], 1 - FALSE_ALARMS)), 1e-6)
        planted = [
            c
            for c in own
            if c["fault"] != HEALTHY.name
            and name == FAULTS[c["fault"]].named_by[0]
            and not FAULTS[c["fault"]].held_out
            and faulty[c["task"], c["fault"]]
        ]
        if not planted:
            thresholds[name] = float(f"{max(usual, 1.2 * high):.3g}")
            continue
        low = float(np.quantile(rule_scores(planted)[name], 0.25))
        middle = math.sqrt(high * max(low, 1e-6))
        separated = 1.2 * high < usual < low
        between = max(1.2 * high, min(middle, _FARTHEST * high))
        thresholds[name] = float(f"{usual if separated else between:.3g}")
    return thresholds


# Judging


def judge(cells: list[dict[str, Any]], faulty: Mapping[tuple[str, str], bool]) -> list[dict[str, Any]]:
    """A record a training: its root causes in order, all rules that fired, and whether the planted fault was named."""
    records = []
    for cell in cells:
        for training in cell["trainings"]:
            findings = diagnose(History.from_json(training["history"]))
            roots = [f.rule for f in root_causes(findings) if f.severity != "info"]
            names = FAULTS[cell["fault"]].named_by if cell["fault"] != HEALTHY.name else ()
            records.append(
                {
                    "task": cell["task"],
                    "fault": cell["fault"],
                    "score": training["score"],
                    "faulty": cell["fault"] != HEALTHY.name and faulty[cell["task"], cell["fault"]],
                    "roots": roots,
                    "fired": [f.rule for f in findings],
                    "errors": [f.rule for f in findings if f.severity == "error"],
                    "named": any(name in roots[:TOP] for name in names),
                    "seen": any(f.rule in names for f in findings),
                }
            )
    return records


def precision_and_recall(records: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Of each rule on held-out tasks: how often its root cause was what was planted, and how often it was found.

    A rule is right in a training whose planted fault it names; faults that did no harm there are left out.
    """
    held = [r for r in records if TASKS[r["task"]].held_out and (r["faulty"] or r["fault"] == HEALTHY.name)]
    found = {}
    for name in RULES:
        raised = [r for r in held if name in r["roots"][:TOP]]
        own = [r for r in held if r["fault"] != HEALTHY.name and name in FAULTS[r["fault"]].named_by]
        right = [r for r in raised if r["fault"] != HEALTHY.name and name in FAULTS[r["fault"]].named_by]
        alone = [r for r in own if name == FAULTS[r["fault"]].named_by[0]]
        false = [r for r in raised if r["fault"] == HEALTHY.name]
        found[name] = {
            "raised": len(raised),
            "right": len(right),
            "precision": len(right) / len(raised) if raised else None,
            "planted": len(alone),
            "recalled": sum(name in r["roots"][:TOP] for r in alone),
            "recall": sum(name in r["roots"][:TOP] for r in alone) / len(alone) if alone else None,
            "healthy alarms": len(false),
            "healthy": sum(r["fault"] == HEALTHY.name for r in held),
        }
    return found


def summary(records: list[dict[str, Any]]) -> dict[str, Any]:
    """The bench's headline figures, on held-out tasks, on held-out faults, and on both."""

    def named(chosen: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "trainings": len(chosen),
            "named": sum(r["named"] for r in chosen) / max(1, len(chosen)),
            "seen": sum(r["seen"] for r in chosen) / max(1, len(chosen)),
        }

    faulty = [r for r in records if r["faulty"]]
    healthy = [r for r in records if r["fault"] == HEALTHY.name and TASKS[r["task"]].held_out]
    return {
        "held-out tasks": named([r for r in faulty if TASKS[r["task"]].held_out]),
        "held-out faults": named([r for r in faulty if FAULTS[r["fault"]].held_out]),
        "both held out": named([r for r in faulty if TASKS[r["task"]].held_out and FAULTS[r["fault"]].held_out]),
        "neither": named([r for r in faulty if not TASKS[r["task"]].held_out and not FAULTS[r["fault"]].held_out]),
        "healthy": {
            "trainings": len(healthy),
            "without error": sum(not r["errors"] for r in healthy) / max(1, len(healthy)),
            "without warning": sum(not r["roots"] for r in healthy) / max(1, len(healthy)),
        },
    }


def bench(short: bool, histories: Path | None, workers: int, calibrate: bool, held_out: bool = False) -> dict[str, Any]:
    """Train, set thresholds, judge."""
    started = time.perf_counter()
    trained = train_all(cells(short, held_out), histories, workers)
    healthy = {c["task"]: c for c in trained if c["fault"] == HEALTHY.name}
    verdicts = {
        (c["task"], c["fault"]): is_faulty(c, healthy[c["task"]]) for c in trained if c["fault"] != HEALTHY.name
    }
    faulty = {key: counts for key, (counts, _) in verdicts.items()}
    if calibrate:
        thresholds = set_thresholds(trained, faulty)
        _write_calibration({name: {"threshold": value} for name, value in thresholds.items()})
    records = judge(trained, faulty)
    by_rule = precision_and_recall(records)
    if calibrate:
        _write_calibration(
            {n: {**({"threshold": thresholds[n]} if n in thresholds else {}), **by_rule[n]} for n in RULES}
        )
    by_fault = [
        {
            "task": task,
            "fault": fault,
            "faulty": counts,
            "worse": worse,
            "held_out_task": TASKS[task].held_out,
            "held_out_fault": FAULTS[fault].held_out,
            "named": float(np.mean([r["named"] for r in records if r["task"] == task and r["fault"] == fault])),
            "roots": _common([r["roots"][:TOP] for r in records if r["task"] == task and r["fault"] == fault]),
        }
        for (task, fault), (counts, worse) in verdicts.items()
    ]
    return {
        "summary": summary(records),
        "rules": by_rule,
        "cells": by_fault,
        "seconds": time.perf_counter() - started,
        "healthy": [
            {k: r[k] for k in ("task", "roots", "errors")} for r in records if r["fault"] == HEALTHY.name and r["roots"]
        ],
    }


def renewed(known: dict[str, Any], found: Mapping[str, Any]) -> dict[str, Any]:
    """The results of a whole bench with what the held-out tasks say anew; thresholds and other tasks as they were."""
    cells = {(c["task"], c["fault"]): c for c in found["cells"]}
    own = {c["task"] for c in found["cells"]}
    anew = {name: found["summary"][name] for name in ("held-out tasks", "both held out", "healthy")}
    return {
        **known,
        "summary": {**known["summary"], **anew},
        "rules": found["rules"],
        "cells": [cells.get((c["task"], c["fault"]), c) for c in known["cells"]],
        "healthy": [*found["healthy"], *(h for h in known["healthy"] if h["task"] not in own)],
    }


def _calibrate_anew(by_rule: Mapping[str, Any]) -> None:
    """Precision and recall as they are now beside the thresholds that stay."""
    known = json.loads(CALIBRATION.read_text(encoding="utf-8"))["rules"]
    kept = {name: {k: v for k, v in known.get(name, {}).items() if k == "threshold"} for name in by_rule}
    _write_calibration({name: {**kept[name], **own} for name, own in by_rule.items()})


# Cures


def cure_cell(task: str, fault: str) -> dict[str, Any]:
    """Diagnose one training, take what the first trial recommends, and compare with the healthy recipe."""
    torch.set_num_threads(1)
    started = time.perf_counter()
    case, healthy = Case(TASKS[task], FAULTS[fault]), Case(TASKS[task], HEALTHY)
    seeds = [60_000 + i for i in range(PAIRS)]  # not those of the trial that chose the advice
    usual = healthy.lab.scores([healthy.recipe.replace({"seed": seed}) for seed in seeds])
    sick = case.lab.scores([case.recipe.replace({"seed": seed}) for seed in seeds])
    findings = diagnose(case.lab.watch([case.recipe.replace({"seed": 100 + i}) for i in range(5)]).histories[0])
    record: dict[str, Any] = {
        "task": task,
        "fault": fault,
        "healthy": usual.tolist(),
        "sick": sick.tolist(),
        "trials": [],
    }
    for finding in [f for f in root_causes(findings) if f.severity != "info"][:TOP]:
        trial = try_advice(case.lab, case.recipe, finding.advice)
        best = trial.recommended
        record["trials"].append({"rule": finding.rule, "recommended": best and dict(best.advice.changes)})
        if best is not None:
            mended = changed(case.recipe, best.advice.changes)
            cured = case.lab.scores([mended.replace({"seed": seed}) for seed in seeds])
            record |= {"rule": finding.rule, "words": best.advice.words, "cured": cured.tolist(), "cost": best.cost}
            break
    return {**record, **verdict(record), "seconds": time.perf_counter() - started}


def verdict(record: Mapping[str, Any]) -> dict[str, Any]:
    """Whether the fault does harm, the margin, and whether the cured are not inferior to the healthy."""
    usual, sick = (np.nan_to_num(np.array(record[n], dtype=float), posinf=1e3) for n in ("healthy", "sick"))
    harm = float(np.median(sick) - np.median(usual))
    faulty = bool(stats.mannwhitneyu(sick, usual, alternative="greater").pvalue < SIGNIFICANT)
    margin = max(0.1 * min(harm, 5.0), 0.02)
    if "cured" not in record:
        return {"faulty": faulty, "harm": harm, "margin": margin, "mended": False, "difference": None, "upper": None}
    cured = np.nan_to_num(np.array(record["cured"], dtype=float), posinf=1e3)
    interval = stats.ttest_ind(cured, usual, equal_var=False).confidence_interval(0.9)  # one-sided 95 %
    return {
        "faulty": faulty,
        "harm": harm,
        "margin": margin,
        "mended": bool(interval.high < margin),
        "difference": float(cured.mean() - usual.mean()),
        "upper": float(interval.high),
    }


def cure(workers: int) -> dict[str, Any]:
    """All cells of the cure bench."""
    wanted = [
        (t.name, f.name) for t in TASKS.values() if t.held_out for f in FAULTS.values() if f.mendable and f.suits(t)
    ]
    cells = []
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        for cell in pool.map(cure_cell, *zip(*wanted, strict=True)):
            cells.append(cell)
            said = "mended" if cell["mended"] else "no harm" if not cell["faulty"] else "not mended"
            print(f"{cell['seconds']:6.1f} s  {cell['task']}, {cell['fault']}: {said}, {cell.get('words')}", flush=True)
    counted = [c for c in cells if c["faulty"]]
    mended = sum(c["mended"] for c in counted) / max(1, len(counted))
    return {"summary": {"faulty cells": len(counted), "mended": mended}, "cells": cells}


def _common(lists: list[list[str]]) -> list[str]:
    names = [name for one in lists for name in one]
    return sorted(set(names), key=lambda n: (-names.count(n), n))[:4]


def _write_calibration(rules: Mapping[str, Any]) -> None:
    from nastavnik.mentor import calibration

    write_json(CALIBRATION, plain({"rules": dict(rules)}))
    calibration.cache_clear()


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=("bench", "cure"))
    parser.add_argument("--out", type=Path)
    parser.add_argument("--histories", type=Path)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--held-out", action="store_true", help="train the held-out tasks alone, renew --out by them")
    args = parser.parse_args()
    if args.part == "cure":
        found = cure(args.workers)
    elif args.held_out:
        found = bench(args.short, args.histories, args.workers, calibrate=False, held_out=True)
        if args.out:
            found = renewed(json.loads(args.out.read_text(encoding="utf-8")), found)
            _calibrate_anew(found["rules"])
    else:
        found = bench(args.short, args.histories, args.workers, calibrate=not args.short)
    print(json.dumps(plain(found["summary"]), indent=1))
    if args.out:
        write_json(args.out, plain(found))


if __name__ == "__main__":
    main()
