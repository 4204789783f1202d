"""Soft labels: how several people voted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import torch
from torch.nn import functional as F

from nastavnik.training.likelihoods._base import Likelihood


class Votes(Likelihood):
    """How often each class was voted for, a multinomial count; shares that sum to one are one vote."""

    name = "votes"
    formula = "-log(N! / prod v_c!) - sum v_c log softmax(z / T)_c, N = sum v_c"
    prefer = "when labels come from several people or are uncertain"
    source = "notes/003-g 19564-19607"
    target = "votes"

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.outputs = classes

    @classmethod
    def make(cls, classes: int, options: Mapping[str, Any]) -> Self:
        """Of any number of classes."""
        return cls(classes)

    def neg_log_likelihood(
        self, outputs: torch.Tensor, targets: torch.Tensor, temperature: torch.Tensor | float = 1.0
    ) -> torch.Tensor:
        """outputs [n, C], targets [n, C] of votes -> nats [n].

        Over whole votes it is normalized; shares are treated by the gamma function in the same way.
        """
        votes = targets.to(outputs.dtype)
        ways = torch.lgamma(votes.sum(-1) + 1) - torch.lgamma(votes + 1).sum(-1)
        return -ways - (votes * F.log_softmax(outputs / temperature, dim=-1)).sum(-1)

    def describe(self, outputs: torch.Tensor, temperature: torch.Tensor | float = 1.0) -> dict[str, torch.Tensor]:
        """``probabilities`` [n, C] of one vote."""
        return {"probabilities": torch.softmax(outputs / temperature, dim=-1)}
