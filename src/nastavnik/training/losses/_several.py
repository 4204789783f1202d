"""What is minimized where a row has several targets: a loss for each, weighed as the user says."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from nastavnik.training.likelihoods import Likelihood, Several
from nastavnik.training.losses._base import TrainingLoss


class SeveralLosses(TrainingLoss):
    """The sum of the targets' losses, each times its share; of a target that is not known there is none.

    Args:
        losses: one for each target.
        shares: what each counts.
    """

    name = "several"
    formula = "sum over targets t whose value is known of share_t · loss_t"
    prefer = "where a row has several targets"
    source = "Caruana 1997"
    targets = ("several",)

    def __init__(self, losses: Sequence[TrainingLoss], shares: Sequence[float]) -> None:
        super().__init__()
        self.losses = nn.ModuleList(losses)
        self.shares = tuple(shares)

    @property
    def normalized(self) -> bool:
        """Where every loss is the negative log of a density, and counts once."""
        return all(share == 1 for share in self.shares) and all(loss.normalized for loss in self._members)

    @property
    def _members(self) -> list[TrainingLoss]:
        return [loss for loss in self.losses if isinstance(loss, TrainingLoss)]

    def rows(self, likelihood: Likelihood, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """See ``formula``."""
        assert isinstance(likelihood, Several)
        total = torch.zeros_like(outputs[..., 0])
        for loss, share, part, own, (values, known) in zip(
            self._members,
            self.shares,
            likelihood.members,
            likelihood.divided(outputs),
            likelihood.values(targets),
            strict=True,
        ):
            each = loss(part, own, values)
            total = total + share * torch.where(known, each, torch.zeros_like(each))
        return total
