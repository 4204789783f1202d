"""Numbers, however they are written: with units, signs of money, marks of thousands, as ranges, several in a cell."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from nastavnik.data import Lost
from nastavnik.errors import UserError
from nastavnik.kinds._beyond import LARGEST, limits, sentinel, within
from nastavnik.kinds._cells import Cells, level_word
from nastavnik.kinds._kind import ColumnInfo, Features, Guess, Kind, Wishes
from nastavnik.kinds._looks import GONE, Look, Scale, look
from nastavnik.kinds._quantities import find_decimal, plain_numbers, points_group, split_values
from nastavnik.kinds._units import affix

_FEW_ODD = 0.05  # share of cells that may be no numbers
_MOST_WORDS = 20  # different words beside the numbers, each met several times
_FEWEST_VALUES = 3  # different numbers before a word that we do not know make it a unit
_SAMPLE = 3000
_MANY_ALIKE = 200  # words worth reading at once
_ONE = re.compile(r"([^\d.,()+-]*)[\d][\d.,]*([^\d]*)")
_GROUPS = re.compile(r"\d{1,3}(,\d{3})+(\.\d*)?")
_EXPONENT = re.compile(r"\d{1,4}E\d{1,2}", re.I)
_LEADING_ZERO = re.compile(r"0\d+")


@dataclass(frozen=True)
class _Read:
    """The distinct words of a column as quantities; NaN where one is none."""

    low: np.ndarray
    high: np.ndarray
    end: np.ndarray  # -1 "less than", 1 "or more"
    dimension: list[str]
    is_range: np.ndarray


class Number(Kind):
    """A quantity."""

    name = "number"
    about = "a quantity, also with a unit, as a range, or several in a cell"

    def recognise(self, cells: Cells, wishes: Wishes) -> Guess | None:
        """Nearly all cells are numbers, or all but a few words that come again and again."""
        if not cells.present:
            return None
        if cells.typed:
            numbers = cells.numbers[~np.isnan(cells.numbers)]
            whole = bool(np.all(np.isfinite(numbers)) and np.all(numbers == np.floor(numbers)))
            return Guess(0.9, "whole numbers" if whole else "numbers", {"form": "plain", **limits(numbers)})
        found = _form(cells, wishes.decimal)
        if found is None or _are_codes(cells):
            return None
        share, words, reading, reason = found
        if 1 - share > _FEW_ODD and reading["form"] == "range":  # 122-98 is no range
            found = _several_of(cells, wishes.decimal) or found
            share, words, reading, reason = found
        odd = 1 - share
        if odd > _FEW_ODD and not (share >= 0.5 and words):
            return None
        return Guess(0.9, reason, reading)

    def given(self, cells: Cells, wishes: Wishes) -> Guess:
        """The part of the cells that can be read as numbers.

        Raises:
            UserError: there is none.
        """
        found = self.recognise(cells, wishes)
        if found is not None:
            return Guess(1.0, "given", found.record)
        if pd.api.types.is_datetime64_any_dtype(cells.values):
            return Guess(1.0, "given", {"form": "plain"})
        own = _form(cells, wishes.decimal, least=0.0)
        if own is None or own[0] == 0:
            first = cells.words[0] if cells.words else ""
            raise UserError(f"--kind {cells.name}=number: no cell can be read as a number, such as {first!r}")
        return Guess(1.0, "given", {**own[2], "odd": 1.0})

    def read(self, cells: Cells, reading: Mapping[str, Any]) -> Features:
        """Quantities in the column's unit; a range is its middle and its width, several numbers are several features.

        Raises:
            UserError: most cells are no numbers.
        """
        found = Features()
        if cells.typed:
            self._put(found, cells, cells.name, cells.numbers, reading)
            return found
        if reading["form"] == "several":
            self._several(found, cells, reading)
            return found
        own = _read(cells.words, reading)
        middle, width = _middles(own, float(reading.get("usual_width", 0.0)), bool(reading.get("positive")))
        odd = np.isnan(middle)
        self._say_odd(found, cells, odd, reading)
        self._put(found, cells, cells.name, cells.spread(middle), reading)
        if reading["form"] == "range":
            found.numbers[f"{cells.name}.width"] = cells.spread(width)
        if len(reading.get("scale", {}).get("units", ())) > 1:
            units = np.array([d if not o else None for d, o in zip(own.dimension, odd, strict=True)], dtype=object)
            found.words[f"{cells.name}.unit"] = cells.spread(units, None)
        if reading.get("words"):
            known = set(reading["words"])
            said = np.array([w if w in known else None for w in cells.words], dtype=object)
            found.words[f"{cells.name}.word"] = cells.spread(said, None)
        return found

    def audit(self, numbers: Mapping[str, np.ndarray], info: ColumnInfo) -> Sequence[tuple[str, str, str]]:
        """Values that stand apart, as programs write what they do not know."""
        lone = sentinel(numbers[info.name]) if info.name in numbers else None
        if lone is None:
            return ()
        value, count, low, high = lone
        text = (
            f"{info.name}: {count} cells are {value:g}, far from the others ({low:g} to {high:g}); if that stands for "
            f"a missing value, say --missing {info.name}={value:g}"
        )
        return [("sentinel", "warning", text)]

    def _several(self, found: Features, cells: Cells, reading: Mapping[str, Any]) -> None:
        """Each of the numbers of a cell, by its own reading."""
        parts = [split_values(word) for word in cells.words]
        gone = cells.where(lambda w: w.lower() in GONE)
        seen = np.zeros(len(cells.words), dtype=bool)
        for j, own in enumerate(reading["parts"]):
            words = [p[j] if j < len(p) else "" for p in parts]
            middle, _ = _middles(_read(words, own), 0.0)
            seen |= ~np.isnan(middle)
            found.numbers[f"{cells.name}.{j + 1}"] = cells.spread(middle)
        self._say_odd(found, cells, ~seen & ~gone, reading)

    def _put(self, found: Features, cells: Cells, name: str, numbers: np.ndarray, reading: Mapping[str, Any]) -> None:
        """Numbers with NaN for what is infinite or beyond the column's range; what is lost so is noted."""
        found.numbers[name] = within(numbers, name, float(reading.get("largest", LARGEST)), found.lost)

    def _say_odd(self, found: Features, cells: Cells, odd: np.ndarray, reading: Mapping[str, Any]) -> None:
        """Note the cells that are no numbers; refuse a column that holds hardly any."""
        known = set(reading.get("words", ()))
        strange = [i for i in np.flatnonzero(odd) if cells.words[i].lower() not in GONE and cells.words[i] not in known]
        if not strange:
            return
        count = int(cells.counts[strange].sum())
        row = min(cells.first_row(int(i)) for i in strange)
        cell = cells.values.iloc[row]
        if count > _most_odd(reading) * cells.present:
            raise UserError(
                f"column {cells.name!r} holds numbers, but row {row + 1} says {level_word(cell)!r}; "
                "mend that cell, or leave it empty if the value is missing"
            )
        verb = "is no number" if count == 1 else "are no numbers"
        found.lost.append(Lost(cells.name, count, row, repr(level_word(cell)), verb))


def _most_odd(reading: Mapping[str, Any]) -> float:
    """What was strange in training may be so later; else a column of which half cannot be read is another one."""
    return max(0.49, float(reading.get("odd", 0.0)) + 0.2)


def _are_codes(cells: Cells) -> bool:
    """Words of one length that begin with zeros: a number would lose them."""
    if cells.share(cells.where(lambda w: _EXPONENT.fullmatch(w) is not None)) > _FEW_ODD:
        return True  # 76E9 beside 13A2
    zeros = cells.where(lambda w: _LEADING_ZERO.fullmatch(w) is not None)
    lengths = {len(w) for w in cells.words}
    return cells.share(zeros) >= 0.02 and len(lengths) == 1


def _form(cells: Cells, decimal: str | None, least: float = 0.5) -> tuple[float, list[str], dict[str, Any], str] | None:
    """(share of cells that are numbers, words beside them, the reading, the reason).

    None for a column of which less than the share ``least`` is numbers.
    """
    mark = decimal or ("," if points_group(cells.sampled().words) else ".")
    numbers = plain_numbers(cells.words, mark) if mark == decimal or mark == "." else np.full(len(cells.words), np.nan)
    plain = ~np.isnan(numbers)
    if plain.all():
        whole = bool(np.all(numbers == np.floor(numbers)))
        plainly = {"form": "plain", "decimal": mark, **limits(np.repeat(numbers, cells.counts))}
        return 1.0, [], plainly, "whole numbers" if whole else "numbers"
    rest = [w for w, ok in zip(cells.words, plain, strict=True) if not ok]
    mark = decimal or find_decimal(cells.words if len(cells.words) < _SAMPLE else rest[:_SAMPLE])
    places = np.arange(len(cells.words))
    if len(places) > _SAMPLE:
        places = np.sort(np.random.default_rng(0).choice(places, _SAMPLE, replace=False))
    words = [cells.words[i] for i in places]
    weights = cells.counts[places].astype(np.float64)
    looks = [look(word, mark) for word in words]
    seen = np.array([x is not None for x in looks])
    if not seen.any() or weights[seen].sum() < least * weights.sum():
        return _several_form(words, weights, mark)
    scale = _scale([x for x in looks if x is not None], weights[seen])
    reading: dict[str, Any] = {"form": "plain", "decimal": mark, "scale": scale.to_json()}
    own = _read(words, reading)
    good = ~np.isnan(own.low)
    gone = np.array([w.lower() in GONE for w in words])
    total = weights[~gone].sum()
    share = float(weights[good].sum() / total) if total else 0.0
    if share < max(least, 1e-12):
        return _several_form(words, weights, mark)
    ranges = float(weights[own.is_range].sum() / weights[good].sum())
    if ranges >= 0.05:
        width = (own.high - own.low)[own.is_range]
        reading |= {"form": "range", "usual_width": float(np.median(width))}
    reading["positive"] = bool((own.low[good] >= 0).all())
    ends = float(weights[(own.end != 0) & good].sum() / weights[good].sum())
    if ends and not ranges and ends < 0.5:  # "10+" is more than 10
        steps = np.diff(np.unique(own.low[good]))
        reading["usual_width"] = float(np.median(steps)) if len(steps) else 0.0
    if least and _merges(own, good, float(reading.get("usual_width", 0.0))):
        return None
    odd = [(w, c) for w, c, g, lost in zip(words, weights, good, gone, strict=True) if not g and not lost]
    often = max(5.0, 0.005 * weights.sum())
    repeated = sorted(w for w, c in odd if c >= often)
    beside = float(sum(c for w, c in odd if w in repeated) / max(total, 1))
    few = len(repeated) <= _MOST_WORDS and 1 - share - beside <= _FEW_ODD
    reading |= {
        "words": repeated if few else [],
        "odd": round(1 - share, 4),
        **limits(np.repeat(own.low[good], weights[good].astype(int))),
    }
    return share, repeated if few else [], reading, _reason(scale, reading, repeated if few else [])


def _several_of(cells: Cells, decimal: str | None) -> tuple[float, list[str], dict[str, Any], str] | None:
    few = cells.sampled(_SAMPLE)
    return _several_form(few.words, few.counts.astype(np.float64), decimal or ".")


def _merges(own: _Read, good: np.ndarray, usual: float) -> bool:
    """Whether words that differ would become one number: "<=50K" and ">50K" are names, not quantities."""
    middle, width = _middles(own, usual)
    told = {(m, w, d) for m, w, d, g in zip(middle, width, own.dimension, good, strict=True) if g}
    return len(told) < (1.0 if good.sum() <= _MOST_WORDS else 0.5) * good.sum()


def _scale(looks: list[Look], weights: np.ndarray) -> Scale:
    """The units that are common enough; unknown ones only where several different numbers have them."""
    scale = Scale.of(looks, weights)
    share: dict[str, float] = {}
    values: dict[str, set[float]] = {}
    for one, weight in zip(looks, weights, strict=True):
        placed = scale.place(one.around)
        if placed is not None and placed[0]:
            share[placed[0]] = share.get(placed[0], 0.0) + float(weight) / float(weights.sum())
            values.setdefault(placed[0], set()).add(one.low)
    share = {d: s for d, s in share.items() if scale.is_known(d) or len(values[d]) >= _FEWEST_VALUES}
    return scale.kept(0.02, share)


def _several_form(
    words: list[str], weights: np.ndarray, mark: str
) -> tuple[float, list[str], dict[str, Any], str] | None:
    """Where most cells hold two to four numbers with marks between them: a reading for each."""
    gone = np.array([w.lower() in GONE for w in words])
    parts = [split_values(word) for word in words]
    counts = np.array([len(p) for p in parts])
    usual = int(np.bincount(counts[~gone], weights[~gone]).argmax()) if (~gone).any() else 1
    total = weights[~gone].sum()
    if not 2 <= usual <= 4 or weights[(counts == usual) & ~gone].sum() < 0.6 * total:
        return None
    readings = []
    good = np.ones(len(words), dtype=bool)
    for j in range(usual):
        own = [p[j] if j < len(p) else "" for p in parts]
        looks = [look(word, mark) for word in own]
        seen = np.array([x is not None for x in looks])
        if weights[seen].sum() < 0.5 * total:
            return None
        scale = _scale([x for x in looks if x is not None], weights[seen])
        reading = {"form": "plain", "decimal": mark, "scale": scale.to_json()}
        read = ~np.isnan(_read(own, reading).low)
        if weights[read].sum() < 0.5 * total:
            return None
        good &= read | (j > 0)
        readings.append(reading)
    share = float(weights[good & ~gone].sum() / total)
    return share, [], {"form": "several", "parts": readings, "odd": round(1 - share, 4)}, f"{usual} numbers in a cell"


def _read(words: list[str], reading: Mapping[str, Any]) -> _Read:
    """Words to quantities by a column's reading."""
    mark = str(reading.get("decimal", "."))
    numbers = plain_numbers(words, mark)
    scale = Scale.from_json(reading["scale"]) if "scale" in reading else Scale({}, {}, False)
    low = numbers.copy()
    end, is_range = np.zeros(len(words)), np.zeros(len(words), dtype=bool)
    dimension = [""] * len(words)
    _read_alike(words, numbers, low, dimension, mark, scale)
    high = low.copy()
    for i in np.flatnonzero(np.isnan(low)):
        if words[i].lower() in GONE:
            continue
        one = look(words[i], mark)
        placed = None if one is None else scale.place(one.around)
        if one is None or placed is None:
            continue
        dimension[i], factor, offset = placed
        low[i], high[i] = one.low * factor + offset, one.high * factor + offset
        end[i], is_range[i] = one.around.end, one.is_range
    return _Read(low, high, end, dimension, is_range)


def _read_alike(
    words: list[str], numbers: np.ndarray, low: np.ndarray, dimension: list[str], mark: str, scale: Scale
) -> None:
    """Read at once the words that differ in nothing but a plain number; the others are left for a closer look."""
    left = np.flatnonzero(np.isnan(numbers))
    if len(left) < _MANY_ALIKE:
        return
    for around in dict.fromkeys(_around(words[i]) for i in left[:: max(1, len(left) // 50)]):
        if around is None:
            continue
        before, behind = around
        left = np.flatnonzero(np.isnan(low))
        mine = [i for i in left if words[i].startswith(before) and words[i].endswith(behind)]
        placed = scale.place(affix(before, behind))
        if len(mine) < _MANY_ALIKE or placed is None or affix(before, behind).end:
            continue
        inner = [words[i][len(before) : len(words[i]) - len(behind)].strip() for i in mine]
        if mark == "." and any("," in word for word in inner):
            inner = [w.replace(",", "") if "," in w and _GROUPS.fullmatch(w) else w for w in inner]
        read = plain_numbers(inner, mark)
        good = ~np.isnan(read) & np.array([bool(w) and w[0].isdigit() for w in inner], dtype=bool)
        places = np.array(mine)[good]
        low[places] = read[good] * placed[1] + placed[2]
        for i in places:
            dimension[i] = placed[0]


def _around(word: str) -> tuple[str, str] | None:
    """What stands before and behind the only number of a word."""
    match = _ONE.fullmatch(word)
    return None if match is None else (match[1], match[2])


def _middles(own: _Read, usual: float, positive: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Middle and width of each word; what is open at one end is as wide as the column's ranges usually are.

    Where no number is ``positive`` (from 0 up) but those, "less than 10" lies between 0 and 10.
    """
    width = np.where(own.is_range, own.high, 0.0) - np.where(own.is_range, own.low, 0.0)
    width = np.where(np.isnan(own.low), np.nan, width)
    middle = own.low + width / 2 + own.end * usual / 2
    middle = np.where((own.end < 0) & positive, np.maximum(middle, own.low / 2), middle)
    return middle, np.where(own.end != 0, usual, width)


def _reason(scale: Scale, reading: Mapping[str, Any], words: list[str]) -> str:
    parts = ["ranges" if reading["form"] == "range" else "numbers"]
    if scale.units:
        parts.append(f"in {' or '.join(scale.units.values())}")
    if reading["decimal"] == ",":
        parts.append("with decimal commas")
    if words:
        parts.append(f"and the words {', '.join(words[:4])}")
    return " ".join(parts)
