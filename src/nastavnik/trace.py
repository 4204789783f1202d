"""Trace: everything measured while training, one value per network, step, layer and instrument."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from nastavnik.errors import UserError
from nastavnik.files import file_hash, read_bytes, write_atomically

Part = tuple[str, str | None]  # a part's file name and its content's sha256; None where an earlier version wrote it
COLUMNS = ("network", "step", "epoch", "instrument", "layer", "value")


@dataclass
class Trace:
    """A growing table of measurements; whole parts of it are appended to a run's folder, ``parts`` are those there."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    written: int = 0
    parts: list[Part] = field(default_factory=list)

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

    def append(self, fresh: list[dict[str, Any]], folder: Path) -> None:
        """Write what is new after the parts that are known, whole or not at all.

        Parts that are not known (a killed process wrote them, and no checkpoint names them) are removed before.
        """
        if not fresh:
            return
        for path in folder.glob("part-*.parquet") if folder.is_dir() else []:
            if path.name not in {name for name, _ in self.parts}:
                path.unlink(missing_ok=True)
        path = folder / f"part-{len(self.parts):05d}.parquet"
        table = _table(fresh)
        write_atomically(path, lambda part: table.to_parquet(part, index=False))
        self.parts.append((path.name, file_hash(path)))

    @classmethod
    def read(cls, folder: Path, parts: Sequence[Part]) -> Trace:
        """The parts that are known.

        Raises:
            UserError: one is missing, or is not what was written.
        """
        rows = []
        for name, sha256 in parts:
            content = read_bytes(folder / Path(name).name, sha256)
            try:
                table = pd.read_parquet(BytesIO(content))
            except (OSError, ValueError) as error:
                raise UserError(f"{folder / name} cannot be read ({error}); is it cut short?") from error
            lacking = [column for column in COLUMNS if column not in table]
            if lacking:
                raise UserError(f"{folder / name} is damaged: the column {lacking[0]} is missing")
            rows.append({column: table[column].to_numpy() for column in COLUMNS})
        return cls(rows, len(rows), list(parts))


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
