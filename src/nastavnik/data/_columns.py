"""From raw cells to numbers and words, by the stored description of each column."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from nastavnik.data._kinds import ColumnInfo, is_missing, level_word, parse_dates, parse_numbers, truth_of
from nastavnik.errors import UserError, nearest

_EPOCH = np.datetime64("2000-01-01")


@dataclass(frozen=True)
class Columns:
    """The inputs of n rows: ``numbers`` [n, d] with NaN where missing, ``words`` [n, c] with None where missing.

    A date stands in ``numbers`` as its parts (days since 2000, year, month, day of the week, hour).
    """

    numbers: np.ndarray
    words: np.ndarray
    number_names: tuple[str, ...]
    word_names: tuple[str, ...]

    def take(self, rows: np.ndarray) -> Columns:
        """Some of the rows."""
        return Columns(self.numbers[rows], self.words[rows], self.number_names, self.word_names)

    def __len__(self) -> int:
        return len(self.numbers)


def to_columns(frame: pd.DataFrame, infos: Sequence[ColumnInfo]) -> Columns:
    """Read the cells of the input columns; infinities count as missing.

    Raises:
        UserError: a column is not there, or a cell is not of its column's kind (the row is named).
    """
    for info in infos:
        if info.name not in frame.columns:
            raise UserError(f"the table lacks the column {info.name!r}{nearest(info.name, frame.columns)}")
    plain = [i.name for i in infos if i.kind == "number" and pd.api.types.is_numeric_dtype(frame[i.name])]
    blocks: list[np.ndarray] = []
    names: list[str] = []
    if plain:  # thousands of pixels are read in one piece
        blocks.append(_finite(frame[plain].to_numpy(dtype=_float_type(frame[plain]), na_value=np.nan)))
        names += plain
    for info in infos:
        if info.kind in ("number", "boolean") and info.name not in plain:
            blocks.append(_finite(to_numbers(frame[info.name], info))[:, None])
            names.append(info.name)
        elif info.kind == "date":
            parts = _date_parts(frame[info.name], info)
            blocks += [values[:, None] for values in parts.values()]
            names += [f"{info.name}.{part}" for part in parts]
    word_infos = [i for i in infos if i.kind == "category"]
    numbers = np.concatenate(blocks, axis=1) if blocks else np.zeros((len(frame), 0))
    words = np.empty((len(frame), len(word_infos)), dtype=object)
    for j, info in enumerate(word_infos):
        words[:, j] = to_words(frame[info.name], info)
    return Columns(numbers, words, tuple(names), tuple(i.name for i in word_infos))


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
    """One category column as words, None where missing."""
    missing = is_missing(values)
    cells = values.astype(object).to_numpy()
    return np.array([None if m else level_word(v) for v, m in zip(cells, missing, strict=True)], dtype=object)


def _finite(numbers: np.ndarray) -> np.ndarray:
    return np.where(np.isfinite(numbers), numbers, np.nan)


def _float_type(frame: pd.DataFrame) -> type[np.floating]:
    """Bytes (pixels) are exact in half the memory."""
    return np.float32 if all(dtype.itemsize <= 1 for dtype in frame.dtypes) else np.float64


def _date_parts(values: pd.Series, info: ColumnInfo) -> dict[str, np.ndarray]:
    present = ~is_missing(values)
    dates = parse_dates(values.where(present), info.date_format)
    wrong = dates.isna().to_numpy() & present
    if wrong.mean() > 0.05:
        row = int(np.flatnonzero(wrong)[0])
        raise UserError(
            f"column {info.name!r} holds dates, but row {row + 1} says {values.iloc[row]!r}; "
            f"write dates as {info.date_format or 'YYYY-MM-DD'}"
        )
    days = (dates.to_numpy().astype("datetime64[s]") - _EPOCH) / np.timedelta64(1, "D")
    parts = {
        "days": np.where(dates.isna(), np.nan, days),
        "year": dates.dt.year.to_numpy(dtype=np.float64, na_value=np.nan),
        "month": dates.dt.month.to_numpy(dtype=np.float64, na_value=np.nan),
        "weekday": dates.dt.day_of_week.to_numpy(dtype=np.float64, na_value=np.nan),
    }
    if info.date_format is None or "%H" in info.date_format or info.date_format == "mixed-zone":
        parts["hour"] = dates.dt.hour.to_numpy(dtype=np.float64, na_value=np.nan)
    return parts
