"""Momentum made orthogonal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch

from nastavnik.training.optimizers._base import FirstOrder, Tensors

_A, _B, _C = 3.4445, -4.7750, 2.0315  # of the quintic whose slope at zero is largest
_ITERATIONS = 5
_EPSILON = 1e-8


class Muon(FirstOrder):
    """Gives every direction of a weight matrix the same step, by making its momentum nearly orthogonal.

    Vectors and scalars are moved by AdamW's rule at ``vector_rate`` times the rate. As ``torch.optim.Muon`` for
    matrices, but in the weights' own precision instead of bfloat16. Tensors of more dimensions are seen as matrices
    of their first dimension.
    """

    name = "muon"
    formula = (
        "m = momentum * m + (1 - momentum) * g; u = (1 - momentum) * g + momentum * m; X = u / |u|, five times "
        "X = a X + (b X X' + c (X X')^2) X; w = w * (1 - rate * weight_decay) - rate * sqrt(max(1, rows / columns)) * X"
    )
    prefer = "for hidden layers of wide networks"
    source = "Jordan et al. 2024"
    settings: ClassVar[Mapping[str, float]] = {
        "learning_rate": 0.02,
        "weight_decay": 0.0,
        "momentum": 0.95,
        "vector_rate": 0.1,
        "beta2": 0.95,
    }
    slots = ("mean", "square")
    coupled = False
    rate_scale = 7.0

    def start(self, slot: str, parameter: torch.Tensor) -> torch.Tensor:
        """Squares are kept for vectors alone."""
        matrix = slot == "square" and parameter.ndim >= 2
        return parameter.new_zeros(()) if matrix else torch.zeros_like(parameter)

    def rule(
        self, w: torch.Tensor, g: torch.Tensor, slots: Tensors, s: Tensors, common: Tensors
    ) -> tuple[torch.Tensor, Tensors]:
        """See ``formula``."""
        if w.numel() == 0:
            return w, slots
        m = torch.lerp(slots["mean"], g, 1 - s["momentum"])
        if w.ndim < 2:
            v = torch.lerp(slots["square"], g * g, 1 - s["beta2"])
            corrected = m / (1 - s["momentum"] ** common["steps"])
            root = (v / (1 - s["beta2"] ** common["steps"])).sqrt()
            change = s["learning_rate"] * s["vector_rate"] * corrected / (root + _EPSILON)
            return w - change, {"mean": m, "square": v}
        ahead = torch.lerp(g, m, s["momentum"]).flatten(1)
        factor = max(1.0, ahead.shape[0] / ahead.shape[1]) ** 0.5
        change = (s["learning_rate"] * factor) * orthogonal(ahead).reshape(w.shape)
        return w - change, {"mean": m, "square": slots["square"]}

    def shared(self, steps: torch.Tensor, s: Tensors) -> Tensors:
        """The number of steps."""
        return {"steps": steps}


def orthogonal(matrix: torch.Tensor) -> torch.Tensor:
    """A matrix whose singular values are all pushed near one (Newton–Schulz), [m, n]."""
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if tall else matrix
    x = x / x.square().sum().sqrt().clamp(min=1e-7)
    for _ in range(_ITERATIONS):
        gram = x @ x.T
        x = _A * x + (_B * gram + _C * (gram @ gram)) @ x
    return x.T if tall else x
