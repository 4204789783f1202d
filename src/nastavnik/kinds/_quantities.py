"""Numbers as people write them: what numbers stand in a word, and what stands around them."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

import numpy as np
import pandas as pd

_THOUSANDS = r"[,'\u2019 \u00a0\u202f\u2009_]"
_BY_MARK = {
    ".": re.compile(
        rf"\d{{1,3}}(?:{_THOUSANDS}\d{{2,3}})*{_THOUSANDS}\d{{3}}(?!\d)(?:\.\d+)?"
        r"|(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+(?!\w))?"
    ),
    ",": re.compile(
        r"\d{1,3}(?:[.'\u2019 \u00a0\u202f\u2009]\d{3})+(?!\d)(?:,\d+)?"
        r"|(?:\d+(?:,\d+)?|,\d+)(?:[eE][+-]?\d+(?!\w))?"
    ),
}  # fmt: skip
_MARKS = re.compile(r"[,.'\u2019 \u00a0\u202f\u2009_]")
_DASHES = str.maketrans({**dict.fromkeys("−–—‐‑‒", "-"), **dict.fromkeys("\u00a0\u202f\u2009", " ")})
_BETWEEN = re.compile(r"^\s*(-|to|\.\.\.?|…|bis|until|through|till|~|and)\s*(-?)$", re.I)
_SPLIT = re.compile(r"\s*(?:@|\bat\b|/|×|(?<=[\d\s])x(?=[\s\d])|\*|;|\||:|,(?=\s))\s*(?=[\s$€£¥(+-]*[.]?\d)", re.I)
_LISTED = re.compile(r"^(.*?)\(([^\d()]+)\)$")  # 12.7@ 2,700(kgm@ rpm): units behind, in the same order
_GROUPED_COMMAS = re.compile(r"(?<![\d,])\d{1,3}(,\d{2,3})*,\d{3}(?![\d,])")
_LONE_COMMA = re.compile(r"(?<![\d,.])(\d*),(\d+)(?![\d,])")
_POINTS_THEN_COMMA = re.compile(r"\.\d{3},\d|\d{1,3}(\.\d{3}){2,}(?!\d)|\d\.\d{3},-")
_COMMAS_THEN_POINT = re.compile(r",\d{3}\.\d|\d,\d{2},\d{3}|,\d{3},\d{3}")
_POINTED = re.compile(r"(\d+)\.(\d+)")
_POWER = re.compile(r"(?<![^\W\d_])(mm|cm|dm|m|km|ft|in|yd|mi) ?\^?([23²³])(?!\w)", re.I)
_BRACKETED = re.compile(r"([^\d()]*)\(([\s$€£¥₹\d.,'%kKmMbB]+)\)\s*([^\d()]*)")  # as accountants write what is owed
_MOSTLY = 0.02  # share of the words with a comma that must say it is a decimal one


@dataclass(frozen=True)
class Parsed:
    """The numbers of a word, the text before the first, behind the last, and between them."""

    values: tuple[float, ...]
    before: str
    between: tuple[str, ...]
    behind: str


def plain_numbers(words: list[str] | np.ndarray, decimal: str = ".") -> np.ndarray:
    """Words that are numbers and nothing else as float64, the others NaN; marks of thousands are no numbers here."""
    cells = np.asarray(words, dtype=object)
    if decimal == ",":
        cells = np.array([_with_point(w) for w in cells], dtype=object)
    if not len(cells):
        return np.zeros(0)
    return np.array(pd.to_numeric(cells, errors="coerce"), dtype=np.float64)


def _with_point(word: str) -> str | None:
    return None if "." in word else word.replace(",", ".")


def find_decimal(words: list[str]) -> str:
    """The decimal mark of a column's words: a comma where enough of them say so, and more than say it groups."""
    commas = [word for word in words if "," in word]
    decimal = sum(_says_comma(word) for word in commas) + sum(bool(_POINTS_THEN_COMMA.search(w)) for w in words)
    grouping = sum(bool(_COMMAS_THEN_POINT.search(word)) for word in commas)
    if decimal > grouping and decimal >= _MOSTLY * len(commas):
        return ","
    return "," if not commas and points_group(words) else "."


def _says_comma(word: str) -> bool:
    """Whether a word's only comma cannot be one of thousands."""
    lone = _LONE_COMMA.search(word)
    if lone is None or word.count(",") > 1 or (_GROUPED_COMMAS.search(word) and not lone[1].startswith("0")):
        return False
    return len(lone[2]) != 3 or lone[1].startswith("0") or not lone[1]


def points_group(words: list[str]) -> bool:
    """Whether points are marks of thousands: three digits follow each, and numbers without one stay below 1000."""
    pointed, small = 0, 0
    for word in words:
        match = _POINTED.search(word)
        if match is None:
            digits = re.search(r"\d+", word)
            if digits is not None and len(digits.group()) > 3:
                return False
            small += digits is not None
        elif len(match[2]) != 3 or len(match[1]) > 3 or match[1].startswith("0"):
            return False
        else:
            pointed += 1
    return pointed >= 5 and small >= max(1, 0.01 * len(words))


def _plain(word: str) -> str:
    """A word with plain dashes, blanks and digits."""
    word = _POWER.sub(lambda m: ("sq" if m[2] in "2²" else "cu") + m[1].lower(), word)
    return word if word.isascii() else unicodedata.normalize("NFKC", word.translate(_DASHES))


def parse(word: str, decimal: str = ".") -> Parsed | None:
    """A word's numbers and what stands around them; None where there is no number in it."""
    word = _plain(word)
    owed = _BRACKETED.fullmatch(word)
    if (
        owed is not None
        and (inner := parse(f"{owed[1]}{owed[2].strip()}{owed[3]}", decimal))
        and len(inner.values) == 1
    ):
        return Parsed((-inner.values[0],), inner.before, (), inner.behind)
    matches = list(_BY_MARK[decimal].finditer(word))
    if not matches:
        return None
    edges = [0, *(place for m in matches for place in m.span()), len(word)]
    texts = [word[a:b] for a, b in zip(edges[::2], edges[1::2], strict=True)]
    values = [_value(m.group(), decimal) for m in matches]
    if texts[0].endswith(("-", "+")) and not texts[0][:-1].strip()[-1:].isalnum():
        values[0] = -values[0] if texts[0].endswith("-") else values[0]
        texts[0] = texts[0][:-1]
    elif texts[0].rstrip().endswith("-") and not texts[0].strip("- ").isalnum():
        values[0], texts[0] = -values[0], texts[0].rstrip()[:-1]
    elif len(values) == 1 and texts[1] == "-":  # behind, as some ledgers have it
        values[0], texts[1] = -values[0], ""
    if texts[0].startswith("-") and any(c in "$€£¥₹" for c in texts[0]):
        values[0], texts[0] = -values[0], texts[0][1:]
    return Parsed(tuple(values), texts[0].strip(), tuple(texts[1:-1]), texts[-1].strip())


def _value(text: str, decimal: str) -> float:
    other = "." if decimal == "," else ","
    whole, mark, rest = text.rpartition(decimal) if text.count(decimal) == 1 else (text, "", "")
    return float(_MARKS.sub("", whole.replace(other, "")) + ("." + rest if mark else "")) if whole or rest else 0.0


def as_range(parsed: Parsed) -> tuple[float, float, str] | None:
    """Low, high and the unit behind the first number, where a word is two numbers with "to" or a dash between them."""
    if len(parsed.values) != 2:
        return None
    low, high = parsed.values
    text = parsed.between[0].strip()
    match = _BETWEEN.match(text)
    unit = ""
    if match is None:
        inner = re.match(r"^([^\W\d_%°$€£]\S{0,11}?|[%°$€£]\S{0,3}?)\s*(-|to|\.\.\.?|…|~)\s*[$€£]?$", text, re.I)
        inner = inner or re.match(r"^(-|to)\s*([$€£])$", text, re.I)
        if inner is None:
            return None
        unit = inner[1] if inner[1] not in ("-", "to") else ""
    elif match[2]:
        high = -high
    if 0 <= high < 100 and 1900 <= low < 2100:  # 2013-14, 1999-00
        high += low - low % 100
        high += 100 if high < low else 0
    return (low, high, unit) if high >= low or unit else None


def split_values(word: str) -> list[str]:
    """The parts of a word that holds several numbers, each with its own units: 190Nm@ 2000rpm."""
    word = _plain(word)
    units: list[str] = []
    if (match := _LISTED.match(word)) and _SPLIT.search(match[1]):
        named = re.split(r"\s*(?:@|\bat\b|/|;|,)\s*", match[2].strip())
        if len(named) > 1:
            word, units = match[1], named
    parts = [part.strip() for part in _SPLIT.split(word)]
    if len(parts) == 1 and (pair := re.fullmatch(r"(\d+(?:\.\d+)?)\s*-\s*(\d+(?:\.\d+)?)", word)):
        parts = [pair[1], pair[2]]  # a score
    if len(units) == len(parts):
        parts = [f"{part} {unit}" for part, unit in zip(parts, units, strict=True)]
    return parts
