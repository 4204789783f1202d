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
_POINT = re.compile(r"\d\.\d")
_COMMA = re.compile(r"\d,\d")
_COMMA_DECIMAL = re.compile(
    r"(?<![\d,.])(?:0,\d+|\d+,(?:\d{1,2}|\d{4,})(?!\d))|\.\d{3},\d|\d,\d{3}\d|(?<!\d),\d+(?!\d)"
)
_POINT_DECIMAL = re.compile(r",\d{3}\.\d|\.\d{1,2}(?!\d)|\.\d{4,}|(?<!\d)0\.\d")


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
    """The decimal mark of a column's words: a comma where one must be, and no point must."""
    comma = [w for w in words if _COMMA.search(w) or w.startswith(",")]
    if not comma or not any(_COMMA_DECIMAL.search(w) for w in comma):
        return "."
    return "." if any(_POINT_DECIMAL.search(w) for w in words) else ","


def _plain(word: str) -> str:
    """A word with plain dashes, blanks and digits."""
    return word if word.isascii() else unicodedata.normalize("NFKC", word.translate(_DASHES))


def parse(word: str, decimal: str = ".") -> Parsed | None:
    """A word's numbers and what stands around them; None where there is no number in it."""
    word = _plain(word)
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
    elif len(values) == 1 and texts[0].rstrip().endswith("(") and texts[1].lstrip().startswith(")"):
        values[0], texts[0], texts[1] = -values[0], texts[0].rstrip()[:-1], texts[1].lstrip()[1:]  # as accountants do
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
    if high < low and 0 <= high < 100 <= low:  # 2013-14
        digits = 10 ** len(f"{high:.0f}")
        high = low - low % digits + high
    return low, high, unit


def split_values(word: str) -> list[str]:
    """The parts of a word that holds several numbers, each with its own units: 190Nm@ 2000rpm."""
    word = _plain(word)
    units: list[str] = []
    if (match := _LISTED.match(word)) and _SPLIT.search(match[1]):
        named = re.split(r"\s*(?:@|\bat\b|/|;|,)\s*", match[2].strip())
        if len(named) > 1:
            word, units = match[1], named
    parts = [part.strip() for part in _SPLIT.split(word)]
    if len(units) == len(parts):
        parts = [f"{part} {unit}" for part, unit in zip(parts, units, strict=True)]
    return parts
