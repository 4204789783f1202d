"""Initializers that look at training rows."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from nastavnik.nets.initializers._base import Initializer, settle, weight_of

_ROWS = 1024
_ROUNDS = 10
_CLOSE = 0.02


class Lsuv(Initializer):
    """Orthogonal weights, scaled layer by layer until each layer's outputs have unit variance on training rows."""

    name = "lsuv"
    formula = "orthogonal; then, layer by layer, W = gain * W / std(outputs)"
    prefer = "for deep networks of unusual parts, where no formula holds"
    source = "Mishkin & Matas 2016"
    needs_examples = True

    def fill(
        self, network: nn.Module, layers: list[nn.Module], gain: float, examples: tuple[torch.Tensor, ...] | None
    ) -> None:
        """Each layer is scaled with all layers before it in their final state."""
        assert examples is not None
        for layer in layers:
            nn.init.orthogonal_(weight_of(layer))
        for layer in layers:
            _to_unit_variance(network, layer, gain, examples)


class DataDependent(Initializer):
    """Units that answer to training rows: each unit's weights are a centred example, as its layer sees it.

    The k-th unit takes the k-th of the first rows (again from the start when there are fewer); then each layer is
    scaled to unit variance.
    """

    name = "data"
    formula = "w_k = (h_k - mean h) / |h_k - mean h|, scaled to unit variance of the outputs; h the layer's inputs"
    prefer = "for wide layers on few rows, to compare with he and glorot"
    source = "Krähenbühl et al. 2016"
    needs_examples = True

    def fill(
        self, network: nn.Module, layers: list[nn.Module], gain: float, examples: tuple[torch.Tensor, ...] | None
    ) -> None:
        """Layers of more dimensions (convolutions) take random patches' place by orthogonal weights."""
        assert examples is not None
        for layer in layers:
            weight = weight_of(layer)
            if weight.ndim == 2:
                seen = _seen(network, layer, examples, lambda given, said: given)
                rows = seen.reshape(-1, seen.shape[-1])
                centred = rows - rows.mean(0)
                chosen = centred[torch.arange(len(weight)) % len(centred)]
                # two units of one row must not be equal: each has a little of its own
                chosen = chosen + 1e-2 * centred.std() * torch.randn_like(chosen)
                weight.copy_(chosen / chosen.square().sum(1, keepdim=True).sqrt().clamp(min=1e-12))
            else:
                nn.init.orthogonal_(weight)
            _to_unit_variance(network, layer, gain, examples)


def _to_unit_variance(network: nn.Module, layer: nn.Module, gain: float, examples: tuple[torch.Tensor, ...]) -> None:
    for _ in range(_ROUNDS):
        settle(layer)
        deviation = _seen(network, layer, examples, lambda given, said: said).std()
        if not deviation > 0 or abs(deviation / gain - 1) < _CLOSE:
            return
        weight_of(layer).mul_(gain / deviation)


def _seen(
    network: nn.Module,
    layer: nn.Module,
    examples: tuple[torch.Tensor, ...],
    what: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
) -> torch.Tensor:
    """What a layer takes or says when the network, in evaluation mode, sees the examples."""
    found: list[torch.Tensor] = []
    handle = layer.register_forward_hook(lambda module, given, said: found.append(what(given[0], said)))
    training = network.training
    network.eval()
    try:
        network(*(x[:_ROWS] for x in examples))
    finally:
        handle.remove()
        network.train(training)
    return found[0]
