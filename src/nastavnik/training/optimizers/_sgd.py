"""Stochastic gradient descent, with momentum, and looking ahead."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch

from nastavnik.recipe import Value
from nastavnik.space import Choice, Node, Number
from nastavnik.training.optimizers._base import FirstOrder, Tensors

_MOMENTUM = Number(0.0, 0.99, default=0.9, below=1.0)


class Sgd(FirstOrder):
    """Follows the gradient, with a velocity that remembers; looks ahead if ``nesterov``.

    As ``torch.optim.SGD``.
    """

    name = "sgd"
    formula = "v = momentum * v + g; w = w - rate * v (nesterov: w - rate * (g + momentum * v))"
    prefer = "for convolutional networks and whenever its rate can be searched; momentum=0 is plain descent"
    source = "Robbins & Monro 1951; Polyak 1964; Sutskever et al. 2013"
    settings: ClassVar[Mapping[str, float]] = {"learning_rate": 0.01, "weight_decay": 0.0, "momentum": 0.9}
    choices: ClassVar[Mapping[str, tuple[Value, ...]]] = {"nesterov": (False, True)}
    slots = ("velocity",)
    ahead: ClassVar[bool] = False  # where there is no choice
    rate_scale = 5.0
    decay_scale = 0.01
    searched: ClassVar[Mapping[str, Node]] = {"momentum": _MOMENTUM, "nesterov": Choice.of(True, False, default=False)}

    def rule(
        self, w: torch.Tensor, g: torch.Tensor, slots: Tensors, s: Tensors, common: Tensors
    ) -> tuple[torch.Tensor, Tensors]:
        """See ``formula``."""
        v = s["momentum"] * slots["velocity"] + g
        looked = g + s["momentum"] * v if self.options.get("nesterov", self.ahead) else v
        return w - s["learning_rate"] * looked, {"velocity": v}


class Momentum(Sgd):
    """Gradient descent with a velocity, by its own name: ``sgd`` without looking ahead."""

    name = "momentum"
    formula = "v = momentum * v + g; w = w - rate * v"
    prefer = "to compare with nesterov and sgd; momentum=0 is plain descent exactly"
    choices: ClassVar[Mapping[str, tuple[Value, ...]]] = {}
    searched: ClassVar[Mapping[str, Node]] = {"momentum": _MOMENTUM}


class Nesterov(Sgd):
    """Gradient descent with a velocity that looks one step ahead, by its own name."""

    name = "nesterov"
    formula = "v = momentum * v + g; w = w - rate * (g + momentum * v)"
    prefer = "instead of momentum: as cheap, and steadier at large momentum"
    source = "Nesterov 1983; Sutskever et al. 2013"
    choices: ClassVar[Mapping[str, tuple[Value, ...]]] = {}
    ahead = True
    searched: ClassVar[Mapping[str, Node]] = {"momentum": _MOMENTUM}
