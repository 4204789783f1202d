"""Are budgets of time kept, whatever the machine does, and is what they buy trained?

python benchmarks/budget.py                                            30 fits, at most about 40 minutes
python benchmarks/budget.py --load busy --cache cold --budgets 40 --tables digits ames
python benchmarks/budget.py --all                                      every load, cache, budget and table

Each fit is the whole command in a process of its own, from its start to its end: imports, baselines and report
included. ``busy`` is eight processes that never rest, ``comes-and-goes`` the same stopped for six seconds in every
twelve; a ``cold`` cache holds no compiled step. A line is good when

- the overrun is at most 5 % or 3 s, whichever is more; or the budget was refused, with the least one, within it;
- the delivered network was trained to at least half of its schedule;
- it is not below the linear baseline by more than the test rows can show (95 % interval of the paired differences).

Without the options one budget is taken for each fit, in turn. Results go to ``benchmarks/results/budget.json``.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from real_data import DATA

RESULTS = Path(__file__).parent / "results" / "budget.json"
LOADS, CACHES, BUDGETS = ("quiet", "busy", "comes-and-goes"), ("cold", "warm"), (20, 40, 60, 120)
BUSY, REST = 8, 6.0  # processes; seconds


def mixed(rows: int, numbers: int, words: int, *, classes: bool, seed: int = 0) -> pd.DataFrame:
    """A table of numbers with holes and of words; the target depends on some of each, not only linearly."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, numbers))
    levels = [rng.integers(3, 12) for _ in range(words)]
    codes = np.column_stack([rng.integers(0, k, rows) for k in levels]) if words else np.empty((rows, 0), int)
    z = x[:, : numbers // 2] @ rng.normal(size=numbers // 2) / numbers**0.5 + np.sin(2 * x[:, 0]) * x[:, 1]
    z += sum(rng.normal(size=k)[codes[:, j]] for j, k in enumerate(levels[: words // 2])) / max(1, words) ** 0.5
    z += 0.3 * rng.normal(size=rows)
    x[rng.random(x.shape) < 0.03] = np.nan
    frame = pd.DataFrame({f"x{j}": x[:, j].round(4) for j in range(numbers)})
    for j in range(words):
        frame[f"w{j}"] = [f"level_{c}" for c in codes[:, j]]
    frame["y"] = np.where(z > 0.7, "yes", "no") if classes else np.exp(11 + 0.4 * z).round(2)
    return frame


TABLES: dict[str, Any] = {
    "digits": ["digits"],
    "ames": lambda: mixed(1460, 37, 43, classes=False),  # made, of the shape of the Ames house sales
    "churn": lambda: mixed(5600, 12, 7, classes=True),  # made, of the shape of a table of customers
    "houses": [str(DATA / "kc_house_data.csv"), "--target", "price"],
    "long": lambda: mixed(24_000, 10, 4, classes=True),
}


def main() -> None:
    """Run the fits, and print a line each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--load", nargs="+", choices=LOADS, default=LOADS)
    parser.add_argument("--cache", nargs="+", choices=CACHES, default=CACHES)
    parser.add_argument("--budgets", nargs="+", type=int, help="in seconds; each for every fit")
    parser.add_argument("--tables", nargs="+", choices=list(TABLES), default=list(TABLES))
    parser.add_argument("--all", action="store_true", help="every budget for every fit")
    parser.add_argument("--out", type=Path, default=RESULTS)
    asked = parser.parse_args()
    budgets = asked.budgets or (BUDGETS if asked.all else None)
    turns = itertools.cycle(BUDGETS)
    records: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as place:
        for load, cache, table in itertools.product(asked.load, asked.cache, asked.tables):
            for budget in budgets or [next(turns)]:
                record = {"load": load, "cache": cache, "table": table, "budget": budget}
                records.append(record | fit(Path(place), **record))
                print(line(records[-1]), flush=True)
                asked.out.parent.mkdir(parents=True, exist_ok=True)
                asked.out.write_text(json.dumps(records, indent=1) + "\n", encoding="utf-8")
    bad = [r for r in records if not r["good"]]
    print(f"{len(records) - len(bad)} of {len(records)} good, {sum('refused' in r for r in records)} of them refused")
    sys.exit(bool(bad))


def fit(place: Path, load: str, cache: str, table: str, budget: int) -> dict[str, Any]:
    """One fit, and the verdict on it."""
    if callable(TABLES[table]):
        path = place / f"{table}.csv"
        if not path.exists():
            TABLES[table]().to_csv(path, index=False)
        words = [str(path), "--target", "y"]
    else:
        words = TABLES[table]
    command = [sys.executable, "-m", "nastavnik", "fit", *words, "--quiet"]
    with tempfile.TemporaryDirectory(dir=place) as room:
        kept = place / "cache" if cache == "warm" else Path(room) / "cache"
        environment = {**os.environ, "NASTAVNIK_CACHE": str(kept)}
        if cache == "warm" and not (place / f"{table}.warm").exists():
            subprocess.run([*command, "--budget", "60s", "--out", f"{room}/first"], env=environment, check=False)
            (place / f"{table}.warm").touch()
        with loaded(load):
            started = time.monotonic()
            done = subprocess.run(
                [*command, "--budget", f"{budget}s", "--out", f"{room}/run"],
                env=environment,
                capture_output=True,
                text=True,
                check=False,
            )
            seconds = time.monotonic() - started
        allowed = budget + max(0.05 * budget, 3.0)
        if done.returncode:
            refused = done.returncode == 2 and "is too short" in done.stderr
            why = done.stderr.strip().splitlines()[-1:] or [""]
            return {
                "seconds": seconds,
                "refused" if refused else "failed": why[0],
                "good": refused and seconds <= allowed,
            }
        result = json.loads(Path(room, "run", "result.json").read_text(encoding="utf-8"))
    return judged(result, seconds, seconds <= allowed)


def judged(result: dict[str, Any], seconds: float, kept: bool) -> dict[str, Any]:
    """What the line says of a finished fit."""
    head = "accuracy" if result["task"]["kind"] == "classification" else "r2"
    training, linear = result["chosen"]["training"], result["baselines"]["linear"]
    trained = training["steps"] >= 0.5 * training["planned_steps"] or training["share"] >= 0.5
    high = linear.get("ahead", {}).get("high")
    level = high is None or high >= 0
    return {
        "seconds": seconds,
        "kept": kept,
        "trained": trained,
        "not_below_linear": level,
        "good": kept and trained and level,
        "family": result["chosen"]["recipe"]["network"]["family"],
        "score": result["test"][head]["value"],
        "baselines": {
            n: b["test"][head]["value"] if "test" in b else b.get("failed") for n, b in result["baselines"].items()
        },
        "training": training,
        "networks": result["cost"]["networks"],
    }


@contextmanager
def loaded(load: str) -> Iterator[None]:
    """The machine quiet, busy, or busy every other while."""
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(BUSY if load != "quiet" else 0)]
    over = threading.Event()

    def come_and_go() -> None:
        for sign in itertools.cycle((signal.SIGSTOP, signal.SIGCONT)):
            if over.wait(REST):
                return
            for process in busy:
                process.send_signal(sign)

    thread = threading.Thread(target=come_and_go)
    if load == "comes-and-goes":
        thread.start()
    try:
        yield
    finally:
        over.set()
        if thread.is_alive():
            thread.join()
        for process in busy:
            process.kill()
            process.wait()


def line(r: dict[str, Any]) -> str:
    """A record in words."""
    about = f"{r['load']}, {r['cache']}, {r['table']}: {r['seconds']:.1f} s of {r['budget']} s"
    if "refused" in r or "failed" in r:
        return f"{about}, {'refused' if 'refused' in r else 'FAILED'}: {r.get('refused', r.get('failed'))}"
    faults = {"kept": "OVERRUN", "trained": "UNTRAINED", "not_below_linear": "BELOW LINEAR"}
    verdict = " ".join(word for name, word in faults.items() if not r[name]) or "good"
    linear = r["baselines"]["linear"]
    against = f"linear {linear:.3f}" if isinstance(linear, float) else "linear without an answer"
    steps = f"{r['training']['steps']} of {r['training']['usual_steps']} steps"
    return f"{about}, {r['networks']} networks, {r['family']} {r['score']:.3f} ({against}), {steps}: {verdict}"


if __name__ == "__main__":
    main()
