"""From one activation to another while training goes on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch

from nastavnik.nets._timed import add_progress
from nastavnik.nets.activations._base import Activation
from nastavnik.nets.activations._rectifiers import Relu
from nastavnik.nets.activations._saturating import Tanh
from nastavnik.recipe import Value


class Blend(Activation):
    """Goes over from one activation to another in the first ``blend_until`` of the training."""

    name = "blend"
    formula = "(1 - s) * from(x) + s * to(x), s = min(1, progress / blend_until)"
    prefer = "to try whether a smooth start and a sharp end help; nobody has reported it"
    source = "Manessi & Rozza 2018 (combinations of activations)"
    settings: ClassVar[Mapping[str, float]] = {"blend_until": 0.5}
    choices: ClassVar[Mapping[str, tuple[Value, ...]]] = {"blend_from": ("tanh",), "blend_to": ("relu",)}
    zero_centred = True
    largest_derivative = 1.0
    initialization = "he"
    blend_until: torch.Tensor
    training_progress: torch.Tensor

    def __init__(
        self, values: Mapping[str, Any] | None = None, ends: tuple[Activation, Activation] | None = None
    ) -> None:
        super().__init__(values)
        self.start, self.end = ends or (Tanh(), Relu())
        add_progress(self)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """See ``formula``; evaluation sees the blend that training has reached."""
        share = (self.training_progress / self.blend_until.clamp(min=1e-6)).clamp(0, 1)
        return torch.lerp(self.start(x), self.end(x), share)
