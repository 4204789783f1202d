"""The contract of an optimizer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar

import torch

from nastavnik.recipe import Value
from nastavnik.space import Space

Tensors = dict[str, torch.Tensor]


class Optimizer(ABC):
    """An update rule of one network.

    ``settings`` names the numbers it takes, with their defaults; inside a population each is a tensor, one value a
    network. ``update`` is pure: it returns new parameters and a new state and leaves its arguments alone. Weight
    decay spares vectors and scalars (biases, normalization scales, a learned noise): only tensors of two or more
    dimensions decay.
    """

    name: ClassVar[str]
    settings: ClassVar[Mapping[str, float]]

    @abstractmethod
    def __init__(self, options: Mapping[str, Value]) -> None:
        """``options``: the recipe's optimizer section, for what belongs to the shape (``nesterov``)."""

    @staticmethod
    @abstractmethod
    def space() -> Space:
        """What hangs below ``optimizer.name`` in a space."""

    @abstractmethod
    def init(self, parameters: Tensors) -> Tensors:
        """The state before the first step, a flat dict of tensors."""

    @abstractmethod
    def update(
        self, gradients: Tensors, state: Tensors, parameters: Tensors, settings: Tensors
    ) -> tuple[Tensors, Tensors]:
        """One step: (new parameters, new state). ``settings`` holds scalars, learning rate already scheduled."""


def decays(parameter: torch.Tensor) -> bool:
    """Whether weight decay touches this parameter."""
    return parameter.ndim >= 2
