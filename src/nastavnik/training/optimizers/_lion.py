"""Steps of equal size: the sign of a momentum."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch

from nastavnik.training.optimizers._base import FirstOrder, Tensors


class Lion(FirstOrder):
    """Moves every weight by the same amount, in the direction of the sign of a momentum; one average instead of two."""

    name = "lion"
    formula = (
        "c = beta1 * m + (1 - beta1) * g; w = w - rate * (sign(c) + weight_decay * w); m = beta2 * m + (1 - beta2) * g"
    )
    prefer = "for large batches, with a third to a tenth of AdamW's rate and three to ten times its decay"
    source = "Chen et al. 2023, algorithm 2"
    settings: ClassVar[Mapping[str, float]] = {
        "learning_rate": 1e-4,
        "weight_decay": 0.0,
        "beta1": 0.9,
        "beta2": 0.99,
    }
    slots = ("mean",)
    coupled = False
    rate_scale = 0.1
    decay_scale = 10.0

    def rule(
        self, w: torch.Tensor, g: torch.Tensor, slots: Tensors, s: Tensors, common: Tensors
    ) -> tuple[torch.Tensor, Tensors]:
        """See ``formula``."""
        m = slots["mean"]
        direction = torch.lerp(m, g, 1 - s["beta1"]).sign()
        return w - s["learning_rate"] * direction, {"mean": torch.lerp(m, g, 1 - s["beta2"])}
