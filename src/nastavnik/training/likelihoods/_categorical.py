"""One of C classes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import torch
from torch.nn import functional as F

from nastavnik.training.likelihoods._base import TEMPERATURES
from nastavnik.training.likelihoods._classes import ClassLikelihood


class Categorical(ClassLikelihood):
    """Classes 0…C-1 from C logits by softmax; its negative log is the cross-entropy."""

    name = "categorical"
    formula = "p = softmax(z / T); -log p[y]"
    prefer = "for classes that exclude each other"
    source = "Bridle 1990"

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

    def by_temperature(self, outputs: torch.Tensor, targets: torch.Tensor) -> list[torch.Tensor]:
        """See ``Likelihood``; classes first, rows side by side: a softmax over few numbers is several times slower."""
        z = outputs.movedim(-1, 0).contiguous()
        z = z - z.amax(0)
        own = z.gather(0, targets[None])[0]
        return [(z / t).exp().sum(0).log() - own / t for t in TEMPERATURES]

    def describe(self, outputs: torch.Tensor, temperature: torch.Tensor | float = 1.0) -> dict[str, torch.Tensor]:
        """``probabilities`` [n, C]."""
        return {"probabilities": torch.softmax(outputs / temperature, dim=-1)}

    def curvature_columns(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Of diag(p) - p pᵀ, which has rank C - 1: Cholesky's factor in closed form [C - 1, n, C].

        With S_c = Σ_{i >= c} p_i: √d_c (e_c - Σ_{i > c} p_i / S_{c+1} e_i), d_c = p_c S_{c+1} / S_c.
        """
        p = self._by_class(outputs)
        rest = p.flip(0).cumsum(0).flip(0).clamp(min=torch.finfo(p.dtype).tiny)  # S
        root = (p[:-1] * (rest[1:] / rest[:-1])).sqrt()
        after = torch.ones(len(p), len(p), dtype=p.dtype, device=p.device).triu(1)[:-1, :, None]  # i > c
        columns = p * (-root / rest[1:])[:, None] * after
        columns.diagonal().copy_(root.T)
        return columns.movedim(-1, 1)

    def curvature(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """diag(p) - p pᵀ [n, C, C]."""
        p = self._by_class(outputs)
        found = -p[:, None] * p[None]
        found.diagonal().add_(p.T)
        return found.movedim(-1, 0)

    @staticmethod
    def _by_class(outputs: torch.Tensor) -> torch.Tensor:
        """Probabilities [C, n]: rows innermost, since a few classes are too short a loop.

        What weighs nothing in a sum is left out: processors are twenty times slower with the tiniest numbers.
        """
        return F.hardshrink(outputs.T.contiguous().softmax(0), torch.finfo(outputs.dtype).eps ** 2)
