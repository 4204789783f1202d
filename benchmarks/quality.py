"""How good is what ``fit`` delivers? Test scores over seeds, each its own split, beside a reference on the same rows.

python benchmarks/quality.py digits breast_cancer diabetes        ten seeds of 40 s each
python benchmarks/quality.py king_county --seeds 5 --budget 5m    with --deliver ensemble; needs the real data
python benchmarks/quality.py used_cars --seeds 5 --budget 2m       a synthetic twin: numbers written as words
python benchmarks/quality.py mnist --seeds 1 --budget 5m          pictures; needs the real data
python benchmarks/quality.py cifar10 --seeds 1 --budget 10m       the same
python benchmarks/quality.py reviews --seeds 10 --budget 2m       sentences; the same

References: digits and mnist 0.98 itself, cifar10 0.65; reviews logistic regression on tf-idf; breast_cancer scaled
logistic regression; diabetes ridge regression; king_county gradient boosting; used_cars boosting on columns parsed by
hand; each trained on all rows but the test rows, so on more rows than a network that is validated on a hold-out.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from real_data import DATA
from used_cars import used_cars

CASES: dict[str, list[str]] = {
    "digits": ["digits"],
    "breast_cancer": ["breast_cancer"],
    "diabetes": ["diabetes"],
    "king_county": [str(DATA / "kc_house_data.csv"), "--target", "price", "--deliver", "ensemble"],
    "mnist": [str(DATA / "mnist")],
    "cifar10": [str(DATA / "cifar10.zip")],
    "reviews": ["reviews.csv", "--target", "sentiment"],  # made of the two files
    "used_cars": ["used_cars.csv", "--target", "selling_price"],  # made on the spot
}


def main() -> None:
    """Run the cases, print a table each, and the whole as JSON with --json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="+", choices=list(CASES))
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--budget", default="40s")
    parser.add_argument("--threads", help="processor threads of each fit; all by default")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    found = {}
    for case in asked.cases:
        rows = [run(case, seed, asked.budget, asked.threads) for seed in range(asked.first, asked.first + asked.seeds)]
        found[case] = rows
        ours, theirs = (np.array([r[name] for r in rows]) for name in ("ours", "reference"))
        gap = (ours - theirs).mean()
        error = (ours - theirs).std(ddof=min(1, len(rows) - 1)) / len(rows) ** 0.5
        means = f"ours {ours.mean():.4f}, reference {theirs.mean():.4f}"
        print(f"{case}: {means}, paired difference {gap:+.4f} ± {error:.4f} (standard error)", file=sys.stderr)
    if asked.json:
        print(json.dumps(found, indent=1))


def run(case: str, seed: int, budget: str, threads: str | None) -> dict[str, Any]:
    """One fit in a process of its own, and its reference on the same rows."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "run"
        if case == "used_cars":
            used_cars()[0].to_csv(Path(place) / "used_cars.csv", index=False)
        if case == "reviews":
            reviews().to_csv(Path(place) / "reviews.csv", index=False)
        words = [*CASES[case], "--seed", str(seed), "--budget", budget, "--out", str(folder), "--quiet"]
        words += ["--threads", threads] if threads else []
        subprocess.run([sys.executable, "-m", "nastavnik", "fit", *words], check=True, cwd=place)
        result = json.loads((folder / "result.json").read_text())
        split = json.loads((folder / "dataset.json").read_text())["split"]
    head = "accuracy" if "accuracy" in result["test"] else "r2"
    row = {
        "seed": seed,
        "ours": result["test"][head]["value"],
        "validation": result["validation"][head]["value"],
        "reference": reference(case, split),
        "baselines": {name: b["test"][head]["value"] for name, b in result["baselines"].items() if "test" in b},
        "family": result["chosen"]["recipe"]["network"]["family"],
        "networks": result["cost"]["networks"],
        "seconds": result["cost"]["seconds"],
    }
    print({k: round(v, 4) if isinstance(v, float) else v for k, v in row.items()}, file=sys.stderr, flush=True)
    return row


def reference(case: str, split: dict[str, Any]) -> float:
    """The score of the case's reference, trained on the training and validation rows."""
    from sklearn import datasets
    from sklearn.linear_model import LogisticRegression, RidgeCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    train, test = split["train"] + split["validation"], split["test"]
    if case == "king_county":
        frame = pd.read_csv(DATA / "kc_house_data.csv", na_values=["?"]).drop(columns="id")
        frame["date"] = (pd.to_datetime(frame["date"], format="%m/%d/%Y") - pd.Timestamp("2014-01-01")).dt.days
        return boosting(frame, "price", train, test)
    if case == "used_cars":
        return boosting(used_cars()[1], "selling_price", train, test)
    if case in ("digits", "mnist", "cifar10"):
        return 0.65 if case == "cifar10" else 0.98
    if case == "reviews":
        return on_words(reviews(), train, test)
    x, y = getattr(datasets, f"load_{case}")(return_X_y=True)
    last = LogisticRegression(max_iter=1000) if case == "breast_cancer" else RidgeCV(np.logspace(-2, 4, 25))
    return float(make_pipeline(StandardScaler(), last).fit(x[train], y[train]).score(x[test], y[test]))


def reviews() -> pd.DataFrame:
    """Sentences of film reviews, half of them praise (Pang & Lee 2005)."""
    parts = []
    for mood in ("pos", "neg"):
        lines = (DATA / f"rt-polarity.{mood}").read_text(encoding="latin-1").splitlines()
        parts.append(pd.DataFrame({"review": [line.strip() for line in lines], "sentiment": mood}))
    return pd.concat(parts, ignore_index=True)


def on_words(frame: pd.DataFrame, train: list[int], test: list[int]) -> float:
    """Accuracy of logistic regression on tf-idf."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    x, y = frame["review"], frame["sentiment"]
    model = make_pipeline(TfidfVectorizer(sublinear_tf=True), LogisticRegression(max_iter=1000))
    return float(model.fit(x.iloc[train], y.iloc[train]).score(x.iloc[test], y.iloc[test]))


def boosting(frame: pd.DataFrame, target: str, train: list[int], test: list[int]) -> float:
    """R² of scikit-learn's gradient boosting, words as categories."""
    from sklearn.ensemble import HistGradientBoostingRegressor

    y = frame.pop(target).to_numpy()
    for name in frame.select_dtypes(exclude="number").columns:
        frame[name] = frame[name].astype("category")
    model = HistGradientBoostingRegressor(categorical_features="from_dtype", random_state=0)
    return float(model.fit(frame.iloc[train], y[train]).score(frame.iloc[test], y[test]))


if __name__ == "__main__":
    main()
