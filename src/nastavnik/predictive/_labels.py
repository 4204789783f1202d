"""What is believed of labels that may hold together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nastavnik.predictive._base import average
from nastavnik.predictive._metrics import Weighted, f1, mean_of

_LEAST = 1e-12


@dataclass(frozen=True)
class LabelsPredictive:
    """``probabilities`` [n, L] of each label, independent of the others."""

    probabilities: np.ndarray

    def point(self) -> np.ndarray:
        """Which labels are likelier there than not [n, L], as 0 and 1."""
        return (self.probabilities > 0.5).astype(np.float64)

    def neg_log_likelihood(self, y: np.ndarray) -> np.ndarray:
        """-log p of all of a row's labels y [n, L] together."""
        p = np.clip(self.probabilities, _LEAST, 1 - _LEAST)
        return -np.where(y > 0.5, np.log(p), np.log1p(-p)).sum(1)

    def interval(self, level: float) -> None:
        """Labels have no interval."""
        return None

    def quantile(self, q: float) -> None:
        """Labels have no quantiles."""
        return None

    def metrics(self, y: np.ndarray) -> dict[str, Weighted]:
        """f1 over all labels; exact: the share of rows whose labels are all right; nll, of all labels of a row."""
        said, true = self.point(), (y > 0.5).astype(np.float64)
        return {
            "f1": f1((said * true).sum(1), said.sum(1), true.sum(1)),
            "exact": mean_of((said == true).all(1).astype(float)),
            "nll": mean_of(self.neg_log_likelihood(y)),
        }

    def take(self, rows: np.ndarray) -> LabelsPredictive:
        """Some of the rows."""
        return LabelsPredictive(self.probabilities[rows])

    @classmethod
    def joined(cls, members: Sequence[LabelsPredictive], shares: np.ndarray | None = None) -> LabelsPredictive:
        """The mean of the probabilities, as the shares are."""
        return cls(average([m.probabilities for m in members], shares))

    @classmethod
    def stitched(cls, parts: Sequence[LabelsPredictive], order: np.ndarray) -> LabelsPredictive:
        """One after the other, in this order."""
        return cls(np.concatenate([p.probabilities for p in parts])[order])
