"""Several names in a cell."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np

from nastavnik.kinds._bags import make_bag
from nastavnik.kinds._cells import Cells
from nastavnik.kinds._kind import Features, Guess, Kind, Wishes

_MARKS = (",", ";", "|", "/", "&", "+")
_LIST = re.compile(r"^[\[({](.*)[\])}]$", re.S)
_OFTEN = 4.0  # cells a label stands in, on average
_MOST = 2000
_LONG = 4  # words of a label


class Labels(Kind):
    """Several names in a cell: each is there or not."""

    name = "labels"
    about = "several names in a cell, each there or not"

    def recognise(self, cells: Cells, wishes: Wishes) -> Guess | None:
        """One mark divides the cells into names that come again in other company."""
        if cells.typed or not cells.present or len(cells.words) < 4:
            return None
        cells = cells.sampled()
        listed = cells.where(lambda w: _LIST.match(w) is not None)
        best: Guess | None = None
        for mark in _MARKS:
            holds = [mark in word for word in cells.words]
            if cells.share(holds) < (0.02 if listed.all() else 0.1):
                continue
            if _is_several(cells, mark):
                best = Guess(0.8, f"names with {mark!r} between them", {"mark": mark})
                break
        return best

    def given(self, cells: Cells, wishes: Wishes) -> Guess:
        """Divided by the mark found, or by the commonest one."""
        found = self.recognise(cells, wishes)
        total = {mark: sum(w.count(mark) for w in cells.words) for mark in _MARKS}
        mark = max(total, key=lambda m: total[m])
        return Guess(1.0, "given", {"mark": mark} if found is None else found.record)

    def read(self, cells: Cells, reading: Mapping[str, Any]) -> Features:
        """Which labels stand in each cell, and how many."""
        parts = [_parts(word, reading["mark"]) for word in cells.words]
        count = cells.spread(np.array([float(len(p)) for p in parts]), 0.0)
        bag = make_bag(parts, cells, "presence")
        return Features(numbers={f"{cells.name}.count": count}, bags={cells.name: bag})

    def show(self, features: Features, row: int) -> str:
        """The labels."""
        labels = next(iter(features.bags.values())).of_row(row)
        return " + ".join(labels[:8]) or "none"


def _parts(word: str, mark: str) -> list[str]:
    inner = _LIST.match(word)
    text = inner[1] if inner else word
    parts = [part.strip().strip("'\"").strip() for part in text.split(mark)]
    return list(dict.fromkeys(part for part in parts if part))


def _is_several(cells: Cells, mark: str) -> bool:
    parts = [_parts(word, mark) for word in cells.words]
    counts: Counter[str] = Counter()
    company: dict[str, set[int]] = {}
    for i, (own, n) in enumerate(zip(parts, cells.counts, strict=True)):
        for part in own:
            counts[part] += int(n)
            company.setdefault(part, set()).add(i)
    if not counts or len(counts) > _MOST or any(len(p.split()) > 2 * _LONG for p in counts):
        return False
    words = np.mean([len(p.split()) for p in counts])
    often = sum(counts.values()) / len(counts) >= _OFTEN
    mixed = len(counts) < 0.8 * len(cells.words) and np.mean([len(own) > 1 for own in company.values()]) > 0.5
    numbers = np.mean([re.fullmatch(r"[\d.,\s%$€£-]+", p) is not None for p in counts])
    return bool(words <= _LONG and often and mixed and numbers < 0.5)
