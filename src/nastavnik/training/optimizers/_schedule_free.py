"""AdamW that needs no schedule: it averages its weights as it goes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch

from nastavnik.training.optimizers._base import FirstOrder, Tensors, decays

_EPSILON = 1e-8


class ScheduleFreeAdamW(FirstOrder):
    """Takes gradients between a fast sequence z and its running mean x; x is what is judged and delivered.

    Use a constant schedule (with ``schedule.warmup`` if steps start large): the averaging takes the schedule's place.
    """

    name = "schedule_free_adamw"
    formula = (
        "gradient at y = (1 - beta1) z + beta1 x; z = z - rate * (g / (sqrt(v') + 1e-8) + weight_decay * y); "
        "x = (1 - c) x + c z, c = rate^2 / sum of rate^2"
    )
    prefer = "when the length of the training is open; with a constant schedule"
    source = "Defazio et al. 2024, algorithm 1"
    settings: ClassVar[Mapping[str, float]] = {
        "learning_rate": 2.5e-3,
        "weight_decay": 0.0,
        "beta1": 0.9,
        "beta2": 0.999,
    }
    slots = ("fast", "average", "square", "weight")
    coupled = None

    def start(self, slot: str, parameter: torch.Tensor) -> torch.Tensor:
        """z and x start at the weights; ``weight`` is the sum of squared rates."""
        if slot in ("fast", "average"):
            return parameter.clone()
        return parameter.new_zeros(()) if slot == "weight" else torch.zeros_like(parameter)

    def shared(self, steps: torch.Tensor, s: Tensors) -> Tensors:
        """The square's correction."""
        return {"correction": 1 - s["beta2"] ** steps}

    def rule(
        self, w: torch.Tensor, g: torch.Tensor, slots: Tensors, s: Tensors, common: Tensors
    ) -> tuple[torch.Tensor, Tensors]:
        """See ``formula``; w is y."""
        rate, beta1 = s["learning_rate"], s["beta1"]
        v = torch.lerp(slots["square"], g * g, 1 - s["beta2"])
        change = g / ((v / common["correction"]).sqrt() + _EPSILON)
        if decays(w):
            change = change + s["weight_decay"] * w
        z = slots["fast"] - rate * change
        weight = slots["weight"] + rate**2
        x = torch.lerp(slots["average"], z, rate**2 / weight.clamp(min=1e-30))
        return torch.lerp(z, x, beta1), {"fast": z, "average": x, "square": v, "weight": weight}

    @property
    def averages(self) -> bool:
        """Yes."""
        return True

    def evaluated(self, state: Tensors, parameters: Tensors, settings: Tensors) -> Tensors:
        """x."""
        return {name: state[f"average.{name}"] for name in parameters}
