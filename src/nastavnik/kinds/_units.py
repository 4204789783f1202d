"""Units, signs of money, multipliers and words around a number, and which scale they put it on."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass

# by dimension: what each unit is in the first one's; other names of a unit after a blank
_DIMENSIONS: dict[str, dict[str, float]] = {
    "mass": {"g gram grams gr": 1, "mg": 1e-3, "kg kgs kilo kilos": 1e3, "t ton tons tonne tonnes": 1e6,
             "lb lbs pound pounds": 453.59237, "oz ounce ounces": 28.349523125, "st stone": 6350.29318},
    "length": {"m metre metres meter meters": 1, "mm": 1e-3, "cm cms": 1e-2, "km kms": 1e3, "µm um micron": 1e-6,
               "nm_": 1e-9, "ft feet foot ' ′": 0.3048, 'in inch inches " ″ \'\'': 0.0254, "mi mile miles": 1609.344,
               "yd yard yards yds": 0.9144},
    "area": {"sqm m² sq.m qm": 1, "sqft sq.ft sq.feet": 0.09290304, "sqcm": 1e-4, "sqmm": 1e-6,
             "sqmi": 2589988.11, "ha hectare hectares": 1e4,
             "acre acres ac": 4046.8564224, "sqkm": 1e6, "sqyd sqyrd": 0.83612736},
    "volume": {"l litre litres liter liters lt": 1, "ml": 1e-3, "cl": 1e-2, "dl": 0.1, "cc cucm ccm": 1e-3,
               "cum": 1e3, "cuft": 28.316846592, "gal gallon gallons": 3.785411784},
    "time": {"s sec secs second seconds": 1, "ms": 1e-3, "min mins minute minutes": 60, "h hr hrs hour hours": 3600,
             "d day days": 86400, "w wk wks week weeks": 604800, "mo mon mos mth month months": 2629746,
             "y yr yrs year years": 31556952},
    "data": {"b_ byte bytes": 1, "kb": 1e3, "mb": 1e6, "gb": 1e9, "tb": 1e12, "kib": 1024, "mib": 1024.0**2,
             "gib": 1024.0**3, "tib": 1024.0**4},
    "power": {"w_ watt watts": 1, "kw": 1e3, "mw": 1e6, "hp bhp": 745.69987158227022, "ps cv": 735.49875},
    "frequency": {"hz": 1, "khz": 1e3, "mhz": 1e6, "ghz": 1e9},
    "speed": {"km/h kmh kph": 1, "mph": 1.609344, "m/s": 3.6, "kn knots knot": 1.852},
    "torque": {"nm": 1, "kgm kg-m kgf-m": 9.80665, "lb-ft lbft ft-lb": 1.3558179483},
    "pressure": {"pa": 1, "hpa mbar": 100, "kpa": 1e3, "bar": 1e5, "psi": 6894.757293168, "atm": 101325,
                 "mmhg": 133.322},
    "energy": {"j": 1, "kj": 1e3, "cal": 4.184, "kcal": 4184, "wh": 3600, "kwh": 3.6e6, "mwh": 3.6e9},
    "voltage": {"v volt volts": 1, "mv": 1e-3, "kv": 1e3},
    "current": {"a amp amps": 1, "ma": 1e-3},
    "temperature": {"°c c celsius degc ℃": 1, "°f f fahrenheit degf ℉": 5 / 9, "°k k_ kelvin": 1},
    "share": {"% percent pct": 1, "‰": 0.1},
}  # fmt: skip
_OFFSETS = {"°f": -160 / 9, "°k": -273.15}  # after the factor
_UNITS = {
    name: (dimension, names.split()[0].rstrip("_"), factor)
    for dimension, units in _DIMENSIONS.items()
    for names, factor in units.items()
    for name in names.split()
}
_MONEY = {
    "$": "$", "us$": "$", "usd": "$", "a$": "a$", "c$": "c$", "r$": "r$", "€": "€", "eur": "€", "euro": "€",
    "euros": "€", "£": "£", "gbp": "£", "¥": "¥", "jpy": "¥", "cny": "¥", "rmb": "¥", "₹": "₹", "inr": "₹", "rs": "₹",
    "rs.": "₹", "₽": "₽", "rub": "₽", "руб": "₽", "₩": "₩", "krw": "₩", "₺": "₺", "try": "₺", "chf": "chf", "sek": "kr",
    "kr": "kr", "nok": "kr", "dkk": "kr", "pln": "zł", "zł": "zł", "kč": "kč", "czk": "kč", "ft": "ft", "huf": "ft",
    "₴": "₴", "uah": "₴", "₦": "₦", "₪": "₪", "₫": "₫", "฿": "฿", "¢": "¢", "cad": "c$", "aud": "a$", "dollars": "$",
    "zar": "zar", "brl": "r$", "mxn": "mxn", "sgd": "sgd", "hkd": "hkd",
}  # fmt: skip
DIMENSIONS = frozenset(_DIMENSIONS)
MONEY = frozenset(_MONEY.values())
_TIMES = {
    "k": 1e3, "thousand": 1e3, "tsd": 1e3, "mio": 1e6, "mn": 1e6, "mln": 1e6, "million": 1e6, "millions": 1e6,
    "bn": 1e9, "mrd": 1e9, "bln": 1e9, "billion": 1e9, "billions": 1e9, "tn": 1e12, "trillion": 1e12,
    "lakh": 1e5, "lakhs": 1e5, "lac": 1e5, "crore": 1e7, "crores": 1e7, "cr": 1e7,
}  # fmt: skip
_LETTERS = {"M": 1e6, "m": 1e6, "B": 1e9, "b": 1e9, "T": 1e12, "G": 1e9}  # multipliers where nothing else is meant
_BELOW = re.compile(r"^(<=?|≤|under|below|less than|up to|at most|fewer than|max\.?)\s*", re.I)
_ABOVE = re.compile(r"^(>=?|≥|over|above|more than|at least|from|min\.?)\s*", re.I)
_ABOUT = re.compile(r"^(~|≈|about|approx\.?|ca\.?|circa|around|#|№)\s*", re.I)
_PLUS = re.compile(r"^(\+|plus\b|(and|&|or)\s+(over|above|more|older|up|higher)\b|or more\b)\s*", re.I)
_MINUS = re.compile(r"^(and|or)\s+(under|below|less|younger|fewer|lower)\b\s*", re.I)
_ENDS = re.compile(
    r"(\+|\bplus|\b(and|&|or)\s+(over|above|more|older|up|higher|under|below|less|younger|fewer|lower))$", re.I
)
_ORDINAL = ("st", "nd", "rd", "th")


@dataclass(frozen=True)
class Affix:
    """What stands around a number: its unit, what the number is multiplied by, and whether it is an end of a range.

    ``dimension`` is that of a unit whose factor is known, "money", "" for none, or None for words we do not know.
    ``end`` is -1 for "less than", 1 for "or more". ``letter`` is a factor that holds only where a letter means one.
    """

    unit: str
    dimension: str | None
    factor: float = 1.0
    offset: float = 0.0
    end: int = 0
    letter: str = ""
    prefixed: bool = False  # by letters that are no unit: a code rather than a quantity


@functools.lru_cache(maxsize=20_000)
def affix(before: str, after: str) -> Affix:
    """Read what stands before and behind a number."""
    before, after, end = before.strip(), after.strip(), 0
    for pattern, sign in ((_BELOW, -1), (_ABOVE, 1), (_ABOUT, 0)):
        if match := pattern.match(before):
            end, before = sign or end, before[match.end() :].strip()
    for pattern, sign in ((_PLUS, 1), (_MINUS, -1)):
        if match := pattern.match(after):
            end, after = sign, after[match.end() :].strip()
    if match := _ENDS.search(after):
        below = re.search(r"under|below|less|younger|fewer|lower", match.group(), re.I)
        end, after = -1 if below else 1, after[: match.start()].strip()
    after = after.strip(" ,;:").removesuffix(".").strip("()[] ")
    before = before.strip(" ,;:([")
    if after.lower() in ("/-", "-/", "/=", "-", "—", ".-"):  # how some write a round price
        after = ""
    if after.lower() in _ORDINAL and not before:
        return Affix("", "", end=end)
    return _read(before, after, end)


def _read(before: str, after: str, end: int) -> Affix:
    after = after if after.upper() != "CR" or not after.isupper() else "credit"  # beside DR, and no crore
    low, factor, letter = after.lower(), 1.0, ""
    first = re.match(r"([^\W\d_]+)\.?(\s*)(.*)$", after)
    if (
        first
        and first[1].lower() in _TIMES
        and (first[1].lower() != "k" or first[2] or not first[3] or not first[3][0].isalpha())
    ):
        factor, after = _TIMES[first[1].lower()], first[3].strip()
        low = after.lower()
    money = _MONEY.get(before.lower())
    if first and factor == 1.0 and first[1] in _LETTERS and (money or not first[3].strip()):
        letter = first[1]
        if money:  # "$2.3M" is no length
            factor, low, letter = _LETTERS[letter], first[3].strip().lower(), ""
    if before and money is None:
        symbols = not any(c.isalnum() for c in before)
        return Affix(f"{before} {low}".strip(), None, factor, end=end, prefixed=not symbols)
    low = low.strip("() ")
    if money is not None and low in _MONEY:
        low = ""  # said twice: $5 (USD)
    if money is None and low in _MONEY and low not in ("ft", "kr."):
        return Affix(_MONEY[low], "money", factor, end=end)
    if money is not None:
        return Affix(money if not low else f"{money} {low}", "money" if not low else None, factor, end=end)
    if not low:
        return Affix("", "", factor, end=end, letter=letter)
    if low in _UNITS:
        dimension, name, scale = _UNITS[low]
        return Affix(name, dimension, factor * scale, _OFFSETS.get(name, 0.0), end, letter)
    return Affix(_singular(low), None, factor, end=end, letter=letter)


def _singular(word: str) -> str:
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word


def offset_of(unit: str) -> float:
    """What is added to a number in this unit, after its factor."""
    return _OFFSETS.get(unit, 0.0)


def letter_factor(letter: str) -> float:
    """What a letter multiplies by, where a column's letters are multipliers."""
    return _LETTERS[letter]
