"""Initializers that look at the network as a whole."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from nastavnik.errors import UserError
from nastavnik.nets.activations import Activation
from nastavnik.nets.initializers._base import Initializer

_TORCH = {
    nn.Tanh: "glorot",
    nn.Sigmoid: "glorot",
    nn.Softsign: "glorot",
    nn.Hardsigmoid: "glorot",
    nn.SELU: "lecun",
}


class Matched(Initializer):
    """The initializer that the network's activation asks for: He for rectifiers, Glorot for tanh, LeCun for selu."""

    name = "matched"
    formula = "by the activation's initialization"
    prefer = "by default"
    source = "Glorot & Bengio 2010; He et al. 2015"

    def fill(
        self, network: nn.Module, layers: list[nn.Module], gain: float, examples: tuple[torch.Tensor, ...] | None
    ) -> None:
        """By the network's first activation."""
        from nastavnik.nets.initializers import INITIALIZERS

        found = [kind for kind in map(_matched, network.modules()) if kind]
        INITIALIZERS[found[0] if found else "he"]().fill(network, layers, gain, examples)


class ZeroResidual(Initializer):
    """Residual branches that say nothing at first: however deep, the network starts as a shallow one."""

    name = "zero_residual"
    formula = "matched; the gates of residual branches at 0"
    prefer = "for deep residual networks"
    source = "Goyal et al. 2017; Bachlechner et al. 2021"

    def fill(
        self, network: nn.Module, layers: list[nn.Module], gain: float, examples: tuple[torch.Tensor, ...] | None
    ) -> None:
        """Matched, then the parameters that the network calls ``gates`` to zero."""
        gates = [p for name, p in network.named_parameters() if name.rsplit(".", 1)[-1] == "gates"]
        if not gates:
            raise UserError("initialization.name=zero_residual needs residual branches: pin network.residual=true")
        Matched().fill(network, layers, gain, examples)
        for gate in gates:
            nn.init.zeros_(gate)


def _matched(module: Any) -> str | None:
    if isinstance(module, Activation):
        return module.initialization
    return _TORCH.get(type(module))
