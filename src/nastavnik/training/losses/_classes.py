"""Training losses for classes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch

from nastavnik.training.likelihoods import ClassLikelihood, Likelihood
from nastavnik.training.losses._base import TrainingLoss


class LabelSmoothing(TrainingLoss):
    """Cross-entropy with a target that gives a share evenly to all classes: less confident, better calibrated."""

    name = "label_smoothing"
    formula = "-(1 - a) log p[y] - (a / C) sum log p[c]"
    prefer = "by default for classes: a little does no harm and calms confident mistakes"
    source = "Szegedy et al. 2016"
    settings: ClassVar[Mapping[str, float]] = {"label_smoothing": 0.05}
    targets = ("class",)
    label_smoothing: torch.Tensor

    def rows(self, likelihood: Likelihood, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """See ``formula``."""
        assert isinstance(likelihood, ClassLikelihood)
        right = likelihood.neg_log_likelihood(outputs, targets)
        even = -likelihood.log_probabilities(outputs).mean(-1)
        return (1 - self.label_smoothing) * right + self.label_smoothing * even


class Focal(TrainingLoss):
    """Cross-entropy that cares less for rows already right, so that rare and hard ones are heard."""

    name = "focal"
    formula = "-(1 - p[y])^gamma log p[y]"
    prefer = "for strong imbalance; gamma 0 is cross-entropy"
    source = "Lin et al. 2017"
    settings: ClassVar[Mapping[str, float]] = {"focal_gamma": 2.0}
    targets = ("class",)
    focal_gamma: torch.Tensor

    def rows(self, likelihood: Likelihood, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """See ``formula``; (1 - p)^γ as exp(γ log(1 - p)), kept away from log 0."""
        right = likelihood.neg_log_likelihood(outputs, targets)
        wrong = (-torch.expm1(-right)).clamp(min=1e-12)
        return torch.exp(self.focal_gamma * wrong.log()) * right
