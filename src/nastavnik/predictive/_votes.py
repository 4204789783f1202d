"""What is believed of votes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nastavnik.predictive._base import average
from nastavnik.predictive._metrics import Weighted, mean_of


@dataclass(frozen=True)
class VotesPredictive:
    """``probabilities`` [n, C] of one vote."""

    probabilities: np.ndarray

    def point(self) -> np.ndarray:
        """The shares that the classes are expected to have [n, C]."""
        return self.probabilities

    def neg_log_likelihood(self, y: np.ndarray) -> np.ndarray:
        """-log of the multinomial probability of votes y [n, C]; shares that sum to one count as one vote."""
        from scipy.special import gammaln

        ways = gammaln(y.sum(1) + 1) - gammaln(y + 1).sum(1)
        return -ways - (y * np.log(np.maximum(self.probabilities, 1e-30))).sum(1)

    def interval(self, level: float) -> None:
        """Votes have no interval."""
        return None

    def quantile(self, q: float) -> None:
        """Votes have no quantiles."""
        return None

    def metrics(self, y: np.ndarray) -> dict[str, Weighted]:
        """accuracy: whether the class of most votes is the likeliest; nll; distance, half the sum of differences of
        shares (total variation), 0 where they are equal and 1 where they have nothing in common.
        """
        shares = y / y.sum(1, keepdims=True)
        return {
            "accuracy": mean_of((self.probabilities.argmax(1) == y.argmax(1)).astype(float)),
            "nll": mean_of(self.neg_log_likelihood(y)),
            "distance": mean_of(0.5 * np.abs(shares - self.probabilities).sum(1)),
        }

    def take(self, rows: np.ndarray) -> VotesPredictive:
        """Some of the rows."""
        return VotesPredictive(self.probabilities[rows])

    @classmethod
    def joined(cls, members: Sequence[VotesPredictive], shares: np.ndarray | None = None) -> VotesPredictive:
        """The mean of the probabilities, as the shares are."""
        return cls(average([m.probabilities for m in members], shares))

    @classmethod
    def stitched(cls, parts: Sequence[VotesPredictive], order: np.ndarray) -> VotesPredictive:
        """One after the other, in this order."""
        return cls(np.concatenate([p.probabilities for p in parts])[order])
