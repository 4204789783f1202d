"""What is believed of real values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np

from nastavnik.predictive._base import OfNumbers, bisected, shares_of

if TYPE_CHECKING:
    from nastavnik.data import TargetPreparation

_FAR = 10.0  # deviations of all values, beyond which nothing is moved
_HALF_LOG_2PI = 0.5 * np.log(2 * np.pi)


@dataclass(frozen=True)
class RealPredictive(OfNumbers):
    """Members' distributions in prepared units, centres ``mean`` and scales ``deviation`` [m, n], and the way back.

    ``distribution`` is scipy.stats' name of the standard distribution, ``shape`` its shape parameters.
    """

    mean: np.ndarray
    deviation: np.ndarray
    target: TargetPreparation
    distribution: str = "norm"
    shape: tuple[float, ...] = ()
    shares: np.ndarray | None = None

    @property
    def count(self) -> int:
        """See ``OfNumbers``."""
        return len(self.mean)

    def point(self) -> np.ndarray:
        """The mixture's mean in own units [n]; of heavy tails under a transform, which may have none, the median."""
        if self.distribution == "norm" or self.target.transform == "identity":
            return self.averaged(self.target.own_mean(self.mean, self.deviation))
        return self.target.own_units(self._quantile(0.5))

    def neg_log_likelihood(self, y: np.ndarray) -> np.ndarray:
        """-log of the mixture's density in own units: the transform's Jacobian is counted."""
        z = (self.target.apply(y).numpy().astype(np.float64) - self.mean) / self.deviation
        log_density = self._log_density(z) - np.log(self.deviation)
        return -self.log_averaged(log_density) - self.target.log_jacobian(y)

    def interval(self, level: float) -> tuple[np.ndarray, np.ndarray]:
        """The mixture's central interval in own units, its quantiles found by bisection."""
        return self.quantile((1 - level) / 2), self.quantile((1 + level) / 2)

    def quantile(self, q: float) -> np.ndarray:
        """In own units: a transform maps quantiles to quantiles."""
        return self.target.own_units(self._quantile(q))

    def _log_density(self, z: np.ndarray) -> np.ndarray:
        """Of the standard distribution."""
        if self.distribution == "norm":
            return -0.5 * z**2 - _HALF_LOG_2PI
        return self._standard().logpdf(z)

    def _standard(self) -> Any:
        if self.distribution == "norm":  # the same numbers, without the second that scipy.stats takes to import
            from scipy import special

            return SimpleNamespace(ppf=special.ndtri, cdf=special.ndtr)
        from scipy import stats

        return getattr(stats, self.distribution)(*self.shape)

    def _quantile(self, q: float) -> np.ndarray:
        standard = self._standard()
        if len(self.mean) == 1:
            return self.mean[0] + self.deviation[0] * standard.ppf(q)
        ends = self.mean + self.deviation * standard.ppf(q)
        low, high = ends.min(0), ends.max(0)  # the mixture's quantile lies between its members'
        return bisected(low, high, lambda y: self.averaged(standard.cdf((y - self.mean) / self.deviation)) < q)

    def moved(self, point: np.ndarray) -> RealPredictive:
        """All members by the same step in prepared units."""
        if self.target.transform == "identity":
            return replace(self, mean=self.mean + (point - self.point()) / self.target.scale)
        reach = 12 * self.deviation.max(0) + np.ptp(self.mean, axis=0) + _FAR
        step = bisected(-reach, reach, lambda s: replace(self, mean=self.mean + s).point() < point)
        return replace(self, mean=self.mean + step)

    def take(self, rows: np.ndarray) -> RealPredictive:
        """Some of the rows."""
        return replace(self, mean=self.mean[:, rows], deviation=self.deviation[:, rows])

    @classmethod
    def joined(cls, members: Sequence[RealPredictive], shares: np.ndarray | None = None) -> RealPredictive:
        """All members side by side, in the first one's units."""
        each = [in_units_of(members[0], m) for m in members]
        mean, deviation = (np.concatenate([pair[i] for pair in each]) for i in (0, 1))
        return replace(members[0], mean=mean, deviation=deviation, shares=shares_of(members, shares))

    @classmethod
    def stitched(cls, parts: Sequence[RealPredictive], order: np.ndarray) -> RealPredictive:
        """One after the other in the first one's units, in this order."""
        base = parts[0].target
        each = [rescaled(p.mean, p.deviation, p.target, base) for p in parts]
        mean, deviation = (np.concatenate([pair[i] for pair in each], axis=1)[:, order] for i in (0, 1))
        return replace(parts[0], mean=mean, deviation=deviation)


def in_units_of(first: Any, member: Any) -> tuple[np.ndarray, np.ndarray]:
    """A member's centres and scales in another's units: folds prepare targets by their own rows."""
    if member.target == first.target:
        return member.mean, member.deviation
    return rescaled(member.mean, member.deviation, member.target, first.target)


def rescaled(
    mean: np.ndarray, deviation: np.ndarray, own: TargetPreparation, other: TargetPreparation
) -> tuple[np.ndarray, np.ndarray]:
    """Centres and scales in prepared units, in those of another preparation of the same transform."""
    return (mean * own.scale + own.centre - other.centre) / other.scale, deviation * own.scale / other.scale
