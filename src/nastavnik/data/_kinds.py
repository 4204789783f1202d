"""What kind of thing each column holds: found from its values, overridden by the user, stored with the run."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from nastavnik.errors import UserError, nearest

KINDS = ("number", "category", "date", "boolean", "identifier", "text")
MISSING = frozenset({"", "?", "NA", "N/A", "n/a", "na", "nan", "NaN", "NAN", "null", "NULL", "Null", "#N/A", "<NA>"})
MOST_LEVELS = 50  # a text column of more distinct values is free text
_BOOLEANS = ({"true", "false"}, {"yes", "no"}, {"t", "f"}, {"y", "n"})
_TRUE = frozenset({"true", "yes", "t", "y", "1", "1.0"})
_FALSE = frozenset({"false", "no", "f", "n", "0", "0.0"})
_CODE_NAME = re.compile(r"(?i)(^|_)(zip|zipcode|zip_code|postcode|postal_code|postal|plz)($|_)")
_ID_NAME = re.compile(r"(?i)^(id|uid|uuid|guid|key|index|unnamed: 0|.*_id|.*_uuid|row_?(id|number|no))$")
_THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2}(,\d{3})+(\.\d*)?")
_GROUPED = re.compile(r"[+-]?[1-9]\d{0,2}(\.\d{3})+(,\d*)?")
_DATES = (
    "%Y-%m-%d",
    "%m/%d/%Y",
    "%d/%m/%Y",
    "%d.%m.%Y",
    "%Y/%m/%d",
    "%Y-%m-%d %H:%M:%S",
    "%Y-%m-%dT%H:%M:%S",
    "%Y-%m-%d %H:%M",
    "%m/%d/%Y %H:%M",
    "%d.%m.%Y %H:%M",
    "%Y%m%dT%H%M%S",
)


@dataclass(frozen=True)
class ColumnInfo:
    """One column: its kind and why, and what is needed to read its cells again at prediction."""

    name: str
    kind: str
    reason: str
    distinct: int
    missing: int
    decimal: str = "."
    date_format: str | None = None
    missing_words: tuple[str, ...] = ()
    levels: tuple[str, ...] = field(default=())

    def to_json(self) -> dict[str, Any]:
        """The plain record kept in ``dataset.json`` and ``model.json``."""
        return asdict(self)

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> ColumnInfo:
        """Read what ``to_json`` wrote."""
        as_tuples = {name: tuple(record[name]) for name in ("missing_words", "levels")}
        return cls(**{**record, **as_tuples})


def describe_columns(
    frame: pd.DataFrame, given: Mapping[str, str] | None = None, *, decimal: str | None = None
) -> list[ColumnInfo]:
    """Each column's kind, found or given.

    Raises:
        UserError: a kind is given for a column that is not there, or is no kind of ours.
    """
    given = dict(given or {})
    for name, kind in given.items():
        if name not in frame.columns:
            raise UserError(f"--kind names a column {name!r} that is not there{nearest(name, frame.columns)}")
        if kind not in KINDS:
            raise UserError(f"--kind {name}={kind}: there is no kind {kind!r}{nearest(kind, KINDS)}")
    return [_describe(str(name), frame[name], given.get(str(name)), decimal) for name in frame.columns]


def is_missing(values: pd.Series) -> np.ndarray:
    """Which cells hold nothing: None, NaN, NaT, or one of the usual words for it."""
    missing = values.isna().to_numpy()
    if _is_words(values):
        missing = missing | values.astype(object).isin(MISSING).to_numpy()
    return missing


def parse_numbers(words: pd.Series, decimal: str = ".") -> np.ndarray:
    """Words as float64, thousands marks (the mark that is not the decimal one) taken out; what is no number is NaN."""
    if decimal == ",":
        words = words.map(_with_point)
    else:
        words = words.map(lambda w: w.replace(",", "") if isinstance(w, str) and _THOUSANDS.fullmatch(w) else w)
    return pd.to_numeric(words.astype(object), errors="coerce").to_numpy(dtype=np.float64)


def _with_point(word: object) -> object:
    """A word with a decimal comma as one with a decimal point; a point that groups no thousands spoils it."""
    if not isinstance(word, str) or ("." in word and not _GROUPED.fullmatch(word)):
        return None if isinstance(word, str) else word
    return word.replace(".", "").replace(",", ".")


def parse_dates(values: pd.Series, date_format: str | None) -> pd.Series:
    """Values as timestamps; what is no date becomes NaT."""
    if date_format == "mixed-zone":
        return pd.to_datetime(values, errors="coerce", utc=True).dt.tz_localize(None)
    if pd.api.types.is_datetime64_any_dtype(values):
        return values.dt.tz_localize(None) if getattr(values.dt, "tz", None) is not None else values
    return pd.to_datetime(values, errors="coerce", format=date_format)


def truth_of(words: pd.Series, levels: tuple[str, ...]) -> np.ndarray:
    """1 where a word means yes, 0 where it means no, NaN where it means neither.

    Other pairs of words (``levels``, as "female", "male") are no and yes in their order.
    """
    own = {} if {w.lower() for w in levels} <= _TRUE | _FALSE else {w.lower(): float(i) for i, w in enumerate(levels)}

    def truth(word: object) -> float:
        text = str(word).strip().lower()
        return own.get(text, 1.0 if text in _TRUE else 0.0 if text in _FALSE else np.nan)

    return words.map(truth).to_numpy(dtype=np.float64)


def is_id_name(name: str) -> bool:
    """Whether a column's name is one that identifiers usually have."""
    return _ID_NAME.match(name) is not None


def _is_words(values: pd.Series) -> bool:
    return values.dtype == object or isinstance(values.dtype, (pd.StringDtype, pd.CategoricalDtype))


def _describe(name: str, values: pd.Series, given: str | None, decimal: str | None) -> ColumnInfo:
    missing = is_missing(values)
    present = values[~missing]
    distinct = int(present.nunique())
    base: dict[str, Any] = {"name": name, "distinct": distinct, "missing": int(missing.sum())}
    found = _find_kind(name, values, present, distinct, decimal)
    if given is not None:
        extra: dict[str, Any] = {k: found[k] for k in ("decimal", "missing_words", "date_format") if k in found}
        found = {**extra, "kind": given, "reason": "given"}
        if given == "date" and "date_format" not in found:
            found["date_format"] = _date_format(present)
    if found["kind"] == "boolean" and distinct > 2:
        raise UserError(f"--kind {name}=boolean: the column holds {distinct} different values, not two")
    if found["kind"] in ("category", "boolean"):
        found["levels"] = tuple(sorted({level_word(v) for v in present.unique()}, key=_level_order))
    return ColumnInfo(**base, **found)


def level_word(value: Any) -> str:
    """A category's name: whole floats lose their ``.0``, so that 98178 and 98178.0 are one."""
    if isinstance(value, (float, np.floating)) and float(value).is_integer():
        return str(int(value))
    return str(value)


def _level_order(word: str) -> tuple[int, float, str]:
    """Numbers before words, each in its own order."""
    try:
        return (0, float(word), word)
    except ValueError:
        return (1, 0.0, word)


def _find_kind(name: str, values: pd.Series, present: pd.Series, distinct: int, decimal: str | None) -> dict[str, Any]:
    rows = max(len(values), 1)
    if not len(present):
        return {"kind": "text", "reason": "every cell is missing"}
    if pd.api.types.is_bool_dtype(values):
        return {"kind": "boolean", "reason": "true and false"}
    if pd.api.types.is_datetime64_any_dtype(values):
        return {"kind": "date", "reason": "timestamps"}
    if isinstance(values.dtype, pd.CategoricalDtype):
        return {"kind": "category", "reason": "a categorical column"}
    if pd.api.types.is_numeric_dtype(values):
        return _number_or_code(name, present.to_numpy(), distinct, rows, {})
    words = present.astype(str)
    found = _numbers_in_words(words, decimal)
    if found is not None:
        numbers = parse_numbers(words, found["decimal"])
        return _number_or_code(name, numbers[~np.isnan(numbers)], distinct, rows, found)
    lowered = {w.lower() for w in words.unique()[:3]}
    if distinct <= 2 and any(lowered <= pair for pair in _BOOLEANS):
        return {"kind": "boolean", "reason": f"holds {' and '.join(sorted(set(words)))}"}
    date_format = _date_format(words)
    if date_format is not None:
        return {"kind": "date", "reason": f"reads as {date_format}", "date_format": date_format}
    if _ID_NAME.match(name) and distinct > MOST_LEVELS and distinct > 0.5 * rows:
        return {"kind": "identifier", "reason": f"its name, and {distinct} distinct values in {rows} rows"}
    if distinct <= MOST_LEVELS:
        return {"kind": "category", "reason": f"{distinct} distinct words"}
    if distinct > 0.95 * rows and words.str.fullmatch(r"[\w\-]{1,40}").all() and words.str.len().nunique() <= 3:
        return {"kind": "identifier", "reason": "short codes, nearly every row its own"}
    return {"kind": "text", "reason": f"{distinct} distinct texts"}


def _number_or_code(name: str, numbers: np.ndarray, distinct: int, rows: int, found: dict[str, Any]) -> dict[str, Any]:
    whole = bool(np.all(np.isfinite(numbers)) and np.all(numbers == np.floor(numbers)))
    if whole and _ID_NAME.match(name) and distinct > 0.5 * rows and distinct > 10:
        reason = f"its name, and {distinct} distinct whole numbers in {rows} rows"
        return {**found, "kind": "identifier", "reason": reason}
    if whole and distinct == rows and rows >= 20 and bool(np.all(np.diff(numbers) == 1)) and numbers[0] in (0, 1):
        return {**found, "kind": "identifier", "reason": "counts the rows"}
    if whole and _CODE_NAME.search(name) and 2 < distinct <= max(rows / 20, 2):
        return {**found, "kind": "category", "reason": f"its name: {distinct} codes, not quantities"}
    return {**found, "kind": "number", "reason": "whole numbers" if whole else "numbers"}


def _numbers_in_words(words: pd.Series, decimal: str | None) -> dict[str, Any] | None:
    """Whether the words are numbers, with which decimal mark, and which few words stand for missing."""
    numbers = parse_numbers(words, decimal or ".")
    if decimal is None and np.isnan(numbers).any():
        with_comma = words.str.fullmatch(r"[+-]?(\d{1,3}(\.\d{3})+|\d+)?,\d+([eE][+-]?\d+)?").to_numpy(dtype=bool)
        if with_comma.any() and not words[~with_comma].str.contains(r"\.\d", regex=True).any():
            decimal, numbers = ",", parse_numbers(words, ",")
    strange = sorted(set(words[np.isnan(numbers)]))
    if np.isnan(numbers).mean() > 0.05 or len(strange) > 2:
        return None
    return {"decimal": decimal or ".", "missing_words": tuple(strange)}


def _date_format(values: pd.Series) -> str | None:
    words = pd.Series(values.astype(str).unique())
    sample = words.iloc[:: max(1, len(words) // 200)]
    if not sample.str.contains(r"\d[-/.:]\d", regex=True).mean() > 0.95:
        return None
    for date_format in _DATES:
        if pd.to_datetime(sample, errors="coerce", format=date_format).notna().mean() > 0.98:
            whole = pd.to_datetime(words, errors="coerce", format=date_format).notna().mean()
            if whole > 0.95:
                return date_format
    zoned = sample.str.fullmatch(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d.*")
    return "mixed-zone" if zoned.all() else None
