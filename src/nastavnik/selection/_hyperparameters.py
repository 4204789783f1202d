"""Which hyperparameters mattered in a search, with intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from nastavnik.recipe import Value
from nastavnik.selection._candidate import Candidate

_FEWEST, _MOST = 20, 400  # candidates that are looked at
_FORESTS, _TREES = 20, 24


def hyperparameter_importance(history: Sequence[Candidate], *, seed: int) -> list[dict[str, Any]]:
    """The share of the score's variance that goes when one hyperparameter is shuffled, the largest first.

    Random forests predict the score of candidates they have not seen (out of bag); each is grown on a bootstrap draw
    of the candidates, and the 5 % and 95 % quantiles over forests are the interval. Scores are ranked first, so that a
    few diverged networks do not decide; networks that were stopped early enter with what they had reached.
    Hyperparameters of other branches are a level of their own. Empty under 20 candidates.

    Source: Breiman 2001; Hutter et al. 2014 ask the same of a forest by variances.
    """
    scored = [c for c in history if math.isfinite(c.score)][-_MOST:]
    names, x = _encoded([_named(c.keys) for c in scored])
    if len(scored) < _FEWEST or not names:
        return []
    y = np.argsort(np.argsort([c.score for c in scored], kind="stable"), kind="stable") / len(scored)
    rng = np.random.default_rng(seed)
    found = np.array([_one_forest(x, y, rng) for _ in range(_FORESTS)])  # [forests, names]
    low, high = np.quantile(found, [0.05, 0.95], axis=0)
    records: list[dict[str, Any]] = [
        {"name": name, "importance": float(found[:, j].mean()), "low": float(low[j]), "high": float(high[j])}
        for j, name in enumerate(names)
    ]
    return sorted(records, key=lambda r: -r["importance"])


def _one_forest(x: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    from sklearn.tree import DecisionTreeRegressor

    rows = rng.integers(len(y), size=len(y))  # of this forest, some of them several times
    rise, variance = np.zeros(x.shape[1]), 0.0
    for _ in range(_TREES):
        drawn = rows[rng.integers(len(rows), size=len(rows))]
        out = np.setdiff1d(rows, drawn)
        if len(out) < 2:
            continue
        tree = DecisionTreeRegressor(min_samples_leaf=2, max_features=0.7, random_state=int(rng.integers(2**31)))
        tree.fit(x[drawn], y[drawn], check_input=False)  # checks take ten times as long as so small a tree
        asked = np.repeat(x[None, out], x.shape[1] + 1, axis=0)  # the rows as they are, then each name shuffled
        for j in range(x.shape[1]):
            asked[1 + j, :, j] = rng.permutation(asked[1 + j, :, j])
        answers = tree.predict(asked.reshape(-1, x.shape[1]), check_input=False).reshape(len(asked), len(out))
        error = np.mean((answers - y[out]) ** 2, axis=1)
        rise += error[1:] - error[0]
        variance += float(y[out].var())
    return rise / max(2 * variance, 1e-12)  # a shuffle doubles what the values explain


def _named(keys: dict[str, Value]) -> dict[str, Value]:
    """By the name behind the branches: a rate is a rate, whichever family it belongs to."""
    return {key.rsplit("/", 1)[-1]: value for key, value in keys.items()}


def _encoded(points: Sequence[dict[str, Value]]) -> tuple[list[str], np.ndarray]:
    """Names that vary, and [n, names] for trees: numbers as they are, words as places; none is its own level."""
    names, columns = [], []
    for name in dict.fromkeys(name for point in points for name in point):
        values = [point.get(name) for point in points]
        if all(v is None or (isinstance(v, (int, float)) and not isinstance(v, bool)) for v in values):
            numbers = [v for v in values if isinstance(v, (int, float))]
            below = min(numbers) - 1.0
            column = np.array([float(v) if isinstance(v, (int, float)) else below for v in values])
        else:
            words = sorted({str(v) for v in values})
            column = np.array([float(words.index(str(v))) for v in values])
        if len(set(column.tolist())) > 1:
            names.append(name)
            columns.append(column)
    return names, np.column_stack(columns).astype(np.float32) if columns else np.empty((len(points), 0))
