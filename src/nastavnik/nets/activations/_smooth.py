"""Activations that are smooth everywhere and do not flatten out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch.nn import functional as F

from nastavnik.nets.activations._base import Activation

_INFINITE = float("inf")
_STEEP = 20.0  # beyond it mish is its argument, to the last digit


class Identity(Activation):
    """Says its sum as it is: a network of it is one linear map."""

    name = "identity"
    formula = "x"
    prefer = "to check that depth alone does nothing"
    source = "Saxe et al. 2014 (deep linear networks)"
    zero_centred = True
    largest_derivative = 1.0
    initialization = "lecun"

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x."""
        return x


class Softplus(Activation):
    """A smooth rectifier that is never zero."""

    name = "softplus"
    formula = "log(1 + exp(x))"
    prefer = "for outputs that must be positive; hidden layers gain nothing over relu"
    source = "Dugas et al. 2001"
    range = (0.0, _INFINITE)
    zero_centred = False
    largest_derivative = 1.0
    initialization = "he"

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """See ``formula``."""
        return F.softplus(x)


class Silu(Activation):
    """x times its sigmoid: smooth, with a small dip below zero."""

    name = "silu"
    formula = "x * sigmoid(x)"
    prefer = "for smooth targets and deep networks"
    source = "Elfwing et al. 2018; Ramachandran et al. 2017"
    range = (-0.2784645427610738, _INFINITE)
    zero_centred = True
    largest_derivative = 1.0998393194516
    initialization = "he"

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """See ``formula``."""
        return F.silu(x)


class Gelu(Activation):
    """x times the normal probability of being below it."""

    name = "gelu"
    formula = "x * Phi(x)"
    prefer = "for attention networks"
    source = "Hendrycks & Gimpel 2016"
    range = (-0.16997120747990369, _INFINITE)
    zero_centred = True
    largest_derivative = 1.1289041451865
    initialization = "he"

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """See ``formula``, exact."""
        return F.gelu(x)


class Mish(Activation):
    """x times the tanh of its softplus."""

    name = "mish"
    formula = "x * tanh(log(1 + exp(x)))"
    prefer = "for tables; to compare with silu"
    source = "Misra 2020"
    range = (-0.3088434130, _INFINITE)
    zero_centred = True
    largest_derivative = 1.0885013
    initialization = "he"

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """See ``formula``: with e = exp(x), tanh(log(1 + e)) = e (e + 2) / (e (e + 2) + 2), one exponential for three.

        Where e is beyond what squares hold, the quotient is 1.
        """
        e = torch.exp(x.clamp(max=_STEEP))
        n = e * (e + 2)
        return x * (n / (n + 2))


class TanhLinear(Activation):
    """A tanh with a straight bypass, so that its gradient never vanishes."""

    name = "tanh_linear"
    formula = "tanh(x) + tanh_bypass * x"
    prefer = "when units of tanh saturate"
    source = "LeCun et al. 1998"
    settings: ClassVar[Mapping[str, float]] = {"tanh_bypass": 0.1}
    zero_centred = True
    largest_derivative = 1.1
    initialization = "glorot"
    tanh_bypass: torch.Tensor

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """See ``formula``."""
        return torch.tanh(x) + self.tanh_bypass * x


class Sin(Activation):
    """A wave: for signals, pictures and fields as functions of their coordinates."""

    name = "sin"
    formula = "sin(sin_frequency * x)"
    prefer = "for coordinates as inputs; a higher frequency fits finer detail"
    source = "Sitzmann et al. 2020"
    settings: ClassVar[Mapping[str, float]] = {"sin_frequency": 1.0}
    range = (-1.0, 1.0)
    zero_centred = True
    largest_derivative = 1.0
    initialization = "sine"
    sin_frequency: torch.Tensor

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """See ``formula``."""
        return torch.sin(self.sin_frequency * x)
