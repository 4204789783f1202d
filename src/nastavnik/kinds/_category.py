"""One of several names, few or many."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from nastavnik.kinds._cells import Cells, as_number, level_word
from nastavnik.kinds._identifier import is_id_name
from nastavnik.kinds._kind import Features, Guess, Kind, Wishes

FEW_LEVELS = 50  # so many different words are levels, whatever they look like
_OFTEN = 3.0  # cells a level: with fewer the column is no category by itself
_CODE_NAME = re.compile(r"(?i)(^|_)(zip|zipcode|zip_code|postcode|postal_code|postal|plz)($|_)")


class Category(Kind):
    """One of several names."""

    name = "category"
    about = "one of several names, few or many"

    def recognise(self, cells: Cells, wishes: Wishes) -> Guess | None:
        """Few different words, or many that each come again; whole numbers under a name that says they are codes."""
        if not cells.present or pd.api.types.is_datetime64_any_dtype(cells.values):
            return None
        if isinstance(cells.values.dtype, pd.CategoricalDtype) and not pd.api.types.is_numeric_dtype(
            cells.values.cat.categories
        ):
            return Guess(0.8, "a categorical column", partial(self._reading, cells))
        distinct, rows = cells.distinct, max(len(cells), 1)
        if cells.typed or _all_whole(cells.words):
            named = _CODE_NAME.search(cells.name) is not None and 2 < distinct <= max(rows / 5, 2)
            shared = is_id_name(cells.name) and 2 < distinct <= rows / 10
            if named or shared:
                return Guess(0.92, f"its name: {distinct} codes, not quantities", partial(self._reading, cells))
            if cells.typed:
                return None
        if distinct <= FEW_LEVELS:
            return Guess(0.7, f"{distinct} distinct words", partial(self._reading, cells))
        if cells.present / distinct >= _OFTEN:
            return Guess(
                0.6,
                f"{distinct} distinct words, each {cells.present / distinct:.0f} times",
                partial(self._reading, cells),
            )
        return Guess(0.2, f"{distinct} distinct words", partial(self._reading, cells))

    def given(self, cells: Cells, wishes: Wishes) -> Guess:
        """Any column."""
        return Guess(1.0, "given", partial(self._reading, cells))

    def _reading(self, cells: Cells) -> dict[str, Any]:
        words = {level_word(v) for v in pd.unique(cells.values[~cells.missing])} if cells.typed else set(cells.words)
        return {"levels": sorted(words, key=level_order)}

    def read(self, cells: Cells, reading: Mapping[str, Any]) -> Features:
        """Words, None where missing.

        A cell that is written otherwise than the level of the same number ("007" read as 7 by a program) is that level.
        """
        known = set(reading["levels"])
        by_number = _levels_by_number(reading["levels"])
        words = [w if w in known else by_number.get(as_number(w), w) for w in cells.words]
        return Features(words={cells.name: cells.spread(np.array(words, dtype=object), None)})


def _all_whole(words: Sequence[str]) -> bool:
    return bool(words) and all(w.isdigit() for w in words)


def level_order(word: str) -> tuple[int, float, str]:
    """Numbers before words, each in its own order."""
    number = as_number(word)
    return (1, 0.0, word) if number is None else (0, number, word)


def _levels_by_number(levels: Sequence[str]) -> dict[float | None, str]:
    """The levels that are numbers, by their value; none where two of them are the same number."""
    values = [(as_number(level), level) for level in levels]
    counts = Counter(value for value, _ in values)
    return {value: level for value, level in values if value is not None and counts[value] == 1}
