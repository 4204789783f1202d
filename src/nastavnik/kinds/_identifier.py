"""Names of single things, which tell a model nothing."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np

from nastavnik.kinds._cells import Cells
from nastavnik.kinds._kind import Features, Guess, Kind, Wishes
from nastavnik.kinds._quantities import plain_numbers

_NAMES = re.compile(
    r"(^|[_\s.-])(id|ids|uid|uuid|guid|key|rowid)$|^(id|uuid|guid)[_\s.-](?!\d)|^unnamed:?\s*0$|^$|^index$"
    r"|(^|[_\s.-])row_?(id|number|no|num|nr)?$|(number|no|nr|num)[_\s.-]?id$",
    re.I,
)
_CAMEL = re.compile(
    r"([a-z])(Id|ID|Uid|UUID|Key)$|^(ID|Id)[A-Z]|^(Row|Record|Serial|Loan|Order|Invoice|Ticket|Customer|Employee|Patient|Case)(Number|No|Num|Nr)$"
)
_CODE = re.compile(r"[\w\-]{1,40}")


def is_id_name(name: str) -> bool:
    """Whether a column's name is one that identifiers usually have."""
    return _NAMES.search(name) is not None or _CAMEL.search(name) is not None


class Identifier(Kind):
    """The name of one row's thing."""

    name = "identifier"
    about = "the name of a single thing, left out"
    left_out = True

    def recognise(self, cells: Cells, wishes: Wishes) -> Guess | None:
        """Nearly every row its own, under a name that says so, or codes that have nothing in common.

        Numbers that are distinct, or count the rows, are no identifiers by that alone: a trend lives in them.
        """
        rows, distinct = max(len(cells), 1), cells.distinct
        if not cells.present or distinct <= 10 or distinct <= 0.5 * rows:
            return None
        if cells.typed:
            numbers = cells.numbers[~np.isnan(cells.numbers)]
            if not np.all(np.isfinite(numbers)) or not np.all(numbers == np.floor(numbers)):
                return None
        elif _measures(cells.words):
            return None
        if is_id_name(cells.name):
            what = "distinct whole numbers" if cells.typed else "distinct values"
            return Guess(0.94, f"its name, and {distinct} {what} in {rows} rows")
        if cells.typed or distinct <= 0.95 * cells.present or distinct < 20:
            return None
        sample = cells.words[:: max(1, len(cells.words) // 2000)]
        if all(_CODE.fullmatch(w) for w in sample) and _share_nothing(sample) and not all(map(str.isdigit, sample)):
            return Guess(0.65, "codes, nearly every row its own")
        return None

    def given(self, cells: Cells, wishes: Wishes) -> Guess:
        """Any column."""
        return Guess(1.0, "given")

    def read(self, cells: Cells, reading: Mapping[str, Any]) -> Features:
        """Nothing."""
        return Features()


def _measures(words: list[str]) -> bool:
    """Whether the words are numbers, most of them with a fraction."""
    numbers = plain_numbers(words[:: max(1, len(words) // 500)])
    with np.errstate(invalid="ignore"):
        return bool(np.mean(numbers % 1 > 0) > 0.5)


def _share_nothing(words: list[str]) -> bool:
    """Whether the codes' parts are either the same in all or each its own: what several share would tell something."""
    parts = [set(re.split(r"[\W_]+", word)) for word in words]
    counts = Counter(part for own in parts for part in own)
    telling = {part for part, n in counts.items() if 0.02 * len(words) < n < 0.98 * len(words)}
    return sum(bool(own & telling) for own in parts) < 0.2 * len(words)
