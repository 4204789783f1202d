"""Normalization: what keeps the numbers inside a network of one size."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import nn
from torch.nn import functional as F

from nastavnik.recipe import Value

_LEAST_GROUP = 4  # units; a group of one would always say nothing


class Normalization:
    """A kind of normalization: the layer before it, and the module after that layer.

    ``make(width, options)`` gives the module for [rows, width]; ``layer(inputs, outputs, options)`` the linear layer
    that goes before it.
    """

    name: ClassVar[str]
    formula: ClassVar[str]
    prefer: ClassVar[str]
    source: ClassVar[str]
    settings: ClassVar[Mapping[str, float]] = {}
    choices: ClassVar[Mapping[str, tuple[Value, ...]]] = {}
    centres: ClassVar[bool] = False  # whether it takes away any bias before it

    @classmethod
    def make(cls, width: int, options: Mapping[str, Any]) -> nn.Module:
        """The module after the layer."""
        return nn.Identity()

    @classmethod
    def maps(cls, channels: int) -> nn.Module | None:
        """The module for maps [rows, channels, height, width]; None where there is none."""
        return None

    @classmethod
    def layer(cls, inputs: int, outputs: int) -> nn.Linear:
        """The layer before it."""
        return nn.Linear(inputs, outputs, bias=not cls.centres)


class NoNormalization(Normalization):
    """Leaves everything as it is."""

    name = "none"
    formula = "x"
    prefer = "for shallow networks with a matched initialization"
    source = "-"

    @classmethod
    def maps(cls, channels: int) -> nn.Module:
        """``nn.Identity``."""
        return nn.Identity()


class BatchNorm(Normalization):
    """Each unit to mean 0 and variance 1 over the batch, then scale and shift; running statistics in evaluation."""

    name = "batch"
    formula = "(x - mean_batch) / sqrt(var_batch + 1e-5) * gamma + beta"
    prefer = "for large batches; weaken dropout beside it; never with batches of a few rows"
    source = "Ioffe & Szegedy 2015"
    centres = True

    @classmethod
    def maps(cls, channels: int) -> nn.Module:
        """``nn.BatchNorm2d``."""
        return nn.BatchNorm2d(channels)

    @classmethod
    def make(cls, width: int, options: Mapping[str, Any]) -> nn.Module:
        """``nn.BatchNorm1d``."""
        return nn.BatchNorm1d(width)


class LayerNorm(Normalization):
    """Each row to mean 0 and variance 1 over its units: no matter what else is in the batch."""

    name = "layer"
    formula = "(x - mean_row) / sqrt(var_row + 1e-5) * gamma + beta"
    prefer = "for small batches, recurrent and attention networks"
    source = "Ba et al. 2016"

    @classmethod
    def maps(cls, channels: int) -> nn.Module:
        """All channels and places of a row together."""
        return nn.GroupNorm(1, channels)

    @classmethod
    def make(cls, width: int, options: Mapping[str, Any]) -> nn.Module:
        """``nn.LayerNorm``."""
        return nn.LayerNorm(width)


class GroupNorm(Normalization):
    """Layer normalization over groups of units apart."""

    name = "group"
    formula = "as layer, over each of g groups of units"
    prefer = "after convolutions with small batches"
    source = "Wu & He 2018"
    choices: ClassVar[Mapping[str, tuple[Value, ...]]] = {"groups": (8, 2, 4, 16, 32)}

    @classmethod
    def maps(cls, channels: int) -> nn.Module:
        """Groups of four channels."""
        return nn.GroupNorm(max(1, channels // _LEAST_GROUP), channels)

    @classmethod
    def make(cls, width: int, options: Mapping[str, Any]) -> nn.Module:
        """``nn.GroupNorm`` with as many groups as asked, or the most that divide the width into groups of four."""
        most = min(int(options.get("groups", cls.choices["groups"][0])), max(1, width // _LEAST_GROUP))
        return nn.GroupNorm(max(g for g in range(1, most + 1) if width % g == 0), width)


class RmsNorm(Normalization):
    """Each row to root mean square 1, without taking the mean away."""

    name = "rms"
    formula = "x / sqrt(mean(x^2) + 1e-6) * gamma"
    prefer = "as a cheaper layer normalization"
    source = "Zhang & Sennrich 2019"

    @classmethod
    def make(cls, width: int, options: Mapping[str, Any]) -> nn.Module:
        """``RootMeanSquare``."""
        return RootMeanSquare(width)


class WeightNorm(Normalization):
    """Length and direction of each unit's weights as parameters of their own."""

    name = "weight"
    formula = "w = g * v / |v|"
    prefer = "where batch statistics are unwelcome and speed matters"
    source = "Salimans & Kingma 2016"

    @classmethod
    def layer(cls, inputs: int, outputs: int) -> nn.Linear:
        """``WeightNormLinear``."""
        return WeightNormLinear(inputs, outputs)


class RootMeanSquare(nn.Module):
    """x over its root mean square over the last dimension, times a learned scale."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x [rows, width]."""
        return x * (x.square().mean(-1, keepdim=True) + 1e-6).rsqrt() * self.weight


class WeightNormLinear(nn.Linear):
    """A linear layer whose units' weights have a direction (``weight``) and a length (``length``) apart.

    The lengths begin as those of the initial weights, whenever these are set (``settle``).
    """

    def __init__(self, inputs: int, outputs: int, bias: bool = True) -> None:
        super().__init__(inputs, outputs, bias)
        self.length = nn.Parameter(torch.ones(outputs))
        self.settle()

    def settle(self) -> None:
        """Take the weights' present lengths as the learned ones."""
        with torch.no_grad():
            self.length.copy_(self.weight.square().sum(1).sqrt())

    def effective(self) -> torch.Tensor:
        """The weights that inputs are multiplied by."""
        direction = self.weight / self.weight.square().sum(1, keepdim=True).clamp(min=1e-24).sqrt()
        return self.length[:, None] * direction

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """input [rows, inputs]."""
        return F.linear(input, self.effective(), self.bias)


NORMALIZATIONS: dict[str, type[Normalization]] = {
    normalization.name: normalization
    for normalization in (NoNormalization, LayerNorm, BatchNorm, GroupNorm, RmsNorm, WeightNorm)
}
