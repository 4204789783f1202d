"""Stochastic gradient descent with momentum (notes/004 I15, I16) and Nesterov's form of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch

from nastavnik.recipe import Value
from nastavnik.space import Choice, Number, Space
from nastavnik.training.optimizers._base import Optimizer, Tensors, decays


class Sgd(Optimizer):
    """v = µv + g, w = w - ηv; Nesterov: w = w - η(g + µv). Weight decay is coupled: g = ∇L + λw.

    As ``torch.optim.SGD``.
    """

    name = "sgd"
    settings: ClassVar[Mapping[str, float]] = {"learning_rate": 0.01, "weight_decay": 0.0, "momentum": 0.9}

    def __init__(self, options: Mapping[str, Value]) -> None:
        self.nesterov = bool(options.get("nesterov", False))

    @staticmethod
    def space() -> Space:
        """Momentum, and whether it looks ahead."""
        return Space(
            {
                "optimizer.momentum": Number(0.0, 0.99, default=0.9, below=1.0),
                "optimizer.nesterov": Choice.of(True, False, default=True),
            }
        )

    def init(self, parameters: Tensors) -> Tensors:
        """Velocities, zero."""
        return {f"velocity.{name}": torch.zeros_like(p) for name, p in parameters.items()}

    def update(
        self, gradients: Tensors, state: Tensors, parameters: Tensors, settings: Tensors
    ) -> tuple[Tensors, Tensors]:
        """One step of every parameter."""
        rate, momentum = settings["learning_rate"], settings["momentum"]
        new_parameters, new_state = {}, {}
        for name, w in parameters.items():
            g = gradients[name]
            if decays(w):
                g = g + settings["weight_decay"] * w
            v = momentum * state[f"velocity.{name}"] + g
            new_state[f"velocity.{name}"] = v
            new_parameters[name] = w - rate * (g + momentum * v if self.nesterov else v)
        return new_parameters, new_state
