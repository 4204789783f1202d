"""Soft labels: how several people voted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from torch.nn import functional as F

from nastavnik.predictive import VotesPredictive
from nastavnik.training.likelihoods._base import Likelihood, entropy_explained

if TYPE_CHECKING:
    from nastavnik.data import TargetPreparation


class Votes(Likelihood):
    """How often each class was voted for, a multinomial count; shares that sum to one are one vote."""

    name = "votes"
    formula = "-log(N! / prod v_c!) - sum v_c log softmax(z / T)_c, N = sum v_c"
    prefer = "when labels come from several people or are uncertain"
    source = "Peterson et al. 2019 (soft labels); McCullagh & Nelder 1989"
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

    def predictive(self, described: Mapping[str, np.ndarray], target: TargetPreparation) -> VotesPredictive:
        """Of one vote's class."""
        return VotesPredictive(described["probabilities"])

    def standing(
        self, outputs: torch.Tensor, targets: torch.Tensor, known: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """See ``Likelihood``: of the rows' own shares."""
        shares = targets / targets.sum(-1, keepdim=True).clamp(min=1e-12)
        return entropy_explained(F.log_softmax(outputs, dim=-1), shares, known.to(outputs.dtype))

    def mistake(self, outputs: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        """The share of rows whose class of most votes is not the likeliest."""
        return (weights * (outputs.argmax(-1) != targets.argmax(-1)).to(outputs.dtype)).mean()
