"""Arrays of numbers of one shape and two dimensions or more: measurements over a grid, features of another program."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from nastavnik.data import Field, Held, Lost
from nastavnik.errors import UserError
from nastavnik.kinds._cells import Cells
from nastavnik.kinds._kind import Features, Guess, Kind, Wishes


class Array(Kind):
    """An array of numbers, of the same shape in every row."""

    name = "array"
    about = "arrays of numbers of one shape, in memory or in an .npz file"

    def recognise(self, cells: Cells, wishes: Wishes) -> Guess | None:
        """Cells that hold arrays."""
        if cells.typed or isinstance(cells.values.dtype, pd.StringDtype):
            return None
        if not any(issubclass(kind, Held) for kind in set(map(type, cells.values))):
            return None
        held = next((c for c in cells.values[~cells.missing] if isinstance(c, Held)), None)
        if held is None or isinstance(held.load(), bytes):
            return None
        shape = list(np.shape(held.load()))
        reading = {"shape": shape, "gaps": bool(cells.missing.any())}
        return Guess(0.95, f"arrays of shape {tuple(shape)}", reading)

    def read(self, cells: Cells, reading: Mapping[str, Any]) -> Features:
        """float32 [n, …]; a missing array, or what is missing in one, is 0.

        Raises:
            UserError: a cell holds none of this shape, or none of numbers.
        """
        shape = tuple(reading["shape"])
        values = np.zeros((len(cells), *shape), dtype=np.float32)
        for row in np.flatnonzero(~cells.missing).tolist():
            cell = cells.values.iloc[row]
            own = np.asarray(cell.load()) if isinstance(cell, Held) else np.asarray(str(cell))
            if own.shape != shape or own.dtype.kind not in "biuf":
                raise UserError(f"{cells.name}: row {row + 1} holds {own.dtype} {own.shape}, not numbers of {shape}")
            values[row] = own
        holes = ~np.isfinite(values).reshape(len(values), -1).all(1)
        found = Features(fields={cells.name: Field(np.nan_to_num(values, posinf=0.0, neginf=0.0), "array")})
        if holes.any():
            first = int(np.argmax(holes))
            found.lost.append(Lost(cells.name, int(holes.sum()), first, "an array", "hold what is no finite number"))
        if cells.missing.any() and not reading["gaps"]:
            first, why = int(np.argmax(cells.missing)), "hold no array, though none lacked it in training"
            found.lost.append(Lost(cells.name, int(cells.missing.sum()), first, "missing", why))
        if reading["gaps"]:
            found.numbers[f"{cells.name}.missing"] = cells.missing.astype(np.float64)
        return found

    def show(self, features: Features, row: int) -> str:
        """Its shape and mean."""
        own = next(iter(features.fields.values())).row(row)
        return f"numbers {own.shape}, mean {own.mean():.3g}"
