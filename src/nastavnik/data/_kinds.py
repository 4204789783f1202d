"""What kind of thing each column holds: found from its values, overridden by the user, stored with the run."""

from __future__ import annotations

import datetime
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from pandas.tseries.api import guess_datetime_format

from nastavnik.errors import UserError, nearest

KINDS = ("number", "category", "date", "boolean", "identifier", "text")
MISSING = frozenset({"", "?", "NA", "N/A", "n/a", "na", "nan", "NaN", "NAN", "null", "NULL", "Null", "#N/A", "<NA>"})
LARGEST = 3.4e38  # beyond it no number fits a network; the ends of single precision are many programs' "no data"
_HUGE = 1e30, 1e150  # a column whose middle is beyond the first may hold numbers up to the second
MOST_LEVELS = 50  # a text column of more distinct values is free text
_BOOLEANS = ({"true", "false"}, {"yes", "no"}, {"t", "f"}, {"y", "n"})
_TRUE = frozenset({"true", "yes", "t", "y", "1", "1.0"})
_FALSE = frozenset({"false", "no", "f", "n", "0", "0.0"})
_CODE_NAME = re.compile(r"(?i)(^|_)(zip|zipcode|zip_code|postcode|postal_code|postal|plz)($|_)")
_ID_NAME = re.compile(r"(?i)^(id|uid|uuid|guid|key|index|unnamed: 0|.*_id|.*_uuid|row_?(id|number|no))$")
_THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2}(,\d{3})+(\.\d*)?")
_WHOLE = re.compile(r"-?(0|[1-9]\d*)\.0+")
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
    largest: float = LARGEST

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
    """Values as timestamps by one stored format, whatever their types; what is no date becomes NaT.

    ``None`` stands for timestamps: words are then read as ISO 8601. "mixed-zone" reads ISO 8601 with zones, as UTC.
    """
    zoned = date_format == "mixed-zone"
    if pd.api.types.is_datetime64_any_dtype(values):
        return pd.to_datetime(values, utc=True).dt.tz_localize(None) if zoned else _without_zone(values)
    cells = values.astype(object)
    typed = cells.map(lambda cell: isinstance(cell, datetime.date)).to_numpy(dtype=bool)  # a datetime is a date
    words = cells.where(~typed).map(level_word, na_action="ignore")
    form = "ISO8601" if zoned or date_format is None else date_format
    dates = _without_zone(pd.to_datetime(words, errors="coerce", format=form, utc=zoned or date_format is None))
    if typed.any():
        own = cells[typed].map(lambda cell: pd.to_datetime(cell, utc=True) if zoned else pd.Timestamp(cell))
        dates = dates.astype("datetime64[us]")
        dates[typed] = own.map(lambda stamp: stamp.tz_localize(None)).astype("datetime64[us]")
    return dates


def _without_zone(dates: pd.Series) -> pd.Series:
    return dates.dt.tz_localize(None) if getattr(dates.dt, "tz", None) is not None else dates


def truth_of(words: pd.Series, levels: tuple[str, ...]) -> np.ndarray:
    """1 where a word means yes, 0 where it means no, NaN where it means neither.

    Other pairs of words (``levels``, as "female", "male") are no and yes in their order.
    """
    own = {} if {w.lower() for w in levels} <= _TRUE | _FALSE else {w.lower(): float(i) for i, w in enumerate(levels)}

    def truth(word: object) -> float:
        text = level_word(word).lower()
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
        extra: dict[str, Any] = {k: found[k] for k in ("decimal", "missing_words", "date_format", "largest") if k in found}
        found = {**extra, "kind": given, "reason": "given"}
        if given == "date":
            found |= _given_date(name, present)
    if found["kind"] == "boolean" and distinct > 2:
        raise UserError(f"--kind {name}=boolean: the column holds {distinct} different values, not two")
    if found["kind"] in ("category", "boolean"):
        found["levels"] = tuple(sorted({level_word(v) for v in present.unique()}, key=_level_order))
        base["distinct"] = len(found["levels"])
    return ColumnInfo(**base, **found)


def level_word(value: Any) -> str:
    """A category's name, whatever type the cell has: whole numbers lose their ``.0``, so that 1, 1.0 and "1.0" are one."""
    if isinstance(value, str):
        word = value.strip()
        return word.partition(".")[0] if _WHOLE.fullmatch(word) else word
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
        zone = getattr(values.dt, "tz", None)
        return {"kind": "date", "reason": "timestamps", "date_format": None if zone is None else "mixed-zone"}
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
        return {"kind": "date", "reason": _date_reason(words, date_format), "date_format": date_format}
    if _ID_NAME.match(name) and distinct > MOST_LEVELS and distinct > 0.5 * rows:
        return {"kind": "identifier", "reason": f"its name, and {distinct} distinct values in {rows} rows"}
    if distinct <= MOST_LEVELS:
        return {"kind": "category", "reason": f"{distinct} distinct words"}
    if distinct > 0.95 * rows and words.str.fullmatch(r"[\w\-]{1,40}").all() and words.str.len().nunique() <= 3:
        return {"kind": "identifier", "reason": "short codes, nearly every row its own"}
    return {"kind": "text", "reason": f"{distinct} distinct texts"}


def _number_or_code(name: str, numbers: np.ndarray, distinct: int, rows: int, found: dict[str, Any]) -> dict[str, Any]:
    with np.errstate(invalid="ignore"):
        if len(numbers) and np.median(np.abs(numbers)) > _HUGE[0]:
            found = {**found, "largest": _HUGE[1]}
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
    """The format that reads most of a column's cells, if it reads nearly all: one cell may tell day from month."""
    words = pd.Series(values.map(level_word).unique())
    sample = words.iloc[:: max(1, len(words) // 200)]
    if not sample.str.contains(r"\d[-/.:]\d", regex=True).mean() > 0.95:
        return None
    share, best = _best_format(words, sample, _DATES)
    if share > 0.95:
        return best
    zoned = sample.str.fullmatch(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d.*")
    return "mixed-zone" if zoned.all() else None


def _date_reason(words: pd.Series, date_format: str) -> str:
    swapped = date_format.translate(str.maketrans("md", "dm"))
    if swapped != date_format and _share_read(pd.Series(words.unique()), swapped) == 1:
        return f"reads as {date_format}, but day and month could be exchanged: no cell tells which"
    return f"reads as {date_format}"


def _best_format(words: pd.Series, sample: pd.Series, formats: Sequence[str]) -> tuple[float, str | None]:
    """The first of the formats that read the largest share of the words, and that share."""
    share, best = 0.0, None
    for one in formats:
        if _share_read(sample, one) > 0.5:
            own = _share_read(words, one)
            if own > share:
                share, best = own, one
    return share, best


def _share_read(words: pd.Series, date_format: str) -> float:
    return float(pd.to_datetime(words, errors="coerce", format=date_format).notna().mean())


def _given_date(name: str, present: pd.Series) -> dict[str, Any]:
    """The format of a column that the user calls a date: decided once, here, and stored."""
    if pd.api.types.is_datetime64_any_dtype(present):
        return {}
    words = pd.Series(present.map(level_word).unique())
    sample = words.iloc[:: max(1, len(words) // 200)]
    guesses = [guess_datetime_format(w, dayfirst=first) for w in sample[:20] for first in (False, True)]
    own = [g for g in dict.fromkeys(guesses) if g is not None and "%z" not in g]
    share, best = _best_format(words, sample, [*_DATES, *own])
    zoned = float(pd.to_datetime(words, errors="coerce", format="ISO8601", utc=True).notna().mean())
    if max(share, zoned) == 0:
        raise UserError(f"--kind {name}=date: no cell reads as a date, such as {words.iloc[0]!r}; write YYYY-MM-DD")
    return {"date_format": best if share >= zoned else "mixed-zone"}
