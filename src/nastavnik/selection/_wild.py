"""Judging by rows of which a few are wild: what may not be delivered, and what a comparison shows all the same."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

import numpy as np

_FAR_BETTER = 0.5  # of R²
_WILD = 0.025  # share of the rows at either end that a comparison may leave out
Name = TypeVar("Name")


def absurd(r2: Mapping[Name, float]) -> dict[Name, float]:
    """Those whose predictions are worse than a constant where another's are far better, with their R².

    A loss can be small where predictions in the target's own units are wild: a transform's inverse stretches them.
    """
    finite = [value for value in r2.values() if np.isfinite(value)]
    if not finite:
        return {}
    best = max(finite)
    return {name: v for name, v in r2.items() if not np.isfinite(v) or (v < 0 and best - v > _FAR_BETTER)}


def shown_above_zero(gaps: np.ndarray, width: float) -> bool:
    """Whether the mean of paired differences [n] lies ``width`` standard errors above zero, with or without wild rows.

    Without them it is the trimmed mean, with its error from the winsorized variance (Yuen, "The two-sample trimmed t
    for unequal population variances", 1974).
    """
    n, cut = len(gaps), int(_WILD * len(gaps))
    if gaps.mean() > width * gaps.std() / n**0.5:
        return True
    ordered = np.sort(gaps)
    kept = ordered[cut : n - cut]
    error = np.clip(gaps, kept[0], kept[-1]).std() / (len(kept) / n) / n**0.5
    return bool(kept.mean() > width * error)
