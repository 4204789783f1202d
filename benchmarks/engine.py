"""How fast is the engine? Fixed work, trained by this engine, by a plain PyTorch loop one by one, and by JAX.

python benchmarks/engine.py --case digits --k 64 --json     one case
python benchmarks/engine.py                                 the table: every case, K = 1, 8, 64, 512

``ratio_all_in`` and ``ratio_warm`` are the loop's seconds over ours for the whole work, everything but imports counted,
ours in a fresh process with an empty and with a filled compile cache. ``ratio_steady`` (the loop with one thread; with
all of them for one network), ``ratio_one_by_one`` (the loop with all threads) and ``ratio_jax`` are medians over
interleaved blocks of steps, with 95 % intervals (order statistics). The loop trains at most 16 networks and its
seconds are scaled to K. A row whose arms reach different scores is void. ``jax`` is compared when it is installed.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from engine_arms import Arm, Engine, Jax, Loop
from engine_cases import CASES, Case

SIZES = (1, 8, 64, 512)
LOOPED = 16
BLOCKS = 31
SECONDS_A_BLOCK = 0.08


def main() -> None:
    """One case, or all of them as a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", choices=list(CASES), help="one case only")
    parser.add_argument("--k", type=int, help="one number of networks only")
    parser.add_argument("--rounds", type=int, default=3, help="repeats of the whole work")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--engine", default="auto")
    parser.add_argument("--json", action="store_true", help="print JSON lines")
    parser.add_argument("--instruments", action="store_true", help="only what the default instruments cost")
    parser.add_argument("--out", type=Path, help="also write all results as JSON here")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        print(json.dumps(whole_work(CASES[args.case], args.k, args)))
        return
    results = []
    for name in [args.case] if args.case else list(CASES):
        for k in [args.k] if args.k else SIZES:
            if args.instruments:
                print(json.dumps(instruments(CASES[name], k, args)), flush=True)
                continue
            results.append(one(CASES[name], k, args))
            print(json.dumps(results[-1]) if args.json else row(results[-1]), flush=True)
    if args.out:
        args.out.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


def one(case: Case, k: int, args: argparse.Namespace) -> dict[str, Any]:
    """All figures of one case."""
    loops, colds, warms = [], [], []
    for _ in range(args.rounds):
        with tempfile.TemporaryDirectory() as cache:
            loops.append(looped(case, k))
            colds.append(child(case, k, args, cache))
            warms.append(child(case, k, args, cache))
    two = two_processes(case, k)
    loop_seconds = [r["seconds"] for r in loops]
    result: dict[str, Any] = {
        "case": case.name,
        "k": k,
        "threads": args.threads,
        "ratio_all_in": float(np.median([a / c["seconds"] for a, c in zip(loop_seconds, colds, strict=True)])),
        "ratio_warm": float(np.median([a / c["seconds"] for a, c in zip(loop_seconds, warms, strict=True)])),
        "ratio_two_processes": float(np.median(loop_seconds)) / two["seconds"],
        **steady(case, k, args),
        "way": colds[0]["way"],
        "peak_mb": colds[0]["peak_mb"],
        "floor_mb": colds[0]["floor_mb"],
        "estimate_mb": colds[0]["estimate_mb"],
        "arms": {
            "loop": loops[0],
            "engine_cold": colds[0],
            "engine_warm": warms[0],
            "two_processes": two,
        },
    }
    medians = [arm["scores"]["median"] for arm in (loops[0], colds[0])]
    result["void"] = bool(abs(medians[0] - medians[1]) > 0.05) if k >= LOOPED else None
    return result


# The whole work


def whole_work(case: Case, k: int, args: argparse.Namespace) -> dict[str, Any]:
    """This engine from configurations to scores, in a process of its own."""
    import torch

    torch.set_num_threads(args.threads)
    import nastavnik.population  # noqa: F401  (imports are not counted)

    case.data()
    case.configurations(1)
    before = peak(reset=True)
    started = time.perf_counter()
    arm = Engine(case, case.configurations(k), engine=args.engine)
    arm.steps(total(case))
    scores = arm.scores()
    seconds = time.perf_counter() - started
    state = arm.population.state
    floor = sum(t.numel() * t.itemsize for part in (state.parameters, state.optimizer) for t in part.values())
    return {
        "seconds": seconds,
        "networks": k,
        "scores": quantiles(scores),
        "way": arm.population.way,
        "peak_mb": peak() - before,
        "floor_mb": floor / 2**20,
        "estimate_mb": arm.population.memory() / 2**20,
    }


def child(case: Case, k: int, args: argparse.Namespace, cache: str) -> dict[str, Any]:
    """``whole_work`` in a fresh process with this compile cache."""
    command = [sys.executable, __file__, "--child", "--case", case.name, "--k", str(k)]
    command += ["--threads", str(args.threads), "--engine", args.engine]
    done = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, "NASTAVNIK_CACHE": cache}, check=False
    )
    if done.returncode:
        raise SystemExit(done.stderr)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def looped(case: Case, k: int, first: int = 0, count: int = LOOPED) -> dict[str, Any]:
    """Optuna's random sampler and the plain loop, one thread; at most 16 networks, scaled to K."""
    import optuna
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    Loop(case, case.configurations(1)[0], 0).steps(2)  # autograd's start is not counted
    count = min(k, count)
    scores: list[float] = []

    def objective(trial: Any) -> float:
        loop = Loop(case, case.suggest(trial), first + trial.number)
        loop.steps(total(case))
        scores.extend(loop.scores())
        return scores[-1]

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    started = time.perf_counter()
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.RandomSampler(seed=first))
    study.optimize(objective, n_trials=count)
    seconds = (time.perf_counter() - started) * k / count
    torch.set_num_threads(threads)
    return {"seconds": seconds, "networks": count, "scores": quantiles(scores)}


def two_processes(case: Case, k: int) -> dict[str, Any]:
    """The loop in two processes of one thread each; their start is not counted."""
    code = (
        "import sys, json; sys.path.insert(0, sys.argv[1]); import engine; from engine_cases import CASES; "
        "case = CASES[sys.argv[2]]; case.data(); "
        "print(json.dumps(engine.looped(case, int(sys.argv[3]), int(sys.argv[4]), 8)))"
    )
    half = max(1, k // 2)
    jobs = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(Path(__file__).parent), case.name, str(half), str(first)],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        for first in range(2 if k > 1 else 1)
    ]
    results = [json.loads(job.communicate()[0].splitlines()[-1]) for job in jobs]
    return {"seconds": max(r["seconds"] for r in results), "networks": sum(r["networks"] for r in results)}


# Steady state


def steady(case: Case, k: int, args: argparse.Namespace) -> dict[str, Any]:
    """Interleaved blocks of steps: ours, the loop with one thread and with all (one network: all), JAX."""
    import torch

    configurations = case.configurations(k)
    torch.set_num_threads(args.threads)
    ours = Engine(case, configurations, engine=args.engine, times=10**5)
    arms: dict[str, tuple[Arm, int, int]] = {"ours": (ours, k, args.threads)}
    arms["loop"] = (Loop(case, configurations[0], 0), 1, 1 if k > 1 else args.threads)
    if k > 1:
        arms["one_by_one"] = (Loop(case, configurations[0], 0), 1, args.threads)
    if find_spec("jax"):
        arms["jax"] = (Jax(case, configurations), k, args.threads)
    blocks = {name: block_size(arm, threads) for name, (arm, _, threads) in arms.items()}
    times: dict[str, list[float]] = {name: [] for name in arms}
    for _ in range(BLOCKS):
        for name, (arm, networks, threads) in arms.items():
            torch.set_num_threads(threads)
            arm.steps(1)  # not counted: the arm before has left the caches and the threads to itself
            times[name].append(timed(lambda arm=arm, n=blocks[name]: arm.steps(n)) / blocks[name] / networks)  # type: ignore[misc]
    torch.set_num_threads(args.threads)
    mine = float(np.median(times["ours"]))
    found: dict[str, Any] = {
        "microseconds": {name: float(np.median(t)) * 1e6 for name, t in times.items()},
        "peak_share": flops(case) / mine / matrix_peak(),
    }
    labels = (("loop", "ratio_steady"), ("one_by_one", "ratio_one_by_one"), ("jax", "ratio_jax"))
    for name, label in labels:
        if name in times:
            found[label], found[label + "_interval"] = median_interval(np.array(times[name]) / np.array(times["ours"]))
    return found


def instruments(case: Case, k: int, args: argparse.Namespace) -> dict[str, Any]:
    """Seconds with the default instruments over seconds without, at 20 evaluations a training as in a fit."""
    import torch

    from nastavnik.instruments import INSTRUMENTS

    torch.set_num_threads(args.threads)
    arms = [
        Engine(case, case.configurations(k), engine=args.engine, times=10**4, instruments=chosen, evaluations=20)
        for chosen in (INSTRUMENTS, {})
    ]
    length = max(1, total(case) // 20)
    times: list[list[float]] = [[], []]
    for block in range(BLOCKS + 1):
        for arm, found in zip(arms, times, strict=True):
            seconds = timed(lambda arm=arm: arm.steps(2 * length))  # type: ignore[misc]
            if block:  # the first one compiles
                found.append(seconds)
    ratio, interval = median_interval(np.array(times[0]) / np.array(times[1]))
    return {"case": case.name, "k": k, "ratio_instruments": ratio, "interval": interval, "way": arms[0].population.way}


def block_size(arm: Arm, threads: int) -> int:
    """Steps that take about ``SECONDS_A_BLOCK``, after a warm-up."""
    import torch

    torch.set_num_threads(threads)
    arm.steps(4)
    seconds = timed(lambda: arm.steps(4)) / 4
    size = max(1, min(400, round(SECONDS_A_BLOCK / seconds)))
    arm.steps(size)  # JAX compiles for each length
    arm.steps(1)
    return size


def timed(action: Callable[[], object]) -> float:
    """Seconds."""
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def median_interval(ratios: np.ndarray) -> tuple[float, list[float]]:
    """The median and its 95 % interval by order statistics."""
    ordered, n = np.sort(ratios), len(ratios)
    away = int(np.ceil(1.96 * n**0.5 / 2))
    low, high = max(0, n // 2 - away), min(n - 1, n // 2 + away)
    return float(np.median(ratios)), [float(ordered[low]), float(ordered[high])]


def flops(case: Case) -> float:
    """Floating-point operations of one network and step: three times the forward pass's products."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    inputs, _, _, _ = case.data()
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        case.module(0.0)(*(torch.from_numpy(a[: case.batch]) for a in inputs))
    return 3.0 * counter.get_total_flops()


def matrix_peak() -> float:
    """Floating-point operations a second of a large product of matrices, all threads."""
    import torch

    a = torch.rand(1536, 1536)
    b = a @ a
    return float(2 * 1536**3 / np.median([timed(lambda: torch.mm(a, a, out=b)) for _ in range(9)]))


# Small things


def total(case: Case) -> int:
    """Steps of the whole work."""
    return case.epochs * (len(case.data()[1]) // case.batch)


def quantiles(scores: list[float]) -> dict[str, float]:
    """Of the networks' scores."""
    low, median, high = np.percentile(scores, [10, 50, 90])
    return {"p10": float(low), "median": float(median), "p90": float(high), "max": float(max(scores))}


def peak(*, reset: bool = False) -> float:
    """Largest resident memory of this process in MB, since its start or since a reset."""
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    line = next(x for x in Path("/proc/self/status").read_text().splitlines() if x.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def row(r: dict[str, Any]) -> str:
    """One line of the table."""

    def ratio(name: str) -> str:
        if name not in r:
            return "-"
        low, high = r[name + "_interval"]
        return f"{r[name]:.2f} ({low:.2f} to {high:.2f})"

    cells = [
        r["case"],
        r["k"],
        r["way"],
        f"{r['ratio_all_in']:.1f}",
        f"{r['ratio_warm']:.1f}",
        ratio("ratio_steady"),
        ratio("ratio_jax"),
        f"{r['ratio_two_processes']:.2f}",
        f"{r['microseconds']['ours']:.1f}",
        f"{r['peak_share']:.2f}",
        f"{r['peak_mb']:.0f} / {r['estimate_mb']:.0f} / {r['floor_mb']:.0f}",
        "void" if r["void"] else "",
    ]
    return "| " + " | ".join(map(str, cells)) + " |"


if __name__ == "__main__":
    main()
