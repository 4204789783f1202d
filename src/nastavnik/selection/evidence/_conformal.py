"""Conformal intervals and sets: coverage that holds whatever the model believes, from rows held out.

Legend: n held-out rows, level 1 - a. With the score of a row s(x, y), the ⌈(n + 1)(1 - a)⌉-th smallest score q of the
held-out rows bounds a new row's score with probability at least 1 - a, if rows are exchangeable (Vovk et al. 2005).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from nastavnik.errors import UserError
from nastavnik.predictive import ClassPredictive, CountPredictive, Predictive

_WIDTH = 0.6827  # the level whose half width scales a real row's score


@dataclass(frozen=True)
class Conformal:
    """Made from held-out rows by ``conformal``; ``scores`` are theirs [n], sorted."""

    scores: np.ndarray
    classes: bool

    def quantile(self, level: float) -> float:
        """The score that bounds a new row's with this probability; infinite where rows are too few for it."""
        place = math.ceil((len(self.scores) + 1) * level)
        return float(self.scores[place - 1]) if place <= len(self.scores) else math.inf

    def interval(self, predictive: Predictive, level: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
        """Low and high [m] of new rows of a real target, in own units.

        Raises:
            UserError: the target is a class, or the held-out rows are too few for this level.
        """
        if self.classes:
            raise UserError("classes have no interval; ask for sets(…)")
        q = self._finite(level)
        centre, half = _centre_and_half(predictive)
        return centre - q * half, centre + q * half

    def sets(self, predictive: Predictive, level: float = 0.95) -> np.ndarray:
        """Which classes [m, C] each new row's set holds: those whose score is small enough.

        Raises:
            UserError: the target is no class, or the held-out rows are too few for this level.
        """
        if not self.classes or not isinstance(predictive, ClassPredictive):
            raise UserError("only classes come in sets; ask for interval(…)")
        return 1 - predictive.probabilities <= self._finite(level)

    def _finite(self, level: float) -> float:
        if not 0 < level < 1:
            raise UserError(f"level must lie between 0 and 1, but got {level}")
        q = self.quantile(level)
        if not math.isfinite(q):
            wanted = math.ceil(level / (1 - level))
            raise UserError(f"{len(self.scores)} held-out rows cannot promise {level:.0%}; it takes {wanted} at least")
        return q


def conformal(predictive: Predictive, y: np.ndarray) -> Conformal:
    """Calibrate on rows that the model was not trained on.

    Real targets: |y - centre| in units of the model's own half width of 68 %, so that intervals stay as wide relative
    to each other as the model believes; classes: 1 - probability of the true class.

    Args:
        predictive: what the model believes of the held-out rows.
        y: their targets in own units, or class numbers.
    """
    if isinstance(predictive, ClassPredictive):
        own = predictive.probabilities[np.arange(len(y)), y.astype(int)]
        return Conformal(np.sort(1 - own), True)
    centre, half = _centre_and_half(predictive)
    return Conformal(np.sort(np.abs(y - centre) / half), False)


def _centre_and_half(predictive: Predictive) -> tuple[np.ndarray, np.ndarray]:
    interval = predictive.interval(_WIDTH)
    assert interval is not None
    low, high = interval
    least = 0.5 if isinstance(predictive, CountPredictive) else 1e-12  # a count's interval may have no width
    return (low + high) / 2, np.maximum((high - low) / 2, least)
