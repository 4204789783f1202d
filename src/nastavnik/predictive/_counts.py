"""What is believed of counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nastavnik.predictive._base import OfNumbers, log_mean_exp

_LEAST = 1e-3  # of a rate that is moved


@dataclass(frozen=True)
class CountPredictive(OfNumbers):
    """Members' Poisson rates [m, n]."""

    rate: np.ndarray

    def point(self) -> np.ndarray:
        """The mean count [n]."""
        return self.rate.mean(0)

    def neg_log_likelihood(self, y: np.ndarray) -> np.ndarray:
        """-log of the mixture's probability of the count."""
        from scipy.special import gammaln

        return -log_mean_exp(y * np.log(self.rate) - self.rate - gammaln(y + 1))

    def interval(self, level: float) -> tuple[np.ndarray, np.ndarray]:
        """The central interval of the mean rate's Poisson distribution."""
        return self.quantile((1 - level) / 2), self.quantile((1 + level) / 2)

    def quantile(self, q: float) -> np.ndarray:
        """Of the mean rate's Poisson distribution."""
        from scipy.stats import poisson

        return poisson.ppf(q, self.point())

    def moved(self, point: np.ndarray) -> CountPredictive:
        """All members' rates by the same factor."""
        return CountPredictive(self.rate * np.maximum(point, _LEAST) / self.point())

    def take(self, rows: np.ndarray) -> CountPredictive:
        """Some of the rows."""
        return CountPredictive(self.rate[:, rows])

    @classmethod
    def joined(cls, members: Sequence[CountPredictive]) -> CountPredictive:
        """All members side by side."""
        return CountPredictive(np.concatenate([m.rate for m in members]))

    @classmethod
    def stitched(cls, parts: Sequence[CountPredictive], order: np.ndarray) -> CountPredictive:
        """One after the other, in this order."""
        return CountPredictive(np.concatenate([p.rate for p in parts], axis=1)[:, order])
