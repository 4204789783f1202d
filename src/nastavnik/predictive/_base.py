"""The contract of a predictive distribution, and putting several together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np

from nastavnik.predictive._metrics import LEVEL, Weighted, distances, mean_of


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

    def quantile(self, q: float) -> np.ndarray | None:
        """The value [n] below which a share q of the mass lies; None for classes."""
        ...

    def metrics(self, y: np.ndarray) -> dict[str, Weighted]:
        """How good it is of rows whose values in own units are y [n]: each metric as a function of row weights."""
        ...

    def take(self, rows: np.ndarray) -> Predictive:
        """Some of the rows."""
        ...

    @classmethod
    def joined(cls, members: Sequence[Any], shares: np.ndarray | None = None) -> Predictive:
        """Several of this sort for the same rows as one; ``shares`` sum to one, alike where None."""
        ...

    @classmethod
    def stitched(cls, parts: Sequence[Any], order: np.ndarray) -> Predictive:
        """Several of this sort for different rows, one after the other, put into this order."""
        ...


@runtime_checkable
class Moved(Protocol):
    """A distribution that can be moved as it is."""

    def moved(self, point: np.ndarray) -> Any:
        """The same about other points [n]: what ``point`` gives then; as near to it as its bounds allow."""
        ...


class OfNumbers:
    """What all distributions of one number a row have: they are mixtures, members' ``shares`` [m] alike where None."""

    shares: np.ndarray | None

    @property
    def count(self) -> int:
        """How many members it has."""
        raise NotImplementedError

    def averaged(self, values: np.ndarray) -> np.ndarray:
        """The mean over members of values [m, n]."""
        return average(values, self.shares)

    def log_averaged(self, values: np.ndarray) -> np.ndarray:
        """log of the mean over members of exp(values) [m, n], without overflow."""
        return log_mean_exp(values, self.shares)

    def metrics(self: Any, y: np.ndarray) -> dict[str, Weighted]:
        """In the target's own units: r2, rmse, mae; nll (nats per row); coverage of the 95 % intervals."""
        y = y.astype(np.float64)
        low, high = self.interval(LEVEL)
        table = {**distances(self.point(), y), "nll": mean_of(self.neg_log_likelihood(y))}
        return {**table, "coverage": mean_of(((y >= low) & (y <= high)).astype(float))}


def average(values: np.ndarray | Sequence[np.ndarray], shares: np.ndarray | None) -> np.ndarray:
    """The mean over members of values [m, …], as their shares are."""
    return np.mean(values, axis=0) if shares is None else np.tensordot(shares, values, axes=1)


def mixture(members: Sequence[Predictive], votes: Sequence[int] | None = None) -> Predictive:
    """The members together, each with the same weight, or as many ``votes`` as it has."""
    shares = None if votes is None or len(set(votes)) == 1 else np.asarray(votes) / sum(votes)
    return type(members[0]).joined(members, shares)


def shares_of(members: Sequence[OfNumbers], shares: np.ndarray | None) -> np.ndarray | None:
    """What the members' own members are of all of them together."""
    if shares is None and all(m.shares is None and m.count == members[0].count for m in members):
        return None
    outer = np.full(len(members), 1 / len(members)) if shares is None else shares
    inner = [np.full(m.count, 1 / m.count) if m.shares is None else m.shares for m in members]
    return np.concatenate([share * own for share, own in zip(outer, inner, strict=True)])


def stitch(parts: Sequence[Predictive], rows: Sequence[np.ndarray]) -> Predictive:
    """Predictions for the rows of several folds, put together in the order of the row numbers.

    Folds share the target's transform but not its centre and scale: values are brought to the first fold's units.
    """
    return type(parts[0]).stitched(parts, np.argsort(np.concatenate(rows)))


def log_mean_exp(values: np.ndarray, shares: np.ndarray | None = None) -> np.ndarray:
    """log of the mean over members [m, n] of exp(values), without overflow [n]; as their ``shares`` are."""
    top = values.max(0)
    each = np.exp(values - top)
    return top + np.log(each.mean(0) if shares is None else shares @ each)


def bisected(low: np.ndarray, high: np.ndarray, is_below: Any) -> np.ndarray:
    """Where a rising function crosses, between these ends [n]; ``is_below(middle)`` [n]: it is further up."""
    for _ in range(50):
        middle = (low + high) / 2
        below = is_below(middle)
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    return (low + high) / 2
