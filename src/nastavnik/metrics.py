"""Scores with intervals: each metric as a function of row weights, so that one bootstrap serves them all."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from nastavnik.predictive import ClassPredictive, Predictive

LEVEL = 0.95
_DRAWS = 1000
_BINS = 15
_SHARES = ("accuracy", "balanced_accuracy", "coverage")
Scores = dict[str, dict[str, float]]
Weighted = Callable[[np.ndarray], np.ndarray]  # weights [r, n] -> values [r]


def scores(predictive: Predictive, y: np.ndarray, *, seed: int = 0, weights: np.ndarray | None = None) -> Scores:
    """Every score of the task: ``{"accuracy": {"value", "low", "high"}, …}``.

    Classification: accuracy, balanced_accuracy, nll (nats per example), ece (expected calibration error, 15 bins); of
    grades also r2, rmse and mae of the mean grade.
    Otherwise, in the target's own units: r2, rmse, mae, nll, and coverage of the 95 % intervals.
    ``weights`` weigh rows. The interval is a 95 % percentile bootstrap over rows with 1,000 draws; Wilson's where
    every row is right.
    """
    table = _class_metrics(predictive, y) if isinstance(predictive, ClassPredictive) else _real_metrics(predictive, y)
    if weights is not None:
        table = {name: partial(_with_weights, metric, weights / weights.mean()) for name, metric in table.items()}
    return with_intervals(table, len(y), seed)


def _with_weights(metric: Weighted, own: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    """A metric under how often rows were drawn [r, n], times what they weigh."""
    return metric(drawn * own)


def with_intervals(table: dict[str, Weighted], n: int, seed: int) -> Scores:
    """Each metric's value on the rows as they are, and its bootstrap interval."""
    rng = np.random.default_rng(seed)
    even = np.ones((1, n))
    drawn: dict[str, list[np.ndarray]] = {name: [] for name in table}
    block = max(1, min(_DRAWS, 4_000_000 // max(n, 1)))
    for start in range(0, _DRAWS, block):
        size = min(block, _DRAWS - start)
        picks = rng.integers(0, n, (size, n)) + n * np.arange(size)[:, None]
        weights = np.bincount(picks.ravel(), minlength=size * n).reshape(size, n).astype(np.float64)
        for name, metric in table.items():
            drawn[name].append(metric(weights))
    found: Scores = {}
    for name, metric in table.items():
        draws = np.concatenate(drawn[name])
        draws = draws[~np.isnan(draws)]  # a draw of equal rows has no R²
        low, high = np.quantile(draws, ((1 - LEVEL) / 2, (1 + LEVEL) / 2)) if len(draws) else (np.nan, np.nan)
        value = float(metric(even)[0])
        if name in _SHARES and low == high == value and value in (0.0, 1.0):
            low, high = _wilson(value, n)  # where all rows agree a bootstrap knows no doubt
        found[name] = {"value": value, "low": float(low), "high": float(high)}
    return found


def _wilson(share: float, n: int) -> tuple[float, float]:
    """Wilson's 95 % interval (1927) of a share that is 0 or 1."""
    edge = 1.96**2 / (n + 1.96**2)
    return (0.0, edge) if share == 0 else (1 - edge, 1.0)


def _mean(values: np.ndarray) -> Weighted:
    return lambda w: w @ values / w.sum(1)


def _class_metrics(predictive: ClassPredictive, y: np.ndarray) -> dict[str, Weighted]:
    y = y.astype(int)
    right = (predictive.point() == y).astype(float)
    member = np.eye(int(max(y.max(), predictive.probabilities.shape[1] - 1)) + 1)[y]

    def balanced(w: np.ndarray) -> np.ndarray:
        with np.errstate(invalid="ignore", divide="ignore"):
            recall = ((w * right) @ member) / (w @ member)
        present = np.isfinite(recall)
        return np.where(present, recall, 0).sum(1) / present.sum(1)

    confidence = predictive.probabilities.max(1)
    place = np.eye(_BINS)[np.minimum((confidence * _BINS).astype(int), _BINS - 1)]

    def calibration(w: np.ndarray) -> np.ndarray:
        return np.abs((w * (right - confidence)) @ place).sum(1) / w.sum(1)

    table: dict[str, Weighted] = {
        "accuracy": _mean(right),
        "balanced_accuracy": balanced,
        "nll": _mean(predictive.neg_log_likelihood(y)),
        "ece": calibration,
    }
    if predictive.grades is not None:
        table |= _distances(predictive.expected(), predictive.grades[y])
    return table


def _real_metrics(predictive: Predictive, y: np.ndarray) -> dict[str, Weighted]:
    y = y.astype(np.float64)
    table = {**_distances(predictive.point(), y), "nll": _mean(predictive.neg_log_likelihood(y))}
    interval = predictive.interval(LEVEL)
    if interval is not None:
        table["coverage"] = _mean(((y >= interval[0]) & (y <= interval[1])).astype(float))
    return table


def _distances(guess: np.ndarray, y: np.ndarray) -> dict[str, Weighted]:
    """R², root mean squared and mean absolute error of a guess."""
    error = guess - y
    shifted = y - y.mean()  # sums of squares of large values would cancel

    def r2(w: np.ndarray) -> np.ndarray:
        total = w.sum(1)
        spread = w @ shifted**2 - (w @ shifted) ** 2 / total
        varied = spread > 1e-9 * np.maximum((w @ shifted**2), 1e-300)
        return np.where(varied, 1 - (w @ error**2) / np.where(varied, spread, 1.0), np.nan)

    return {"r2": r2, "rmse": lambda w: np.sqrt(w @ error**2 / w.sum(1)), "mae": _mean(np.abs(error))}


def difference(first: np.ndarray, second: np.ndarray, *, seed: int = 0) -> dict[str, float]:
    """Mean of the paired differences ``first - second`` a row, with its 95 % bootstrap interval."""
    return with_intervals({"difference": _mean(first - second)}, len(first), seed)["difference"]
