"""What is kept of the batches that go by at looks: rows for the data's facts, targets for their order."""

from __future__ import annotations

import torch

from nastavnik.instruments import order_dispersion
from nastavnik.mentor._batch import Batch

_FEWEST = 10  # batches whose order says something
_MOST_NUMBERS = 1_000_000  # of inputs that are kept


class Batches:
    """The batches of looks and of the steps before them, as far as they are small."""

    def __init__(self) -> None:
        self._targets: list[torch.Tensor] = []
        self._kept: list[Batch] = []
        self._numbers = 0
        self._rows = 0  # of a batch

    def keep(self, batch: Batch, copied: bool) -> None:
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
            self._kept.append(batch if rows == len(target) else batch.first(rows))

    def dispersion(self) -> float | None:
        """How much the batches' mean targets vary over what shuffled rows' would; None: too few."""
        if len(self._targets) < _FEWEST or not self._kept:
            return None
        means = torch.stack([t.double().mean() for t in self._targets]).cpu().numpy()
        targets = torch.cat([_first(b.targets) for b in self._kept if b.targets is not None])
        return order_dispersion(means, self._rows, float(targets.double().var(correction=0)))

    def joined(self) -> Batch | None:
        """Those that were kept as one; None where there are none, or shapes differ."""
        return Batch.joined(self._kept)


def _first(targets: torch.Tensor) -> torch.Tensor:
    return targets.reshape(len(targets), -1)[:, 0]
