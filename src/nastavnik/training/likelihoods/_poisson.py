"""Counts."""

from __future__ import annotations

import torch

from nastavnik.training.likelihoods._base import Likelihood


class Poisson(Likelihood):
    """y ~ Poisson(exp(output)); log y! is part of the loss, so that it is a density's."""

    name = "poisson"

    def __init__(self) -> None:
        super().__init__()
        self.outputs = 1

    def neg_log_likelihood(
        self, outputs: torch.Tensor, targets: torch.Tensor, temperature: torch.Tensor | float = 1.0
    ) -> torch.Tensor:
        """λ - y log λ + log y!; a count has no temperature, which is left unused."""
        log_rate = outputs[..., 0].clamp(-30, 30)
        return log_rate.exp() - targets * log_rate + torch.lgamma(targets + 1)

    def describe(self, outputs: torch.Tensor, temperature: torch.Tensor | float = 1.0) -> dict[str, torch.Tensor]:
        """``rate`` [n]."""
        return {"rate": outputs[..., 0].clamp(-30, 30).exp()}
