"""Preparation of the target: classes to numbers, real values standardized, transformed when their skew asks for it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

_SKEW = 1.0  # beyond this a target counts as skewed
_ZERO, _LOWEST = -30.0, -29.0  # of standardized logarithms: a zero, and what no other value is below
_NODES = 20  # Gauss–Hermite nodes for means in the target's own units


@dataclass(frozen=True)
class TargetPreparation:
    """How target values become what the likelihood sees, and back.

    kind "class": words to 0…C-1 by ``classes``; "grade": the same, the classes being numbers. "real":
    ``(t(y) - centre) / scale`` where t is the identity, the logarithm or Yeo–Johnson's transform with ``power``.
    "positive": y / scale. "spike": zero as -30, others as the standardized logarithm. "count": unchanged. What is
    brought back to own units stays between ``low`` and ``high``. "labels" and "votes": unchanged.
    """

    kind: str
    classes: tuple[str, ...] = ()
    transform: str = "identity"
    power: float = 1.0
    centre: float = 0.0
    scale: float = 1.0
    low: float | None = None
    high: float | None = None

    @property
    def parts(self) -> tuple[TargetPreparation, ...]:
        """One for each target."""
        return (self,)

    @property
    def transformed(self) -> bool:
        """Whether real values were given another shape, and not only another unit."""
        return self.kind == "real" and self.transform != "identity"

    @classmethod
    def fit_real(
        cls,
        y: np.ndarray,
        transform: str = "auto",
        *,
        structure: np.ndarray | None = None,
        positive: bool = True,
        low: float | None = None,
        high: float | None = None,
    ) -> TargetPreparation:
        """Fit on the training rows' values.

        "auto" takes the logarithm of positive values whose skewness exceeds 1 when that at least halves it, else
        Yeo–Johnson's transform (Yeo & Johnson 2000) under the same condition, else the values as they are.

        Args:
            y: the training rows' values, whose centre and scale are taken.
            transform: "auto", "identity", "log" or "yeo-johnson".
            structure: the values that decide transform and power, so that folds share them; by default ``y``.
            positive: whether every value that will ever be met is positive; without it no logarithm is taken.
            low: what no value is below.
            high: what no value is above.
        """
        y = y.astype(np.float64)
        basis = y if structure is None else structure.astype(np.float64)
        if transform == "auto":
            transform = _find_transform(basis, positive)
        power = _best_power(basis) if transform == "yeo-johnson" else 1.0
        fitted = cls("real", (), transform, power)
        t = fitted._transform(y)
        scale = float(t.std())
        scale = scale if scale > 1e-12 * abs(t.mean()) else 1.0
        return cls("real", (), transform, power, float(t.mean()), scale, low, high)

    @classmethod
    def fit_positive(cls, y: np.ndarray, *, spike: bool) -> TargetPreparation:
        """For values that are never negative: their scale, or with a spike at zero that of the others' logarithms."""
        y = y.astype(np.float64)
        if not spike:
            return cls("positive", scale=float(y.mean()) or 1.0, low=0.0)
        logs = np.log(y[y > 0]) if (y > 0).any() else np.zeros(1)
        deviation = float(logs.std())
        return cls("spike", (), "log", 1.0, float(logs.mean()), deviation if deviation > 1e-9 else 1.0, 0.0)

    def apply(self, y: np.ndarray) -> torch.Tensor:
        """Values as the likelihood sees them: int64 classes, or float32."""
        if self.kind in ("class", "grade"):
            return torch.from_numpy(y.astype(np.int64))
        if self.kind in ("count", "labels", "votes"):
            return torch.from_numpy(y.astype(np.float32))
        if self.kind == "positive":
            return torch.from_numpy(np.maximum(y / self.scale, 1e-30).astype(np.float32))
        if self.kind == "spike":
            logs = (np.log(np.where(y > 0, y, 1.0)) - self.centre) / self.scale
            return torch.from_numpy(np.where(y > 0, np.maximum(logs, _LOWEST), _ZERO).astype(np.float32))
        return torch.from_numpy(((self._transform(y.astype(np.float64)) - self.centre) / self.scale).astype(np.float32))

    def own_units(self, z: np.ndarray) -> np.ndarray:
        """Back from what the likelihood sees to the target's own units (quantiles map to quantiles)."""
        t = np.asarray(z, dtype=np.float64) * self.scale + self.centre
        if self.transform == "log":
            t = np.exp(np.clip(t, -700, 700))
        elif self.transform == "yeo-johnson":
            t = _yeo_johnson_inverse(t, self.power)
        return t if self.low is None and self.high is None else np.clip(t, self.low, self.high)

    def own_mean(self, mean: np.ndarray, deviation: np.ndarray) -> np.ndarray:
        """The mean in own units of a normal distribution in prepared units, by Gauss–Hermite quadrature."""
        if self.transform == "identity" and self.low is None and self.high is None:
            return self.own_units(mean)
        nodes, weights = np.polynomial.hermite_e.hermegauss(_NODES)
        total = np.zeros_like(np.asarray(mean, dtype=np.float64))
        for node, weight in zip(nodes, weights, strict=True):
            total += weight * self.own_units(mean + deviation * node)
        return total / weights.sum()

    def log_jacobian(self, y: np.ndarray) -> np.ndarray:
        """log |dz/dy| at values y in own units: what turns a density of z into a density of y (nats)."""
        y = y.astype(np.float64)
        slope = np.zeros_like(y)
        if self.kind == "spike":
            return np.where(y > 0, -np.log(np.where(y > 0, y, 1.0)) - np.log(self.scale), 0.0)
        if self.transform == "log":
            slope = -np.log(y)
        elif self.transform == "yeo-johnson":
            slope = np.sign(y) * (self.power - 1) * np.log1p(np.abs(y))
        return slope - np.log(self.scale)

    def _transform(self, y: np.ndarray) -> np.ndarray:
        if self.transform == "log":
            return np.log(y)
        if self.transform == "yeo-johnson":
            return _yeo_johnson(y, self.power)
        return y

    def to_json(self) -> dict[str, Any]:
        """The plain record kept in ``model.json``."""
        return {**self.__dict__, "classes": list(self.classes)}

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> TargetPreparation:
        """Read what ``to_json`` wrote."""
        if "parts" in record:
            return SeveralPreparations.of([cls.from_json(part) for part in record["parts"]], record["widths"])
        return cls(**{**record, "classes": tuple(record["classes"])})


@dataclass(frozen=True)
class SeveralPreparations(TargetPreparation):
    """A preparation for each of several targets, whose values stand side by side [n, columns], NaN where one is not
    known; ``widths`` is how many columns each has.
    """

    each: tuple[TargetPreparation, ...] = ()
    widths: tuple[int, ...] = ()

    @classmethod
    def of(cls, each: Sequence[TargetPreparation], widths: Sequence[int]) -> SeveralPreparations:
        """Of these."""
        return cls("several", each=tuple(each), widths=tuple(widths))

    @property
    def parts(self) -> tuple[TargetPreparation, ...]:
        """One for each target."""
        return self.each

    @property
    def transformed(self) -> bool:
        """Whether one of them is."""
        return any(part.transformed for part in self.each)

    def apply(self, y: np.ndarray) -> torch.Tensor:
        """Values [n, columns] as the likelihoods see them, float32, NaN where one is not known."""
        found = np.full(y.shape, np.nan, dtype=np.float32)
        for part, own, values in self._divided(y):
            known = ~np.isnan(values)
            found[known, own] = part.apply(values[known]).numpy()
        return torch.from_numpy(found)

    def log_jacobian(self, y: np.ndarray) -> np.ndarray:
        """The sum over the targets that are known [n]."""
        total = np.zeros(len(y))
        for part, _, values in self._divided(y):
            known = ~np.isnan(values)
            total[known] += part.log_jacobian(values[known])
        return total

    def _divided(self, y: np.ndarray) -> Iterator[tuple[TargetPreparation, int, np.ndarray]]:
        """Column by column: its target's preparation, its place, its values."""
        owners = [part for part, width in zip(self.each, self.widths, strict=True) for _ in range(width)]
        return ((part, j, y[:, j].astype(np.float64)) for j, part in enumerate(owners))

    def to_json(self) -> dict[str, Any]:
        """The plain record kept in ``model.json``."""
        return {"parts": [part.to_json() for part in self.each], "widths": list(self.widths), "classes": []}


def _find_transform(y: np.ndarray, positive: bool) -> str:
    skew = abs(_skewness(y))
    if skew <= _SKEW or len(y) < 20:
        return "identity"
    if positive and y.min() > 0 and abs(_skewness(np.log(y))) < skew / 2:
        return "log"
    return "yeo-johnson" if abs(_skewness(_yeo_johnson(y, _best_power(y)))) < skew / 2 else "identity"


def _skewness(y: np.ndarray) -> float:
    deviation = y.std()
    return float(np.mean(((y - y.mean()) / deviation) ** 3)) if deviation > 0 else 0.0


def _best_power(y: np.ndarray) -> float:
    from scipy.stats import yeojohnson_normmax

    # outside 0…2 the transform has a bounded range, and its inverse runs away beyond it
    return float(np.clip(yeojohnson_normmax(y), 0.0, 2.0))


def _yeo_johnson(y: np.ndarray, power: float) -> np.ndarray:
    """Yeo & Johnson 2000, eq. 2.1."""
    up, down = np.maximum(y, 0), np.maximum(-y, 0)
    right = np.log1p(up) if abs(power) < 1e-9 else ((1 + up) ** power - 1) / power
    left = -np.log1p(down) if abs(power - 2) < 1e-9 else -((1 + down) ** (2 - power) - 1) / (2 - power)
    return np.where(y >= 0, right, left)


def _yeo_johnson_inverse(t: np.ndarray, power: float) -> np.ndarray:
    """The inverse; beyond the transform's range the nearest value inside."""
    up, down = np.maximum(t, 0), np.maximum(-t, 0)
    tiny = 1e-12
    right = (
        np.expm1(np.clip(up, None, 700)) if abs(power) < 1e-9 else np.maximum(up * power + 1, tiny) ** (1 / power) - 1
    )
    rest = 2 - power
    left = (
        1 - np.exp(np.clip(down, None, 700))
        if abs(rest) < 1e-9
        else 1 - np.maximum(down * rest + 1, tiny) ** (1 / rest)
    )
    return np.where(t >= 0, right, left)
