"""Spans of time."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from nastavnik.data import Lost
from nastavnik.errors import UserError
from nastavnik.kinds._cells import Cells, as_number
from nastavnik.kinds._kind import Features, Guess, Kind, Wishes
from nastavnik.kinds._looks import GONE, look

_CLOCK = re.compile(r"([+-]?)(?:(\d+) days?,? )?(\d{1,4}):(\d{2})(?::(\d{2}(?:\.\d+)?))?")
_ISO = re.compile(r"P(?:(\d+)Y)?(?:(\d+)M)?(?:(\d+)W)?(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:([\d.]+)S)?)?", re.I)
_ISO_SECONDS = (31_556_952, 2_629_746, 604_800, 86_400, 3_600, 60, 1)
_LONG = 24 * 3600


class Duration(Kind):
    """A span of time, in seconds."""

    name = "duration"
    about = "a span of time: 2h 50m, 1:30:00, PT2H"

    def recognise(self, cells: Cells, wishes: Wishes) -> Guess | None:
        """Nearly all cells are spans, and some of them of several units, or longer than a clock shows."""
        if cells.typed or not cells.present:
            return None
        sample = cells.words[:: max(1, len(cells.words) // 200)]
        several = any(len(re.findall(r"\d+", w)) > 1 for w in sample)  # of one unit it is a number
        if not several or sum(_seconds(w) is not None for w in sample) < 0.9 * len(sample):
            return None
        read = np.array([np.nan if (s := _seconds(w)) is None else s for w in cells.words])
        said = cells.where(lambda w: w.lower() not in GONE)
        if cells.share(~np.isnan(read)) < 0.95 * max(cells.share(said), 1e-9):
            return None
        if all(_CLOCK.fullmatch(w) for w in sample) and not any("day" in w for w in sample):
            short = all(w.count(":") == 1 for w in sample)
            if np.nanmax(read) < _LONG:  # what a clock shows may be a time of day
                return None
            return Guess(0.97, "spans of time on a clock", {"minutes": short})
        return Guess(0.96, "spans of time", {"minutes": False})

    def given(self, cells: Cells, wishes: Wishes) -> Guess:
        """Whatever reads as a span; on a clock, hours and minutes.

        Raises:
            UserError: nothing does.
        """
        if not cells.typed and all(_seconds(w) is None and as_number(w) is None for w in cells.words):
            first = cells.words[0] if cells.words else ""
            raise UserError(f"--kind {cells.name}=duration: no cell reads as a span, such as {first!r}; write 2h 50m")
        return Guess(1.0, "given", {"minutes": False, "odd": 1.0})

    def read(self, cells: Cells, reading: Mapping[str, Any]) -> Features:
        """Seconds.

        Raises:
            UserError: most cells are no spans.
        """
        found = Features()
        if cells.typed:
            found.numbers[cells.name] = cells.numbers
            return found
        seconds = np.full(len(cells.words), np.nan)
        for i, word in enumerate(cells.words):
            own = _seconds(word, bool(reading["minutes"]))
            own = as_number(word) if own is None else own
            seconds[i] = np.nan if own is None else own
        wrong = np.isnan(seconds) & cells.where(lambda w: w.lower() not in GONE)
        if wrong.any():
            count, row = int(cells.counts[wrong].sum()), min(cells.first_row(int(i)) for i in np.flatnonzero(wrong))
            cell = repr(cells.values.iloc[row])
            if count * 2 >= cells.present and not reading.get("odd"):
                raise UserError(
                    f"column {cells.name!r} holds spans of time, but row {row + 1} says {cell}; write 2h 50m"
                )
            found.lost.append(
                Lost(cells.name, count, row, cell, "is no span of time" if count == 1 else "are no spans of time")
            )
        found.numbers[cells.name] = cells.spread(seconds)
        return found

    def show(self, features: Features, row: int) -> str:
        """Seconds."""
        value = next(iter(features.numbers.values()))[row]
        return "missing" if np.isnan(value) else f"{value:g} s"


def _seconds(word: str, minutes: bool = False) -> float | None:
    """A word as seconds; ``minutes``: 75:30 is minutes and seconds."""
    if match := _CLOCK.fullmatch(word):
        sign = -1 if match[1] == "-" else 1
        first, second, third = float(match[3]), float(match[4]), match[5]
        if third is None and minutes:
            return sign * (first * 60 + second)
        return sign * (float(match[2] or 0) * 86_400 + first * 3600 + second * 60 + float(third or 0))
    if word[:1] in "Pp" and len(word) > 2 and (match := _ISO.fullmatch(word)):
        return sum(float(n or 0) * s for n, s in zip(match.groups(), _ISO_SECONDS, strict=True))
    if not word[:1].isdigit() or not re.search(r"[A-Za-z]", word):
        return None
    one = look(re.sub(r"(?<=\d)(\s*)m\b", r"\1min", word), ".")  # beside hours it is no metre
    if one is None or one.around.dimension != "time" or one.is_range or one.around.end:
        return None
    return one.low * one.around.factor
