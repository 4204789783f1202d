"""Is the engine as fast as it was? Two checkouts in turns: blocks of steps, and the whole work in fresh processes.

git worktree add ../before COMMIT; python benchmarks/engine_commits.py ../before --cases digits houses --k 64

Each checkout's engine lives in a process of its own and takes steps when it is told to, so that both see the same
machine. ``steady``: seconds of a step, ours over theirs, median of interleaved blocks with its 95 % interval (order
statistics); ``cold`` and ``warm``: seconds of the whole work of ``engine.py``, medians of pairs, with an empty and with
a filled compile cache. Below 1 this checkout is faster.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

BLOCKS = 41
SECONDS_A_BLOCK = 0.25
HERE = Path(__file__).resolve().parents[1]


def serve(case: str, k: int, threads: int) -> None:
    """An engine that takes as many steps as it reads, and tells the seconds."""
    import torch

    from engine_arms import Engine
    from engine_cases import CASES

    torch.set_num_threads(threads)
    arm = Engine(CASES[case], CASES[case].configurations(k), times=10**5)
    arm.steps(20)
    for line in sys.stdin:
        began = time.perf_counter()
        arm.steps(int(line))
        print(time.perf_counter() - began, flush=True)


def environment(checkout: Path, **more: str) -> dict[str, str]:
    """In which a process uses a checkout's own sources."""
    paths = os.pathsep.join(map(str, (checkout / "src", checkout / "benchmarks")))
    return {**os.environ, "PYTHONPATH": paths, **more}


def steady(checkouts: list[Path], case: str, k: int, threads: int) -> dict[str, float]:
    """Seconds of a step, first over second."""
    code = f"import runpy; runpy.run_path({str(__file__)!r})['serve']({case!r}, {k}, {threads})"
    arms = [
        subprocess.Popen(
            [sys.executable, "-c", code], env=environment(c), cwd=c, text=True, stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        for c in checkouts
    ]  # fmt: skip

    def block(arm: Any, steps: int) -> float:
        arm.stdin.write(f"{steps}\n")
        arm.stdin.flush()
        return float(arm.stdout.readline())

    steps = max(1, round(10 * SECONDS_A_BLOCK / max(block(arms[0], 10), 1e-6)))
    for arm in arms:
        block(arm, steps)
    ratios = []
    for turn in range(BLOCKS):
        order = (0, 1) if turn % 2 else (1, 0)
        seconds = {which: block(arms[which], steps) for which in order}
        ratios.append(seconds[0] / seconds[1])
    for arm in arms:
        arm.communicate()  # the end of its input is its end
    ratios.sort()
    half = round(0.98 * BLOCKS**0.5)  # 1.96 standard deviations of a count of fair coins
    return {
        "steady": float(np.median(ratios)),
        "low": ratios[BLOCKS // 2 - half],
        "high": ratios[BLOCKS // 2 + half],
    }


def whole(checkouts: list[Path], case: str, k: int, threads: int, rounds: int) -> dict[str, float]:
    """Seconds of the whole work, first over second."""
    ratios: dict[str, list[float]] = {"cold": [], "warm": []}
    for turn in range(rounds):
        seconds: dict[str, list[float]] = {"cold": [0.0, 0.0], "warm": [0.0, 0.0]}
        for which in (0, 1) if turn % 2 else (1, 0):
            own = checkouts[which]
            command = [sys.executable, str(own / "benchmarks" / "engine.py"), "--child", "--case", case]
            command += ["--k", str(k), "--threads", str(threads)]
            with tempfile.TemporaryDirectory() as cache:
                for name in seconds:
                    done = subprocess.run(
                        command, env=environment(own, NASTAVNIK_CACHE=cache), cwd=own, text=True, check=True,
                        stdout=subprocess.PIPE,
                    )  # fmt: skip
                    seconds[name][which] = json.loads(done.stdout.splitlines()[-1])["seconds"]
        for name, (ours, theirs) in seconds.items():
            ratios[name].append(ours / theirs)
    return {name: float(np.median(values)) for name, values in ratios.items()}


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("other", type=Path, help="the other checkout")
    parser.add_argument("--cases", nargs="+", default=["digits", "houses"])
    parser.add_argument("--k", type=int, default=64)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, help="also write all results as JSON here")
    args = parser.parse_args()
    checkouts = [HERE, args.other.resolve()]
    results = []
    for case in args.cases:
        found = steady(checkouts, case, args.k, args.threads)
        found |= whole(checkouts, case, args.k, args.threads, args.rounds)
        results.append({"case": case, "k": args.k, "threads": args.threads, **found})
        print(json.dumps(results[-1]), flush=True)
    if args.out:
        args.out.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
