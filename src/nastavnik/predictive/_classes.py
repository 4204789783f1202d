"""What is believed of classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from nastavnik.predictive._base import average
from nastavnik.predictive._metrics import Weighted, distances, mean_of

_BINS = 15


@dataclass(frozen=True)
class ClassPredictive:
    """``probabilities`` [n, C]; ``grades`` [C] are the numbers that the classes are, where they are grades."""

    probabilities: np.ndarray
    grades: np.ndarray | None = None

    def point(self) -> np.ndarray:
        """The likeliest class [n]."""
        return self.probabilities.argmax(1)

    def neg_log_likelihood(self, y: np.ndarray) -> np.ndarray:
        """-log p(y)."""
        p = self.probabilities[np.arange(len(y)), y.astype(int)]
        return -np.log(np.maximum(p, 1e-30))

    def expected(self) -> np.ndarray:
        """The mean grade [n]."""
        assert self.grades is not None
        return self.probabilities @ self.grades

    def interval(self, level: float) -> None:
        """Classes have no interval."""
        return None

    def quantile(self, q: float) -> np.ndarray | None:
        """Of grades the first at which the probability reaches q; other classes have none."""
        if self.grades is None:
            return None
        return self.grades[np.minimum((self.probabilities.cumsum(1) < q - 1e-9).sum(1), len(self.grades) - 1)]

    def metrics(self, y: np.ndarray) -> dict[str, Weighted]:
        """accuracy, balanced_accuracy, nll (nats per row), ece (expected calibration error, 15 bins); of grades also
        r2, rmse and mae of the mean grade.
        """
        y = y.astype(int)
        right = (self.point() == y).astype(float)
        table: dict[str, Weighted] = {
            "accuracy": mean_of(right),
            "balanced_accuracy": _balanced(right, y, self.probabilities.shape[1]),
            "nll": mean_of(self.neg_log_likelihood(y)),
            "ece": _calibration(self.probabilities.max(1), right),
        }
        if self.grades is not None:
            table |= distances(self.expected(), self.grades[y])
        return table

    def take(self, rows: np.ndarray) -> ClassPredictive:
        """Some of the rows."""
        return replace(self, probabilities=self.probabilities[rows])

    @classmethod
    def joined(cls, members: Sequence[ClassPredictive], shares: np.ndarray | None = None) -> ClassPredictive:
        """The mean of the probabilities, as the shares are."""
        return replace(members[0], probabilities=average([m.probabilities for m in members], shares))

    @classmethod
    def stitched(cls, parts: Sequence[ClassPredictive], order: np.ndarray) -> ClassPredictive:
        """One after the other, in this order."""
        return replace(parts[0], probabilities=np.concatenate([p.probabilities for p in parts])[order])


def _balanced(right: np.ndarray, y: np.ndarray, classes: int) -> Weighted:
    """The mean over the classes that are there of the share of their rows that is right."""
    member = np.eye(max(int(y.max()) + 1, classes))[y]

    def score(w: np.ndarray) -> np.ndarray:
        with np.errstate(invalid="ignore", divide="ignore"):
            recall = ((w * right) @ member) / (w @ member)
        present = np.isfinite(recall)
        return np.where(present, recall, 0).sum(1) / present.sum(1)

    return score


def _calibration(confidence: np.ndarray, right: np.ndarray) -> Weighted:
    place = np.eye(_BINS)[np.minimum((confidence * _BINS).astype(int), _BINS - 1)]
    return lambda w: np.abs((w * (right - confidence)) @ place).sum(1) / w.sum(1)
