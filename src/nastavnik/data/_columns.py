"""From raw cells to numbers and words, by the stored description of each column."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from nastavnik.data._kinds import ColumnInfo, is_missing, level_word, parse_dates, parse_numbers, truth_of
from nastavnik.errors import UserError, nearest

_EPOCH = np.datetime64("2000-01-01")
_MOST_ODD = 0.05  # share of a date column's cells that may be no dates


@dataclass(frozen=True)
class Lost:
    """Cells of a column that hold something, but nothing a network can be given: they count as missing, and are said."""

    name: str
    count: int
    row: int  # the first of them, from 0
    cell: str
    why: str

    def __str__(self) -> str:
        cells = "1 cell" if self.count == 1 else f"{self.count} cells"
        return f"{self.name}: {cells} {self.why}, taken as missing (first: row {self.row + 1}, {self.cell})"


@dataclass(frozen=True)
class Columns:
    """The inputs of n rows: ``numbers`` [n, d] with NaN where missing, ``words`` [n, c] with None where missing.

    Columns stand in the order of their descriptions, whatever types the cells had. A date stands in ``numbers`` as its
    parts (days since 2000, year, month, day of the week, hour). ``lost`` are the cells that could not be taken.
    """

    numbers: np.ndarray
    words: np.ndarray
    number_names: tuple[str, ...]
    word_names: tuple[str, ...]
    lost: tuple[Lost, ...] = ()

    def take(self, rows: np.ndarray) -> Columns:
        """Some of the rows."""
        return Columns(self.numbers[rows], self.words[rows], self.number_names, self.word_names)

    def ordered(self, number_names: Sequence[str], word_names: Sequence[str]) -> Columns:
        """The same cells in the order of these names.

        Raises:
            UserError: the names are not the same.
        """
        if (self.number_names, self.word_names) == (tuple(number_names), tuple(word_names)):
            return self
        for own, wanted in ((self.number_names, number_names), (self.word_names, word_names)):
            if sorted(own) != sorted(wanted):
                strange = sorted(set(own) ^ set(wanted)) or [n for n in own if own.count(n) > 1]
                raise UserError(f"the columns read are not those that were prepared: {', '.join(strange[:6])}")
        numbers = self.numbers[:, [self.number_names.index(n) for n in number_names]]
        words = self.words[:, [self.word_names.index(n) for n in word_names]]
        return Columns(numbers, words, tuple(number_names), tuple(word_names), self.lost)

    def __len__(self) -> int:
        return len(self.numbers)


def to_columns(frame: pd.DataFrame, infos: Sequence[ColumnInfo]) -> Columns:
    """Read the cells of the input columns; what is infinite or beyond a column's range counts as missing.

    Raises:
        UserError: a column is not there, or a cell is not of its column's kind (the row is named).
    """
    for info in infos:
        if info.name not in frame.columns:
            raise UserError(f"the table lacks the column {info.name!r}{nearest(info.name, frame.columns)}")
    names: list[str] = []
    first: dict[str, int] = {}  # where a column's numbers begin
    for info in infos:
        if info.kind in ("number", "boolean", "date"):
            first[info.name] = len(names)
            names += [f"{info.name}.{part}" for part in _parts_of(info)] if info.kind == "date" else [info.name]
    lost: list[Lost] = []
    typed = [i for i in infos if i.kind == "number" and pd.api.types.is_numeric_dtype(frame[i.name])]
    whole = len(typed) == len(names)
    plain = frame[[i.name for i in typed]]
    numbers = np.empty((len(frame), len(names)), dtype=_float_type(plain) if whole and typed else np.float64)
    if typed:  # thousands of pixels are read in one piece
        block = plain.to_numpy(dtype=numbers.dtype, na_value=np.nan)
        numbers[:, [first[i.name] for i in typed]] = _within(block, typed, lost)
    quick = {info.name for info in typed}
    for info in infos:
        if info.kind in ("number", "boolean") and info.name not in quick:
            block = to_numbers(frame[info.name], info)[:, None]
            numbers[:, first[info.name]] = _within(block, [info], lost)[:, 0]
        elif info.kind == "date":
            for j, values in enumerate(_date_parts(frame[info.name], info, lost).values()):
                numbers[:, first[info.name] + j] = values
    word_infos = [i for i in infos if i.kind == "category"]
    words = np.empty((len(frame), len(word_infos)), dtype=object)
    for j, info in enumerate(word_infos):
        words[:, j] = to_words(frame[info.name], info)
    return Columns(numbers, words, tuple(names), tuple(i.name for i in word_infos), tuple(lost))


def to_numbers(values: pd.Series, info: ColumnInfo) -> np.ndarray:
    """One number or boolean column as float64 with NaN where missing.

    Raises:
        UserError: a word stands in a number column.
    """
    missing = is_missing(values)
    if info.kind == "boolean":
        truth = truth_of(values.astype(object), info.levels)
        wrong = np.isnan(truth) & ~missing
        if wrong.any():
            row = int(np.flatnonzero(wrong)[0])
            known = " and ".join(info.levels)
            raise UserError(f"column {info.name!r} holds {known}, but row {row + 1} says {values.iloc[row]!r}")
        return np.where(missing, np.nan, truth)
    if pd.api.types.is_numeric_dtype(values) or pd.api.types.is_bool_dtype(values):
        return values.to_numpy(dtype=np.float64, na_value=np.nan)
    words = values.astype(object)
    numbers = parse_numbers(words, info.decimal)
    wrong = np.isnan(numbers) & ~missing & ~words.isin(info.missing_words).to_numpy()
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        raise UserError(
            f"column {info.name!r} holds numbers, but row {row + 1} says {words.iloc[row]!r}; "
            "mend that cell, or leave it empty if the value is missing"
        )
    return numbers


def to_words(values: pd.Series, info: ColumnInfo) -> np.ndarray:
    """One category column as words, None where missing.

    A cell that is written otherwise than the level of the same number ("007" read as 7 by a program) is that level.
    """
    missing = is_missing(values)
    cells = values.astype(object).to_numpy()
    known = set(info.levels)
    by_number = _levels_by_number(info.levels)
    found: dict[object, str] = {}  # each distinct cell is looked at once
    words = np.empty(len(cells), dtype=object)
    for i, (cell, gone) in enumerate(zip(cells, missing, strict=True)):
        if gone:
            continue
        key = (type(cell), cell)
        if key not in found:
            word = level_word(cell)
            found[key] = word if word in known else by_number.get(_as_number(word), word)
        words[i] = found[key]
    return words


def _levels_by_number(levels: Sequence[str]) -> dict[float | None, str]:
    """The levels that are numbers, by their value; none where two of them are the same number."""
    values = [(_as_number(level), level) for level in levels]
    counts = Counter(value for value, _ in values)
    return {value: level for value, level in values if value is not None and counts[value] == 1}


def _as_number(word: str) -> float | None:
    try:
        value = float(word)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _within(numbers: np.ndarray, infos: Sequence[ColumnInfo], lost: list[Lost]) -> np.ndarray:
    """Numbers [n, columns] with NaN for what is infinite or beyond a column's range; what is lost so is noted."""
    largest = np.array([info.largest for info in infos], dtype=np.float64)
    with np.errstate(invalid="ignore"):
        beyond = np.abs(numbers) >= largest
    if not beyond.any():
        return numbers
    for j in np.flatnonzero(beyond.any(0)):
        row = int(np.flatnonzero(beyond[:, j])[0])
        endless = bool(np.isinf(numbers[beyond[:, j], j]).all())
        why = "infinite" if endless else f"infinite or beyond ±{infos[j].largest:.2g}"
        verb = "is" if beyond[:, j].sum() == 1 else "are"
        lost.append(Lost(infos[j].name, int(beyond[:, j].sum()), row, f"{numbers[row, j]:g}", f"{verb} {why}"))
    return np.where(beyond, np.nan, numbers)


def _float_type(frame: pd.DataFrame) -> type[np.floating]:
    """Bytes (pixels) are exact in half the memory."""
    return np.float32 if all(dtype.itemsize <= 1 for dtype in frame.dtypes) else np.float64


def _parts_of(info: ColumnInfo) -> tuple[str, ...]:
    """What a date is taken apart into; the hour only where the format has one."""
    timed = info.date_format in (None, "mixed-zone") or "%H" in str(info.date_format)
    return ("days", "year", "month", "weekday", *(("hour",) if timed else ()))


def _date_parts(values: pd.Series, info: ColumnInfo, lost: list[Lost]) -> dict[str, np.ndarray]:
    present = ~is_missing(values)
    dates = parse_dates(values.where(present), info.date_format)
    wrong = dates.isna().to_numpy() & present
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        form = info.date_format if "%" in str(info.date_format) else "YYYY-MM-DD or YYYY-MM-DD HH:MM:SS"
        if wrong.mean() > _MOST_ODD:
            raise UserError(
                f"column {info.name!r} holds dates, but row {row + 1} says {values.iloc[row]!r}; write dates as {form}"
            )
        verb = "is no date" if wrong.sum() == 1 else "are no dates"
        lost.append(Lost(info.name, int(wrong.sum()), row, repr(values.iloc[row]), f"{verb} written as {form}"))
    days = (dates.to_numpy().astype("datetime64[s]") - _EPOCH) / np.timedelta64(1, "D")
    parts = {
        "days": np.where(dates.isna(), np.nan, days),
        "year": dates.dt.year.to_numpy(dtype=np.float64, na_value=np.nan),
        "month": dates.dt.month.to_numpy(dtype=np.float64, na_value=np.nan),
        "weekday": dates.dt.day_of_week.to_numpy(dtype=np.float64, na_value=np.nan),
        "hour": dates.dt.hour.to_numpy(dtype=np.float64, na_value=np.nan),
    }
    return {name: parts[name] for name in _parts_of(info)}
