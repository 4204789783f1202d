"""What a population trains on, resident on its device, and the order in which it is seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from nastavnik.data import Inputs


@dataclass(frozen=True)
class Data:
    """Prepared rows for G parts (one for a hold-out, k for k folds), each part prepared by its own training rows.

    ``numbers`` [G, n, d], ``categories`` [G, n, c], ``targets`` [G, n]; ``train`` and ``validation`` hold each
    part's row numbers.
    """

    numbers: torch.Tensor
    categories: torch.Tensor
    targets: torch.Tensor
    train: tuple[torch.Tensor, ...]
    validation: tuple[torch.Tensor, ...]
    seed: int

    @classmethod
    def of(
        cls,
        inputs: Sequence[Inputs],
        targets: Sequence[torch.Tensor],
        parts: Sequence[tuple[np.ndarray, np.ndarray]],
        *,
        seed: int,
        device: str = "cpu",
    ) -> Data:
        """Stack what each part's preparation gave; ``parts`` are (training rows, validation rows)."""

        def rows(numbers: np.ndarray) -> torch.Tensor:
            return torch.from_numpy(np.ascontiguousarray(numbers, dtype=np.int64)).to(device)

        one = len(inputs) == 1  # no copy of a large table
        return cls(
            (inputs[0].numbers[None] if one else torch.stack([i.numbers for i in inputs])).to(device),
            (inputs[0].categories[None] if one else torch.stack([i.categories for i in inputs])).to(device),
            (targets[0][None] if one else torch.stack(list(targets))).to(device),
            tuple(rows(train) for train, _ in parts),
            tuple(rows(validation) for _, validation in parts),
            seed,
        )

    @property
    def parts(self) -> int:
        """G."""
        return len(self.train)

    @property
    def device(self) -> torch.device:
        """Where the rows lie."""
        return self.numbers.device

    def batch_size(self, wanted: int) -> int:
        """No more rows than the smallest part has."""
        return min(wanted, *(len(rows) for rows in self.train))

    def steps_per_epoch(self, batch: int) -> int:
        """Whole batches in the smallest part; the incomplete one is dropped, by another shuffle each epoch."""
        return max(1, min(len(rows) for rows in self.train) // batch)

    def order(self, epoch: int, batch: int) -> torch.Tensor:
        """Row numbers [steps, G, batch] of one epoch: a function of (seed, epoch) alone (notes/001 U13)."""
        steps = self.steps_per_epoch(batch)
        plans = []
        for g, rows in enumerate(self.train):
            generator = torch.Generator().manual_seed((self.seed * 1_000_003 + epoch) * 1009 + g)
            shuffled = torch.randperm(len(rows), generator=generator)[: steps * batch]
            plans.append(rows[shuffled.to(rows.device)].reshape(steps, batch))
        return torch.stack(plans, dim=1)

    def validation_rows(self) -> torch.Tensor:
        """[G, V]: each part's validation rows, the shorter ones filled up with their own first rows."""
        longest = max(len(rows) for rows in self.validation)
        return torch.stack([rows[torch.arange(longest, device=rows.device) % len(rows)] for rows in self.validation])
