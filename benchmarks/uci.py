"""UCI regression: networks of 50 hidden units trained by evidence alone, against published columns, split by split.

NASTAVNIK_DATA=… python benchmarks/uci.py --out benchmarks/results/uci.json

Seven sets with the 20 published splits each. Nothing is tuned on test rows or across splits: in each split, for each
of two first prior precisions, some networks (d-50-1, tanh) are trained by ``nastavnik.evidence.train``, which chooses
prior precisions and noise by the evidence; the even mixture of their linearised Laplace predictions is judged. (Of the
largest sets one start or two restarts are taken, to keep to the hour.) Inputs and target are standardized by the
split's training rows. Test log likelihood is in nats a row of the target's own units. Paired differences are to the
published grid-searched MC dropout (Gal's repository, the same splits).
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
import time
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from nastavnik import evidence
from nastavnik.data import TargetPreparation
from nastavnik.predictive import mixture
from nastavnik.training.likelihoods import Gaussian
from real_data import DATA

SETS = ("bostonHousing", "concrete", "energy", "naval-propulsion-plant", "power-plant", "wine-quality-red", "yacht")
STARTS = (1.0, 10.0)  # prior precisions
RESTARTS = {"naval-propulsion-plant": 1, "power-plant": 2, "wine-quality-red": 2}  # of each start; else 3
STEPS = 40
SINGLE = ("power-plant",)  # computed in single precision, as rows are many and the noise is large
# log likelihood and RMSE: PBP, MC dropout 2016, deep ensembles (Lakshminarayanan et al. 2017, table 1), MC dropout by
# grid search (the published per-split results, averaged)
PUBLISHED = {
    "bostonHousing": {"PBP": (-2.57, 3.01), "MC dropout": (-2.46, 2.97), "deep ensembles": (-2.41, 3.28)},
    "concrete": {"PBP": (-3.16, 5.67), "MC dropout": (-3.04, 5.23), "deep ensembles": (-3.06, 6.03)},
    "energy": {"PBP": (-2.04, 1.80), "MC dropout": (-1.99, 1.66), "deep ensembles": (-1.38, 2.09)},
    "naval-propulsion-plant": {"PBP": (3.73, 0.01), "MC dropout": (3.80, 0.01), "deep ensembles": (5.63, 0.00)},
    "power-plant": {"PBP": (-2.84, 4.12), "MC dropout": (-2.80, 4.02), "deep ensembles": (-2.79, 4.11)},
    "wine-quality-red": {"PBP": (-0.97, 0.64), "MC dropout": (-0.93, 0.62), "deep ensembles": (-0.94, 0.64)},
    "yacht": {"PBP": (-1.63, 1.02), "MC dropout": (-1.55, 1.11), "deep ensembles": (-1.18, 1.58)},
}


def read(archive: zipfile.ZipFile, name: str) -> tuple[np.ndarray, np.ndarray, list[tuple[np.ndarray, np.ndarray]]]:
    """Inputs, target, and (training rows, test rows) of each split."""

    def table(file: str) -> np.ndarray:
        return np.loadtxt(archive.open(f"UCI_Datasets/{name}/data/{file}.txt"))

    data = table("data")
    x, y = data[:, table("index_features").astype(int)], data[:, int(table("index_target"))]
    numbers = range(int(table("n_splits")))
    return x, y, [(table(f"index_train_{i}").astype(int), table(f"index_test_{i}").astype(int)) for i in numbers]


def one_split(
    name: str, x: np.ndarray, y: np.ndarray, train: np.ndarray, test: np.ndarray, seed: int
) -> dict[str, Any]:
    """Test log likelihood and RMSE of one split."""
    started = time.monotonic()
    centre, scale = x[train].mean(0), x[train].std(0)
    inputs = torch.from_numpy((x - centre) / np.where(scale > 0, scale, 1.0))
    target = TargetPreparation("real", centre=float(y[train].mean()), scale=float(y[train].std()))
    targets = torch.from_numpy((y[train] - target.centre) / target.scale)
    torch.manual_seed(seed)
    found: list[evidence.Evidence] = []
    for precision in STARTS[1:] if name == "naval-propulsion-plant" else STARTS:
        networks = [
            nn.Sequential(nn.Linear(x.shape[1], 50), nn.Tanh(), nn.Linear(50, 1)) for _ in range(RESTARTS.get(name, 3))
        ]
        _, records = evidence.train(
            networks,
            inputs[train],
            targets,
            likelihood=Gaussian(noise=0.3),
            prior_precision=precision,
            per_layer=True,
            steps=STEPS,
            dtype=torch.float32 if name in SINGLE else None,
        )
        found += [r for r in records if r.log_evidence is not None]
    members = [r.posterior.predictive(inputs[test], target=target) for r in found if r.posterior is not None]
    predictive = mixture(members)
    low, high = predictive.interval(0.95)  # type: ignore[misc]
    return {
        "log_likelihood": float(-predictive.neg_log_likelihood(y[test]).mean()),
        "rmse": float(np.sqrt(np.mean((predictive.point() - y[test]) ** 2))),
        "coverage": float(np.mean((y[test] >= low) & (y[test] <= high))),
        "networks": len(found),
        "seconds": time.monotonic() - started,
    }


def compared(name: str, splits: list[dict[str, Any]], published: dict[int, tuple[float, float]]) -> dict[str, Any]:
    """Means, standard errors, and paired differences to MC dropout by grid search."""
    row: dict[str, Any] = {"set": name, "splits": splits}
    for place, key in enumerate(("log_likelihood", "rmse")):
        own = np.array([s[key] for s in splits])
        other = np.array([published[i][place] for i in range(len(splits))])
        gap = own - other
        root = len(own) ** 0.5
        row[key] = {
            "mean": float(own.mean()),
            "error": float(own.std(ddof=1) / root),
            "grid": float(other.mean()),
            "difference": float(gap.mean()),
            "difference_error": float(gap.std(ddof=1) / root),
        }
    row["coverage"] = float(np.mean([s["coverage"] for s in splits]))
    row["seconds"] = float(sum(s["seconds"] for s in splits))
    row["published"] = PUBLISHED[name]
    return row


def main() -> None:
    """All sets, or those named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", nargs="*", default=SETS)
    parser.add_argument("--splits", type=int, default=20)
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    with open(DATA / "uci_mc_dropout.csv") as file:
        published: dict[str, dict[int, tuple[float, float]]] = {}
        for line in csv.DictReader(file):
            own = float(line["test_log_likelihood"]), float(line["test_rmse"])
            published.setdefault(line["set"], {})[int(line["split"])] = own
    rows = []
    with zipfile.ZipFile(DATA / "uci.zip") as archive:
        for name in asked.sets:
            x, y, parts = read(archive, name)
            splits = []
            for i, (train, test) in enumerate(parts[: asked.splits]):
                splits.append(one_split(name, x, y, train, test, seed=i))
                print(name, i, {k: round(v, 3) for k, v in splits[-1].items()}, file=sys.stderr, flush=True)
            rows.append(compared(name, splits, published[name]))
            own = rows[-1]["log_likelihood"]
            print(
                f"{name:24} log likelihood {own['mean']:7.3f} ± {own['error']:.3f}, grid {own['grid']:7.3f}, "
                f"difference {own['difference']:+.3f} ± {own['difference_error']:.3f}; "
                f"RMSE {rows[-1]['rmse']['mean']:.4g} ({rows[-1]['rmse']['grid']:.4g}); {rows[-1]['seconds']:.0f} s",
                flush=True,
            )
            if asked.out is not None:
                asked.out.write_text(json.dumps({"format_version": 1, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
