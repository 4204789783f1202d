"""Greedy ensembles (Caruana et al. 2004): add whichever network helps most, again and again."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nastavnik.predictive import Predictive, mixture

_MOST = 8  # picks; a network may be picked more than once


def greedy_ensemble(
    pool: Sequence[Predictive],
    y: np.ndarray,
    weights: np.ndarray | None = None,
    *,
    most: int = _MOST,
    near: bool = False,
) -> list[int]:
    """Indices into the pool, with repeats, that together have the least negative log likelihood of y.

    Args:
        pool: each network's held-out predictions of the same rows.
        y: the rows' targets in own units.
        weights: of the rows, with mean 1.
        most: picks.
        near: let half the logarithm of the points' mean square error count beside the nats: what a normal distribution
            of the best width about them would lose.

    Returns:
        The picks; the shortest prefix that reaches the least loss seen.
    """
    picks: list[int] = []
    losses: list[float] = []
    for _ in range(most):
        trials = [_loss([pool[i] for i in [*picks, k]], y, weights, near) for k in range(len(pool))]
        best = int(np.argmin(trials))
        picks.append(best)
        losses.append(trials[best])
    return picks[: int(np.argmin(losses)) + 1]


def _loss(members: Sequence[Predictive], y: np.ndarray, weights: np.ndarray | None, near: bool) -> float:
    together = mixture(members)
    own = 1.0 if weights is None else weights
    loss = float((together.neg_log_likelihood(y) * own).mean())
    if near:
        loss += 0.5 * float(np.log(np.mean((together.point() - y) ** 2 * own) + 1e-300))
    return loss if np.isfinite(loss) else np.inf
