"""What metrics are made of: each is a function of row weights, so that one bootstrap serves them all."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

Weighted = Callable[[np.ndarray], np.ndarray]  # weights [r, n] -> values [r]
LEVEL = 0.95  # of every interval


def mean_of(values: np.ndarray) -> Weighted:
    """The weighted mean of what was measured of each row [n]."""
    return lambda w: w @ values / w.sum(1)


def distances(guess: np.ndarray, y: np.ndarray) -> dict[str, Weighted]:
    """R², root mean squared and mean absolute error of a guess."""
    error = guess - y
    shifted = y - y.mean()  # sums of squares of large values would cancel

    def r2(w: np.ndarray) -> np.ndarray:
        total = w.sum(1)
        spread = w @ shifted**2 - (w @ shifted) ** 2 / total
        varied = spread > 1e-9 * np.maximum((w @ shifted**2), 1e-300)
        return np.where(varied, 1 - (w @ error**2) / np.where(varied, spread, 1.0), np.nan)

    return {"r2": r2, "rmse": lambda w: np.sqrt(w @ error**2 / w.sum(1)), "mae": mean_of(np.abs(error))}


def f1(right: np.ndarray, said: np.ndarray, true: np.ndarray) -> Weighted:
    """2 · hits / (said + true), from each row's counts of labels [n] (micro-averaged; van Rijsbergen 1979)."""

    def score(w: np.ndarray) -> np.ndarray:
        total = w @ (said + true)
        return np.where(total > 0, 2 * (w @ right) / np.where(total > 0, total, 1.0), np.nan)

    return score
