"""Embeddings of number inputs: piecewise-linear bins and periodic functions (Gorishniy et al. 2022, "On embeddings for
numerical features in tabular deep learning"; Holzmüller et al. 2024, "Better by default")."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

Span = tuple[torch.Tensor, torch.Tensor]  # the least and the greatest of each input

_FAR = 1e30  # the left edge of an unused bin: it encodes to 0
_REACH = 3.0  # how many bin widths the outer bins reach beyond the training values
_BEYOND = 0.25  # ranges of the training values that a number beside its waves reaches beyond them
_HIDDEN = 16  # waves of each number


class Bins(NamedTuple):
    """The bins of all inputs side by side [features]: left edges, widths, and the bounds that places are clipped to."""

    left: torch.Tensor
    width: torch.Tensor
    lowest: torch.Tensor
    highest: torch.Tensor


def bin_counts(bins: int, distinct: tuple[int, ...]) -> list[int]:
    """How many bins each input has: input j of ``distinct[j]`` values no more than they can fill."""
    return [max(1, min(bins, d - 1)) for d in distinct]


def quantile_bins(bins: int, distinct: tuple[int, ...], numbers: torch.Tensor) -> Bins:
    """Bins that hold equally many of the training rows' numbers [n, d]."""

    def edges(values: torch.Tensor, count: int) -> torch.Tensor:
        grid = torch.linspace(0, 1, count + 1, dtype=torch.float64)
        return torch.quantile(values.double()[: 2**24], grid, interpolation="nearest")

    return _side_by_side(bin_counts(bins, distinct), numbers, edges)


def target_bins(bins: int, distinct: tuple[int, ...], numbers: torch.Tensor, answers: torch.Tensor) -> Bins:
    """Bins that end where a regression tree of one number alone would split, best splits first.

    Args:
        bins: of an input at most.
        distinct: how many values each input has.
        numbers: of the training rows [n, d].
        answers: what the splits are to tell apart [n, m]: values, or an indicator for each class.
    """
    y = answers.double().numpy()
    y = (y - y.mean(0)) / np.maximum(y.std(0), 1e-12)

    def edges(values: torch.Tensor, count: int) -> torch.Tensor:
        x = values.double().numpy()
        return torch.from_numpy(np.concatenate([[x.min()], _splits(x, y, count), [x.max()]]))

    return _side_by_side(bin_counts(bins, distinct), numbers, edges)


class PiecewiseLinear(nn.Module):
    """Each number becomes its place along bins: 1 below, 0 above, the fraction inside.

    Bins of all inputs stand side by side: input j has as many as ``bin_counts`` says, so that a 0/1 column takes one.
    They are buffers, fitted on training rows; networks that were fitted on the same rows share them.
    """

    constants = ("column", "left", "width", "lowest", "highest")
    column: torch.Tensor
    left: torch.Tensor
    width: torch.Tensor
    lowest: torch.Tensor
    highest: torch.Tensor

    def __init__(self, bins: int, distinct: tuple[int, ...], fitted: Bins | None) -> None:
        super().__init__()
        counts = bin_counts(bins, distinct)
        self.features = sum(counts)
        columns = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts, dtype=torch.long))
        self.register_buffer("column", columns)
        for name in Bins._fields:
            self.register_buffer(name, torch.zeros(self.features) if fitted is None else getattr(fitted, name).clone())

    def forward(self, numbers: torch.Tensor) -> torch.Tensor:
        """numbers [rows, d] -> [rows, features]."""
        place = (numbers[:, self.column] - self.left) / self.width
        return torch.maximum(torch.minimum(place, self.highest), self.lowest)


class Periodic(nn.Module):
    """Each number stands beside a linear function of its waves: (x, W cos(2π (f x + p)) + b).

    Frequencies f start from N(0, σ²), phases p evenly from (-½, ½): so Holzmüller et al. (2024), there PBLD, with 16
    waves. Frequencies and phases learn a tenth as fast as other weights: what is held is a tenth of what acts. Waves
    say nothing where no row has bent them: a number beyond the training rows' range has those of the range's end. The
    number beside them is taken as it is as far as a quarter of a range further out.
    """

    slowness = 0.1
    constants = ("least", "greatest", "reach")
    least: torch.Tensor
    greatest: torch.Tensor
    reach: torch.Tensor

    def __init__(self, numbers: int, size: int, sigma: float, span: Span | None = None) -> None:
        super().__init__()
        far = torch.full((numbers,), _FAR)
        least, greatest = (-far, far) if span is None else span
        self.register_buffer("least", least)
        self.register_buffer("greatest", greatest)
        self.register_buffer("reach", torch.zeros(numbers) if span is None else _BEYOND * (greatest - least))
        self.features = numbers * size
        self.frequency = nn.Parameter(torch.randn(numbers, _HIDDEN) * sigma / self.slowness)
        self.phase = nn.Parameter((torch.rand(numbers, _HIDDEN) - 0.5) / self.slowness)
        bound = 1 / math.sqrt(_HIDDEN)
        self.weight = nn.Parameter(torch.empty(numbers, _HIDDEN, size - 1).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(numbers, size - 1).uniform_(-bound, bound))

    def forward(self, numbers: torch.Tensor) -> torch.Tensor:
        """numbers [rows, d] -> [rows, d * size]."""
        numbers = torch.maximum(torch.minimum(numbers, self.greatest + self.reach), self.least - self.reach)
        inside = torch.maximum(torch.minimum(numbers, self.greatest), self.least)
        turns = self.slowness * (inside[:, :, None] * self.frequency + self.phase)
        waves = torch.cos(2 * math.pi * turns)
        said = torch.einsum("ndh,dhe->nde", waves, self.weight) + self.bias
        return torch.cat([numbers[:, :, None], said], dim=2).flatten(1)


def _side_by_side(counts: list[int], numbers: torch.Tensor, edges: Callable[[torch.Tensor, int], torch.Tensor]) -> Bins:
    each = [_bins(edges(numbers[:, j], count), count) for j, count in enumerate(counts)]
    return Bins(*(torch.cat(parts) for parts in zip(*each, strict=True))) if each else Bins(*[torch.zeros(0)] * 4)


def _bins(edges: torch.Tensor, count: int) -> Bins:
    """One input's bins between edges; what the edges do not need of ``count`` stays unused."""
    edges = torch.unique(edges.float())
    if len(edges) == 1:
        edges = torch.stack([edges[0], edges[0] + 1])
    used = len(edges) - 1
    left = torch.full((count,), _FAR)
    width, lowest, highest = torch.ones(count), torch.zeros(count), torch.ones(count)
    left[:used], width[:used] = edges[:-1], edges[1:] - edges[:-1]
    lowest[0], highest[used - 1] = -_REACH, 1 + _REACH
    return Bins(left, width, lowest, highest)


def _splits(x: np.ndarray, y: np.ndarray, count: int) -> np.ndarray:
    """Where a tree of at most ``count`` leaves splits x [n] to tell y [n, m] apart by squares, best first."""
    order = np.argsort(x, kind="stable")
    x = x[order]
    sums = np.concatenate([np.zeros((1, y.shape[1])), np.cumsum(y[order], axis=0)])
    least = max(4, len(x) // (16 * count))  # rows of a leaf
    cuts = np.flatnonzero(np.diff(x) > 0) + 1  # a cut at i parts rows before i from the others

    def best(start: int, stop: int) -> tuple[float, int, int, int] | None:
        own = cuts[np.searchsorted(cuts, start + least) : np.searchsorted(cuts, stop - least, side="right")]
        if not len(own):
            return None
        left, whole = sums[own] - sums[start], sums[stop] - sums[start]
        gain = (left**2).sum(1) / (own - start) + ((whole - left) ** 2).sum(1) / (stop - own)
        place = int(gain.argmax())
        return float(gain[place] - (whole**2).sum() / (stop - start)), start, int(own[place]), stop

    leaves = [leaf for leaf in [best(0, len(x))] if leaf is not None]
    found: list[int] = []
    while leaves and len(found) < count - 1:
        leaf = max(leaves)
        leaves.remove(leaf)
        _, start, cut, stop = leaf
        found.append(cut)
        leaves += [part for part in (best(start, cut), best(cut, stop)) if part is not None]
    return np.sort([(x[i - 1] + x[i]) / 2 for i in found])
