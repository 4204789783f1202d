"""The contract of a likelihood."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import torch
from torch import nn

if TYPE_CHECKING:
    from nastavnik.data import TargetPreparation
    from nastavnik.predictive import Predictive


TEMPERATURES = tuple(2.0 ** (i / 3) for i in range(-9, 10))  # 1/8 to 8, a third of an octave apart


class Likelihood(nn.Module, ABC):
    """The distribution of a target given a network's outputs; a module, so that noise may be learned with the weights.

    ``outputs`` is how many outputs a row the network must give. ``neg_log_likelihood`` is in nats per example,
    normalized over the target's values, in the units the target was prepared to. ``temperature`` sharpens (< 1) or
    flattens (> 1) the distribution without moving its centre (Guo et al. 2017).

    ``target`` is the kind of target it is of: "class" (class numbers), "real", "positive", "spike" (positive or zero),
    "count", "labels" (several yes or no), "votes" (counts or shares of each class), "vector" (several reals) or
    "several" (a likelihood for each of several targets).
    """

    name: ClassVar[str]
    formula: ClassVar[str]
    prefer: ClassVar[str]
    source: ClassVar[str]
    settings: ClassVar[Mapping[str, float]] = {}
    target: ClassVar[str]
    normalized: ClassVar[bool] = True
    curved: ClassVar[bool] = True  # whether it has second derivatives in the outputs
    outputs: int

    @classmethod
    @abstractmethod
    def make(cls, classes: int, options: Mapping[str, Any]) -> Self:
        """Build one for a target of so many classes from a recipe's likelihood section.

        Raises:
            UserError: it does not suit the number of classes, or an option is wrong.
        """

    @abstractmethod
    def neg_log_likelihood(
        self, outputs: torch.Tensor, targets: torch.Tensor, temperature: torch.Tensor | float = 1.0
    ) -> torch.Tensor:
        """outputs [n, o], targets [n] or [n, …] -> nats [n]."""

    def forward(
        self, outputs: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Mean negative log likelihood of these rows at each of ``TEMPERATURES`` (nats per example) [19].

        The least of them is a network's calibrated score; folds are averaged first, so that they share a temperature.
        ``weights`` [n] weigh the rows.
        """
        each = self.by_temperature(outputs, targets)
        if weights is None:
            return torch.stack([losses.mean() for losses in each])
        return torch.stack([(losses * weights).sum() / weights.sum() for losses in each])

    def by_temperature(self, outputs: torch.Tensor, targets: torch.Tensor) -> list[torch.Tensor]:
        """Each row's negative log likelihood at each of ``TEMPERATURES`` [n]."""
        return [self.neg_log_likelihood(outputs, targets, t) for t in TEMPERATURES]

    @abstractmethod
    def describe(self, outputs: torch.Tensor, temperature: torch.Tensor | float = 1.0) -> dict[str, torch.Tensor]:
        """The distribution's parameters by name: ``probabilities``, or ``mean`` and ``deviation``, or ``rate``."""

    def curvature_columns(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Columns [r, n, o] whose Σ c cᵀ are the second derivatives of a row's negative log likelihood in its outputs.

        By automatic differentiation; directions in which the curvature is negative are left out. A likelihood with a
        closed form gives its own.
        """
        from torch.func import grad

        def slope(z: torch.Tensor) -> torch.Tensor:
            return grad(lambda v: self.neg_log_likelihood(v, targets).sum())(z)

        rows = [grad(lambda z, j=j: slope(z)[:, j].sum())(outputs) for j in range(outputs.shape[1])]
        curved = torch.stack(rows, dim=1)  # rows of data do not mix
        values, vectors = torch.linalg.eigh(0.5 * (curved + curved.mT))
        return (vectors * values.clamp(min=0).sqrt()[..., None, :]).movedim(-1, 0)

    def curvature(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Second derivatives [n, o, o] of each row's negative log likelihood in its outputs: the columns' Σ c cᵀ."""
        columns = self.curvature_columns(outputs, targets)
        return torch.einsum("rno,rnp->nop", columns, columns)

    def mistake(self, outputs: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        """How wrong rows are, as one number that people know: of classes the share, else the root mean squared error.

        outputs [n, o], targets [n] or [n, …], weights [n] of mean 1. Values that are missing (NaN) say nothing.
        """
        said = self.describe(outputs)
        centre = said["mean"] if "mean" in said else said["rate"]
        if targets.ndim == 1:
            return (weights * (centre - targets).square()).mean().sqrt()
        known = (targets == targets).to(outputs.dtype)
        away = ((centre - torch.where(targets == targets, targets, centre)).square() * known).sum(1)
        return (weights * away / known.sum(1).clamp(min=1)).mean().sqrt()

    def standing(
        self, outputs: torch.Tensor, targets: torch.Tensor, known: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """How far rows are on the way from chance (0) to perfect (1), and how wrong each is [n]; of the ``known`` [n].

        Of numbers R² of the centre, the mean over the columns, and the distance from it in the targets' deviations; of
        classes the share of the entropy that is explained, and the length of (probabilities - one-hot target).
        """
        said = self.describe(outputs)
        centre = said["mean"] if "mean" in said else said["rate"]
        wanted = targets.reshape(len(outputs), -1)
        missing = torch.full_like(wanted, torch.nan)
        return explained(centre.reshape(len(outputs), -1), torch.where(known[:, None], wanted, missing))

    def predictive(self, described: Mapping[str, np.ndarray], target: TargetPreparation) -> Predictive:
        """What is believed of each row in the target's own units, from ``describe``'s arrays.

        Raises:
            TypeError: targets of this kind cannot be predicted by a table's model.
        """
        raise TypeError(f"{self.name} describes several values a row; use describe")


def explained(guess: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """R² of guesses [n, d], the mean over the columns, and each row's distance in deviations [n]; NaN says nothing."""
    known = targets == targets
    there = known.to(guess.dtype)
    count = there.sum(0).clamp(min=1)
    filled = torch.where(known, targets.to(guess.dtype), guess)
    mean = (filled * there).sum(0) / count
    variance = ((filled - mean).square() * there).sum(0).clamp(min=1e-30) / count
    error = (filled - guess).square() * there / variance
    return (1 - error.sum(0) / count).mean(), error.mean(1).sqrt()


def entropy_explained(
    log_probabilities: torch.Tensor, shares: torch.Tensor, there: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """The share of entropy that log probabilities [n, C] explain of rows with these shares of classes [n, C], and the
    distance of the two [n]; rows that are not ``there`` [n] (0 and 1) say nothing.
    """
    count = there.sum().clamp(min=1)
    base = ((shares * there[:, None]).sum(0) / count).clamp(min=1e-12)
    chance = -(base * base.log()).sum()
    least = -(torch.special.xlogy(shares, shares.clamp(min=1e-12)).sum(1) * there).sum() / count
    loss = -((shares * log_probabilities.clamp(min=-30)).sum(1) * there).sum() / count
    distance = (log_probabilities.exp() - shares).square().sum(1).sqrt() * there
    return 1 - (loss - least) / (chance - least).clamp(min=1e-12), distance
