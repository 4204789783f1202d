"""How fast parts of a network learn beside each other: learned scales of inputs, and layers in the neural tangent
parametrization (Jacot et al. 2018; both as used by Holzmüller et al. 2024, "Better by default")."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional as F

from nastavnik.errors import UserError, nearest
from nastavnik.nets._normalization import Normalization

_QUICK = 6.0  # times as fast as other weights: what is held is a sixth of what acts
_USUAL = 256  # inputs of a layer that learns as fast in either parametrization
PARAMETRIZATIONS = ("standard", "ntp")


class Scaling(nn.Module):
    """Multiplies each input by a learned number that starts at 1: a soft choice of inputs."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.full((features,), 1 / _QUICK))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x [rows, features]."""
        return x * (self.scale * _QUICK)


class TangentLinear(nn.Linear):
    """A linear layer whose weights act by √(256 / inputs) of what is held, so that narrow layers learn faster.

    A layer of 256 inputs is ``nn.Linear``: rates mean the same in both parametrizations.
    """

    def __init__(self, inputs: int, outputs: int, bias: bool = True) -> None:
        super().__init__(inputs, outputs, bias)
        self.factor = math.sqrt(_USUAL / max(1, inputs))

    def settle(self) -> None:
        """The weights were set as they are to act: hold them accordingly."""
        with torch.no_grad():
            self.weight.div_(self.factor)

    def effective(self) -> torch.Tensor:
        """The weights that inputs are multiplied by."""
        return self.weight * self.factor

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """input [rows, inputs]."""
        return F.linear(input, self.effective(), self.bias)


def layer_maker(parametrization: str, normalization: type[Normalization]) -> Callable[[int, int], nn.Linear]:
    """What makes the layers before a normalization.

    Raises:
        UserError: there is no such parametrization, or the normalization has one of its own.
    """
    if parametrization not in PARAMETRIZATIONS:
        known = nearest(parametrization, PARAMETRIZATIONS)
        raise UserError(f"network.parametrization cannot be {parametrization!r}{known}")
    if parametrization == "standard":
        return normalization.layer
    if type(normalization.layer(1, 1)) is not nn.Linear:
        raise UserError(
            f"network.parametrization=ntp does not go with network.normalization={normalization.name}, which has a "
            "parametrization of its own; take another normalization"
        )
    return lambda inputs, outputs: TangentLinear(inputs, outputs, bias=not normalization.centres)
