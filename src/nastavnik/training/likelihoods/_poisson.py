"""Counts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch

from nastavnik.predictive import CountPredictive
from nastavnik.training.likelihoods._base import Likelihood

if TYPE_CHECKING:
    from nastavnik.data import TargetPreparation


class Poisson(Likelihood):
    """Counts whose rate is the exponential of the output; log y! is part of the loss, so that it is a density's."""

    name = "poisson"
    formula = "exp(z) - y z + log y!"
    prefer = "for counts of rare events"
    source = "McCullagh & Nelder 1989"
    target = "count"

    def __init__(self) -> None:
        super().__init__()
        self.outputs = 1

    @classmethod
    def make(cls, classes: int, options: Mapping[str, Any]) -> Self:
        """One output."""
        return cls()

    def neg_log_likelihood(
        self, outputs: torch.Tensor, targets: torch.Tensor, temperature: torch.Tensor | float = 1.0
    ) -> torch.Tensor:
        """λ - y log λ + log y!; a count has no temperature, which is left unused."""
        log_rate = outputs[..., 0].clamp(-30, 30)
        return log_rate.exp() - targets * log_rate + torch.lgamma(targets + 1)

    def describe(self, outputs: torch.Tensor, temperature: torch.Tensor | float = 1.0) -> dict[str, torch.Tensor]:
        """``rate`` [n]."""
        return {"rate": outputs[..., 0].clamp(-30, 30).exp()}

    def predictive(self, described: Mapping[str, np.ndarray], target: TargetPreparation) -> CountPredictive:
        """Of counts."""
        return CountPredictive(described["rate"][None])
