"""Several criteria that are never summed: who dominates whom, fronts and their uncertainty, hypervolume.

Legend: N points, m criteria, values [N, m], each to be small.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def dominates(values: np.ndarray) -> np.ndarray:
    """[N, N]: whether point i is nowhere worse than j and somewhere better; what is no number dominates nobody."""
    filled = np.where(np.isnan(values), np.inf, values)
    nowhere_worse = (filled[:, None] <= filled[None]).all(-1)
    somewhere_better = (filled[:, None] < filled[None]).any(-1)
    return np.asarray(nowhere_worse & somewhere_better)


def front(values: np.ndarray) -> list[int]:
    """The points that none dominates, those with a finite value everywhere."""
    free = ~dominates(values).any(0) & np.isfinite(values).all(-1)
    return np.flatnonzero(free).tolist()


def layers(values: np.ndarray) -> list[list[int]]:
    """The front, the front without it, and so on: every point once (Deb et al. 2002)."""
    over = dominates(values)
    left = np.ones(len(values), dtype=bool)
    found = []
    while left.any():
        layer = np.flatnonzero(left & ~over[left].any(0))
        found.append(layer.tolist())
        left[layer] = False
    return found


def crowding(values: np.ndarray) -> np.ndarray:
    """How lonely each point [N] of a layer is: the sum over criteria of its neighbours' distance, ends infinite."""
    found = np.zeros(len(values))
    if not len(values):
        return found
    for column in np.where(np.isfinite(values), values, np.finfo(float).max).T:
        order = np.argsort(column, kind="stable")
        span = column[order[-1]] / 2 - column[order[0]] / 2  # halves, which cannot overflow
        found[order[0]] = found[order[-1]] = np.inf
        if span > 0:
            found[order[1:-1]] += (column[order[2:]] / 2 - column[order[:-2]] / 2) / span
    return found


def best_first(values: Sequence[tuple[float, ...]]) -> list[int]:
    """By value where there is one; else by layers, within a layer the lonely first; what is not finite comes last."""
    if not values:
        return []
    table = np.array(values, dtype=float)
    if table.shape[1] == 1:
        return np.argsort(table[:, 0], kind="stable").tolist()
    finite = np.isfinite(table).all(1)
    kept = np.flatnonzero(finite)
    found: list[int] = []
    for layer in layers(table[kept]):
        found += [int(kept[layer[i]]) for i in np.argsort(-crowding(table[kept][layer]), kind="stable")]
    return found + np.flatnonzero(~finite).tolist()


def hypervolume(values: np.ndarray, reference: Sequence[float]) -> float:
    """The volume between points and a reference point that is worse in every criterion; exact, by slices.

    Points that are not better than the reference everywhere count nothing (Zitzler & Thiele 1999).
    """
    corner = np.asarray(reference, dtype=float)
    inside = values[(values < corner).all(-1)]
    if not len(inside):
        return 0.0
    return _volume(inside[front(inside)], corner)


def _volume(points: np.ndarray, corner: np.ndarray) -> float:
    if points.shape[1] == 1:
        return float(corner[0] - points[:, 0].min())
    points = points[np.argsort(points[:, -1], kind="stable")]
    heights = np.append(points[1:, -1], corner[-1]) - points[:, -1]
    return sum(
        float(height) * _volume(points[: i + 1, :-1], corner[:-1]) for i, height in enumerate(heights) if height > 0
    )


def on_front(losses: np.ndarray, others: np.ndarray, *, draws: int = 400, seed: int = 0) -> np.ndarray:
    """The share of bootstrap draws of rows in which each point [N] is on the front.

    Args:
        losses: of each point and row [N, n]; its mean is the first criterion, the one that is uncertain.
        others: the other criteria [N, m - 1], taken as exact.
        draws: how many.
        seed: of the draws.
    """
    rng = np.random.default_rng(seed)
    rows = losses.shape[1]
    found = np.zeros(len(losses))
    for _ in range(draws):
        counts = rng.multinomial(rows, np.full(rows, 1 / rows))
        means = losses @ counts / rows
        found[front(np.column_stack([means, others]))] += 1
    return found / draws
