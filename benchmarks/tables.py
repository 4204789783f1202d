"""Tables as people have them: how fast they are read, whether preparation leaks, what one row costs.

python benchmarks/tables.py speed          100,000 rows of 30 mixed columns, and 10,000 columns of 500 rows: seconds
python benchmarks/tables.py noise          30 tables of noise with 100-level categories: do scores cover chance?
python benchmarks/tables.py row            milliseconds of predicting one row, a record of 12 mixed columns
python benchmarks/tables.py left-out       which columns of the real tables are left out; needs them (NASTAVNIK_DATA)

``noise`` fits tables whose target is independent of every column: two names of 100 levels, a text, ranges, labels, a
date and numbers. A preparation that saw the validation or test rows' targets would show a score above chance: R² above
0, accuracy above the commonest class. Counted are the tables whose 95 % intervals, of validation and of test, cover it.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import nastavnik
from nastavnik.data import Preparation, read_source
from nastavnik.dataset import DatasetOptions, make_dataset
from real_data import real_tables

TAGS = np.array(["Luxury", "Hybrid", "Diesel", "Sport", "Exotic", "Flex"])
WORDS = np.array([f"word{i}" for i in range(400)])


def mixed(rows: int, seed: int = 0) -> pd.DataFrame:
    """30 columns: numbers plain and written with units, ranges, dates, names few and many, labels, text, a target."""
    rng = np.random.default_rng(seed)
    days = pd.Timestamp("2013-01-01") + pd.to_timedelta(rng.integers(0, 1500, rows), "D")
    columns: dict[str, Any] = {f"n{j}": np.round(rng.normal(size=rows), 4) for j in range(8)}
    columns |= {
        "price": [f"${v:,.2f}" for v in rng.gamma(2, 5000, rows)],
        "mileage": [f"{v:.1f} kmpl" for v in rng.uniform(8, 30, rows)],
        "engine": [f"{v} CC" for v in rng.integers(600, 4000, rows)],
        "range": [f"{a}-{a + 9}" for a in rng.integers(0, 90, rows)],
        "share": [f"{v:.1f}%" for v in rng.uniform(0, 100, rows)],
        "torque": [f"{a}Nm@ {b}00rpm" for a, b in rng.integers((90, 10), (400, 50), (rows, 2))],
        "day": days.strftime("%d-%m-%Y"),
        "stamp": days.strftime("%m/%d/%Y %H:%M"),
    }  # fmt: skip
    for j, levels in enumerate((3, 10, 40, 120, 2000)):
        columns[f"c{j}"] = [f"level{v}" for v in rng.integers(0, levels, rows)]
    columns["flag"] = rng.choice(["yes", "no"], rows)
    columns["tags"] = [",".join(TAGS[on]) for on in rng.random((rows, 6)) < 0.4]
    columns["text"] = [" ".join(said) for said in WORDS[rng.integers(0, 400, (rows, 8))]]
    columns |= {f"i{j}": rng.integers(0, 1000, rows) for j in range(5)}
    columns["y"] = columns["n0"] + columns["n1"] + 0.1 * rng.normal(size=rows)
    return pd.DataFrame(columns)


def wide() -> pd.DataFrame:
    """10,000 columns of numbers, 500 rows."""
    frame = pd.DataFrame(np.random.default_rng(0).normal(size=(500, 10_000)).round(4))
    return frame.rename(columns=lambda name: f"x{name}").assign(y=np.arange(500) * 0.1)


def speed() -> dict[str, Any]:
    """Seconds from the file to what networks take in, median of three, by stage."""
    found = {}
    for name, frame in (("mixed", mixed(100_000)), ("wide", wide())):
        with tempfile.TemporaryDirectory() as place:
            path = Path(place) / "t.csv"
            frame.to_csv(path, index=False)
            rounds = [stages(path) for _ in range(3)]
        found[name] = {
            "shape": list(frame.shape),
            **{stage: statistics.median(r[stage] for r in rounds) for stage in rounds[0]},
        }
    return found


def stages(path: Path) -> dict[str, float]:
    """Seconds of reading, of describing, auditing and splitting, and of preparing."""
    times = [time.perf_counter()]
    table = read_source(path)
    times.append(time.perf_counter())
    dataset = make_dataset(table, DatasetOptions(target="y"))
    times.append(time.perf_counter())
    Preparation.fit(dataset.columns, dataset.split.train).apply(dataset.columns)
    times.append(time.perf_counter())
    read, described, prepared = np.diff(times).tolist()
    return {"read": read, "describe": described, "prepare": prepared, "all": times[-1] - times[0]}


def noise(tables: int = 30) -> dict[str, Any]:
    """Of tables of noise, how many validation and test intervals cover chance."""
    rows = []
    for seed in range(tables):
        rng = np.random.default_rng(seed)
        n = 1500
        frame = mixed(n, seed)[["n0", "range", "day", "tags", "text"]]
        frame = frame.assign(a=rng.integers(0, 100, n), b=rng.integers(0, 100, n))
        frame["a"], frame["b"] = "a" + frame["a"].astype(str), "b" + frame["b"].astype(str)
        classes = seed % 2 == 1
        frame["y"] = rng.choice(["no", "yes"], n) if classes else rng.normal(size=n)
        run = nastavnik.fit(frame, target="y", networks=24, folds=0, test=0.2, seed=seed)
        row: dict[str, Any] = {
            "seed": seed,
            "classes": classes,
            "preparation": run.result["chosen"]["recipe"]["preparation"],
        }
        for part in ("validation", "test"):
            ids = getattr(run.dataset.split, part)
            score = run.result[part]["accuracy" if classes else "r2"]
            chance = max(np.mean(frame["y"].to_numpy()[ids] == c) for c in ("no", "yes")) if classes else 0.0
            row[part] = {**score, "chance": float(chance), "covers": bool(score["low"] <= chance)}
        rows.append(row)
        print({**row, "validation": row["validation"]["covers"], "test": row["test"]["covers"]}, flush=True)
    covered = sum(r["validation"]["covers"] and r["test"]["covers"] for r in rows)
    return {"tables": tables, "both_cover": covered, "rows": rows}


def row() -> dict[str, Any]:
    """Milliseconds of one prediction, a record, median and 90th percentile of 200."""
    names = ["n0", "n1", "n2", "price", "mileage", "engine", "range", "day", "c1", "c3", "flag", "tags"]
    frame = mixed(2000)[[*names, "y"]]
    model = nastavnik.fit(frame, target="y", networks=8, folds=0, family="mlp").model
    record = frame.iloc[7].drop("y").to_dict()
    model.predict(record)
    each = []
    for _ in range(200):
        began = time.perf_counter()
        model.predict(record)
        each.append((time.perf_counter() - began) * 1e3)
    return {"columns": len(names), "median_ms": statistics.median(each), "p90_ms": float(np.quantile(each, 0.9))}


def left_out() -> dict[str, Any]:
    """Of each real table the columns that are neither an input nor the target, and as what they are left out."""
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as place:
        for name, path, target in real_tables(Path(place)):
            dataset = make_dataset(read_source(str(path)), DatasetOptions(target=target))
            found[name] = {n: r for n, r in dataset.roles.items() if r not in ("input", "target")}
            print(name, len(dataset.infos), found[name], flush=True)
    return found


def main() -> None:
    """Run one of them and print what was found, as JSON to a file with --json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=list(WHAT))
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    found = WHAT[asked.what]()
    print(json.dumps({k: v for k, v in found.items() if k != "rows"}, indent=1))
    if asked.json:
        asked.json.write_text(json.dumps(found, indent=1) + "\n")


WHAT = {"speed": speed, "noise": noise, "row": row, "left-out": left_out}

if __name__ == "__main__":
    main()
