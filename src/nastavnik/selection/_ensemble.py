"""Greedy ensembles (Caruana et al. 2004): add whichever network helps most, again and again."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nastavnik.predictive import Predictive, mixture

_MOST = 8  # picks; a network may be picked more than once


def greedy_ensemble(pool: Sequence[Predictive], y: np.ndarray, weights: np.ndarray | None = None) -> list[int]:
    """Indices into the pool, with repeats, that together have the least negative log likelihood of y.

    Args:
        pool: each network's held-out predictions of the same rows.
        y: the rows' targets in own units.
        weights: of the rows, with mean 1.

    Returns:
        At most 8 picks; the shortest prefix that reaches the least loss seen.
    """
    picks: list[int] = []
    losses: list[float] = []
    for _ in range(_MOST):
        trials = [_loss([pool[i] for i in [*picks, k]], y, weights) for k in range(len(pool))]
        best = int(np.argmin(trials))
        picks.append(best)
        losses.append(trials[best])
    return picks[: int(np.argmin(losses)) + 1]


def _loss(members: Sequence[Predictive], y: np.ndarray, weights: np.ndarray | None) -> float:
    each = mixture(members).neg_log_likelihood(y)
    loss = float((each if weights is None else each * weights).mean())
    return loss if np.isfinite(loss) else np.inf
