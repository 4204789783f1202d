"""What a population trains on, resident on its device, and the order in which it is seen."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from nastavnik.compiler import Program
from nastavnik.nets import Conduct
from nastavnik.rooms import touched


@dataclass(frozen=True)
class Data:
    """Prepared rows for G parts (one for a hold-out, k for k folds), each part prepared by its own training rows.

    ``inputs`` are what the network's ``forward`` takes, one tensor [G, n, …] each; ``targets`` [G, n]; ``train`` and
    ``validation`` hold each part's row numbers. Training rows are shuffled before each epoch, or, not ``shuffled``,
    taken in their order. With ``weights`` [n] an epoch takes each row about as often as it weighs, and validation
    losses are weighed. ``programs`` are the steps that were translated for populations on these rows, by their kin,
    ``conducts`` how their networks behave.
    """

    inputs: tuple[torch.Tensor, ...]
    targets: torch.Tensor
    train: tuple[torch.Tensor, ...]
    validation: tuple[torch.Tensor, ...]
    seed: int
    shuffled: bool = True
    weights: torch.Tensor | None = None
    programs: dict[Hashable, dict[bool, Program]] = field(default_factory=dict, repr=False, compare=False)
    conducts: dict[Hashable, Conduct | None] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def of(
        cls,
        inputs: Sequence[Sequence[torch.Tensor]],
        targets: Sequence[torch.Tensor],
        parts: Sequence[tuple[np.ndarray, np.ndarray]],
        *,
        seed: int,
        device: str = "cpu",
        weights: np.ndarray | None = None,
    ) -> Data:
        """Stack each part's inputs and targets, or take them once where all parts have the same tensor.

        ``parts`` are (training rows, validation rows).
        """

        def rows(numbers: np.ndarray) -> torch.Tensor:
            return torch.from_numpy(np.ascontiguousarray(numbers, dtype=np.int64)).to(device)

        def stacked(tensors: Sequence[torch.Tensor]) -> torch.Tensor:
            first = tensors[0]
            same = all(t.data_ptr() == first.data_ptr() and t.shape == first.shape for t in tensors)
            if same and first.numel():  # one in memory, whether for one part or for all folds
                return first.to(device).contiguous()[None].expand(len(tensors), *first.shape)
            return torch.stack(list(tensors)).to(device).contiguous()

        return cls(
            tuple(stacked(tensors) for tensors in zip(*inputs, strict=True)),
            stacked(targets),
            tuple(rows(train) for train, _ in parts),
            tuple(rows(validation) for _, validation in parts),
            seed,
            weights=None if weights is None else torch.from_numpy(weights.astype(np.float32)).to(device),
        )

    @property
    def parts(self) -> int:
        """G."""
        return len(self.train)

    @property
    def device(self) -> torch.device:
        """Where the rows lie."""
        return self.targets.device

    @property
    def bytes(self) -> int:
        """Of inputs and targets together, what parts share once."""
        whole = (*self.inputs, self.targets)
        return sum(t[0].numel() * t.itemsize * (1 if t.stride(0) == 0 else len(t)) for t in whole)

    def batch_size(self, wanted: int) -> int:
        """No more rows than the smallest part has."""
        return min(wanted, *(len(rows) for rows in self.train))

    def steps_per_epoch(self, batch: int) -> int:
        """Whole batches in the smallest part; the incomplete one is dropped, by another shuffle each epoch."""
        return max(1, min(len(rows) for rows in self.train) // batch)

    def rows_of(self, part: int, index: torch.Tensor) -> tuple[tuple[torch.Tensor, ...], torch.Tensor]:
        """Some rows of one part: (inputs, targets)."""
        found = tuple(t[part][index] for t in self.inputs)
        touched(sum(t.nbytes for t in found))
        return found, self.targets[part][index]

    def validation_rows(self) -> torch.Tensor:
        """[G, V]: each part's validation rows, the shorter ones filled up with their own first rows."""
        return _filled(self.validation)

    def training_rows(self) -> torch.Tensor:
        """[G, N]: each part's training rows, filled up likewise."""
        return _filled(self.train)


def _filled(parts: tuple[torch.Tensor, ...]) -> torch.Tensor:
    longest = max(len(rows) for rows in parts)
    return torch.stack([rows[torch.arange(longest, device=rows.device) % len(rows)] for rows in parts])


class Order:
    """Which rows each step sees: a fresh shuffle an epoch, a function of (seed, epoch, part) alone.

    Networks of one part share it, or, with ``own``, a (seed, part) for each network, every network has its own.
    """

    def __init__(self, data: Data, batch: int, own: Sequence[tuple[int, int]] | None = None) -> None:
        self.data, self.batch = data, batch
        self.own = own
        self._plans: dict[int, torch.Tensor] = {}

    def rows(self, start: int, stop: int) -> torch.Tensor:
        """Row numbers [steps, G, batch] of steps ``start`` to ``stop``; [steps, K, batch] with own orders."""
        length = self.data.steps_per_epoch(self.batch)
        pieces = []
        for epoch in range(start // length, (stop - 1) // length + 1):
            first = epoch * length
            pieces.append(self._plan(epoch)[max(start - first, 0) : stop - first])
        return torch.cat(pieces)

    def _plan(self, epoch: int) -> torch.Tensor:
        if epoch not in self._plans:
            self._plans = {e: p for e, p in self._plans.items() if e == epoch - 1}
            seeds = self.own or [(self.data.seed, g) for g in range(self.data.parts)]
            self._plans[epoch] = torch.stack([self._shuffled(seed, epoch, g) for seed, g in seeds], dim=1)
        return self._plans[epoch]

    def _shuffled(self, seed: int, epoch: int, part: int) -> torch.Tensor:
        rows = self.data.train[part]
        steps = self.data.steps_per_epoch(self.batch)
        if not self.data.shuffled:
            return rows[: steps * self.batch].reshape(steps, self.batch)
        generator = torch.Generator().manual_seed((seed * 1_000_003 + epoch) * 1009 + part)
        if self.data.weights is not None:
            rows = rows[_as_often(self.data.weights[rows].cpu(), generator).to(rows.device)]
        shuffled = torch.randperm(len(rows), generator=generator)[: steps * self.batch]
        return rows[shuffled.to(rows.device)].reshape(steps, self.batch)


def _as_often(weights: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """As many places as there are weights, each as often as its weight is times the mean, rounded up or down by chance.

    Systematic resampling (Kitagawa 1996): the expected number of a row is exactly in proportion to its weight.
    """
    n = len(weights)
    edges = torch.cumsum(weights.double(), 0) * (n / weights.double().sum())
    points = torch.rand((), generator=generator, dtype=torch.float64) + torch.arange(n, dtype=torch.float64)
    return torch.searchsorted(edges, points, right=True).clamp(max=n - 1)
