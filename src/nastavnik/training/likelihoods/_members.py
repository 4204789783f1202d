"""The likelihood of a network that speaks with several voices."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch

from nastavnik.predictive import mixture
from nastavnik.training.likelihoods._base import Likelihood

if TYPE_CHECKING:
    from nastavnik.data import TargetPreparation
    from nastavnik.predictive import Predictive


class Members(Likelihood):
    """Several predictions of one network, each with its own outputs side by side, as the even mixture of them.

    It judges and predicts; in training each member learns by itself (``Learner``), so that what is minimized is no
    density's negative log.

    Args:
        each: the likelihood of one member.
        count: how many there are.
    """

    name = "members"
    formula = "-log mean over members k of p(y | z_k)"
    prefer = "where a network holds members"
    source = "Gorishniy et al. 2025 (TabM)"
    target = "several"
    normalized = False

    def __init__(self, each: Likelihood, count: int) -> None:
        super().__init__()
        self.each, self.count = each, count
        self.outputs = count * each.outputs
        self.target = each.target  # type: ignore[misc]

    @classmethod
    def make(cls, classes: int, options: Mapping[str, Any]) -> Self:
        """Not by a recipe's name: the network says how many members it has.

        Raises:
            TypeError: always.
        """
        raise TypeError("a network makes the likelihood of its members itself")

    def apart(self, outputs: torch.Tensor) -> torch.Tensor:
        """Outputs [n, k o] as rows of one member each [n k, o]."""
        return outputs.reshape(outputs.shape[0] * self.count, self.each.outputs)

    def repeated(self, targets: torch.Tensor) -> torch.Tensor:
        """Targets [n, …] once for each member [n k, …]."""
        n, rest = targets.shape[0], targets.shape[1:]
        return targets[:, None].expand(n, self.count, *rest).reshape(n * self.count, *rest)

    def together(self, rows: torch.Tensor) -> torch.Tensor:
        """What was computed member by member [n k], row by row [n, k]."""
        return rows.reshape(-1, self.count)

    def neg_log_likelihood(
        self, outputs: torch.Tensor, targets: torch.Tensor, temperature: torch.Tensor | float = 1.0
    ) -> torch.Tensor:
        """Of the mixture."""
        each = self.each.neg_log_likelihood(self.apart(outputs), self.repeated(targets), temperature)
        return float(np.log(self.count)) - torch.logsumexp(-self.together(each), dim=1)

    def describe(self, outputs: torch.Tensor, temperature: torch.Tensor | float = 1.0) -> dict[str, torch.Tensor]:
        """Each member's parameters [n, k, …]."""
        said = self.each.describe(self.apart(outputs), temperature)
        return {name: t.reshape(-1, self.count, *t.shape[1:]) for name, t in said.items()}

    def mistake(self, outputs: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        """Of the mean output."""
        return self.each.mistake(self._mean(outputs), targets, weights)

    def standing(
        self, outputs: torch.Tensor, targets: torch.Tensor, known: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Of the mean output."""
        return self.each.standing(self._mean(outputs), targets, known)

    def predictive(self, described: Mapping[str, np.ndarray], target: TargetPreparation) -> Predictive:
        """The mixture."""
        rows = [{name: values[:, k] for name, values in described.items()} for k in range(self.count)]
        return mixture([self.each.predictive(own, target) for own in rows])

    def _mean(self, outputs: torch.Tensor) -> torch.Tensor:
        return outputs.reshape(-1, self.count, self.each.outputs).mean(1)
