"""Writing tables as CSV so that opening one in a spreadsheet runs nothing."""

from __future__ import annotations

import re
from typing import Any

import pandas as pd

_RUNS = ("=", "+", "-", "@", "\t", "\r", "\n")  # what a spreadsheet takes for the start of a formula (OWASP 2023)


def write_csv(frame: pd.DataFrame, place: Any, *, raw: bool = False) -> None:
    """Write a frame to a path or an open file; words that a spreadsheet would run get an apostrophe before them.

    Numbers stay numbers: a negative one is no formula, and only words are escaped. ``raw`` keeps every cell as it is.
    """
    (frame if raw else escaped(frame)).to_csv(place, index=False)


def escaped(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with an apostrophe before every word, and column's name, that a spreadsheet would run."""
    words = [j for j, dtype in enumerate(frame.dtypes) if not pd.api.types.is_numeric_dtype(dtype)]
    changed = frame.copy(deep=False)
    for j in words:
        if frame.dtypes.iloc[j].kind not in "mM":
            changed.isetitem(j, [_escaped(cell) for cell in frame.iloc[:, j]])
    return changed.set_axis([_escaped(name) for name in frame.columns], axis=1)


def _escaped(cell: Any) -> Any:
    if not isinstance(cell, str):
        return cell
    runs = cell.lstrip(" ").startswith(_RUNS) and not _is_number(cell)
    # a carriage return ends a row though no quotes are put round it: what follows would be a cell of its own
    return ("'" if runs else "") + cell.replace("\r\n", "\n").replace("\r", "\n")


def _is_number(word: str) -> bool:
    """Whether a word such as "-1" is a number to a spreadsheet as well."""
    return re.fullmatch(r" *[+-]?(\d+([.,]\d*)?|[.,]\d+)([eE][+-]?\d+)? *", word, re.ASCII) is not None
