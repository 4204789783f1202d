"""Scores with intervals: each metric as a function of row weights, so that one bootstrap serves them all."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial

import numpy as np

from nastavnik.predictive import LEVEL, Predictive, Weighted, mean_of

_DRAWS = 1000
_DEFINED = 0.95  # of the draws, at least, for an interval
_FEWEST = 6  # rows for an interval: five that agree happen by chance in 2 of 32 tosses, more than 5 %
_AT_ONCE = 1_000_000  # weights of rows that are drawn at a time
_SHARES = ("accuracy", "balanced_accuracy", "coverage", "exact")
_HEADLINES = ("accuracy", "f1", "r2", "nll")  # the first that a target has is shown first
_LOW_IS_GOOD = ("nll",)
Scores = dict[str, dict[str, float]]


def scores(predictive: Predictive, y: np.ndarray, *, seed: int = 0, weights: np.ndarray | None = None) -> Scores:
    """Every score of the task: ``{"accuracy": {"value", "low", "high"}, …}``.

    Which they are is for each sort of predictive distribution to say: shares of rows, the target's own units, nats.
    ``weights`` weigh rows. The interval is a 95 % percentile bootstrap over rows with 1,000 draws; Wilson's where
    every row is right; unknown (NaN) for fewer than six rows, which no interval without a law behind it can hold.
    """
    return with_intervals(_weighed(predictive.metrics(y), weights), len(y), seed)


def headline(names: Iterable[str]) -> str:
    """The one of these metrics that is shown first."""
    known = set(names)
    return next(name for name in _HEADLINES if name in known)


def best_of(metric: str, values: Mapping[str, float | None]) -> str | None:
    """Whose value of a metric is best; None where nobody has one."""
    known = {name: value for name, value in values.items() if value is not None}
    pick = min if metric in _LOW_IS_GOOD else max
    return pick(known, key=lambda name: known[name], default=None)


def lead(
    ours: Predictive, theirs: Predictive, y: np.ndarray, *, seed: int = 0, weights: np.ndarray | None = None
) -> dict[str, float]:
    """How far our headline score is ahead of theirs on the same rows, with the interval of the paired difference.

    Of losses it is how much lower ours is.
    """
    tables = [_weighed(one.metrics(y), weights) for one in (ours, theirs)]
    head = headline(tables[0])
    sign = -1 if head in _LOW_IS_GOOD else 1
    first, second = (table[head] for table in tables)
    return with_intervals({"ahead": lambda w: sign * (first(w) - second(w))}, len(y), seed)["ahead"]


def _weighed(table: dict[str, Weighted], weights: np.ndarray | None) -> dict[str, Weighted]:
    if weights is None:
        return table
    return {name: partial(_with_weights, metric, weights / weights.mean()) for name, metric in table.items()}


def _with_weights(metric: Weighted, own: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    """A metric under how often rows were drawn [r, n], times what they weigh."""
    return metric(drawn * own)


def with_intervals(table: dict[str, Weighted], n: int, seed: int) -> Scores:
    """Each metric's value on the rows as they are, and its bootstrap interval."""
    rng = np.random.default_rng(seed)
    even = np.ones((1, n))
    drawn: dict[str, list[np.ndarray]] = {name: [] for name in table}
    block = max(1, min(_DRAWS, _AT_ONCE // max(n, 1)))
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
        enough = (
            n >= _FEWEST and len(draws) > _DEFINED * _DRAWS
        )  # the others would leave out just what such few rows are unsure of
        low, high = np.quantile(draws, ((1 - LEVEL) / 2, (1 + LEVEL) / 2)) if enough else (np.nan, np.nan)
        value = float(metric(even)[0])
        if name in _SHARES and low == high == value and value in (0.0, 1.0):
            low, high = _wilson(value, n)  # where all rows agree a bootstrap knows no doubt
        found[name] = {"value": value, "low": float(low), "high": float(high)}
    return found


def _wilson(share: float, n: int) -> tuple[float, float]:
    """Wilson's 95 % interval (1927) of a share that is 0 or 1."""
    edge = 1.96**2 / (n + 1.96**2)
    return (0.0, edge) if share == 0 else (1 - edge, 1.0)


def difference(first: np.ndarray, second: np.ndarray, *, seed: int = 0) -> dict[str, float]:
    """Mean of the paired differences ``first - second`` a row, with its 95 % bootstrap interval."""
    return with_intervals({"difference": mean_of(first - second)}, len(first), seed)["difference"]
