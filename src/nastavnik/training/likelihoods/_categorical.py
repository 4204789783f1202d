"""One of C classes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import torch
from torch.nn import functional as F

from nastavnik.training.likelihoods._classes import ClassLikelihood


class Categorical(ClassLikelihood):
    """Classes 0…C-1 from C logits by softmax; its negative log is the cross-entropy."""

    name = "categorical"
    formula = "p = softmax(z / T); -log p[y]"
    prefer = "for classes that exclude each other"
    source = "Bridle 1990 (notes/003-b B22, B27; notes/004 I9)"

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.outputs = classes

    @classmethod
    def make(cls, classes: int, options: Mapping[str, Any]) -> Self:
        """Of any number of classes."""
        return cls(classes)

    def log_probabilities(self, outputs: torch.Tensor, temperature: torch.Tensor | float = 1.0) -> torch.Tensor:
        """log softmax(outputs / T) [n, C]."""
        return F.log_softmax(outputs / temperature, dim=-1)

    def describe(self, outputs: torch.Tensor, temperature: torch.Tensor | float = 1.0) -> dict[str, torch.Tensor]:
        """``probabilities`` [n, C]."""
        return {"probabilities": torch.softmax(outputs / temperature, dim=-1)}

    def curvature_root(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """diag(√p) - p √pᵀ, whose square is diag(p) - p pᵀ."""
        p = outputs.softmax(-1)
        return torch.diag_embed(p.sqrt()) - p[..., :, None] * p.sqrt()[..., None, :]
