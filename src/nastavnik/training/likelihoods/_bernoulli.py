"""Yes or no, once or several times a row."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from torch.nn import functional as F

from nastavnik.errors import UserError
from nastavnik.predictive import LabelsPredictive
from nastavnik.training.likelihoods._base import Likelihood
from nastavnik.training.likelihoods._classes import ClassLikelihood

if TYPE_CHECKING:
    from nastavnik.data import TargetPreparation


class Bernoulli(ClassLikelihood):
    """Classes 0 and 1 from one logit: logistic regression's likelihood."""

    name = "bernoulli"
    formula = "p(1) = sigmoid(z / T); -log p[y] = softplus((1 - 2y) z / T)"
    prefer = "for two classes: half the outputs of a softmax, the same distribution"
    source = "Cox 1958"

    def __init__(self) -> None:
        super().__init__()
        self.outputs = 1

    @classmethod
    def make(cls, classes: int, options: Mapping[str, Any]) -> Self:
        """Of two classes.

        Raises:
            UserError: there are more.
        """
        if classes != 2:
            raise UserError(f"likelihood.name=bernoulli is for 2 classes, but the target has {classes}")
        return cls()

    def log_probabilities(self, outputs: torch.Tensor, temperature: torch.Tensor | float = 1.0) -> torch.Tensor:
        """log σ(∓output / T) [n, 2]."""
        z = outputs[..., 0] / temperature
        return -F.softplus(torch.stack([z, -z], dim=-1))

    def neg_log_likelihood(
        self, outputs: torch.Tensor, targets: torch.Tensor, temperature: torch.Tensor | float = 1.0
    ) -> torch.Tensor:
        """softplus(±output / T), which is -log sigmoid without overflow."""
        sign = 1 - 2 * targets.to(outputs.dtype)
        return F.softplus(sign * outputs[..., 0] / temperature)

    def curvature_columns(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """√(p (1 - p))."""
        p = outputs.sigmoid()
        return (p * (1 - p)).sqrt()[None]


class MultiLabel(Likelihood):
    """Several independent yes or no a row, a logit each: labels that may hold together."""

    name = "multi_label"
    formula = "p_j(1) = sigmoid(z_j / T); sum over labels of softplus((1 - 2y_j) z_j / T)"
    prefer = "when a row may carry several labels at once"
    source = "Cox 1958; Nielsen 2015, ch. 3"
    target = "labels"

    def __init__(self, labels: int) -> None:
        super().__init__()
        self.outputs = labels

    @classmethod
    def make(cls, classes: int, options: Mapping[str, Any]) -> Self:
        """Of so many labels."""
        return cls(classes)

    def neg_log_likelihood(
        self, outputs: torch.Tensor, targets: torch.Tensor, temperature: torch.Tensor | float = 1.0
    ) -> torch.Tensor:
        """outputs [n, L], targets [n, L] of 0 and 1 -> nats [n], all labels together."""
        sign = 1 - 2 * targets.to(outputs.dtype)
        return F.softplus(sign * outputs / temperature).sum(-1)

    def describe(self, outputs: torch.Tensor, temperature: torch.Tensor | float = 1.0) -> dict[str, torch.Tensor]:
        """``probabilities`` [n, L] of each label."""
        return {"probabilities": torch.sigmoid(outputs / temperature)}

    def predictive(self, described: Mapping[str, np.ndarray], target: TargetPreparation) -> LabelsPredictive:
        """Of each label."""
        return LabelsPredictive(described["probabilities"])

    def standing(
        self, outputs: torch.Tensor, targets: torch.Tensor, known: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """See ``Likelihood``: of all labels together."""
        there = known.to(outputs.dtype)[:, None]
        count = there.sum().clamp(min=1)
        losses = F.softplus((1 - 2 * targets) * outputs) * there
        base = ((targets * there).sum(0) / count).clamp(1e-6, 1 - 1e-6)
        chance = -(base * base.log() + (1 - base) * torch.log1p(-base)).sum()
        wrong = ((outputs.sigmoid() - targets) * there).square().sum(1).sqrt()
        return 1 - losses.sum() / count / chance, wrong

    def mistake(self, outputs: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        """The share of labels that are wrong."""
        return (weights[:, None] * ((outputs > 0) != (targets > 0.5)).to(outputs.dtype)).mean()
