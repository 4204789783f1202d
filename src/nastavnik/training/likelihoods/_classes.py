"""What likelihoods of classes share."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import torch

from nastavnik.predictive import ClassPredictive
from nastavnik.training.likelihoods._base import Likelihood, entropy_explained

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

    def mistake(self, outputs: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        """The share of rows whose class is not the likeliest."""
        wrong = self.describe(outputs)["probabilities"].argmax(-1) != targets
        return (weights * wrong.to(outputs.dtype)).mean()

    def standing(
        self, outputs: torch.Tensor, targets: torch.Tensor, known: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """See ``Likelihood``."""
        said = self.log_probabilities(outputs)
        shares = torch.nn.functional.one_hot(targets, said.shape[-1]).to(said.dtype)
        return entropy_explained(said, shares, known.to(said.dtype))

    def predictive(self, described: Mapping[str, np.ndarray], target: TargetPreparation) -> ClassPredictive:
        """Of class numbers."""
        grades = np.array([float(c) for c in target.classes]) if target.kind == "grade" else None
        return ClassPredictive(described["probabilities"], grades)


def pick(values: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """values [n, C], targets [n] -> the value of each row's target [n]."""
    return values.gather(-1, targets.unsqueeze(-1)).squeeze(-1)
