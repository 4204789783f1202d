"""What is kept of the batches that go by: rows for the data's facts, targets for their order."""

from __future__ import annotations

from typing import Any

import torch

from nastavnik.instruments import order_dispersion
from nastavnik.mentor._batch import Batch, flat_batch

FIRST = 64  # batches that are referred to
_FEWEST = 10  # batches whose order says something
_MOST_NUMBERS = 1_000_000  # of inputs that are kept


class Batches:
    """The first batches by reference, as long as nobody writes into them, and copies of those of looks."""

    def __init__(self) -> None:
        self._targets: list[torch.Tensor] = []
        self._kept: list[tuple[int, Batch]] = []
        self._first: list[tuple[torch.Tensor, torch.Tensor, int, int]] = []  # and their versions
        self._referred = 0
        self._numbers = 0
        self._rows = 0  # of a batch

    def refer(self, x: Any, y: Any) -> None:
        """Remember which tensors a step was given: that costs nothing, and mostly they stay as they are."""
        plain = type(x) is torch.Tensor and type(y) is torch.Tensor and x.ndim and y.ndim
        if plain and self._referred < _MOST_NUMBERS and not x.is_inference() and not y.is_inference():
            self._referred += x.numel()
            self._first.append((x, y, x._version, y._version))

    def keep(self, step: int, batch: Batch, copied: bool) -> None:
        """Keep a batch that was ``copied`` for a look, as far as there is room; of others the targets alone."""
        target = batch.targets
        if target is None or not len(target):
            return
        self._rows = self._rows or len(target)
        self._targets.append(_first(target) if copied else _first(target).clone())
        each = sum(t.numel() for t in batch.inputs) // len(target)
        rows = min(len(target), (_MOST_NUMBERS - self._numbers) // max(each, 1))
        if copied and rows > 0:
            self._numbers += rows * each
            self._kept.append((step, batch if rows == len(target) else batch.first(rows)))

    def dispersion(self) -> float | None:
        """How much the batches' mean targets vary over what shuffled rows' would; None: too few."""
        if len(self._targets) < _FEWEST or not self._kept:
            return None
        means = torch.stack([t.double().mean() for t in self._targets]).cpu().numpy()
        targets = torch.cat([_first(b.targets) for _, b in self._kept if b.targets is not None])
        return order_dispersion(means, self._rows, float(targets.double().var(correction=0)))

    def joined(self) -> Batch | None:
        """All of them as one; None where there are none, or shapes differ."""
        first = [flat_batch(x, y) for x, y, a, b in self._first if (x._version, y._version) == (a, b)]
        later = [batch for step, batch in self._kept if not first or step >= FIRST]
        return Batch.joined([*first, *later])


def _first(targets: torch.Tensor) -> torch.Tensor:
    return targets.reshape(len(targets), -1)[:, 0]
