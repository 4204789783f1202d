"""The contract of a training loss."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import nn

from nastavnik.errors import UserError
from nastavnik.training.likelihoods import Likelihood


class TrainingLoss(nn.Module, ABC):
    """What is minimized, per row, from the network's outputs (logits) and a likelihood.

    ``targets`` are the kinds of target it is for; ``settings`` become buffers, one value a network. ``weights``
    multiply the loss of each class and nothing else.
    """

    name: ClassVar[str]
    formula: ClassVar[str]
    prefer: ClassVar[str]
    source: ClassVar[str]
    settings: ClassVar[Mapping[str, float]] = {}
    targets: ClassVar[tuple[str, ...]]
    curved: ClassVar[bool] = True  # whether it has second derivatives in the outputs
    weights: torch.Tensor | None

    def __init__(self, values: Mapping[str, float] | None = None, weights: Sequence[float] | None = None) -> None:
        super().__init__()
        for name, default in self.settings.items():
            self.register_buffer(name, torch.tensor(float((values or {}).get(name, default))))
        self.register_buffer("weights", None if weights is None else torch.tensor(list(weights)))

    @property
    def normalized(self) -> bool:
        """Whether it is the negative log of a density, so that evidence may be computed with it."""
        return False

    @abstractmethod
    def rows(self, likelihood: Likelihood, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """outputs [n, o], targets [n] -> losses [n]."""

    def forward(self, likelihood: Likelihood, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Losses [n], each times its class's weight."""
        losses = self.rows(likelihood, outputs, targets)
        return losses if self.weights is None else losses * self.weights[targets]

    @classmethod
    def check(cls, likelihood: Likelihood) -> None:
        """Refuse a likelihood it is not for.

        Raises:
            UserError: it is not.
        """
        if likelihood.target not in cls.targets:
            raise UserError(
                f"loss.name={cls.name} is for targets of kind {' or '.join(cls.targets)}, "
                f"but {likelihood.name} is for {likelihood.target}"
            )
