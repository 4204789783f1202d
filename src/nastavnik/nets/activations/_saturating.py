"""Activations that flatten out on both sides."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar

import torch

from nastavnik.nets.activations._base import Activation


class Sigmoid(Activation):
    """Squeezes into (0, 1): for gates. As a hidden unit it saturates, and gradients vanish with depth."""

    name = "sigmoid"
    formula = "1 / (1 + exp(-x))"
    prefer = "for gates and to repeat old experiments; tanh is better in hidden layers"
    source = "Rumelhart, Hinton & Williams 1986"
    range = (0.0, 1.0)
    zero_centred = False
    largest_derivative = 0.25
    initialization = "glorot"

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """See ``formula``."""
        return torch.sigmoid(x)


class HardSigmoid(Activation):
    """A sigmoid of three straight pieces, without exponentials."""

    name = "hard_sigmoid"
    formula = "min(1, max(0, x / 6 + 1/2))"
    prefer = "on small devices"
    source = "Courbariaux et al. 2015; torch.nn.Hardsigmoid"
    range = (0.0, 1.0)
    zero_centred = False
    largest_derivative = 1 / 6
    initialization = "glorot"

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """See ``formula``."""
        return (x / 6 + 0.5).clamp(0, 1)


class Tanh(Activation):
    """A sigmoid around zero."""

    name = "tanh"
    formula = "(exp(x) - exp(-x)) / (exp(x) + exp(-x)) = 2 sigmoid(2x) - 1"
    prefer = "for recurrent networks and smooth targets"
    source = "LeCun et al. 1998"
    range = (-1.0, 1.0)
    zero_centred = True
    largest_derivative = 1.0
    initialization = "glorot"

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """See ``formula``."""
        return torch.tanh(x)


class ScaledTanh(Activation):
    """A tanh that maps ±1 to ±1, where it bends most, and keeps unit variance."""

    name = "scaled_tanh"
    formula = "1.7159 * tanh(2x / 3)"
    prefer = "with standardized inputs and targets of ±1"
    source = "LeCun et al. 1998"
    range = (-1.7159, 1.7159)
    zero_centred = True
    largest_derivative = 1.7159 * 2 / 3
    initialization = "lecun"

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """See ``formula``."""
        return 1.7159 * torch.tanh(x * (2 / 3))


class Softsign(Activation):
    """A sigmoid around zero that flattens slowly, like 1/x."""

    name = "softsign"
    formula = "x / (1 + |x|)"
    prefer = "instead of tanh when units saturate"
    source = "Glorot & Bengio 2010"
    range = (-1.0, 1.0)
    zero_centred = True
    largest_derivative = 1.0
    initialization = "glorot"

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """See ``formula``."""
        return x / (1 + x.abs())


class Arctan(Activation):
    """The angle whose tangent is x: a slow sigmoid around zero."""

    name = "arctan"
    formula = "atan(x)"
    prefer = "to compare"
    source = "Kamruzzaman & Aziz 2002"
    range = (-math.pi / 2, math.pi / 2)
    zero_centred = True
    largest_derivative = 1.0
    initialization = "glorot"

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """See ``formula``."""
        return torch.atan(x)


class Step(Activation):
    """Yes or no. Its gradient is that of a sigmoid of ``step_sharpness`` times x (declared, not derived)."""

    name = "step"
    formula = "1 if x > 0 else 0; gradient s * sigmoid(s x) * (1 - sigmoid(s x)), s = step_sharpness"
    prefer = "for binary codes and threshold units"
    source = "Bengio et al. 2013 (straight-through estimators)"
    settings: ClassVar[Mapping[str, float]] = {"step_sharpness": 4.0}
    range = (0.0, 1.0)
    zero_centred = False
    largest_derivative = 1.0
    initialization = "lecun"
    surrogate = True
    step_sharpness: torch.Tensor

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """See ``formula``."""
        smooth = torch.sigmoid(self.step_sharpness * x)
        return smooth + ((x > 0).to(x.dtype) - smooth).detach()
