"""Search measured: samplers, their overhead, optimism on noise, early stopping, and fronts.

python benchmarks/search.py table                                              # trains the 1,000 logged networks
python benchmarks/search.py samplers --out benchmarks/results/search-samplers.json
python benchmarks/search.py overhead --out benchmarks/results/search-overhead.json
python benchmarks/search.py noise    --out benchmarks/results/search-noise.json
python benchmarks/search.py halving  --out benchmarks/results/search-halving.json
python benchmarks/search.py front    --out benchmarks/results/search-front.json

samplers: 50 seeds on Branin, Hartmann6, a conditional mixed space and a table of 1,000 networks trained on digits;
calls until the median result of Optuna's random sampler is reached, and the best value of all calls, each against
that sampler by a one-sided rank test. overhead: 5,000 recipes asked and told in batches of 16. noise: 30 searches on
shuffled labels, the winner's scores with and without correction. halving: halving with forecasts against no stopping
at an equal budget of network steps, three data sets, 10 seeds. front: accuracy against parameters on digits, a
front-aware halving at half the steps of a full run.
"""

from __future__ import annotations

import argparse
import csv
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from nastavnik.data import read_source
from nastavnik.dataset import DatasetOptions, make_dataset
from nastavnik.nets import FAMILIES
from nastavnik.population import Data, Learner, Population
from nastavnik.recipe import Recipe
from nastavnik.runs import Clock, Deadline
from nastavnik.selection import SAMPLERS, Search, Strategy, optimism, scored_forecasts, table_space
from nastavnik.selection.pareto import front, hypervolume
from nastavnik.space import Choice, Node, Space, parse_space
from nastavnik.targets import Classification, Regression
from nastavnik.trace import Trace
from nastavnik.training.likelihoods import Categorical
from search_functions import ACTIVATIONS, BATCHES, RATES, TABLE, WIDTHS, Problem, problems

LEARNING = ("hill_climbing", "annealing", "genetic")
SEEDS = 50


# The logged table


def table() -> list[dict[str, Any]]:
    """1,000 networks 64-width-10 on digits, 300 steps of momentum SGD each; validation nll after the last."""
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(y))
    data = Data.of(
        [(torch.tensor(x / 16, dtype=torch.float32),)], [torch.tensor(y)], [(order[:1400], order[1400:])], seed=0
    )
    layers = {"relu": nn.ReLU, "tanh": nn.Tanh, "sigmoid": nn.Sigmoid, "gelu": nn.GELU}
    rows = []
    for width in WIDTHS:
        for batch in BATCHES:
            for activation in ACTIVATIONS:

                def build(width: int = width, activation: str = activation) -> tuple[nn.Module, Categorical]:
                    net = nn.Sequential(nn.Linear(64, width), layers[activation](), nn.Linear(width, 10))
                    return net, Categorical(10)

                recipes = [
                    Recipe({"optimizer.name": "sgd", "optimizer.learning_rate": rate, "optimizer.momentum": 0.9,
                            "schedule.name": "constant", "batch_size": batch, "seed": i})
                    for i, rate in enumerate(RATES)
                ]  # fmt: skip
                learners = [Learner.seeded(i, build) for i in range(len(recipes))]
                population = Population(learners, recipes, data, total_steps=300, evaluations=10, instruments={})
                population.train(300)
                found = {o.recipe: o.score for o in population.harvest()}
                rows += [
                    {"rate": rate, "width": width, "batch": batch, "activation": activation, "nll": found[recipe]}
                    for rate, recipe in zip(RATES, recipes, strict=True)
                ]
        print(f"width {width} done", flush=True)
    worst = max(r["nll"] for r in rows if np.isfinite(r["nll"]))
    with TABLE.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows({**r, "nll": f"{r['nll'] if np.isfinite(r['nll']) else worst:.6f}"} for r in rows)
    return rows


# Samplers


def values_of(name: str, problem: Problem, seed: int, batch: int = 4) -> np.ndarray:
    """The best value so far after each call [calls]."""
    sampler = SAMPLERS[name](problem.space, seed=seed)
    values: list[float] = []
    while len(values) < problem.calls:
        keys = sampler.ask(min(batch, problem.calls - len(values)))
        told = [problem.value(sampler.point(k)) for k in keys]
        sampler.tell(keys, told)
        values += told
    return np.minimum.accumulate(values)


def optuna_random(problem: Problem, seed: int) -> np.ndarray:
    """The same of Optuna's random sampler, as it is."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))

    def objective(trial: Any) -> float:
        def suggest(key: str, node: Node) -> Any:
            if isinstance(node, Choice):
                return trial.suggest_categorical(key, list(node.options))
            if node.integer:
                return trial.suggest_int(key, int(node.low), int(node.high), log=node.log)
            return trial.suggest_float(key, node.low, node.high, log=node.log)

        return problem.value(problem.space.draw(suggest))

    study.optimize(objective, n_trials=problem.calls)
    return np.minimum.accumulate([float(t.value or 0.0) for t in study.trials])


def samplers() -> list[dict[str, Any]]:
    """Calls to Optuna's random sampler's median result, and best values, against that sampler."""
    from scipy.stats import mannwhitneyu

    rows = []
    for place, problem in problems().items():
        random = [optuna_random(problem, seed) for seed in range(SEEDS)]
        target = float(np.median([r[-1] for r in random]))
        reference = [calls_to(r, target) for r in random]
        for name in (*LEARNING, "tpe", "cma_es", "quasi_random", "random"):
            if name == "cma_es" and any(isinstance(node, Choice) for node in problem.space.nodes.values()):
                continue
            own = [values_of(name, problem, seed) for seed in range(SEEDS)]
            calls = [calls_to(o, target) for o in own]
            best = [o[-1] for o in own]
            row = {
                "problem": place,
                "sampler": name,
                "calls": float(np.median(calls)),
                "random_calls": float(np.median(reference)),
                "p_calls": float(mannwhitneyu(calls, reference, alternative="less").pvalue),
                "best": float(np.median(best)),
                "random_best": target,
                "p_best": float(mannwhitneyu(best, [r[-1] for r in random], alternative="less").pvalue),
            }
            rows.append(row)
            print(json.dumps(row), flush=True)
    return rows


def calls_to(best_so_far: np.ndarray, target: float) -> int:
    """Calls until a value is reached; one more than all where it is not."""
    reached = np.flatnonzero(best_so_far <= target)
    return int(reached[0]) + 1 if len(reached) else len(best_so_far) + 1


# Overhead


def overhead() -> list[dict[str, Any]]:
    """Milliseconds a recipe of 5,000 asked and told in batches of 16, of the first 500 and of the last."""
    space = table_space(1000, 10, target=Classification("y", ("a", "b")))
    rng, rows = np.random.default_rng(0), []
    for name in ("random", "quasi_random", *LEARNING, "nsga2", "tpe"):
        objectives = 2 if name == "nsga2" else 1
        sampler = SAMPLERS[name](space, seed=0, objectives=objectives)
        seconds = []
        while sampler.told < 5000:
            started = time.perf_counter()
            keys = sampler.ask(16)
            recipes = [Recipe({**sampler.point(k), "seed": i}) for i, k in enumerate(keys)]
            sampler.tell(keys, [tuple(rng.random(objectives).tolist()) for _ in recipes])
            seconds.append((time.perf_counter() - started) / len(keys))
        first, last = 1e3 * np.median(seconds[1:32]), 1e3 * np.median(seconds[-31:])
        mean = 1e3 * float(np.mean(seconds))
        row = {"sampler": name, "milliseconds": mean, "first": float(first), "last": float(last)}
        rows.append({**row, "growth": float(last / first)})
        print(json.dumps(rows[-1]), flush=True)
    return rows


# Searches


def search(
    source: Any,
    target: str | None,
    *,
    seed: int,
    strategy: Strategy,
    settings: dict[str, Any] | None = None,
    networks: int | None = None,
    given: Space | None = None,
    folds: int = 0,
    split: str | None = None,
) -> tuple[Search, Any]:
    """A search without baselines, ensembles or report; the run's dataset beside it."""
    from nastavnik.selection import Workbench

    options = DatasetOptions(target=target, seed=seed, folds=folds, split=split)
    dataset = make_dataset(read_source(source), options)
    rows = min(len(train) for train, _ in dataset.split.parts)
    space = table_space(
        rows,
        dataset.columns.numbers.shape[1],
        target=dataset.task.target,
        pinned=settings or {},
        given=given,
    )
    own = {n: v for n, v in space.fixed.items() if n.startswith(("preparation.", "likelihood."))}
    bench = Workbench(
        dataset.columns, dataset.task, dataset.split, families=list(FAMILIES.values()), settings=own, seed=seed
    )
    found = Search(
        bench, space, seed=seed, deadline=Deadline(Clock(None)), networks=networks, trace=Trace(), strategy=strategy,
        engine="auto",
    )  # fmt: skip
    found.run()
    return found, dataset


def noise(searches: int = 30) -> list[dict[str, Any]]:
    """Searches on breast_cancer's columns with shuffled labels: does the winner's interval cover chance?"""
    from sklearn.datasets import load_breast_cancer

    frame = load_breast_cancer(as_frame=True).frame.head(500)
    rows = []
    for seed in range(searches):
        rng = np.random.default_rng(seed)
        labels = np.repeat([0, 1], len(frame) // 2)
        shuffled = frame.assign(
            target=rng.permutation(labels),
            part=rng.permutation(np.repeat(["train", "validation", "test"], [225, 225, 50])),
        )
        found, _ = search(
            shuffled, "target", seed=seed, networks=128, settings={"epochs": 20}, split="part", strategy=Strategy()
        )
        losses = np.stack(list(found.losses.values()))
        errors = np.stack([found.errors[n] for n in found.losses])
        row: dict[str, Any] = {"seed": seed, "candidates": len(losses), "rows": losses.shape[1]}
        for name, choosing, scoring, chance in (
            ("nll", losses, losses, float(np.log(2))),
            ("error, chosen by nll", losses, errors, 0.5),
            ("error", errors, errors, 0.5),
        ):
            o = optimism(choosing, scoring, seed=seed)
            winner = scoring[int(choosing.mean(1).argmin())]
            half = 1.96 * float(winner.std(ddof=1)) / len(winner) ** 0.5
            row[name] = {
                "apparent": o.apparent,
                "corrected": o.corrected,
                "low": o.low,
                "high": o.high,
                "covered": bool(o.low <= chance <= o.high),
                "covered_without": bool(abs(o.apparent - chance) <= half),
            }
        rows.append(row)
        print(json.dumps(row), flush=True)
    return rows


# Early stopping

CASES = ("digits", "breast_cancer", "diabetes")
FULL = 96  # trainings that the budget would pay for without stopping
FEW_SHAPES = """
network.width = [32, 128]
network.depth = 2
network.activation = "relu"
network.embedding = "none"
network.normalization = "none"
network.residual = false
network.family = "mlp"
"""  # so that populations are large and the machine's time goes into training


def halving(seeds: int = 10) -> list[dict[str, Any]]:
    """Halving with forecasts against no stopping, an equal budget of network steps; the winner's test loss."""
    rows = []
    for name in CASES:
        for seed in range(seeds):
            row: dict[str, Any] = {"data": name, "seed": seed}
            for arm, strategy in (("none", Strategy(halving="none", forecasts=False)), ("halving", Strategy())):
                probe = _steps_of_one(name, seed)
                strategy = replace(strategy, steps=FULL * probe)
                found, dataset = search(name, None, seed=seed, strategy=strategy, given=parse_space(FEW_SHAPES)[0])
                best = found.ranking[0]
                forecasts = scored_forecasts(found.forecasts, found.history)
                row[arm] = {
                    "validation": best.score,
                    "test": test_loss(found, dataset),
                    "candidates": len(found.history),
                    "steps": found.network_steps,
                    "saved": 1 - found.network_steps / sum(c.total_steps for c in found.history),
                    "forecasts": forecasts,
                }
            rows.append(row)
            print(json.dumps(row), flush=True)
    return rows


def _steps_of_one(name: str, seed: int) -> int:
    """Network steps of one whole training of the default recipe."""
    from sklearn import datasets

    n = len(getattr(datasets, f"load_{name}")().target)
    rows = round(0.8 * n)
    space = table_space(rows, 10, target=Regression("y") if name == "diabetes" else Classification("y", ("a", "b")))
    recipe = Recipe({**space.default(), "seed": 0})
    return recipe.whole("epochs") * max(1, rows // recipe.whole("batch_size"))


def test_loss(found: Search, dataset: Any) -> float:
    """Of the best candidate, calibrated on the validation rows, on the test rows: nats a row."""
    from nastavnik.model import Member, calibrate

    best, part = found.ranking[0], found.bench.parts[0]
    judge = Member(found.pool[best.number][0], best.recipe).judge
    inputs, targets = part.rows(dataset.split.validation)
    temperature = calibrate([judge], [inputs], [targets])
    inputs, targets = part.rows(dataset.split.test)
    with torch.no_grad():
        outputs = judge(*inputs.double().tensors)
        right = targets.double() if targets.is_floating_point() else targets
        return float(judge.likelihood.neg_log_likelihood(outputs, right, temperature).mean())


# Fronts


def fronts(seeds: int = 10, networks: int = 96) -> list[dict[str, Any]]:
    """Error against parameters on digits: hypervolume of a full run, of front-aware halving and of plain halving."""
    given, _ = parse_space("""
network.width = [4, 8, 16, 32, 64, 128, 256]
network.depth = [1, 2]
[network.family]
options = ["mlp"]
""")
    arms = {
        "full": Strategy(sampler="random", halving="none", forecasts=False, objectives=("error", "parameters")),
        "front-aware": Strategy(sampler="random", forecasts=False, objectives=("error", "parameters")),
        "by score": Strategy(sampler="random", forecasts=False),
    }
    rows = []
    for seed in range(seeds):
        row: dict[str, Any] = {"seed": seed}
        for name, strategy in arms.items():
            found, _ = search("digits", None, seed=seed, strategy=strategy, networks=networks, given=given)
            ends = [c for c in found.ranking if c.status in ("finished", "stopped")]
            points = np.array([[float(found.errors[c.number].mean()), np.log10(c.parameters)] for c in ends])
            row[name] = {
                "hypervolume": hypervolume(points, (0.9, 6.0)),
                "steps": found.network_steps,
                "front": [[float(e), float(10**p)] for e, p in points[front(points)]],
            }
        rows.append(row)
        print(json.dumps({k: v if k == "seed" else (v["hypervolume"], v["steps"]) for k, v in row.items()}), flush=True)
    return rows


TABLES = {
    "table": table,
    "samplers": samplers,
    "overhead": overhead,
    "noise": noise,
    "halving": halving,
    "front": fronts,
}


def main() -> None:
    """Run one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", choices=list(TABLES))
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    rows = TABLES[asked.table]()
    if asked.out is not None:
        asked.out.write_text(json.dumps({"format_version": 1, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
