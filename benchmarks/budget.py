"""Are budgets of time kept? Fits of 20 s to 5 min, imports, baselines and report included.

python benchmarks/budget.py --json

Overrun is the whole command's wall time, from the start of the process to its end, less the budget.
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

DATA = Path(os.environ.get("NASTAVNIK_DATA", Path(__file__).resolve().parents[1] / ".." / "shared" / "data"))
HOUSES = [str(DATA / "kc_house_data.csv"), "--target", "price"]
FITS: list[tuple[int, list[str]]] = [
    (20, ["iris"]),
    (20, ["digits"]),
    (20, HOUSES),
    (30, ["breast_cancer", "--deliver", "ensemble"]),
    (40, ["diabetes"]),
    (60, ["digits", "--deliver", "ensemble"]),
    (60, [str(DATA / "mnist")]),
    (120, HOUSES),
    (120, ["wine"]),
    (300, [*HOUSES, "--deliver", "ensemble"]),
]


def main() -> None:
    """Run the fits, and print a line each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print JSON lines")
    parser.add_argument("--out", type=Path, help="also write all results as JSON here")
    args = parser.parse_args()
    results = []
    for budget, words in FITS:
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, "-m", "nastavnik", "fit", *words, "--budget", f"{budget}s", "--quiet"]
            started = time.monotonic()
            subprocess.run([*command, "--out", f"{folder}/run"], check=True)
            seconds = time.monotonic() - started
            cost = json.loads(Path(folder, "run", "result.json").read_text(encoding="utf-8"))["cost"]
        kept = seconds - budget <= max(0.05 * budget, 3.0)
        source = Path(words[0]).stem
        results.append({"source": source, "budget": budget, "seconds": seconds, "kept": kept, **cost})
        line = f"{source}: {seconds:.1f} s of {budget} s, {cost['networks']} networks{'' if kept else ', OVERRUN'}"
        print(json.dumps(results[-1]) if args.json else line, flush=True)
    if args.out:
        args.out.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
