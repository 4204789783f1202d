"""What likelihoods of classes share."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import torch

from nastavnik.predictive import ClassPredictive
from nastavnik.training.likelihoods._base import Likelihood

if TYPE_CHECKING:
    from nastavnik.data import TargetPreparation


class ClassLikelihood(Likelihood):
    """A likelihood of one class a row."""

    target = "class"

    @abstractmethod
    def log_probabilities(self, outputs: torch.Tensor, temperature: torch.Tensor | float = 1.0) -> torch.Tensor:
        """outputs [n, o] -> log probabilities of all classes [n, C]."""

    def neg_log_likelihood(
        self, outputs: torch.Tensor, targets: torch.Tensor, temperature: torch.Tensor | float = 1.0
    ) -> torch.Tensor:
        """-log p(target)."""
        return -pick(self.log_probabilities(outputs, temperature), targets)

    def describe(self, outputs: torch.Tensor, temperature: torch.Tensor | float = 1.0) -> dict[str, torch.Tensor]:
        """``probabilities`` [n, C]."""
        return {"probabilities": self.log_probabilities(outputs, temperature).exp()}

    def predictive(self, described: Mapping[str, np.ndarray], target: TargetPreparation) -> ClassPredictive:
        """Of class numbers."""
        grades = np.array([float(c) for c in target.classes]) if target.kind == "grade" else None
        return ClassPredictive(described["probabilities"], grades)


def pick(values: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """values [n, C], targets [n] -> the value of each row's target [n]."""
    return values.gather(-1, targets.unsqueeze(-1)).squeeze(-1)
