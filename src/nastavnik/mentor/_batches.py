"""What is kept of the batches that go by: the first ones for the data's facts, targets in windows for their order."""

from __future__ import annotations

import torch

from nastavnik.instruments import order_dispersion
from nastavnik.mentor._batch import Batch
from nastavnik.mentor._cadence import NEVER

_MANY = 32  # batches a window has; of so many, inputs may be kept
_REST = 4  # times the step at which a window was full, the next begins
_MOST_NUMBERS = 300_000  # of inputs that are kept


class Batches:
    """The first batches, as far as they are small, and batches' targets in windows between which there is rest."""

    def __init__(self) -> None:
        self._from = 0  # the step at which the window begins
        self._targets: list[torch.Tensor] = []
        self._kept: list[Batch] = []
        self._numbers = 0
        self.rows = 0  # of a batch

    def wanted(self, step: int) -> bool:
        """Whether this step's batch is to be kept."""
        return step >= self._from and len(self._targets) < _MANY

    def after(self, step: int) -> int:
        """The next step behind this one whose batch is wanted."""
        return max(step + 1 if len(self._targets) < _MANY else NEVER, self._from)

    def keep(self, step: int, batch: Batch) -> None:
        """Keep this step's batch, if it is wanted."""
        target = batch.targets
        if target is None or not len(target) or not self.wanted(step):
            return
        self.rows = self.rows or len(target)
        self._targets.append(_first(target).clone())
        each = sum(t[0].numel() for t in batch.inputs if len(t))
        rows = min(len(target), (_MOST_NUMBERS - self._numbers) // max(each, 1))
        if len(self._kept) < _MANY and rows > 0:
            self._numbers += rows * each
            self._kept.append((batch if rows == len(target) else batch.first(rows)).kept())

    def full(self) -> bool:
        """Whether a window has all its batches."""
        return len(self._targets) >= _MANY

    def dispersion(self, step: int, rows: int) -> float | None:
        """How much the mean targets of the window's batches vary over what shuffled rows' would; None: too few."""
        if len(self._targets) < _MANY // 2 or not self._kept:
            return None
        means = torch.stack([t.double().mean() for t in self._targets]).cpu().numpy()
        targets = torch.cat([_first(b.targets) for b in self._kept if b.targets is not None])
        found = order_dispersion(means, rows, float(targets.double().var(correction=0)))
        if len(self._targets) >= _MANY:  # and then a rest, as each batch costs a little
            self._targets, self._from = [], _REST * step
        return found

    def joined(self) -> Batch | None:
        """The first batches as one; None where there are none, or shapes differ."""
        return Batch.joined(self._kept)


def _first(targets: torch.Tensor) -> torch.Tensor:
    return targets.reshape(len(targets), -1)[:, 0]
