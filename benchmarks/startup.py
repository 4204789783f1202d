"""What small commands cost beside ``import torch``: medians of interleaved runs, as ratios.

python benchmarks/startup.py --json

Wall time, and processor time (user and system), which a busy machine disturbs less. Python may keep its bytecode, as
an installed package has it; the first round, which writes it, is not counted.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

TARGETS = {"fit": 2.5, "predict": 1.5, "list": 1.2, "check": 3.0}
_NASTAVNIK = [sys.executable, "-m", "nastavnik"]
COMMANDS = {
    "import torch": [sys.executable, "-c", "import torch"],
    "fit": [*_NASTAVNIK, "fit", "iris", "--networks", "2", "--out", "r", "--force", "--quiet"],
    "predict": [*_NASTAVNIK, "predict", "r", "iris", "--out", "p.csv", "--force"],
    "list": [*_NASTAVNIK, "list"],
    "check": [*_NASTAVNIK, "check", "r", "--quiet"],
}


def main() -> None:
    """Run every command in turn, again and again; print a line each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=7, help="runs of each")
    parser.add_argument("--json", action="store_true", help="print JSON lines")
    parser.add_argument("--out", type=Path, help="also write all results as JSON here")
    args = parser.parse_args()
    wall: dict[str, list[float]] = {name: [] for name in COMMANDS}
    processor: dict[str, list[float]] = {name: [] for name in COMMANDS}
    with tempfile.TemporaryDirectory() as folder:
        for i in range(1 + args.times):
            for name, command in COMMANDS.items():
                seconds, used = _run(command, folder)
                if i:
                    wall[name].append(seconds)
                    processor[name].append(used)
    results = [_record(name, wall, processor) for name in COMMANDS]
    for r in results:
        target = f" (target {r['target']:g})" if r["target"] else ""
        line = f"{r['command']:13} {r['seconds']:6.2f} s, {r['wall_ratio']:.2f}x; processor {r['processor_ratio']:.2f}x"
        print(json.dumps(r) if args.json else line + target, flush=True)
    if args.out:
        args.out.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


def _run(command: list[str], folder: str) -> tuple[float, float]:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    quiet = subprocess.DEVNULL
    subprocess.run(command, cwd=folder, env=environment, check=True, stdout=quiet, stderr=quiet)
    seconds, after = time.monotonic() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    return seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _record(name: str, wall: dict[str, list[float]], processor: dict[str, list[float]]) -> dict[str, object]:
    base = "import torch"
    return {
        "command": name,
        "seconds": median(wall[name]),
        "wall_ratio": median(wall[name]) / median(wall[base]),
        "processor_ratio": median(processor[name]) / median(processor[base]),
        "target": TARGETS.get(name),
        "times": len(wall[name]),
    }


if __name__ == "__main__":
    main()
