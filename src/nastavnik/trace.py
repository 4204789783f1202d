"""Trace: everything measured while training, one value per network, step, layer and instrument."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from nastavnik.files import write_atomically

COLUMNS = ("network", "step", "epoch", "instrument", "layer", "value")


@dataclass
class Trace:
    """A growing table of measurements; whole parts of it are appended to a run's folder."""

    rows: list[pd.DataFrame] = field(default_factory=list)
    written: int = 0

    def add(
        self, networks: np.ndarray, step: int, epoch: float, instrument: str, values: np.ndarray, layer: str = ""
    ) -> None:
        """One instrument's values [K] of the networks with these numbers."""
        part = {
            "network": networks,
            "step": step,
            "epoch": epoch,
            "instrument": instrument,
            "layer": layer,
            "value": values.astype(np.float64),
        }
        self.rows.append(pd.DataFrame(part, columns=list(COLUMNS)))

    def frame(self) -> pd.DataFrame:
        """The whole table, tidy."""
        return pd.concat(self.rows, ignore_index=True) if self.rows else pd.DataFrame(columns=list(COLUMNS))

    def flush(self, folder: Path) -> None:
        """Append what is new as one Parquet file ``part-00000.parquet``, whole or not at all."""
        fresh = self.rows[self.written :]
        if not fresh:
            return
        number = len(list(folder.glob("part-*.parquet"))) if folder.is_dir() else 0
        table = pd.concat(fresh, ignore_index=True)
        write_atomically(folder / f"part-{number:05d}.parquet", lambda part: table.to_parquet(part, index=False))
        self.written = len(self.rows)

    @classmethod
    def read(cls, folder: Path) -> Trace:
        """The parts written so far."""
        parts = [pd.read_parquet(p) for p in sorted(folder.glob("part-*.parquet"))]
        return cls(parts, len(parts))
