"""Predictive distributions in the target's own units, of one network or of several together.

Symbols: m members, n rows, C classes. A mixture of members gives each the same weight.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

if TYPE_CHECKING:
    from nastavnik.data import TargetPreparation


_HALF_LOG_2PI = 0.5 * np.log(2 * np.pi)


class Predictive(Protocol):
    """What is believed of each row's target."""

    def point(self) -> np.ndarray:
        """One value a row: the commonest class's number, or the mean in own units [n]."""
        ...

    def neg_log_likelihood(self, y: np.ndarray) -> np.ndarray:
        """Nats a row [n] of the values y in own units."""
        ...

    def interval(self, level: float) -> tuple[np.ndarray, np.ndarray] | None:
        """Low and high [n], the central interval that holds ``level`` of the mass; None for classes."""
        ...

    def take(self, rows: np.ndarray) -> Predictive:
        """Some of the rows."""
        ...


@dataclass(frozen=True)
class ClassPredictive:
    """``probabilities`` [n, C]."""

    probabilities: np.ndarray

    def point(self) -> np.ndarray:
        """The likeliest class [n]."""
        return self.probabilities.argmax(1)

    def neg_log_likelihood(self, y: np.ndarray) -> np.ndarray:
        """-log p(y)."""
        p = self.probabilities[np.arange(len(y)), y.astype(int)]
        return -np.log(np.maximum(p, 1e-30))

    def interval(self, level: float) -> None:
        """Classes have no interval."""
        return None

    def take(self, rows: np.ndarray) -> ClassPredictive:
        """Some of the rows."""
        return ClassPredictive(self.probabilities[rows])


@dataclass(frozen=True)
class RealPredictive:
    """Members' distributions in prepared units, centres ``mean`` and scales ``deviation`` [m, n], and the way back.

    ``distribution`` is scipy.stats' name of the standard distribution, ``shape`` its shape parameters.
    """

    mean: np.ndarray
    deviation: np.ndarray
    target: TargetPreparation
    distribution: str = "norm"
    shape: tuple[float, ...] = ()

    def point(self) -> np.ndarray:
        """The mixture's mean in own units [n]; of heavy tails under a transform, which may have none, the median."""
        if self.distribution == "norm" or self.target.transform == "identity":
            return self.target.own_mean(self.mean, self.deviation).mean(0)
        return self.target.own_units(self._quantile(0.5))

    def neg_log_likelihood(self, y: np.ndarray) -> np.ndarray:
        """-log of the mixture's density in own units: the transform's Jacobian is counted."""
        z = (self.target.apply(y).numpy().astype(np.float64) - self.mean) / self.deviation
        log_density = self._log_density(z) - np.log(self.deviation)
        return -_log_mean_exp(log_density) - self.target.log_jacobian(y)

    def interval(self, level: float) -> tuple[np.ndarray, np.ndarray]:
        """The mixture's central interval in own units, its quantiles found by bisection."""
        return tuple(self.target.own_units(self._quantile(q)) for q in ((1 - level) / 2, (1 + level) / 2))  # type: ignore[return-value]

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
        for _ in range(50):
            middle = (low + high) / 2
            below = standard.cdf((middle - self.mean) / self.deviation).mean(0) < q
            low, high = np.where(below, middle, low), np.where(below, high, middle)
        return (low + high) / 2

    def take(self, rows: np.ndarray) -> RealPredictive:
        """Some of the rows."""
        return replace(self, mean=self.mean[:, rows], deviation=self.deviation[:, rows])


@dataclass(frozen=True)
class CountPredictive:
    """Members' Poisson rates [m, n]."""

    rate: np.ndarray

    def point(self) -> np.ndarray:
        """The mean count [n]."""
        return self.rate.mean(0)

    def neg_log_likelihood(self, y: np.ndarray) -> np.ndarray:
        """-log of the mixture's probability of the count."""
        from scipy.special import gammaln

        return -_log_mean_exp(y * np.log(self.rate) - self.rate - gammaln(y + 1))

    def interval(self, level: float) -> tuple[np.ndarray, np.ndarray]:
        """The central interval of the mean rate's Poisson distribution."""
        from scipy.stats import poisson

        rate = self.point()
        return poisson.ppf((1 - level) / 2, rate), poisson.ppf((1 + level) / 2, rate)

    def take(self, rows: np.ndarray) -> CountPredictive:
        """Some of the rows."""
        return CountPredictive(self.rate[:, rows])


def mixture(members: Sequence[Predictive]) -> Predictive:
    """The members together, each with the same weight (a member may stand more than once)."""
    first = members[0]
    if isinstance(first, ClassPredictive):
        each = [m.probabilities for m in members if isinstance(m, ClassPredictive)]
        return ClassPredictive(np.mean(each, axis=0))
    if isinstance(first, RealPredictive):
        reals = [m for m in members if isinstance(m, RealPredictive)]
        mean = np.concatenate([m.mean for m in reals])
        return replace(first, mean=mean, deviation=np.concatenate([m.deviation for m in reals]))
    rates = [m.rate for m in members if isinstance(m, CountPredictive)]
    return CountPredictive(np.concatenate(rates))


def stitch(parts: Sequence[Predictive], rows: Sequence[np.ndarray]) -> Predictive:
    """Predictions for the rows of several folds, put together in the order of the row numbers.

    Folds share the target's transform but not its centre and scale: real values are brought to the first fold's units.
    """
    order = np.argsort(np.concatenate(rows))
    if isinstance(parts[0], ClassPredictive):
        joined = np.concatenate([p.probabilities for p in parts if isinstance(p, ClassPredictive)])
        return ClassPredictive(joined[order])
    if isinstance(parts[0], CountPredictive):
        return CountPredictive(
            np.concatenate([p.rate for p in parts if isinstance(p, CountPredictive)], axis=1)[:, order]
        )
    reals = [p for p in parts if isinstance(p, RealPredictive)]
    base = reals[0].target
    mean = np.concatenate([_rescaled(p, base)[0] for p in reals], axis=1)
    deviation = np.concatenate([_rescaled(p, base)[1] for p in reals], axis=1)
    return replace(reals[0], mean=mean[:, order], deviation=deviation[:, order])


def _rescaled(part: RealPredictive, base: TargetPreparation) -> tuple[np.ndarray, np.ndarray]:
    own, other = part.target, base
    mean = (part.mean * own.scale + own.centre - other.centre) / other.scale
    return mean, part.deviation * own.scale / other.scale


def _log_mean_exp(values: np.ndarray) -> np.ndarray:
    top = values.max(0)
    return top + np.log(np.mean(np.exp(values - top), axis=0))
