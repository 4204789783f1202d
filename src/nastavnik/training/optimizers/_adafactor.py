"""Adam's square in the memory of its rows and columns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch

from nastavnik.training.optimizers._base import FirstOrder, Tensors

_LEAST_SCALE = 1e-3


class Adafactor(FirstOrder):
    """Keeps squared gradients as row and column means, and steps in proportion to the weights' own size.

    As ``torch.optim.Adafactor``.
    """

    name = "adafactor"
    formula = (
        "a = t^-0.8; R, C = running means of g^2 over rows and columns, share a; V = R C / mean(R); u = g / sqrt(V); "
        "w = w - max(1e-3, rms(w)) * min(rate, 1 / sqrt(t)) * u / max(1, rms(u))"
    )
    prefer = "when Adam's two averages do not fit into memory"
    source = "Shazeer & Stern 2018"
    settings: ClassVar[Mapping[str, float]] = {"learning_rate": 0.01, "weight_decay": 0.0, "decay_power": 0.8}
    slots = ("rows", "columns")
    coupled = False
    rate_scale = 5.0

    def start(self, slot: str, parameter: torch.Tensor) -> torch.Tensor:
        """Means over columns and rows of a matrix; of a vector, its squares and nothing."""
        if parameter.ndim < 2:
            return torch.zeros_like(parameter) if slot == "rows" else parameter.new_zeros(())
        dim = -1 if slot == "rows" else -2
        return parameter.new_zeros([1 if d == parameter.ndim + dim else n for d, n in enumerate(parameter.shape)])

    def shared(self, steps: torch.Tensor, s: Tensors) -> Tensors:
        """How much is forgotten, and the relative step."""
        return {"share": steps ** -s["decay_power"], "step": torch.minimum(s["learning_rate"], 1 / steps.sqrt())}

    def rule(
        self, w: torch.Tensor, g: torch.Tensor, slots: Tensors, s: Tensors, common: Tensors
    ) -> tuple[torch.Tensor, Tensors]:
        """See ``formula``."""
        epsilon = torch.finfo(w.dtype).eps
        squares = g * g
        if w.ndim < 2:
            square = torch.lerp(slots["rows"], squares, common["share"])
            new = {"rows": square, "columns": slots["columns"]}
        else:
            rows = torch.lerp(slots["rows"], squares.mean(-1, keepdim=True), common["share"])
            columns = torch.lerp(slots["columns"], squares.mean(-2, keepdim=True), common["share"])
            square = rows * columns / rows.mean(-2, keepdim=True).clamp(min=epsilon)
            new = {"rows": rows, "columns": columns}
        u = g * square.clamp(min=epsilon**2).rsqrt()
        # rms(w) is that before the decay, which took a share of rate · decay away
        before = w / (1 - s["learning_rate"] * s["weight_decay"]) if w.ndim >= 2 else w
        scale = before.square().mean().sqrt().clamp(min=_LEAST_SCALE) * common["step"]
        return w - scale / u.square().mean().sqrt().clamp(min=1.0) * u, new
