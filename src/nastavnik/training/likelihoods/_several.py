"""Several targets at once, each with a likelihood of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from torch import nn

from nastavnik.predictive import JointPredictive
from nastavnik.training.likelihoods._base import Likelihood

if TYPE_CHECKING:
    from nastavnik.data import TargetPreparation

_ANY = 1.0  # a value that every target can have, where none is known
_WHOLE = ("class",)  # targets that are numbers of classes


class Several(Likelihood):
    """A likelihood for each of several targets, independent given the network's outputs, which stand side by side.

    A value that is missing (NaN) says nothing, and the row's other targets count as ever. Targets are weighed by what
    they are: each real one by its own learned noise (Kendall et al., "Multi-task learning using uncertainty to weigh
    losses", 2018), each class by its nats.

    Args:
        parts: the likelihoods.
        widths: how many columns of values each has; by default one.
    """

    name = "several"
    formula = "sum over targets t whose value is known of -log p_t(y_t | z_t)"
    prefer = "when a row has several targets"
    source = "Caruana 1997; Kendall et al. 2018 (weights by learned noise)"
    target = "several"

    def __init__(self, parts: Sequence[Likelihood], widths: Sequence[int] | None = None) -> None:
        super().__init__()
        self.parts = nn.ModuleList(parts)
        self.widths = tuple(widths) if widths is not None else (1,) * len(parts)
        self.outputs = sum(part.outputs for part in parts)

    @classmethod
    def make(cls, classes: int, options: Mapping[str, Any]) -> Self:
        """Not by a recipe's name: its parts come from the targets.

        Raises:
            TypeError: always.
        """
        raise TypeError("several targets make their likelihoods themselves")

    @property
    def members(self) -> list[Likelihood]:
        """The likelihoods."""
        return [part for part in self.parts if isinstance(part, Likelihood)]

    def divided(self, outputs: torch.Tensor) -> list[torch.Tensor]:
        """Outputs [n, o], target by target."""
        found, start = [], 0
        for part in self.members:
            found.append(outputs[..., start : start + part.outputs])
            start += part.outputs
        return found

    def values(self, targets: torch.Tensor) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Targets [n, columns], one by one as its likelihood takes them, and which rows are known [n]."""
        found, start = [], 0
        for part, width in zip(self.members, self.widths, strict=True):
            own = targets[..., start] if width == 1 else targets[..., start : start + width]
            there = own == own
            filled = torch.where(there, own, torch.full_like(own, _ANY))
            known = there if width == 1 else there.all(-1)
            found.append((filled.long() if part.target in _WHOLE else filled, known))
            start += width
        return found

    def neg_log_likelihood(
        self, outputs: torch.Tensor, targets: torch.Tensor, temperature: torch.Tensor | float = 1.0
    ) -> torch.Tensor:
        """outputs [n, o], targets [n, columns] -> nats [n], all known targets together."""
        total = None
        for part, own, (values, known) in self._each(outputs, targets):
            each = part.neg_log_likelihood(own, values, temperature)
            each = torch.where(known, each, torch.zeros_like(each))
            total = each if total is None else total + each
        assert total is not None
        return total

    def describe(self, outputs: torch.Tensor, temperature: torch.Tensor | float = 1.0) -> dict[str, torch.Tensor]:
        """What each likelihood says, its names after the target's number: ``0.mean``, ``1.probabilities``."""
        return {
            f"{i}.{name}": t
            for i, (part, own) in enumerate(zip(self.members, self.divided(outputs), strict=True))
            for name, t in part.describe(own, temperature).items()
        }

    def mistake(self, outputs: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        """The mean over the targets of how wrong each is: classes by the share, others by the root mean square, in
        prepared units, in which a deviation is one.
        """
        each = []
        for part, own, (values, known) in self._each(outputs, targets):
            there = known.to(outputs.dtype) * weights
            each.append(part.mistake(own, values, there / there.mean().clamp(min=1e-9)))
        return torch.stack(each).mean()

    def standing(
        self, outputs: torch.Tensor, targets: torch.Tensor, known: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The mean over the targets of each one's, of the rows in which it is known."""
        each = [
            part.standing(own, values, there & known) for part, own, (values, there) in self._each(outputs, targets)
        ]
        return torch.stack([skill for skill, _ in each]).mean(), torch.stack([error for _, error in each]).mean(0)

    def predictive(self, described: Mapping[str, np.ndarray], target: TargetPreparation) -> JointPredictive:
        """A distribution for each target."""
        parts = []
        for i, (part, own) in enumerate(zip(self.members, target.parts, strict=True)):
            start = f"{i}."
            said = {name.removeprefix(start): v for name, v in described.items() if name.startswith(start)}
            parts.append(part.predictive(said, own))
        return JointPredictive(tuple(parts), self.widths)

    def _each(
        self, outputs: torch.Tensor, targets: torch.Tensor
    ) -> list[tuple[Likelihood, torch.Tensor, tuple[torch.Tensor, torch.Tensor]]]:
        return list(zip(self.members, self.divided(outputs), self.values(targets), strict=True))
