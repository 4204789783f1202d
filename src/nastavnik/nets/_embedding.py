"""Piecewise-linear encoding of numbers (Gorishniy et al. 2022, "On embeddings for numerical features", §3.2)."""

from __future__ import annotations

import torch
from torch import nn

_FAR = 1e30  # the left edge of an unused bin: it encodes to 0
_REACH = 3.0  # how many bin widths the outer bins reach beyond the training values


class PiecewiseLinear(nn.Module):
    """Each number becomes its place along quantile bins: 1 below, 0 above, the fraction inside.

    Bins of all inputs stand side by side: input j has ``bins_of(distinct[j])`` of them, so that a 0/1 column takes one.
    The edges are buffers, fitted on training rows; they are shared by all networks that were fitted on the same rows.
    """

    constants = ("column", "left", "width", "lowest", "highest")
    column: torch.Tensor
    left: torch.Tensor
    width: torch.Tensor
    lowest: torch.Tensor
    highest: torch.Tensor

    def __init__(self, bins: int, distinct: tuple[int, ...], examples: torch.Tensor | None) -> None:
        super().__init__()
        counts = [max(1, min(bins, d - 1)) for d in distinct]
        self.features = sum(counts)
        columns = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts, dtype=torch.long))
        self.register_buffer("column", columns)
        for name in ("left", "width", "lowest", "highest"):
            self.register_buffer(name, torch.zeros(self.features))
        if examples is not None:
            edges = [_bins(examples[:, j], count) for j, count in enumerate(counts)]
            for name, parts in zip(("left", "width", "lowest", "highest"), zip(*edges, strict=True), strict=True):
                getattr(self, name).copy_(torch.cat(parts))

    def forward(self, numbers: torch.Tensor) -> torch.Tensor:
        """numbers [rows, d] -> [rows, features]."""
        place = (numbers[:, self.column] - self.left) / self.width
        return torch.maximum(torch.minimum(place, self.highest), self.lowest)


def _bins(values: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Left edges, widths and clipping bounds of one input's bins; what quantiles cannot tell apart stays unused."""
    grid = torch.linspace(0, 1, count + 1, dtype=torch.float64)
    edges = torch.unique(torch.quantile(values.double()[: 2**24], grid, interpolation="nearest").float())
    if len(edges) == 1:
        edges = torch.stack([edges[0], edges[0] + 1])
    used = len(edges) - 1
    left = torch.full((count,), _FAR)
    width, lowest, highest = torch.ones(count), torch.zeros(count), torch.ones(count)
    left[:used], width[:used] = edges[:-1], edges[1:] - edges[:-1]
    lowest[0], highest[used - 1] = -_REACH, 1 + _REACH
    return left, width, lowest, highest
