"""Trace: everything measured while training, one value per network, step, layer and instrument."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from nastavnik.files import write_atomically

COLUMNS = ("network", "step", "epoch", "instrument", "layer", "value")


@dataclass
class Trace:
    """A growing table of measurements; whole parts of it are appended to a run's folder."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    written: int = 0

    def add(
        self, networks: np.ndarray, step: int, epoch: float, instrument: str, values: np.ndarray, layer: str = ""
    ) -> None:
        """One instrument's values [K] of the networks with these numbers."""
        fields = (networks, step, epoch, instrument, layer, values.astype(np.float64))
        self.rows.append(dict(zip(COLUMNS, fields, strict=True)))

    def frame(self) -> pd.DataFrame:
        """The whole table, tidy."""
        return _table(self.rows)

    def take(self) -> list[dict[str, Any]]:
        """What is new since the last call, to be appended to a folder."""
        fresh = self.rows[self.written :]
        self.written = len(self.rows)
        return fresh

    @staticmethod
    def append(fresh: list[dict[str, Any]], folder: Path) -> int:
        """Write what is new as one Parquet file ``part-00000.parquet``, whole or not at all; the number of parts."""
        number = len(list(folder.glob("part-*.parquet"))) if folder.is_dir() else 0
        if not fresh:
            return number
        table = _table(fresh)
        write_atomically(folder / f"part-{number:05d}.parquet", lambda part: table.to_parquet(part, index=False))
        return number + 1

    def flush(self, folder: Path) -> None:
        """Append what is new to a folder."""
        self.append(self.take(), folder)

    @classmethod
    def read(cls, folder: Path, parts: int) -> Trace:
        """The first so many parts; later ones, which no checkpoint knows of, are removed."""
        paths = sorted(folder.glob("part-*.parquet"))
        for path in paths[parts:]:
            path.unlink()
        tables = [pd.read_parquet(path) for path in paths[:parts]]
        rows = [{name: table[name].to_numpy() for name in COLUMNS} for table in tables]
        return cls(rows, len(rows))


@dataclass
class History:
    """ONE network's trace, as rules read it.

    ``facts``: what is known beside the measurements, plain JSON (the recipe's numbers, the network's layers, the data);
    ``values``: (instrument, layer) -> (steps, values), in the order of steps; ``rows``: single rows' measurements
    [moments, n] by name.
    """

    facts: dict[str, Any] = field(default_factory=dict)
    values: dict[tuple[str, str], tuple[list[int], list[float]]] = field(default_factory=dict)
    rows: dict[str, list[np.ndarray]] = field(default_factory=dict)

    def add(self, instrument: str, step: int, value: float, layer: str = "") -> None:
        """One measurement."""
        steps, values = self.values.setdefault((instrument, layer), ([], []))
        steps.append(step)
        values.append(float(value))

    def series(self, instrument: str, layer: str = "") -> np.ndarray:
        """The values of one instrument in one layer; empty where it was not measured."""
        return np.array(self.values.get((instrument, layer), ([], []))[1], dtype=float)

    def steps(self, instrument: str, layer: str = "") -> np.ndarray:
        """When they were measured."""
        return np.array(self.values.get((instrument, layer), ([], []))[0], dtype=int)

    def layers(self, instrument: str) -> list[str]:
        """The layers an instrument was measured in, in their order."""
        return [layer for name, layer in self.values if name == instrument]

    def last(self, instrument: str, layer: str = "") -> float:
        """The latest value; NaN where there is none."""
        values = self.values.get((instrument, layer), ([], []))[1]
        return values[-1] if values else float("nan")

    def row_values(self, name: str) -> np.ndarray:
        """[moments, n]; empty where rows were not watched."""
        return np.array(self.rows.get(name, []), dtype=float)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON; rows' values to four digits, what is no finite number as a word."""
        rows = {
            name: [[_worded(float(f"{v:.4g}")) for v in look] for look in looks] for name, looks in self.rows.items()
        }
        values = [
            [name, layer, steps, [_worded(v) for v in own]] for (name, layer), (steps, own) in self.values.items()
        ]
        return {"facts": self.facts, "values": values, "rows": rows}

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> History:
        """Read what ``to_json`` wrote.

        Raises:
            KeyError, TypeError, ValueError: it is something else.
        """
        values = {(name, layer): (list(steps), [_number(x) for x in v]) for name, layer, steps, v in record["values"]}
        rows = {
            name: [np.array([_number(x) for x in look]) for look in looks] for name, looks in record["rows"].items()
        }
        ragged = any(len(steps) != len(own) for steps, own in values.values())
        if ragged or any(len({len(look) for look in looks}) > 1 for looks in rows.values()):
            raise ValueError("steps and values, or the rows of two looks, differ in number")
        return cls(dict(record["facts"]), values, rows)

    def frame(self, network: int = 0) -> pd.DataFrame:
        """The measurements as a tidy table in the form of a run's trace."""
        length = max(1.0, float(self.facts.get("steps per epoch", 1)))
        rows = [
            (network, step, step / length, instrument, layer, value)
            for (instrument, layer), (steps, values) in self.values.items()
            for step, value in zip(steps, values, strict=True)
        ]
        return pd.DataFrame(rows, columns=list(COLUMNS))


def _worded(value: float) -> float | str:
    """JSON has no infinity."""
    return value if np.isfinite(value) else str(value)


def _number(value: float | str | None) -> float:
    return float("nan") if value is None else float(value)


def _table(rows: list[dict[str, Any]]) -> pd.DataFrame:
    lengths = [len(row["network"]) for row in rows]

    def column(name: str) -> np.ndarray:
        if not rows:
            return np.array([])
        if name in ("network", "value"):
            return np.concatenate([row[name] for row in rows])
        return np.concatenate([np.broadcast_to(row[name], n) for row, n in zip(rows, lengths, strict=True)])

    return pd.DataFrame({name: column(name) for name in COLUMNS})
