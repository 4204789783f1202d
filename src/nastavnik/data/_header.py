"""Whether the first row of a table names its columns."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence

_NUMBER = re.compile(r"[$€£]?\s?[+-]?(\d+([.,]\d+)*|[.,]\d+)([eE][+-]?\d+)?\s?[%€$]?")
_GONE = frozenset({"", "?", "na", "n/a", "nan", "null", "-", ".", "none"})
_LONG = 5  # words of a sentence
_ROWS, _COLUMNS = 100, 300  # that are looked at


def has_header(first: Sequence[str], rows: Sequence[Sequence[str]]) -> bool:
    """Whether the first row stands apart from those below it: words over numbers, or words found nowhere below.

    One cell alone decides nothing: in a row of numbers a word may be what is missing.
    """
    names, values, words = 0, 0, 0
    if _counts_up(first) and sum(map(_counts_up, rows[:5])) < 3:
        return True
    for j, cell in enumerate(first[:_COLUMNS]):
        below = [row[j] for row in rows[:_ROWS] if row[j].lower() not in _GONE]
        if cell.lower() in _GONE or not below:
            continue
        if len(cell.split()) >= _LONG and sum(len(word.split()) >= _LONG for word in below) > 0.5 * len(below):
            values += 1  # a sentence over sentences
            continue
        numbers = [_as_float(word) for word in below]
        known = [n for n in numbers if n is not None]
        own = _as_float(cell)
        if len(known) >= 0.9 * len(below):
            spread = max(known) - min(known)
            if own is None:
                names += 1
            elif min(known) - spread <= own <= max(known) + spread:
                values += 1
            else:
                names += 1  # a year over figures
        elif cell in below and below.count(cell) < 0.9 * len(below):
            words += 1
        elif own is not None and not known:
            names += 1
    if not values:  # a name may well be met below by chance, but hardly most of them
        return names > 0 or words < 2 or 2 * words <= min(len(first), _COLUMNS)
    return names >= values + words


def _counts_up(row: Sequence[str]) -> bool:
    """Whether the numbers of a row are names that count: 0, 1, 2, or years."""
    numbers = [int(cell) for cell in row if cell.isdigit()]
    if any(b - a != 1 for a, b in itertools.pairwise(numbers)):
        return False
    return len(numbers) >= 3 or (len(numbers) == 2 and all(1900 <= n <= 2100 for n in numbers))


def _as_float(word: str) -> float | None:
    try:
        return float(word)
    except ValueError:
        pass  # it may be a number all the same
    if _NUMBER.fullmatch(word) is None:
        return None
    digits = re.sub(r"[^\d.,eE+-]", "", word)
    digits = digits.replace(",", "." if digits.count(",") == 1 and "." not in digits else "")
    try:
        return float(digits)
    except ValueError:
        return None
