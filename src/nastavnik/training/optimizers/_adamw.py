"""AdamW: Adam with decoupled weight decay (Loshchilov & Hutter 2019)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch

from nastavnik.recipe import Value
from nastavnik.space import Space
from nastavnik.training.optimizers._base import Optimizer, Tensors, decays

_EPSILON = 1e-8


class AdamW(Optimizer):
    """m = β₁m + (1-β₁)g, v = β₂v + (1-β₂)g², w = (1 - ηλ)w - η m / (√v + ε).

    In the last, m and v are corrected for their start at zero: divided by 1 - β₁ᵗ and 1 - β₂ᵗ.

    As ``torch.optim.AdamW``.
    """

    name = "adamw"
    settings: ClassVar[Mapping[str, float]] = {
        "learning_rate": 1e-3,
        "weight_decay": 0.01,
        "beta1": 0.9,
        "beta2": 0.999,
    }

    def __init__(self, options: Mapping[str, Value]) -> None:
        pass

    @staticmethod
    def space() -> Space:
        """The averages' memories, given: they are seldom worth a search."""
        return Space(fixed={"optimizer.beta1": 0.9, "optimizer.beta2": 0.999})

    def init(self, parameters: Tensors) -> Tensors:
        """Both averages zero, and the number of steps."""
        some = next(iter(parameters.values()))
        state = {"steps": torch.zeros((), dtype=some.dtype, device=some.device)}
        for name, p in parameters.items():
            state[f"mean.{name}"] = torch.zeros_like(p)
            state[f"square.{name}"] = torch.zeros_like(p)
        return state

    def update(
        self, gradients: Tensors, state: Tensors, parameters: Tensors, settings: Tensors
    ) -> tuple[Tensors, Tensors]:
        """One step of every parameter."""
        beta1, beta2 = settings["beta1"], settings["beta2"]
        steps = state["steps"] + 1
        # η m̂ / (√v̂ + ε) = (η r / (1 - β₁ᵗ)) · m / (√v + ε r) with r = √(1 - β₂ᵗ): fewer passes over the weights
        root = (1 - beta2**steps).sqrt()
        step_size, epsilon = -settings["learning_rate"] * root / (1 - beta1**steps), _EPSILON * root
        kept = 1 - settings["learning_rate"] * settings["weight_decay"]
        new_parameters, new_state = {}, {"steps": steps}
        for name, w in parameters.items():
            g = gradients[name]
            m = torch.lerp(state[f"mean.{name}"], g, 1 - beta1)
            v = torch.lerp(state[f"square.{name}"], g * g, 1 - beta2)
            new_state[f"mean.{name}"], new_state[f"square.{name}"] = m, v
            shrunk = w * kept if decays(w) else w
            new_parameters[name] = torch.addcmul(shrunk, m / (v.sqrt() + epsilon), step_size)
        return new_parameters, new_state
