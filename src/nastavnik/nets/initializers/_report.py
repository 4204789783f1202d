"""How signals and gradients change from layer to layer before the first step."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from nastavnik.nets.initializers._base import layers_of


@dataclass(frozen=True)
class LayerVariance:
    """One layer at step 0: variance of its outputs, of the loss's gradient in them, and of its weights.

    ``constant`` says that all its weights are equal: its units then get equal gradients and stay equal.
    """

    name: str
    forward: float
    backward: float
    weights: float
    constant: bool


def initial_variances(
    network: nn.Module,
    *inputs: torch.Tensor,
    loss: Callable[[torch.Tensor], torch.Tensor] | None = None,
) -> list[LayerVariance]:
    """The forward and backward variance of each linear and convolutional layer, in training mode.

    Args:
        network: left as it is.
        inputs: what it takes, a batch.
        loss: a scalar of its outputs; by default their mean square, as with targets near zero.
    """
    network = copy.deepcopy(network).train()
    names = {id(module): name for name, module in network.named_modules()}
    said: dict[str, torch.Tensor] = {}

    def keep(module: nn.Module, given: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        output.retain_grad()
        said[names[id(module)]] = output

    layers = {names[id(layer)]: layer for layer in layers_of(network)}
    for layer in layers.values():
        layer.register_forward_hook(keep)
    with torch.enable_grad():
        outputs = network(*inputs)
        (outputs.square().mean() if loss is None else loss(outputs)).backward()
    report = []
    for name, output in said.items():
        weight = layers[name].weight
        assert isinstance(weight, torch.Tensor)
        gradient = torch.zeros_like(output) if output.grad is None else output.grad
        forward, backward, own = (float(t.detach().var()) for t in (output, gradient, weight))
        report.append(LayerVariance(name, forward, backward, own, bool((weight == weight.flatten()[0]).all())))
    return report
