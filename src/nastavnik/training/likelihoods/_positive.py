"""Values that are never negative: gamma, and a spike at zero beside a log-normal rest."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from nastavnik.predictive import GammaPredictive, HurdlePredictive
from nastavnik.training.likelihoods._base import Likelihood, entropy_explained, explained

if TYPE_CHECKING:
    from nastavnik.data import TargetPreparation

ZERO = -30.0  # how a zero is written among standardized logarithms
_BETWEEN = -29.5
_LEAST = 1e-4


class Gamma(Likelihood):
    """A positive value whose deviation is a fixed share of its mean; the output is the mean's logarithm."""

    name = "gamma"
    formula = "lgamma(k) - k log k + k z - (k - 1) log y + k y exp(-z), k learned, k / T^2 at temperature T"
    prefer = "for amounts and durations that are never zero and scatter in proportion to their size"
    source = "McCullagh & Nelder 1989, ch. 8"
    target = "positive"

    def __init__(self) -> None:
        super().__init__()
        self.outputs = 1
        self.log_shape = nn.Parameter(torch.zeros(()))

    @classmethod
    def make(cls, classes: int, options: Mapping[str, Any]) -> Self:
        """One output."""
        return cls()

    def shape(self, outputs: torch.Tensor, temperature: torch.Tensor | float) -> torch.Tensor:
        """k of each row [n]."""
        return (self.log_shape.clamp(-8, 12).exp() / temperature**2).expand(outputs.shape[:-1])

    def neg_log_likelihood(
        self, outputs: torch.Tensor, targets: torch.Tensor, temperature: torch.Tensor | float = 1.0
    ) -> torch.Tensor:
        """See ``formula``."""
        k, z = self.shape(outputs, temperature), outputs[..., 0].clamp(-30, 30)
        return torch.lgamma(k) - k * k.log() + k * z - (k - 1) * targets.log() + k * targets * (-z).exp()

    def describe(self, outputs: torch.Tensor, temperature: torch.Tensor | float = 1.0) -> dict[str, torch.Tensor]:
        """``mean`` and ``shape`` [n], in prepared units."""
        return {"mean": outputs[..., 0].clamp(-30, 30).exp(), "shape": self.shape(outputs, temperature)}

    def predictive(self, described: Mapping[str, np.ndarray], target: TargetPreparation) -> GammaPredictive:
        """In own units."""
        return GammaPredictive(described["mean"][None], described["shape"][None], target)


class Hurdle(Likelihood):
    """Zero with a chance of its own, else a log-normal value: rainfall, claims, spending."""

    name = "hurdle"
    formula = (
        "zero: log(1 + exp(a / T)); else: log(1 + exp(-a / T)) + ((log y - z) / Ts)^2 / 2 + log Ts + log(2 pi) / 2"
    )
    prefer = "when many values are exactly zero and none is negative"
    source = "Cragg 1971"
    target = "spike"

    def __init__(self) -> None:
        super().__init__()
        self.outputs = 2
        self.log_noise = nn.Parameter(torch.zeros(()))

    @classmethod
    def make(cls, classes: int, options: Mapping[str, Any]) -> Self:
        """Two outputs: where the logarithm lies, and the log odds of more than zero."""
        return cls()

    def neg_log_likelihood(
        self, outputs: torch.Tensor, targets: torch.Tensor, temperature: torch.Tensor | float = 1.0
    ) -> torch.Tensor:
        """See ``formula``; a zero is written as -30 among the standardized logarithms."""
        odds, scale = outputs[..., 1] / temperature, (self.log_noise.exp() + _LEAST) * temperature
        none = targets < _BETWEEN
        away = (torch.where(none, outputs[..., 0], targets) - outputs[..., 0]) / scale
        some = (
            F.softplus(-odds) + 0.5 * away**2 + torch.log(scale * torch.ones_like(odds)) + 0.5 * math.log(2 * math.pi)
        )
        return torch.where(none, F.softplus(odds), some)

    def describe(self, outputs: torch.Tensor, temperature: torch.Tensor | float = 1.0) -> dict[str, torch.Tensor]:
        """``mean`` and ``deviation`` of the logarithm, and the chance ``zero`` [n]."""
        deviation = ((self.log_noise.exp() + _LEAST) * temperature).expand(outputs.shape[:-1])
        return {
            "mean": outputs[..., 0],
            "deviation": deviation,
            "zero": torch.sigmoid(-outputs[..., 1] / temperature),
        }

    def standing(
        self, outputs: torch.Tensor, targets: torch.Tensor, known: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """See ``Likelihood``: the mean of what is explained of zero or not, and of the logarithms of the others."""
        there = (targets > _BETWEEN) & known
        some = (targets > _BETWEEN).to(outputs.dtype)
        shares = torch.stack([1 - some, some], dim=1)
        said = -F.softplus(torch.stack([outputs[:, 1], -outputs[:, 1]], dim=1))
        zero, wrong = entropy_explained(said, shares, known.to(said.dtype))
        missing = torch.full_like(targets, torch.nan)
        value, away = explained(outputs[:, :1], torch.where(there, targets, missing)[:, None])
        return 0.5 * (zero + value), wrong + away

    def predictive(self, described: Mapping[str, np.ndarray], target: TargetPreparation) -> HurdlePredictive:
        """In own units."""
        mean, deviation, zero = (described[name][None] for name in ("mean", "deviation", "zero"))
        return HurdlePredictive(mean, deviation, zero, target)
