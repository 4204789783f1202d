"""Rates of each parameter's own from the size of its gradients: Adagrad, RMSProp, Adadelta."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch

from nastavnik.training.optimizers._base import FirstOrder, Tensors


class Adagrad(FirstOrder):
    """Divides by the root of all squared gradients so far: rare inputs keep large steps.

    As ``torch.optim.Adagrad``.
    """

    name = "adagrad"
    formula = "s = s + g^2; w = w - rate * g / (sqrt(s) + 1e-10)"
    prefer = "for sparse inputs and convex losses; its steps shrink for good"
    source = "Duchi et al. 2011"
    settings: ClassVar[Mapping[str, float]] = {"learning_rate": 0.01, "weight_decay": 0.0}
    slots = ("square",)
    rate_scale = 5.0
    decay_scale = 0.01

    def rule(
        self, w: torch.Tensor, g: torch.Tensor, slots: Tensors, s: Tensors, common: Tensors
    ) -> tuple[torch.Tensor, Tensors]:
        """See ``formula``."""
        total = slots["square"] + g * g
        return w - s["learning_rate"] * g / (total.sqrt() + 1e-10), {"square": total}


class RmsProp(FirstOrder):
    """Divides by the root of a running mean of squared gradients: Adagrad that forgets.

    As ``torch.optim.RMSprop``.
    """

    name = "rmsprop"
    formula = "v = smoothing * v + (1 - smoothing) * g^2; w = w - rate * g / (sqrt(v) + 1e-8)"
    prefer = "for recurrent networks and moving targets; else Adam, which is RMSProp with momentum"
    source = "Tieleman & Hinton 2012"
    settings: ClassVar[Mapping[str, float]] = {"learning_rate": 0.01, "weight_decay": 0.0, "smoothing": 0.99}
    slots = ("square",)
    decay_scale = 0.01

    def rule(
        self, w: torch.Tensor, g: torch.Tensor, slots: Tensors, s: Tensors, common: Tensors
    ) -> tuple[torch.Tensor, Tensors]:
        """See ``formula``."""
        v = torch.lerp(slots["square"], g * g, 1 - s["smoothing"])
        return w - s["learning_rate"] * g / (v.sqrt() + 1e-8), {"square": v}


class Adadelta(FirstOrder):
    """Steps in the units of the parameter: the root mean square of past steps over that of gradients.

    As ``torch.optim.Adadelta``.
    """

    name = "adadelta"
    formula = (
        "v = rho * v + (1 - rho) * g^2; d = sqrt(u + 1e-6) / sqrt(v + 1e-6) * g; "
        "u = rho * u + (1 - rho) * d^2; w = w - rate * d"
    )
    prefer = "when no rate at all can be given (rate 1)"
    source = "Zeiler 2012"
    settings: ClassVar[Mapping[str, float]] = {"learning_rate": 1.0, "weight_decay": 0.0, "rho": 0.9}
    slots = ("square", "steps_square")
    rate_scale = 300.0
    decay_scale = 0.01

    def rule(
        self, w: torch.Tensor, g: torch.Tensor, slots: Tensors, s: Tensors, common: Tensors
    ) -> tuple[torch.Tensor, Tensors]:
        """See ``formula``."""
        v = torch.lerp(slots["square"], g * g, 1 - s["rho"])
        d = (slots["steps_square"] + 1e-6).sqrt() / (v + 1e-6).sqrt() * g
        u = torch.lerp(slots["steps_square"], d * d, 1 - s["rho"])
        return w - s["learning_rate"] * d, {"square": v, "steps_square": u}
