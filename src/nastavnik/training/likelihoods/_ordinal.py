"""Classes in an order."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from typing import Any, Self

import torch
from torch import nn
from torch.nn import functional as F

from nastavnik.errors import UserError
from nastavnik.training.likelihoods._classes import ClassLikelihood

_LEAST = 1e-4  # between two thresholds, so that no class becomes impossible in rounding


class Ordinal(ClassLikelihood):
    """Ordered classes from one output and learned thresholds: grades, stages, stars."""

    name = "ordinal"
    formula = "p(y <= k) = sigmoid((b_k - z) / T), b_0 < b_1 < ... learned"
    prefer = "when classes have an order and equal steps cannot be assumed"
    source = "McCullagh 1980"

    def __init__(self, classes: int) -> None:
        super().__init__()
        if classes < 3:
            raise ValueError(f"an order needs at least 3 classes, got {classes=}")
        self.outputs = 1
        # thresholds at first cut a logistic distribution into equal parts
        cuts = [math.log(k / (classes - k)) for k in range(1, classes)]
        gaps = [math.log(math.expm1(b - a - _LEAST)) for a, b in itertools.pairwise(cuts)]
        self.lowest = nn.Parameter(torch.tensor(cuts[0]))
        self.gaps = nn.Parameter(torch.tensor(gaps))

    @classmethod
    def make(cls, classes: int, options: Mapping[str, Any]) -> Self:
        """Of three classes or more.

        Raises:
            UserError: there are two.
        """
        if classes < 3:
            raise UserError("likelihood.name=ordinal needs at least 3 classes; two have no order that matters")
        return cls(classes)

    @property
    def thresholds(self) -> torch.Tensor:
        """[C - 1], rising."""
        return self.lowest + torch.cat([self.gaps.new_zeros(1), torch.cumsum(F.softplus(self.gaps) + _LEAST, 0)])

    def log_probabilities(self, outputs: torch.Tensor, temperature: torch.Tensor | float = 1.0) -> torch.Tensor:
        """log (σ(b_k - z) - σ(b_(k-1) - z)), as log σ(b_k - z) + log σ(z - b_(k-1)) + log(1 - e^(b_(k-1) - b_k))."""
        b = self.thresholds
        away = (b - outputs[..., :1]) / temperature  # [n, C - 1]
        below, above = -F.softplus(-away), -F.softplus(away)
        gap = torch.log(-torch.expm1((b[:-1] - b[1:]) / temperature))
        none = torch.zeros_like(outputs[..., :1])
        inner = gap.expand(*outputs.shape[:-1], len(b) - 1)
        return (
            torch.cat([below, none], dim=-1) + torch.cat([none, above], dim=-1) + torch.cat([none, inner, none], dim=-1)
        )
