"""Training losses for real values; they train the centre alone, in prepared (standardized) units."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch

from nastavnik.errors import UserError
from nastavnik.training.likelihoods import Likelihood
from nastavnik.training.losses._base import TrainingLoss


class _CentreLoss(TrainingLoss):
    """A loss of the residual; the likelihood's noise is not trained, its scale is set on held-out rows."""

    targets = ("real",)

    @classmethod
    def check(cls, likelihood: Likelihood) -> None:
        """Refuse noise that would have to be trained as an output."""
        super().check(likelihood)
        if likelihood.outputs != 1:
            raise UserError(f"loss.name={cls.name} trains the centre alone; give likelihood.noise=learned or a number")


class Huber(_CentreLoss):
    """Squared error near zero, absolute error beyond a threshold: a row can pull only so hard."""

    name = "huber"
    formula = "r^2 / 2 if |r| <= d, else d (|r| - d / 2)"
    prefer = "when some targets are outliers"
    source = "Huber 1964"
    settings: ClassVar[Mapping[str, float]] = {"huber_threshold": 1.0}
    huber_threshold: torch.Tensor

    def rows(self, likelihood: Likelihood, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """See ``formula``."""
        r = (targets - outputs[..., 0]).abs()
        inner = torch.minimum(r, self.huber_threshold)
        return inner * (r - 0.5 * inner)


class Quantile(_CentreLoss):
    """The pinball loss: the network learns a quantile instead of the mean."""

    name = "quantile"
    formula = "max(q r, (q - 1) r), r = y - z"
    prefer = "for a median (q = 0.5) or for bounds; its predictions are that quantile"
    source = "Koenker & Bassett 1978"
    settings: ClassVar[Mapping[str, float]] = {"quantile": 0.5}
    curved = False
    quantile: torch.Tensor

    def rows(self, likelihood: Likelihood, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """See ``formula``."""
        r = targets - outputs[..., 0]
        return torch.maximum(self.quantile * r, (self.quantile - 1) * r)
