"""What is believed of counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from nastavnik.predictive._base import OfNumbers, shares_of

_LEAST = 1e-3  # of a rate that is moved


@dataclass(frozen=True)
class CountPredictive(OfNumbers):
    """Members' Poisson rates [m, n]."""

    rate: np.ndarray
    shares: np.ndarray | None = None

    @property
    def count(self) -> int:
        """See ``OfNumbers``."""
        return len(self.rate)

    def point(self) -> np.ndarray:
        """The mean count [n]."""
        return self.averaged(self.rate)

    def neg_log_likelihood(self, y: np.ndarray) -> np.ndarray:
        """-log of the mixture's probability of the count."""
        from scipy.special import gammaln

        return -self.log_averaged(y * np.log(self.rate) - self.rate - gammaln(y + 1))

    def interval(self, level: float) -> tuple[np.ndarray, np.ndarray]:
        """The central interval of the mean rate's Poisson distribution."""
        return self.quantile((1 - level) / 2), self.quantile((1 + level) / 2)

    def quantile(self, q: float) -> np.ndarray:
        """Of the mean rate's Poisson distribution."""
        from scipy.stats import poisson

        return poisson.ppf(q, self.point())

    def moved(self, point: np.ndarray) -> CountPredictive:
        """All members' rates by the same factor."""
        return replace(self, rate=self.rate * np.maximum(point, _LEAST) / self.point())

    def take(self, rows: np.ndarray) -> CountPredictive:
        """Some of the rows."""
        return replace(self, rate=self.rate[:, rows])

    @classmethod
    def joined(cls, members: Sequence[CountPredictive], shares: np.ndarray | None = None) -> CountPredictive:
        """All members side by side."""
        return cls(np.concatenate([m.rate for m in members]), shares_of(members, shares))

    @classmethod
    def stitched(cls, parts: Sequence[CountPredictive], order: np.ndarray) -> CountPredictive:
        """One after the other, in this order."""
        return replace(parts[0], rate=np.concatenate([p.rate for p in parts], axis=1)[:, order])
