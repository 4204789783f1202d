"""What is believed of values that are never negative: gamma, and log-normal beside a spike at zero."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from nastavnik.predictive._base import OfNumbers, bisected, shares_of
from nastavnik.predictive._real import in_units_of, rescaled

if TYPE_CHECKING:
    from nastavnik.data import TargetPreparation

_LEAST = 1e-3  # of a usual value: nothing is moved nearer to zero


@dataclass(frozen=True)
class GammaPredictive(OfNumbers):
    """Members' gamma distributions: ``mean`` in prepared units and ``shape`` [m, n], and the way back."""

    mean: np.ndarray
    shape: np.ndarray
    target: TargetPreparation
    shares: np.ndarray | None = None

    @property
    def count(self) -> int:
        """See ``OfNumbers``."""
        return len(self.mean)

    def point(self) -> np.ndarray:
        """The mixture's mean in own units [n]."""
        return self.averaged(self.mean) * self.target.scale

    def neg_log_likelihood(self, y: np.ndarray) -> np.ndarray:
        """-log of the mixture's density in own units."""
        from scipy.special import gammaln

        t, k = np.maximum(y / self.target.scale, 1e-30), self.shape
        density = k * np.log(k / self.mean) - gammaln(k) + (k - 1) * np.log(t) - k * t / self.mean
        return -self.log_averaged(density) - self.target.log_jacobian(y)

    def interval(self, level: float) -> tuple[np.ndarray, np.ndarray]:
        """The mixture's central interval in own units."""
        return self.quantile((1 - level) / 2), self.quantile((1 + level) / 2)

    def quantile(self, q: float) -> np.ndarray:
        """In own units, between its members' own."""
        from scipy.special import gammainc, gammaincinv

        ends = gammaincinv(self.shape, q) * self.mean / self.shape
        if len(ends) == 1:
            return ends[0] * self.target.scale
        found = bisected(
            ends.min(0),
            ends.max(0),
            lambda t: self.averaged(gammainc(self.shape, self.shape * t / self.mean)) < q,
        )
        return found * self.target.scale

    def moved(self, point: np.ndarray) -> GammaPredictive:
        """All members' means by the same factor."""
        return replace(self, mean=self.mean * np.maximum(point, _LEAST * self.target.scale) / self.point())

    def take(self, rows: np.ndarray) -> GammaPredictive:
        """Some of the rows."""
        return replace(self, mean=self.mean[:, rows], shape=self.shape[:, rows])

    @classmethod
    def joined(cls, members: Sequence[GammaPredictive], shares: np.ndarray | None = None) -> GammaPredictive:
        """All members side by side, in the first one's units."""
        base = members[0].target.scale
        mean = np.concatenate([m.mean * (m.target.scale / base) for m in members])
        shape = np.concatenate([m.shape for m in members])
        return replace(members[0], mean=mean, shape=shape, shares=shares_of(members, shares))

    @classmethod
    def stitched(cls, parts: Sequence[GammaPredictive], order: np.ndarray) -> GammaPredictive:
        """One after the other in the first one's units, in this order."""
        base = parts[0].target.scale
        mean = np.concatenate([p.mean * p.target.scale / base for p in parts], axis=1)[:, order]
        return replace(parts[0], mean=mean, shape=np.concatenate([p.shape for p in parts], axis=1)[:, order])


@dataclass(frozen=True)
class HurdlePredictive(OfNumbers):
    """Members' chances ``zero`` [m, n] of zero, and log-normal distributions beside it: ``mean``, ``deviation``."""

    mean: np.ndarray
    deviation: np.ndarray
    zero: np.ndarray
    target: TargetPreparation
    shares: np.ndarray | None = None

    @property
    def count(self) -> int:
        """See ``OfNumbers``."""
        return len(self.mean)

    def point(self) -> np.ndarray:
        """The mixture's mean in own units [n]."""
        return self.averaged((1 - self.zero) * self.target.own_mean(self.mean, self.deviation))

    def neg_log_likelihood(self, y: np.ndarray) -> np.ndarray:
        """-log of the probability of zero, of the density of other values."""
        z = self.target.apply(y).numpy().astype(np.float64)
        density = -0.5 * ((z - self.mean) / self.deviation) ** 2 - np.log(self.deviation) - 0.5 * np.log(2 * np.pi)
        some = self.log_averaged(np.log1p(-np.minimum(self.zero, 1 - 1e-12)) + density) + self.target.log_jacobian(y)
        return -np.where(y == 0, np.log(np.maximum(self.averaged(self.zero), 1e-30)), some)

    def interval(self, level: float) -> tuple[np.ndarray, np.ndarray]:
        """The mixture's central interval in own units."""
        return self.quantile((1 - level) / 2), self.quantile((1 + level) / 2)

    def quantile(self, q: float) -> np.ndarray:
        """Zero where the chance of it reaches q, else where the rest of the mixture does."""
        from scipy.special import ndtr

        low = (self.mean - 12 * self.deviation).min(0)
        high = (self.mean + 12 * self.deviation).max(0)

        def is_below(z: np.ndarray) -> np.ndarray:
            return self.averaged(self.zero + (1 - self.zero) * ndtr((z - self.mean) / self.deviation)) < q

        return np.where(self.averaged(self.zero) >= q, 0.0, self.target.own_units(bisected(low, high, is_below)))

    def moved(self, point: np.ndarray) -> HurdlePredictive:
        """What is not zero, by the same factor."""
        least = _LEAST * float(self.target.own_mean(np.zeros(1), np.ones(1))[0])
        factor = np.maximum(point, least) / np.maximum(self.point(), least)
        return replace(self, mean=self.mean + np.log(factor) / self.target.scale)

    def take(self, rows: np.ndarray) -> HurdlePredictive:
        """Some of the rows."""
        return replace(self, mean=self.mean[:, rows], deviation=self.deviation[:, rows], zero=self.zero[:, rows])

    @classmethod
    def joined(cls, members: Sequence[HurdlePredictive], shares: np.ndarray | None = None) -> HurdlePredictive:
        """All members side by side, in the first one's units."""
        each = [(*in_units_of(members[0], m), m.zero) for m in members]
        mean, deviation, zero = (np.concatenate([own[i] for own in each]) for i in (0, 1, 2))
        own = shares_of(members, shares)
        return replace(members[0], mean=mean, deviation=deviation, zero=zero, shares=own)

    @classmethod
    def stitched(cls, parts: Sequence[HurdlePredictive], order: np.ndarray) -> HurdlePredictive:
        """One after the other in the first one's units, in this order."""
        each = [(*rescaled(p.mean, p.deviation, p.target, parts[0].target), p.zero) for p in parts]
        mean, deviation, zero = (np.concatenate([own[i] for own in each], axis=1)[:, order] for i in (0, 1, 2))
        return replace(parts[0], mean=mean, deviation=deviation, zero=zero)
