"""The contract of a regularizer."""

from __future__ import annotations

from abc import ABC
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import ClassVar, NamedTuple

import torch

from nastavnik.noise import Noise
from nastavnik.training.optimizers import Tensors


class Batch(NamedTuple):
    """The rows of one step: what the network takes [b, …], and targets [b].

    With ``partners``, each row has a second target, and ``share`` is the weight of the first.
    """

    inputs: tuple[torch.Tensor, ...]
    targets: torch.Tensor
    partners: torch.Tensor | None = None
    share: torch.Tensor | None = None


Loss = Callable[[Tensors, Batch], torch.Tensor]


@dataclass
class Context:
    """What a regularizer may look at: its settings (scalars), the step's noise, and the outputs of activations."""

    settings: Tensors
    noise: Noise
    activations: list[torch.Tensor] = field(default_factory=list)


class Regularizer(ABC):
    """Changes the objective, or the parameters after a step; pure, for ONE network.

    ``settings`` names its numbers: the first is its strength and what a recipe names it by, the others have their
    defaults.
    """

    name: ClassVar[str]
    formula: ClassVar[str]
    prefer: ClassVar[str]
    source: ClassVar[str]
    settings: ClassVar[Mapping[str, float]]
    noisy: ClassVar[bool] = False  # whether it draws noise
    watches: ClassVar[bool] = False  # whether it looks at activations
    signed: ClassVar[bool] = False  # whether a negative strength makes sense: the honest control
    scheduled: ClassVar[bool] = True  # whether a strength of 0 switches it off, so that a schedule may scale it
    acts_after: ClassVar[bool] = False  # whether it changes parameters after a step
    by_weight: ClassVar[bool] = False  # whether it is a sum of terms of one weight each

    def around(self, loss: Loss, context: Context) -> Loss:
        """The mean loss (parameters, batch) -> scalar, changed."""
        return loss

    def after(self, parameters: Tensors, before: Tensors, rate: torch.Tensor, settings: Tensors) -> Tensors:
        """The parameters after a step from ``before`` at a learning rate, changed."""
        return parameters
