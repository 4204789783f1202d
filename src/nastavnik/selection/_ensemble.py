"""Greedy ensembles (Caruana et al. 2004): add whichever network helps most, again and again."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nastavnik.predictive import ClassPredictive, OfNumbers, Predictive, log_mean_exp, mixture

MOST_PICKS = 8  # picks; a network may be picked more than once
_NEAR = 4.0  # what points count for: a mixture's density forgives a member that is off, its mean does not


def greedy_ensemble(
    pool: Sequence[Predictive],
    y: np.ndarray,
    weights: np.ndarray | None = None,
    *,
    most: int = MOST_PICKS,
    near: bool = False,
) -> list[int]:
    """Indices into the pool, with repeats, that together have the least negative log likelihood of y.

    Args:
        pool: each network's held-out predictions of the same rows.
        y: the rows' targets in own units.
        weights: of the rows, with mean 1.
        most: picks.
        near: beside the nats let half the logarithm of the points' mean square error count, four times as much: what a
            normal distribution of the best width about them would lose.

    Returns:
        The picks; the shortest prefix that reaches the least loss seen.
    """
    loss = _Losses(pool, y, weights, near)
    picks: list[int] = []
    losses: list[float] = []
    for _ in range(most):
        trials = [loss([*picks, k]) for k in range(len(pool))]
        best = int(np.argmin(trials))
        picks.append(best)
        losses.append(trials[best])
    return picks[: int(np.argmin(losses)) + 1]


class _Losses:
    """The loss of picks from a pool. Of one value a row, densities and points are averaged row by row."""

    def __init__(self, pool: Sequence[Predictive], y: np.ndarray, weights: np.ndarray | None, near: bool) -> None:
        self._pool, self._y, self._near = pool, y, near
        self._weights: np.ndarray | float = 1.0 if weights is None else weights
        self._plain = all(isinstance(own, (ClassPredictive, OfNumbers)) for own in pool)
        if self._plain:
            self._log = np.stack([-own.neg_log_likelihood(y) for own in pool])
            self._points = np.stack([own.point() for own in pool]) if near else np.zeros((len(pool), 0))

    def __call__(self, picks: list[int]) -> float:
        if self._plain:
            each, point = -log_mean_exp(self._log[picks]), self._points[picks].mean(0)
        else:
            together = mixture([self._pool[i] for i in picks])
            each, point = together.neg_log_likelihood(self._y), together.point()
        loss = float((each * self._weights).mean())
        if self._near:
            loss += 0.5 * _NEAR * float(np.log(np.mean((point - self._y) ** 2 * self._weights) + 1e-300))
        return loss if np.isfinite(loss) else np.inf
