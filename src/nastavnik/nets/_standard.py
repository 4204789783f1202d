"""Pixels and arrays brought to mean 0 and deviation 1 inside the network."""

from __future__ import annotations

import torch
from torch import nn

from nastavnik.fields import Entry

_AT_ONCE = 32  # rows


class Standard(nn.Module):
    """Pixels by channel, or an array as a whole, to mean 0 and deviation 1; pictures come out channels first.

    ``shape`` is a row's; ``examples`` are training rows [n, …], None when the buffers are loaded anyway.
    """

    constants = ("centre", "scale")
    centre: torch.Tensor
    scale: torch.Tensor

    def __init__(self, entry: Entry, examples: torch.Tensor | None) -> None:
        super().__init__()
        self.picture = entry.sort == "picture"
        size = entry.shape[-1] if self.picture else 1
        self.register_buffer("centre", torch.zeros(size))
        self.register_buffer("scale", torch.ones(size))
        if examples is not None:
            centre, deviation = _moments(examples, size)
            self.centre.copy_(centre)
            self.scale.copy_(torch.where(deviation > 1e-6, deviation, torch.ones_like(deviation)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x [rows, …]; a picture's channels last -> first, in memory as they were."""
        z = (x.to(self.centre.dtype) - self.centre) / self.scale
        return z.permute(0, 3, 1, 2) if self.picture else z


def _moments(values: torch.Tensor, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and deviation over all but the last ``size`` numbers, a piece of the rows at a time."""
    pieces = [piece.reshape(-1, size) for piece in values.split(_AT_ONCE)]
    count = sum(len(piece) for piece in pieces)
    mean = torch.stack([piece.double().sum(0) for piece in pieces]).sum(0) / count
    square = torch.stack([(piece.double() - mean).square().sum(0) for piece in pieces]).sum(0) / count
    return mean, square.sqrt()
