"""What one word of a column of quantities is: a number with a unit, a sum of such, a range, or none."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from nastavnik.kinds._quantities import Parsed, as_range, parse
from nastavnik.kinds._units import DIMENSIONS, MONEY, Affix, affix, letter_factor, offset_of

_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyz")
_TRUTHS = {"true": 1.0, "false": 0.0}
GONE = frozenset({  # what stands for no number, in small letters
    "-", "--", "---", ".", "..", "…", "*", "na", "n/a", "n.a.", "n.k.", "nk", "nil", "none", "no", "null",
    "missing", "unknown", "unk", "undefined", "undisclosed", "tba", "tbd", "tbc", "void", "empty", "blank", "x",
    "/", "\\", "nan", "-nan", "#n/a", "#na", "#null!", "#value!", "#div/0!", "#num!", "#ref!", "#name?", "inf",
    "-inf", "+inf", "infinity", "-infinity", "not-available", "n / a", "not available", "not known",
    "not applicable", "no data", "no value", "not given", "not specified", "not reported",
})  # fmt: skip


@dataclass(frozen=True)
class Look:
    """One word: ``low`` and ``high`` are equal for a single number; ``around`` is its unit."""

    low: float
    high: float
    around: Affix
    is_range: bool = False


def look(word: str, decimal: str) -> Look | None:
    """A word as one quantity or one range of it; None where it is neither."""
    if word.lower() in _TRUTHS:
        truth = _TRUTHS[word.lower()]
        return Look(truth, truth, Affix("", ""))
    parsed = parse(word, decimal)
    if parsed is None:
        return None
    if len(parsed.values) == 1:
        own = affix(parsed.before, parsed.behind)
        return Look(parsed.values[0], parsed.values[0], own)
    pair = as_range(parsed)
    if pair is not None:
        around = affix(parsed.before, parsed.behind or pair[2])
        ratio = _size(affix(parsed.before, pair[2])) / _size(around) if pair[2] else 1.0  # $800K - $1M
        return Look(pair[0] * ratio, pair[1], around, True) if pair[0] * ratio <= pair[1] else None
    return _sum(parsed)


def _size(around: Affix) -> float:
    """What a number with these words around it is multiplied by, a letter included."""
    return letter_factor(around.letter) if around.letter else around.factor


def _sum(parsed: Parsed) -> Look | None:
    """2h 50m, 5 ft 11 in: numbers of units of one dimension, each smaller than the one before."""
    if parsed.before:
        return None
    units = [
        affix("", text.strip(" ,").removesuffix(" and").removesuffix(",").strip())
        for text in (*parsed.between, parsed.behind)
    ]
    if len({u.dimension for u in units}) > 1 or not units[0].dimension or units[0].dimension in ("money", "share"):
        return None
    scales = [u.factor for u in units]
    if any(a <= b for a, b in itertools.pairwise(scales)) or any(u.end or u.offset for u in units):
        return None
    total = sum(v * u.factor for v, u in zip(parsed.values, units, strict=True)) / scales[0]
    return Look(total, total, units[0])


@dataclass(frozen=True)
class Scale:
    """What a column's units are brought to: the unit of each dimension, and every word that we do not know."""

    units: Mapping[str, str]  # by dimension; unknown units under their own word
    factors: Mapping[str, float]  # of those units, in their dimension
    letters: bool  # whether a letter multiplies: 1.2M

    @classmethod
    def of(cls, looks: list[Look], weights: np.ndarray) -> Scale:
        """By the weight of the words that have each unit."""
        bare = any(x.around.dimension == "" and not x.around.letter and x.around.factor == 1 for x in looks)
        thousands = any(x.around.factor in (1e3, 1e9, 1e5, 1e7) and x.around.dimension == "" for x in looks)
        named = {x.around.letter for x in looks if x.around.letter}
        letters = bool(named) and (thousands or len(named) > 1 or (bare and bool(named & {"M", "B"})))
        total: dict[tuple[str, str], float] = {}
        sizes: dict[tuple[str, str], float] = {}
        for one, weight in zip(looks, weights, strict=True):
            own = one.around
            if own.dimension == "" or (letters and own.letter) or own.prefixed:
                continue
            key = (own.dimension if own.dimension not in (None, "money") else own.unit), own.unit
            total[key] = total.get(key, 0.0) + float(weight)
            sizes[key] = own.factor if own.dimension not in (None, "money") else 1.0
        lone = {dimension for dimension, unit in total if unit.strip("°") in _LETTERS}
        if len(lone) > 1:  # 34B, 32C, 36D: letters of a code
            total = {key: n for key, n in total.items() if key[1].strip("°") not in _LETTERS}
        units: dict[str, str] = {}
        factors: dict[str, float] = {}
        for dimension, unit in sorted(total, key=lambda k: -total[k]):
            if dimension not in units:
                units[dimension], factors[dimension] = unit, sizes[dimension, unit]
        return cls(units, factors, letters)

    def kept(self, most: float, weights: Mapping[str, float]) -> Scale:
        """Without units that stand in less than a share ``most`` of the words: they are odd cells."""
        named = {d: u for d, u in self.units.items() if weights.get(d, 0.0) >= most}
        return Scale(named, {d: self.factors[d] for d in named}, self.letters)

    def is_known(self, dimension: str) -> bool:
        """Whether it is a dimension of units that we know, or money."""
        return dimension in DIMENSIONS or self.units.get(dimension) in MONEY

    def place(self, around: Affix) -> tuple[str, float, float] | None:
        """(dimension, factor, offset) that a number with this unit is brought by; None where it is none of these."""
        if around.prefixed:
            return None
        if self.letters and around.letter:
            return "", letter_factor(around.letter), 0.0
        if around.dimension == "":
            return "", around.factor, 0.0
        dimension = around.dimension if around.dimension not in (None, "money") else around.unit
        if dimension not in self.units:
            return None
        if around.dimension in (None, "money"):
            return dimension, around.factor, 0.0
        base = self.factors[dimension]
        return dimension, around.factor / base, (around.offset - offset_of(self.units[dimension])) / base

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        return {"units": dict(self.units), "factors": dict(self.factors), "letters": self.letters}

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Scale:
        """Read what ``to_json`` wrote."""
        return cls(dict(record["units"]), dict(record["factors"]), bool(record["letters"]))
