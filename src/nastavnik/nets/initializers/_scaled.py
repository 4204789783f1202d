"""Initializers that look at a layer's size alone."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import nn

from nastavnik.nets.initializers._base import Initializer, fans, weight_of


class LayerInitializer(Initializer):
    """Sets each layer by itself, from its numbers of inputs and outputs."""

    uniform: ClassVar[bool] = False

    @abstractmethod
    def variance(self, fan_in: int, fan_out: int) -> float:
        """The weights' variance by the formula at gain 1."""

    def fill(
        self, network: nn.Module, layers: list[nn.Module], gain: float, examples: tuple[torch.Tensor, ...] | None
    ) -> None:
        """Normal or uniform weights of the formula's variance."""
        for layer in layers:
            self.draw(weight_of(layer), gain)

    def draw(self, weight: torch.Tensor, gain: float) -> None:
        """Set one layer's weights."""
        deviation = gain * math.sqrt(self.variance(*fans(weight)))
        if self.uniform:
            nn.init.uniform_(weight, -math.sqrt(3) * deviation, math.sqrt(3) * deviation)
        else:
            nn.init.normal_(weight, std=deviation)


class HeFanIn(LayerInitializer):
    """Keeps the variance of what goes forward through rectifiers, which lose half of it."""

    name = "he"
    formula = "N(0, 2 / n_in)"
    prefer = "for relu and its kin"
    source = "He et al. 2015"

    def variance(self, fan_in: int, fan_out: int) -> float:
        """2 / n_in."""
        return 2 / fan_in


class HeFanOut(LayerInitializer):
    """Keeps the variance of gradients going backward through rectifiers."""

    name = "he_fan_out"
    formula = "N(0, 2 / n_out)"
    prefer = "when gradients vanish or explode and activations do not"
    source = "He et al. 2015"

    def variance(self, fan_in: int, fan_out: int) -> float:
        """2 / n_out."""
        return 2 / fan_out


class GlorotUniform(LayerInitializer):
    """A compromise between forward and backward variance for activations that are linear near zero."""

    name = "glorot"
    formula = "U(-sqrt(6 / (n_in + n_out)), sqrt(6 / (n_in + n_out))), variance 2 / (n_in + n_out)"
    prefer = "for tanh, softsign and sigmoid"
    source = "Glorot & Bengio 2010"
    uniform = True

    def variance(self, fan_in: int, fan_out: int) -> float:
        """2 / (n_in + n_out)."""
        return 2 / (fan_in + fan_out)


class GlorotNormal(GlorotUniform):
    """Glorot's variance with normal weights."""

    name = "glorot_normal"
    formula = "N(0, 2 / (n_in + n_out))"
    prefer = "as glorot"
    uniform = False


class LeCun(LayerInitializer):
    """Keeps the variance of what goes forward where the activation has slope 1."""

    name = "lecun"
    formula = "N(0, 1 / n_in)"
    prefer = "for selu, scaled tanh and linear layers"
    source = "LeCun et al. 1998"

    def variance(self, fan_in: int, fan_out: int) -> float:
        """1 / n_in."""
        return 1 / fan_in


class UniformFanIn(LayerInitializer):
    """The old rule of one over the root of the inputs: a third of the variance that would be kept."""

    name = "uniform_fan_in"
    formula = "U(-1 / sqrt(n_in), 1 / sqrt(n_in)), variance 1 / (3 n_in)"
    prefer = "to repeat old experiments; signals fade by 1/3 a layer"
    source = "LeCun et al. 1998; PyTorch's own default for linear layers"
    uniform = True

    def variance(self, fan_in: int, fan_out: int) -> float:
        """1 / (3 n_in)."""
        return 1 / (3 * fan_in)


class Sine(LayerInitializer):
    """Keeps sines of sines in their range."""

    name = "sine"
    formula = "U(-sqrt(6 / n_in), sqrt(6 / n_in)), variance 2 / n_in"
    prefer = "for sin, with a gain of one over its frequency"
    source = "Sitzmann et al. 2020"
    uniform = True

    def variance(self, fan_in: int, fan_out: int) -> float:
        """2 / n_in."""
        return 2 / fan_in


class SmallNormal(LayerInitializer):
    """Normal weights of deviation 0.01 whatever the layer's size: signals vanish in deep networks."""

    name = "small_normal"
    formula = "N(0, 0.01^2)"
    prefer = "to see signals vanish; the gain makes it larger"
    source = "Krizhevsky et al. 2012"
    flag = "signals vanish in deep networks"

    def variance(self, fan_in: int, fan_out: int) -> float:
        """0.0001."""
        return 1e-4


class UnitNormal(LayerInitializer):
    """Normal weights of deviation 1 whatever the layer's size: sums are large and sigmoids saturate."""

    name = "unit_normal"
    formula = "N(0, 1)"
    prefer = "to see saturation"
    source = "Nielsen 2015, ch. 3"
    flag = "sums grow with the root of the inputs, and units saturate"

    def variance(self, fan_in: int, fan_out: int) -> float:
        """1."""
        return 1.0


class Zeros(LayerInitializer):
    """All weights zero: equal units get equal gradients and stay equal for good."""

    name = "zeros"
    formula = "0"
    prefer = "only to show that symmetry must be broken (linear models excepted, which are convex)"
    source = "Rumelhart, Hinton & Williams 1986 (symmetry must be broken)"
    flag = "units of a layer stay equal for good"

    def variance(self, fan_in: int, fan_out: int) -> float:
        """0."""
        return 0.0

    def draw(self, weight: torch.Tensor, gain: float) -> None:
        """Zeros."""
        nn.init.zeros_(weight)


class Orthogonal(Initializer):
    """Directions at right angles: lengths are kept exactly through linear layers."""

    name = "orthogonal"
    formula = "W'W = gain^2 I (or WW' where there are more inputs than units)"
    prefer = "for deep and recurrent networks"
    source = "Saxe et al. 2014"
    settings: ClassVar[Mapping[str, float]] = {"gain": 1.0}

    def fill(
        self, network: nn.Module, layers: list[nn.Module], gain: float, examples: tuple[torch.Tensor, ...] | None
    ) -> None:
        """By QR of a normal matrix."""
        for layer in layers:
            nn.init.orthogonal_(weight_of(layer), gain=gain)

    def variance(self, fan_in: int, fan_out: int) -> float:
        """1 / max(n_in, n_out): all entries' mean square."""
        return 1 / max(fan_in, fan_out)
