"""One real number a row."""

from __future__ import annotations

import numpy as np

from nastavnik.data import TargetPreparation
from nastavnik.errors import UserError
from nastavnik.predictive import Predictive
from nastavnik.targets._base import Column, Fitting, OfNumber, Target
from nastavnik.training.likelihoods import LIKELIHOODS

_EDGE = 0.1  # how near a target of shares comes to 0 and 1
_SPIKE = 0.05  # share of zeros from which they are no chance
_SKEW = 1.0
_LEVELS = np.arange(1, 20) / 20


class Regression(OfNumber):
    """A real number."""

    kind = "regression"
    suits_likelihoods = ("real", "positive", "spike")

    @classmethod
    def suits(cls, column: Column) -> str | None:
        """Numbers."""
        return None if column.numbers is None else f"numbers of {len(np.unique(column.numbers))} distinct values"

    @classmethod
    def read(cls, column: Column) -> tuple[Target, np.ndarray]:
        """The numbers."""
        return cls(column.info.name), column.wants_numbers(cls.kind)

    def prepare(self, values: np.ndarray, by: Fitting) -> TargetPreparation:
        """Standardized, or given another shape where their skew asks for it; as a positive likelihood needs them."""
        known = values[~np.isnan(values)]
        if by.likelihood is not None and LIKELIHOODS[by.likelihood].target in ("positive", "spike"):
            spike = LIKELIHOODS[by.likelihood].target == "spike"
            self._check_positive(known, by.likelihood, spike)
            return TargetPreparation.fit_positive(values[by.rows], spike=spike)
        positive = bool((known > 0).all())
        if by.transform == "log" and not positive:
            raise UserError(
                f"preparation.target=log needs values above 0, but {self.name!r} goes down to {known.min():g}; "
                "try preparation.target=yeo-johnson"
            )
        basis = None if by.structure is None else values[by.structure]
        low, high = _range(known)
        return TargetPreparation.fit_real(
            values[by.rows], by.transform, structure=basis, positive=positive, low=low, high=high
        )

    def _check_positive(self, values: np.ndarray, likelihood: str, spike: bool) -> None:
        """Refuse values that a likelihood of what is never negative cannot have.

        Raises:
            UserError: there are some.
        """
        wrong = values < 0 if spike else values <= 0
        if wrong.any():
            bound = "from 0 up" if spike else "above 0"
            raise UserError(
                f"likelihood.name={likelihood} needs values {bound}, but {self.name!r} goes down to {values.min():g}"
            )

    @property
    def has_noise(self) -> bool:
        """A scale, learned or given."""
        return True

    def transforms(self) -> bool:
        """Logarithm or Yeo–Johnson's transform."""
        return True

    def rivals(self, values: np.ndarray) -> tuple[str, ...]:
        """Where many are exactly zero, or all are positive and skewed."""
        zeros = float(np.mean(values == 0)) if values.min() >= 0 else 0.0
        if _SPIKE <= zeros < 1 - _SPIKE and len(np.unique(values[values > 0])) > 10:
            return ("hurdle", "gaussian")
        deviation = values.std()
        if values.min() > 0 and deviation > 0 and float(np.mean(((values - values.mean()) / deviation) ** 3)) > _SKEW:
            return ("gaussian", "gamma")
        return ()

    def surprise(self, predictive: Predictive, y: np.ndarray) -> np.ndarray:
        """The continuous ranked probability score: a density and a probability of zero do not compare."""
        return crps(predictive, y.astype(np.float64))


def crps(predictive: Predictive, y: np.ndarray) -> np.ndarray:
    """The continuous ranked probability score of each row (Gneiting & Raftery 2007, §4.2), in the target's units, by
    19 quantiles.
    """
    each = []
    for q in _LEVELS:
        value = predictive.quantile(float(q))
        assert value is not None
        each.append(2 * np.maximum(q * (y - value), (q - 1) * (y - value)))
    return np.mean(each, axis=0)


def _range(values: np.ndarray) -> tuple[float | None, float | None]:
    """What no value is below or above, where the target is never negative or a share from 0 to 1."""
    low, high = float(values.min()), float(values.max())
    share = 0 <= low < _EDGE and 1 - _EDGE < high <= 1
    return (0.0 if low >= 0 else None), (1.0 if share else None)
