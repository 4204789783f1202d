"""The same in every row."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nastavnik.kinds._cells import Cells
from nastavnik.kinds._kind import Features, Guess, Kind, Wishes


class Constant(Kind):
    """The same word in every row, or nothing in any: no help to a model."""

    name = "constant"
    about = "the same in every row, or empty: left out"
    left_out = True

    def recognise(self, cells: Cells, wishes: Wishes) -> Guess | None:
        """Every cell is missing, or all hold one word; numbers that do not vary stay numbers (a pixel may be so)."""
        if not cells.present:
            return Guess(1.0, "every cell is missing")
        if not cells.typed and len(cells) > 1 and cells.distinct == 1 and cells.present == len(cells):
            word = cells.words[0]
            return Guess(0.985, f"{word[:40]!r} in every row")
        return None

    def given(self, cells: Cells, wishes: Wishes) -> Guess:
        """Any column: it is left out."""
        return Guess(1.0, "given")

    def read(self, cells: Cells, reading: Mapping[str, Any]) -> Features:
        """Nothing."""
        return Features()
