"""Activations that pass what is positive."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch.nn import functional as F

from nastavnik.nets.activations._base import Activation
from nastavnik.recipe import Value

_INFINITE = float("inf")
_SELU_SCALE, _SELU_ALPHA = 1.0507009873554805, 1.6732632423543772


class Relu(Activation):
    """Passes what is positive: fast, does not saturate upwards; units can die."""

    name = "relu"
    formula = "max(0, x)"
    prefer = "first"
    source = "Nair & Hinton 2010"
    range = (0.0, _INFINITE)
    zero_centred = False
    largest_derivative = 1.0
    initialization = "he"

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """See ``formula``; the derivative at 0 is 0."""
        return F.relu(x)


class LeakyRelu(Activation):
    """A rectifier that lets a little of what is negative through, so that no unit dies."""

    name = "leaky_relu"
    formula = "x if x > 0 else leaky_slope * x"
    prefer = "when units of relu die"
    source = "Maas et al. 2013"
    settings: ClassVar[Mapping[str, float]] = {"leaky_slope": 0.01}
    zero_centred = True
    largest_derivative = 1.0
    initialization = "he"
    leaky_slope: torch.Tensor

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """See ``formula``."""
        return torch.where(x > 0, x, self.leaky_slope * x)


class PRelu(Activation):
    """A leaky rectifier whose slope is learned, one for each layer."""

    name = "prelu"
    formula = "x if x > 0 else a * x, a learned from prelu_slope on"
    prefer = "when there are rows enough to learn a few numbers more"
    source = "He et al. 2015"
    settings: ClassVar[Mapping[str, float]] = {"prelu_slope": 0.25}
    learned = ("prelu_slope",)
    zero_centred = True
    largest_derivative = 1.0
    initialization = "he"
    prelu_slope: torch.Tensor

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """See ``formula``."""
        return torch.where(x > 0, x, self.prelu_slope * x)


class Elu(Activation):
    """A rectifier with a smooth negative part that saturates: means near zero."""

    name = "elu"
    formula = "x if x > 0 else elu_alpha * (exp(x) - 1)"
    prefer = "for deep networks without normalization"
    source = "Clevert et al. 2016"
    settings: ClassVar[Mapping[str, float]] = {"elu_alpha": 1.0}
    range = (-1.0, _INFINITE)
    zero_centred = True
    largest_derivative = 1.0
    initialization = "he"
    elu_alpha: torch.Tensor

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """See ``formula``."""
        return torch.where(x > 0, x, self.elu_alpha * torch.expm1(x.clamp(max=0)))


class Selu(Activation):
    """An ELU scaled so that mean 0 and variance 1 are kept from layer to layer, with LeCun's initialization."""

    name = "selu"
    formula = "1.0507 * (x if x > 0 else 1.6733 * (exp(x) - 1))"
    prefer = "for deep plain networks; with alpha dropout or none"
    source = "Klambauer et al. 2017"
    range = (-_SELU_SCALE * _SELU_ALPHA, _INFINITE)
    zero_centred = True
    largest_derivative = _SELU_SCALE * _SELU_ALPHA
    initialization = "lecun"

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """See ``formula``."""
        return _SELU_SCALE * torch.where(x > 0, x, _SELU_ALPHA * torch.expm1(x.clamp(max=0)))


class Maxout(Activation):
    """The largest of several weighted sums: the shape of the function is learned; weights in proportion."""

    name = "maxout"
    formula = "max(x_1, ..., x_k), k = maxout_pieces"
    prefer = "with dropout, when parameters are no concern"
    source = "Goodfellow et al. 2013"
    choices: ClassVar[Mapping[str, tuple[Value, ...]]] = {"maxout_pieces": (2, 3, 4)}
    zero_centred = True
    largest_derivative = 1.0
    initialization = "lecun"

    @property
    def expansion(self) -> int:
        """Pieces of each unit."""
        return int(self.options["maxout_pieces"])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x [..., k · units] -> [..., units]."""
        return x.unflatten(-1, (-1, self.expansion)).amax(-1)
