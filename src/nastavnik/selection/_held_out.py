"""Every candidate's loss on every held-out row: what "best of N" is judged by afterwards."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from nastavnik.population import Data, Learner
from nastavnik.rooms import rows_at_once
from nastavnik.selection._workbench import Workbench

_MOST_ROWS = 2000


def _outputs(learner: Learner, data: Data, part: int, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """What a network says of rows, some at a time, and their targets."""
    size = rows_at_once(sum(t[0, :1].nbytes for t in data.inputs if t.ndim > 3))
    outputs = torch.cat([learner(*data.rows_of(part, some)[0]) for some in rows.split(size)])
    return outputs, data.targets[part][rows]


class HeldOut:
    """Scores learners row by row, on all validation rows or a sample of 2,000; repeats of a row are averaged."""

    def __init__(self, bench: Workbench) -> None:
        validation = [rows for _, rows in bench.split.parts]
        rows = np.unique(np.concatenate(validation))
        if len(rows) > _MOST_ROWS:
            rows = np.sort(np.random.default_rng(bench.seed).choice(rows, _MOST_ROWS, replace=False))
        self.rows = rows
        place = {row: i for i, row in enumerate(rows.tolist())}
        kept = [np.array([row for row in own.tolist() if row in place], dtype=np.int64) for own in validation]
        self._rows = kept
        self._weigh = bench.task.weighed
        self._kept = [torch.from_numpy(own) for own in kept]
        self._places = [np.array([place[row] for row in own.tolist()], dtype=np.int64) for own in kept]

    def losses(self, learners: Sequence[Learner], bench: Workbench) -> tuple[np.ndarray, np.ndarray | None]:
        """Of one candidate, a learner a part: nats [n] at its best temperature, and for classes who is wrong [n]."""
        profiles, wrong = [], []
        with torch.no_grad():
            for g, learner in enumerate(learners):
                outputs, targets = _outputs(learner, bench.data, g, self._kept[g].to(bench.data.device))
                each = learner.likelihood.by_temperature(outputs, targets)
                profiles.append(torch.stack(each).double().cpu())
                if learner.likelihood.target == "class":
                    said = learner.likelihood.describe(outputs)["probabilities"]
                    said = said.mean(1) if said.ndim > 2 else said  # of a network's members
                    wrong.append((said.argmax(-1) != targets).double().cpu())
        joined = torch.cat(profiles, dim=1)
        own = torch.from_numpy(self._weigh(np.ones(joined.shape[1]), np.concatenate(self._rows)))
        best = int((joined * own).mean(1).argmin())
        nats = [p[best].numpy() + bench.row_offset(g, self._rows[g]) for g, p in enumerate(profiles)]
        losses = self._weigh(self._averaged(nats), self.rows)
        return losses, self._weigh(self._averaged([w.numpy() for w in wrong]), self.rows) if wrong else None

    def _averaged(self, each: list[np.ndarray]) -> np.ndarray:
        total, times = np.zeros(len(self.rows)), np.zeros(len(self.rows))
        for values, places in zip(each, self._places, strict=True):
            np.add.at(total, places, values)
            np.add.at(times, places, 1)
        return (total / np.maximum(times, 1)).astype(np.float32)
