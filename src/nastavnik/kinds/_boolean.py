"""Yes or no."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from nastavnik.errors import UserError
from nastavnik.kinds._category import level_order
from nastavnik.kinds._cells import Cells, level_word
from nastavnik.kinds._kind import Features, Guess, Kind, Wishes

_PAIRS = ({"true", "false"}, {"yes", "no"}, {"t", "f"}, {"y", "n"})
_TRUE = frozenset({"true", "yes", "t", "y", "1", "1.0"})
_FALSE = frozenset({"false", "no", "f", "n", "0", "0.0"})


class Boolean(Kind):
    """Yes or no, as 1 and 0."""

    name = "boolean"
    about = "yes or no"

    def recognise(self, cells: Cells, wishes: Wishes) -> Guess | None:
        """Truths by their type, or a pair of words that means them."""
        if pd.api.types.is_bool_dtype(cells.values):
            return Guess(1.0, "true and false", {"levels": ["False", "True"]})
        if cells.typed or not cells.present or len(cells.words) > 2:
            return None
        if any({w.lower() for w in cells.words} <= pair for pair in _PAIRS):
            levels = sorted(cells.words, key=level_order)
            return Guess(0.98, f"holds {' and '.join(levels)}", {"levels": levels})
        return None

    def given(self, cells: Cells, wishes: Wishes) -> Guess:
        """Any two values: no and yes in their order.

        Raises:
            UserError: there are more.
        """
        words = sorted({level_word(v) for v in cells.values[~cells.missing]}, key=level_order)
        if len(words) > 2:
            raise UserError(f"--kind {cells.name}=boolean: the column holds {len(words)} different values, not two")
        return Guess(1.0, "given", {"levels": words})

    def read(self, cells: Cells, reading: Mapping[str, Any]) -> Features:
        """1 and 0, NaN where missing.

        Raises:
            UserError: a cell is neither of the two.
        """
        levels = [str(level) for level in reading["levels"]]
        own = (
            {} if {w.lower() for w in levels} <= _TRUE | _FALSE else {w.lower(): float(i) for i, w in enumerate(levels)}
        )

        def truth(word: str) -> float:
            low = word.lower()
            return own.get(low, 1.0 if low in _TRUE else 0.0 if low in _FALSE else np.nan)

        if cells.typed and not own:
            numbers = cells.numbers
            wrong = ~np.isnan(numbers) & (numbers != 0) & (numbers != 1)
        else:
            values = cells.values.astype(object)
            numbers = np.array(
                [np.nan if gone else truth(level_word(v)) for v, gone in zip(values, cells.missing, strict=True)]
            )
            wrong = np.isnan(numbers) & ~cells.missing
        if wrong.any():
            row = int(np.flatnonzero(wrong)[0])
            known = " and ".join(levels)
            raise UserError(f"column {cells.name!r} holds {known}, but row {row + 1} says {cells.values.iloc[row]!r}")
        return Features(numbers={cells.name: numbers})

    def show(self, features: Features, row: int) -> str:
        """Yes or no."""
        value = next(iter(features.numbers.values()))[row]
        return "missing" if np.isnan(value) else "yes" if value else "no"
