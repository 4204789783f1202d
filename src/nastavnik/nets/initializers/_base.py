"""The contract of an initializer, and which layers it is for."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import nn

from nastavnik.errors import UserError, nearest
from nastavnik.nets._normalization import WeightNormLinear
from nastavnik.nets._scaling import TangentLinear
from nastavnik.recipe import Value

_LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
OUTPUTS = ("small", "zero", "same")


class Initializer(ABC):
    """Sets the weights of a network's hidden layers, drawing from torch's random state.

    ``gain`` multiplies their standard deviation. ``needs_examples`` says that it looks at training rows.
    """

    name: ClassVar[str]
    formula: ClassVar[str]
    prefer: ClassVar[str]
    source: ClassVar[str]
    settings: ClassVar[Mapping[str, float]] = {"gain": 1.0}
    needs_examples: ClassVar[bool] = False
    flag: ClassVar[str] = ""  # what is wrong with it, if anything

    @abstractmethod
    def fill(
        self, network: nn.Module, layers: list[nn.Module], gain: float, examples: tuple[torch.Tensor, ...] | None
    ) -> None:
        """Set the weights of these layers of a network."""

    def variance(self, fan_in: int, fan_out: int) -> float | None:
        """The weights' variance by the formula at gain 1; None where there is none."""
        return None


def layers_of(network: nn.Module) -> list[nn.Module]:
    """Linear and convolutional layers in the order they were made, the output layer last."""
    output = output_of(network)
    layers: list[nn.Module] = [m for m in network.modules() if isinstance(m, _LAYERS) and m is not output]
    return layers if output is None else [*layers, output]


def output_of(network: nn.Module) -> nn.Module | None:
    """The layer that gives the outputs: what the network calls ``output``, or its last layer."""
    layers = [module for module in network.modules() if isinstance(module, _LAYERS)]
    own = getattr(network, "output", None)
    return own if isinstance(own, _LAYERS) else layers[-1] if layers else None


def fans(weight: torch.Tensor) -> tuple[int, int]:
    """How many numbers a unit takes, and how many units take a number."""
    field = weight[0][0].numel()
    return weight.shape[1] * field, weight.shape[0] * field


def weight_of(layer: nn.Module) -> torch.Tensor:
    """A layer's weights."""
    weight = layer.weight
    assert isinstance(weight, torch.Tensor)
    return weight


def settle(layer: nn.Module) -> None:
    """Tell a layer that holds its weights otherwise than they act that these were set."""
    if isinstance(layer, (WeightNormLinear, TangentLinear)):
        layer.settle()


@torch.no_grad()
def initialize(
    network: nn.Module, settings: Mapping[str, Value], examples: tuple[torch.Tensor, ...] | None = None
) -> None:
    """Initialize a network as a recipe's initialization section says.

    Args:
        network: its layers' weights are set, their biases to zero.
        settings: ``name`` (of ``INITIALIZERS``, "matched" by default), ``gain``, and ``output``: what the output
            layer gets: "small" (half of 1/√n, so that first predictions are near the mean), "zero" (a softmax starts
            even) or "same" as the other layers.
        examples: training rows, what the network's forward takes, for initializers that look at data.

    Raises:
        UserError: no initializer has that name, or it needs examples and there are none, or gates and finds none.
    """
    from nastavnik.nets.initializers import INITIALIZERS

    name, output_as = str(settings.get("name", "matched")), str(settings.get("output", "small"))
    if name not in INITIALIZERS:
        raise UserError(f"initialization.name cannot be {name!r}{nearest(name, INITIALIZERS)}")
    if output_as not in OUTPUTS:
        raise UserError(f"initialization.output cannot be {output_as!r}{nearest(output_as, OUTPUTS)}")
    initializer, output = INITIALIZERS[name](), output_of(network)
    if initializer.needs_examples and examples is None:
        raise UserError(f"initialization.name={name} needs training rows")
    layers = [layer for layer in layers_of(network) if output_as == "same" or layer is not output]
    for layer in layers_of(network):
        if isinstance(layer.bias, torch.Tensor):
            nn.init.zeros_(layer.bias)
    if output is not None and output_as != "same":
        weight = weight_of(output)
        scale = 0.0 if output_as == "zero" else 0.5 * fans(weight)[0] ** -0.5
        nn.init.normal_(weight, std=scale) if scale else nn.init.zeros_(weight)
        settle(output)
    initializer.fill(network, layers, float(settings.get("gain", 1.0)), examples)
    for layer in layers:
        settle(layer)
