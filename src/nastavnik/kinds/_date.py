"""Dates and times of day."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from nastavnik.data import Lost
from nastavnik.errors import UserError
from nastavnik.kinds._cells import Cells, level_word
from nastavnik.kinds._dates import ISO, find_forms, first_year, in_century, read_form, read_forms
from nastavnik.kinds._kind import ColumnInfo, Features, Guess, Kind, Wishes
from nastavnik.kinds._looks import GONE

_EPOCH = np.datetime64("2000-01-01", "us")
_TIME_NAME = re.compile(r"(?i)(time|date|epoch|stamp|day|created|updated|_at$|_ts$|^ts$)")
_UNIX = np.datetime64("1970-01-01", "us")
_UNITS = {"epoch seconds": 1e6, "epoch milliseconds": 1e3}
_DAY = 86_400_000_000.0  # microseconds
_SEASONS = 550.0  # days
_MOST_ODD = 0.05  # share of a date column's cells that may be no dates


class Date(Kind):
    """A point in time: its place in time, its parts, and where it lies in the year, the week and the day."""

    name = "date"
    about = "a date or a time, in any usual form"

    def recognise(self, cells: Cells, wishes: Wishes) -> Guess | None:
        """Timestamps, words that one format (or a few) reads nearly all of, or whole numbers that are dates."""
        if pd.api.types.is_datetime64_any_dtype(cells.values):
            zoned = getattr(cells.values.dt, "tz", None) is not None
            seasons = _has_seasons(cells.values.astype("datetime64[us]").to_numpy() if not zoned else _unzoned(cells))
            reading = {"formats": [ISO], "timed": _timed(cells), "zoned": zoned, "seasons": seasons}
            return Guess(1.0, "timestamps", reading)
        if not cells.present or cells.distinct < 2:
            return None
        if cells.typed:
            return _in_numbers(cells)
        sample = cells.words[:: max(1, len(cells.words) // 50)]
        if sum(bool(re.search(r"\d", w)) and len(w) < 48 for w in sample) < 0.5 * len(sample):
            return None
        if all(w.isdigit() for w in sample):
            numbers = np.array([float(w) if w.isdigit() else np.nan for w in cells.words])
            return _in_numbers(Cells(cells.name, pd.Series(numbers)))
        few = cells.sampled(300)
        if find_forms(*_said(few))[0] < 0.9:
            return None
        words, counts = _said(cells)
        share, forms, swapped = find_forms(words, counts)
        if share < 1 - _MOST_ODD:
            return None
        reason = f"reads as {' or '.join(forms[:3])}"
        if swapped:
            told = _by_order(cells, forms)
            forms = forms if told is None else told
            reason = f"reads as {forms[0]}, as the rows then rise" if told else (
                f"reads as {forms[0]}, but day and month could be exchanged: no cell tells which"
            )  # fmt: skip
        return Guess(0.95, reason, _reading(cells, forms))

    def given(self, cells: Cells, wishes: Wishes) -> Guess:
        """The format as told, or the one that reads most.

        Raises:
            UserError: no cell reads as a date.
        """
        if pd.api.types.is_datetime64_any_dtype(cells.values):
            found = self.recognise(cells, wishes)
            assert found is not None
            return Guess(1.0, "given", found.record)
        forms = list(wishes.date_formats)
        if not forms and cells.typed:
            own = _in_numbers(cells, asked=True)
            if own is not None:
                return Guess(1.0, "given", own.record)
        words, counts = _said(cells)
        if not forms:
            _, forms, _ = find_forms(words, counts)
        if not forms or np.isnat(read_forms(words, forms)).all():
            known = f" as {forms[0]}" if wishes.date_formats else ""
            first = words[0] if words else ""
            raise UserError(
                f"--kind {cells.name}=date: no cell reads as a date{known}, such as {first!r}; write YYYY-MM-DD"
            )
        return Guess(1.0, "given", {**_reading(cells, forms), "odd": 1.0})

    def read(self, cells: Cells, reading: Mapping[str, Any]) -> Features:
        """Parts and cyclic parts of each cell; of times alone only those of the day.

        Raises:
            UserError: many cells are no dates.
        """
        found = Features()
        stamps = self.stamps(cells, reading, found.lost)
        found.numbers = parts_of(cells.name, stamps, reading)
        return found

    def stamps(self, cells: Cells, reading: Mapping[str, Any], lost: list[Lost]) -> np.ndarray:
        """Cells as datetime64[us], NaT where missing or no date; what is lost is noted."""
        values = cells.values
        if pd.api.types.is_datetime64_any_dtype(values):
            if getattr(values.dt, "tz", None) is not None:
                values = values.dt.tz_convert("UTC") if reading.get("zoned") else values
                values = values.dt.tz_localize(None)
            stamps = values.astype("datetime64[us]").to_numpy(copy=True)
            stamps[cells.missing] = np.datetime64("NaT")
            return stamps
        forms = reading["formats"]
        words = cells.words
        if forms[0] in _UNITS:
            return cells.spread(_of_numbers(words, forms[0]), np.datetime64("NaT"))
        found = read_forms([w.split(".")[0] if w.endswith(".0") else w for w in words], forms)
        if reading.get("first_year") is not None:
            found = in_century(found, int(reading["first_year"]))
        wrong = np.isnat(found) & cells.where(lambda w: w.lower() not in GONE)
        if wrong.any():
            self._say_wrong(cells, wrong, forms, reading, lost)
        return cells.spread(found, np.datetime64("NaT"))

    def _say_wrong(
        self, cells: Cells, wrong: np.ndarray, forms: Sequence[str], reading: Mapping[str, Any], lost: list[Lost]
    ) -> None:
        count = int(cells.counts[wrong].sum())
        row = min(cells.first_row(int(i)) for i in np.flatnonzero(wrong))
        form = forms[0] if "%" in forms[0] else "YYYY-MM-DD or YYYY-MM-DD HH:MM:SS"
        cell = level_word(cells.values.iloc[row])
        if count > max(_MOST_ODD, float(reading.get("odd", 0.0))) * len(cells) and count * 2 >= cells.present:
            raise UserError(
                f"column {cells.name!r} holds dates, but row {row + 1} says {cell!r}; write dates as {form}"
            )
        verb = "is no date" if count == 1 else "are no dates"
        lost.append(Lost(cells.name, count, row, repr(cell), f"{verb} written as {form}"))

    def audit(self, numbers: Mapping[str, np.ndarray], info: ColumnInfo) -> Sequence[tuple[str, str, str]]:
        """Days that may be months."""
        if "exchanged" not in info.reason:
            return ()
        other = info.reading["formats"][0].translate(str.maketrans("md", "dm"))
        text = f"{info.name}: {info.reason}; if it is wrong, say --date-format '{info.name}={other}'"
        return [("ambiguous dates", "warning", text)]

    def show(self, features: Features, row: int) -> str:
        """The date in its international form."""
        numbers = {name.rpartition(".")[2]: values for name, values in features.numbers.items()}
        if "days" not in numbers:
            hour = numbers["hour"][row]
            return "missing" if np.isnan(hour) else f"{int(hour):02d}:{round(hour % 1 * 60):02d}"
        days = numbers["days"][row]
        if np.isnan(days):
            return "missing"
        stamp = pd.Timestamp("2000-01-01") + pd.Timedelta(seconds=round(float(days) * 86400))
        return str(stamp.date()) if "hour" not in numbers else str(stamp)


def _said(cells: Cells) -> tuple[list[str], np.ndarray]:
    """The words that say something, and how often each stands."""
    keep = [i for i, w in enumerate(cells.words) if w.lower() not in GONE]
    return [cells.words[i] for i in keep], cells.counts[keep]


def _unzoned(cells: Cells) -> np.ndarray:
    return cells.values.dt.tz_localize(None).astype("datetime64[us]").to_numpy()


def _timed(cells: Cells) -> bool:
    present = cells.values[~cells.missing]
    stamps = present.dt.tz_localize(None) if getattr(present.dt, "tz", None) is not None else present
    return bool((stamps != stamps.dt.normalize()).any())


def _reading(cells: Cells, forms: Sequence[str]) -> dict[str, Any]:
    joined = " ".join(forms)
    timed = forms == [ISO] or any(mark in joined for mark in ("%H", "%I"))
    dated = forms == [ISO] or any(mark in joined for mark in ("%d", "%m", "%b", "%B"))
    reading = {"formats": list(forms), "timed": timed, "dated": dated, "zoned": "%z" in joined}
    if dated:
        reading["seasons"] = _has_seasons(read_forms(_said(cells)[0], forms))
    if all("%y" in form for form in forms):
        reading["first_year"] = first_year(read_forms(_said(cells)[0], forms))
    return reading


def _has_seasons(stamps: np.ndarray) -> bool:
    """Whether seasons come again: within a year their circle is the place in time, which is told already."""
    stamps = stamps[~np.isnat(stamps)]
    return bool(len(stamps)) and int((stamps.max() - stamps.min()).astype(np.int64)) > _SEASONS * _DAY


def _by_order(cells: Cells, forms: Sequence[str]) -> list[str] | None:
    """Of formats whose day and month could be exchanged those by which the rows come in the order of time."""
    swap = str.maketrans("md", "dm")
    rising = {}
    for name, own in (("own", list(forms)), ("swapped", [f.translate(swap) if "%b" not in f else f for f in forms])):
        stamps = cells.spread(read_forms(cells.words, own), np.datetime64("NaT"))
        stamps = stamps[~np.isnat(stamps)]
        steps = np.diff(stamps).astype(np.int64)
        rising[name] = (max(float(np.mean(steps >= 0)), float(np.mean(steps <= 0))) if len(steps) else 0.0), own
    best, other = max(rising.values(), key=lambda x: x[0]), min(rising.values(), key=lambda x: x[0])
    return best[1] if best[0] > 0.98 and other[0] < 0.95 else None


def _in_numbers(cells: Cells, asked: bool = False) -> Guess | None:
    """Whole numbers such as 20240131, or seconds since 1970 under a name that says so."""
    numbers = cells.numbers[~np.isnan(cells.numbers)]
    if not len(numbers) or not np.all(np.isfinite(numbers)) or not np.all(numbers == np.floor(numbers)):
        return None
    low, high = float(numbers.min()), float(numbers.max())
    if low >= 19_000_101 and high <= 21_001_231:
        unique = np.unique(numbers).astype(np.int64).astype(str).tolist()
        if not np.isnat(read_form(unique, "%Y%m%d")).any() and (len(unique) >= 5 or asked):
            seasons = _has_seasons(read_form(unique, "%Y%m%d"))
            reading = {"formats": ["%Y%m%d"], "timed": False, "seasons": seasons}
            return Guess(0.93, "whole numbers that are days, as 20240131", reading)
    named = asked or _TIME_NAME.search(cells.name) is not None
    for unit, scale in _UNITS.items():
        stamps = numbers * scale / 1e6
        if named and stamps.min() > 3e8 and stamps.max() < 4.2e9:
            seasons = float(stamps.max() - stamps.min()) > _SEASONS * 86_400
            reading = {"formats": [unit], "timed": True, "seasons": seasons}
            return Guess(0.93, f"its name, and numbers that are {unit}", reading)
    return None


def _of_numbers(words: Sequence[str], unit: str) -> np.ndarray:
    numbers = pd.to_numeric(pd.Series(list(words), dtype=object), errors="coerce").to_numpy(dtype=np.float64)
    whole = np.where(np.isnan(numbers), 0, numbers * _UNITS[unit]).astype(np.int64)
    stamps = _UNIX + whole.astype("timedelta64[us]")
    return np.where(np.isnan(numbers), np.datetime64("NaT"), stamps)


def parts_of(name: str, stamps: np.ndarray, reading: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Numbers that a network can learn from: the place in time, calendar parts, and circles of year, week and day."""
    missing = np.isnat(stamps)
    stamps = np.where(missing, _EPOCH, stamps)
    microseconds = (stamps - _EPOCH).astype(np.int64)
    days = microseconds / _DAY
    found: dict[str, np.ndarray] = {}
    if reading.get("dated", True):
        day, month, year = (stamps.astype(f"datetime64[{unit}]") for unit in "DMY")
        found |= {"days": days, "year": year.astype(np.int64) + 1970, "month": month.astype(np.int64) % 12 + 1}
        if any("%d" in form or form == ISO or "epoch" in form for form in reading["formats"]):
            found |= {"day": (day - month).astype(np.int64) + 1, "weekday": (day.astype(np.int64) + 3) % 7}
            if reading.get("seasons", True):
                found |= _circle("week", days % 7 + 5, 7.0)
        if reading.get("seasons", True):
            found |= _circle("year", (day - year).astype(np.int64), 365.25)
    if reading.get("timed", False):
        hour = microseconds % _DAY / (_DAY / 24)
        found |= {"hour": hour, **_circle("day", hour, 24.0)}
    return {f"{name}.{key}": np.where(missing, np.nan, values) for key, values in found.items()}


def _circle(name: str, place: np.ndarray, length: float) -> dict[str, np.ndarray]:
    angle = 2 * np.pi * place / length
    return {f"{name}_sin": np.sin(angle), f"{name}_cos": np.cos(angle)}
