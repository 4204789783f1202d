"""The cells of one column: which are missing, and the distinct words among them, so that each is looked at once."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd

MISSING = frozenset({"", "?", "NA", "N/A", "n/a", "na", "nan", "NaN", "NAN", "null", "NULL", "Null", "#N/A", "<NA>"})
_FEW = 64  # cells that are looked at one by one
_MAY_MISLEAD = re.compile(r"^[1-9]\d{0,2}\.\d{3}$")
_WHOLE = re.compile(r"-?(0|[1-9]\d*)\.0+")


def level_word(value: Any) -> str:
    """A cell as a word, whatever type it has: whole numbers lose their ``.0``; 1, 1.0 and "1.0" are one."""
    if isinstance(value, str):
        word = value.strip()
        return word.partition(".")[0] if word[-1:] == "0" and _WHOLE.fullmatch(word) else word
    if isinstance(value, (float, np.floating)) and float(value).is_integer():
        return str(int(value))
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace").strip()
    return str(value)


def is_missing(values: pd.Series, told: Sequence[str] = ()) -> np.ndarray:
    """Which cells hold nothing: None, NaN, NaT, one of the usual words for it, or what was told to stand for it."""
    raw = values.to_numpy() if values.dtype == object else None
    if raw is not None and len(raw) <= _FEW and all(type(v) in (str, float, int, bool) for v in raw):
        gone = [v in MISSING if type(v) is str else v != v for v in raw]  # a prediction's row has no time to lose
        return np.array(gone, dtype=bool) | (_told(values, told) if told else False)
    missing = values.isna().to_numpy() if raw is None else pd.isna(raw)
    if is_words(values):
        cells = values.astype(object).to_numpy() if raw is None else raw
        said = (isinstance(v, str) and v in MISSING for v in cells)
        missing = missing | (np.fromiter(said, dtype=bool, count=len(cells)) if _says_missing(cells) else False)
    if told:
        missing = missing | _told(values, told)
    return missing


def _says_missing(cells: np.ndarray) -> bool:
    """Whether any cell may be one of the words for a missing one: most columns have none."""
    try:
        return not MISSING.isdisjoint(cells)
    except TypeError:  # lists and the like
        return True


def _told(values: pd.Series, told: Sequence[str]) -> np.ndarray:
    """Cells that are one of these words, or the number that one of them is."""
    numbers = [n for n in (as_number(word) for word in told) if n is not None]
    if pd.api.types.is_numeric_dtype(values):
        return values.isin(numbers).to_numpy()
    same = values.astype(object).map(lambda cell: level_word(cell) in told).to_numpy(dtype=bool)
    own = pd.to_numeric(values.astype(object), errors="coerce")
    return same | own.isin(numbers).to_numpy()


def as_number(word: str) -> float | None:
    """The number that a word is, None where it is none or not finite."""
    try:
        value = float(word)
    except ValueError:
        return None
    return value if np.isfinite(value) else None


def is_words(values: pd.Series) -> bool:
    """Whether the cells may be words, by their type."""
    return values.dtype == object or isinstance(values.dtype, (pd.StringDtype, pd.CategoricalDtype))


class Cells:
    """One column's raw cells [n].

    Args:
        name: the column's.
        values: its cells, of any type.
        told: what stands for a missing cell here, as the user said.
        missing: which cells hold nothing [n], where that is known.
    """

    def __init__(
        self, name: str, values: pd.Series, told: Sequence[str] = (), missing: np.ndarray | None = None
    ) -> None:
        self.name, self.values, self.told = name, values, tuple(told)
        self.missing = is_missing(values, self.told) if missing is None else missing

    def __len__(self) -> int:
        return len(self.values)

    @property
    def typed(self) -> bool:
        """Whether the cells are numbers (or truths) by their type."""
        return pd.api.types.is_numeric_dtype(self.values)

    def as_numbers(self) -> Cells | None:
        """The same cells by their type, where all are words for plain numbers; codes that begin with zeros are not."""
        if self.typed or not is_words(self.values) or not self.present:
            return None
        values = self.values.to_numpy() if self.values.dtype == object else self.values.astype(object).to_numpy()
        present = values[~self.missing] if self.missing.any() else values
        few = present[:: max(1, len(present) // 30)]
        if not all(isinstance(word, str) and as_number(word) is not None for word in few):
            return None
        pointed = [word for word in few if "." in word]
        if pointed and all(_MAY_MISLEAD.search(word) for word in pointed):
            return None  # 22.256 may be thousands: the kinds look closer
        if any("e" in word.lower() and "." not in word for word in few):
            return None  # 76E9 may be a code
        cells = np.where(self.missing, np.array(None, dtype=object), values) if self.missing.any() else values
        found = np.asarray(pd.to_numeric(cells, errors="coerce"), dtype=np.float64)
        if (np.isnan(found) != self.missing).any():
            return None
        if pd.api.types.infer_dtype(present, skipna=False) != "string":
            return None
        if (found[~self.missing] % 1 == 0).all() and any(v[0] == "0" and v[1:2].isdigit() for v in present):
            return None
        own = Cells(self.name, pd.Series(found), self.told, missing=self.missing)
        own.__dict__.update(numbers=found)
        return own

    @functools.cached_property
    def numbers(self) -> np.ndarray:
        """Typed cells as float64 [n], NaN where missing."""
        found = self.values.to_numpy(dtype=np.float64, na_value=np.nan)
        return np.where(self.missing, np.nan, found) if self.told else found

    @functools.cached_property
    def _factors(self) -> tuple[np.ndarray, list[str]]:
        """(code of each cell [n], -1 where missing; the distinct words in order of appearance)."""
        values: Any = self.values.astype(object).to_numpy()
        if self.missing.any():
            values = np.where(self.missing, None, values)
        if pd.api.types.infer_dtype(values, skipna=True) != "string":  # 1, 1.0 and True are not the same word
            values = np.array([None if v is None else level_word(v) for v in values], dtype=object)
        codes, found = pd.factorize(values)
        words = [level_word(word) for word in found]
        if words == list(found):
            return codes, words
        merged, distinct = pd.factorize(np.array(words, dtype=object))
        if len(distinct) < len(words):
            codes, words = np.where(codes < 0, -1, merged[codes]), list(distinct)
        return codes, words

    @property
    def codes(self) -> np.ndarray:
        """Which of ``words`` each cell holds [n], -1 where missing."""
        return self._factors[0]

    @property
    def words(self) -> list[str]:
        """The distinct words."""
        return self._factors[1]

    @functools.cached_property
    def counts(self) -> np.ndarray:
        """How many cells hold each of ``words``."""
        return np.bincount(self.codes[self.codes >= 0], minlength=len(self.words))

    @functools.cached_property
    def distinct(self) -> int:
        """How many different values there are."""
        if self.typed:
            present = self.numbers[~np.isnan(self.numbers)]
            return len(pd.unique(present))
        return len(self.words)

    @functools.cached_property
    def present(self) -> int:
        """Cells that hold something."""
        return int((~self.missing).sum())

    def sampled(self, most: int = 2000) -> Cells:
        """The same with at most so many of the distinct words, taken evenly, each as often as it stands."""
        if self.typed or len(self.words) <= most:
            return self
        places = np.linspace(0, len(self.words) - 1, most).astype(int)
        words = [self.words[i] for i in places]
        own = Cells(self.name, pd.Series(words, dtype=object), self.told)
        counts = self.counts[places]
        own.__dict__.update(_factors=(np.arange(most), words), counts=counts, present=int(counts.sum()))
        return own

    def spread(self, values: np.ndarray, empty: Any = np.nan) -> np.ndarray:
        """What was found for each distinct word, given to the cells [n]."""
        values = np.asarray(values)
        if not len(values):
            return np.full(len(self), empty, dtype=values.dtype if empty is not None else object)
        found = values[self.codes]
        if (self.codes < 0).any():
            found[self.codes < 0] = empty
        return found

    def share(self, which: np.ndarray | Sequence[bool]) -> float:
        """The share of the present cells that hold one of the marked words."""
        return float(self.counts[np.asarray(which, dtype=bool)].sum() / max(self.present, 1))

    def where(self, of: Callable[[str], bool]) -> np.ndarray:
        """Which distinct words are so."""
        return np.fromiter((of(word) for word in self.words), dtype=bool, count=len(self.words))

    def first_row(self, word: int) -> int:
        """The first row, from 0, that holds the word of this code."""
        return int(np.argmax(self.codes == word))
