"""Several real values a row: inputs to be given back, measurements taken together."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Self

import torch
from torch import nn

from nastavnik.training.likelihoods._base import Likelihood

_LEAST = 1e-4  # the smallest scale, in prepared units: a perfect fit must not make the density infinite


class Vector(Likelihood):
    """Several real values with normal noise of a learned scale: one for all, or one each, so that none drowns others.

    A value that is missing (NaN) says nothing, and the others of its row count as ever. Reconstruction is this
    likelihood with a row's inputs as its targets, and one scale: with a scale each, a network that gives a few values
    back exactly has a density without bound.

    Args:
        values: how many.
        each: a scale for each value, for measurements that are to be predicted from something else.
    """

    name = "vector"
    formula = "sum over values j of ((y_j - z_j) / T s)^2 / 2 + log(T s) + log(2 pi) / 2"
    prefer = "to give inputs back (autoencoders), or for several measurements a row"
    source = "Gauss 1809; Kendall et al. 2018 (weights by learned noise)"
    target = "vector"

    def __init__(self, values: int, *, each: bool = False) -> None:
        super().__init__()
        self.outputs = values
        self.log_noise = nn.Parameter(torch.zeros(values if each else 1))

    @classmethod
    def make(cls, classes: int, options: Mapping[str, Any]) -> Self:
        """Of so many values."""
        return cls(classes)

    def scale(self) -> torch.Tensor:
        """Of each value [d]."""
        return (self.log_noise.exp() + _LEAST).expand(self.outputs)

    def neg_log_likelihood(
        self, outputs: torch.Tensor, targets: torch.Tensor, temperature: torch.Tensor | float = 1.0
    ) -> torch.Tensor:
        """outputs [n, d], targets [n, d] -> nats [n], all values together."""
        known = targets == targets
        scale = self.scale() * temperature
        z = (torch.where(known, targets, outputs) - outputs) / scale
        each = 0.5 * z * z + scale.log() + 0.5 * math.log(2 * math.pi)
        return torch.where(known, each, torch.zeros_like(each)).sum(-1)

    def describe(self, outputs: torch.Tensor, temperature: torch.Tensor | float = 1.0) -> dict[str, torch.Tensor]:
        """``mean`` and ``deviation`` [n, d]."""
        return {"mean": outputs, "deviation": (self.scale() * temperature).expand(outputs.shape)}

    def curvature_columns(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """1 / s of each value, 0 where it is missing."""
        known = (targets == targets).to(outputs.dtype)
        return torch.diag_embed(known / self.scale()).movedim(-1, 0)
