"""Forms of dates and times: which ones a column's words may have, and which reads them all."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import pandas as pd

_MONTHS = "jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec"
_LONG = "january|february|march|april|may|june|july|august|september|october|november|december"
_MONTH = rf"(?P<month>{_LONG}|{_MONTHS})"
_WEEKDAY = re.compile(
    r"^(mon|tue|wed|thu|fri|sat|sun|monday|tuesday|wednesday|thursday|friday|saturday|sunday|tues|thur|thurs)\.?,?\s+",
    re.I,
)
_TIME = re.compile(
    r"^(?P<gap>[T ]|, | at | - |_|:)?(?P<h>\d{1,2}):(?P<m>\d{2})(?P<s>:\d{2})?(?P<f>[.,]\d{1,9})?(?P<half> ?[ap]m)?"
    r"(?P<zone> ?(?:Z|UTC|GMT|[+-]\d{2}:?\d{2}(?::\d{2})?))?$",
    re.I,
)
_SEP = r"[-/. ]"
_NUMERIC = re.compile(rf"^(\d{{1,4}})({_SEP})(\d{{1,2}})\2(\d{{1,4}})(?P<rest>$|[T ,_:].*$)", re.I)
_DAY_MONTH = re.compile(
    rf"^\d{{1,2}}(?P<a>[-/ .]|, )?{_MONTH}(?P<b>[-/ .,']|, )?(?P<y>\d{{4}}|\d{{2}})(?P<rest>$|[T ,:_].*$)", re.I
)
_MONTH_DAY = re.compile(
    rf"^{_MONTH}(?P<a>[-/ .]) ?\d{{1,2}}(?P<b>, ?|[-/ ])(?P<y>\d{{4}}|\d{{2}})(?P<rest>$|[T ,:_].*$)", re.I
)
_YEAR_MONTH_DAY = re.compile(rf"^\d{{4}}(?P<a>[-/ .]){_MONTH}(?P<b>[-/ .])\d{{1,2}}(?P<rest>$|[T ,:_].*$)", re.I)
_MONTH_YEAR = re.compile(rf"^{_MONTH}(?P<a>[-/ .]|, |'| ')?(?P<y>\d{{4}}|\d{{2}})$", re.I)
_YEAR_MONTH = re.compile(rf"^(?P<y>\d{{4}}|\d{{2}})(?P<a>[-/ .])?{_MONTH}$", re.I)
_SHORT = re.compile(r"^(\d{1,2}[-/.]\d{4}|\d{4}[-/.]\d{1,2})$")
_C_TIME = re.compile(rf"^{_MONTH} +\d{{1,2}} \d\d:\d\d:\d\d( [A-Z]{{3,4}})? \d{{4}}$", re.I)
_ISO = re.compile(r"^\d{4}-\d\d-\d\d")
_DIGITS = {8: "%Y%m%d", 12: "%Y%m%d%H%M", 14: "%Y%m%d%H%M%S"}
ISO = "ISO8601"
_SAMPLE = 300
_LIFETIME, _LATEST = 85, 2035  # years that a column of two digits spans at most, and where it ends
_RIVALS = ("dmy", "mdy", "ymd", "ydm", "db", "yb")  # orders of day, month and year that may be taken for each other


def cleaned(word: str) -> str:
    """A word without what says nothing: the weekday before a date, points behind short names, "st" and "th"."""
    word = " ".join(word.split())
    word = _WEEKDAY.sub("", word)
    word = re.sub(r"\b([A-Za-z]{3,4})\.", r"\1", word)
    word = re.sub(r"\b([Ss])ept\b", r"\1ep", word)
    word = re.sub(r"(?<=\d)(st|nd|rd|th)\b", "", word)
    word = re.sub(r"(?<=\d)\. (?=\d)", ".", word)
    word = re.sub(r"^(\d{1,2})h(\d{2})$", r"\1:\2", word)
    return re.sub(r"\b([ap])\.m\.?(?=$|\s)", r"\1m", word, flags=re.I)


def forms_of(word: str) -> list[str]:
    """The formats that a cleaned word may have, as ``strptime`` names them."""
    for pattern, make in (
        (_NUMERIC, _numeric),
        (_DAY_MONTH, lambda m: [f"%d{m['a'] or ''}{_month(m)}{m['b'] or ''}{_year(m['y'])}"]),
        (_MONTH_DAY, lambda m: [f"{_month(m)}{m['a']}%d{m['b']}{_year(m['y'])}"]),
        (_YEAR_MONTH_DAY, lambda m: [f"%Y{m['a']}{_month(m)}{m['b']}%d"]),
    ):
        match = pattern.match(word)
        if match:
            time = _time(match["rest"])
            if time is not None:
                return [f"{form}{time}" for form in make(match)]
    if match := _MONTH_YEAR.match(word):
        return [f"{_month(match)}{match['a'] or ''}{_year(match['y'])}"]
    if match := _YEAR_MONTH.match(word):
        gap, month = match["a"] or "", _month(match)
        return [f"%Y{gap}{month}"] if len(match["y"]) == 4 else [f"%d{gap}{month}", f"%y{gap}{month}"]
    if _SHORT.match(word):
        mark = next(c for c in word if not c.isdigit())
        return [f"%Y{mark}%m"] if word[:4].isdigit() else [f"%m{mark}%Y"]
    if match := _C_TIME.match(word):
        return ["%b %d %H:%M:%S %Y"] if not match[2] else [f"%b %d %H:%M:%S{match[2]} %Y"]
    if re.fullmatch(r"\d{8}T\d{6}(Z|\.\d+)?", word):
        return ["%Y%m%dT%H%M%S" + ("%z" if word.endswith("Z") else ".%f" if "." in word else "")]
    if word.isdigit() and len(word) in _DIGITS:
        return [_DIGITS[len(word)]]
    time = _time(word)
    return [time] if time and re.match(r"\d", word) else []


def _numeric(match: re.Match[str]) -> list[str]:
    first, mark, _, last = match[1], match[2], match[3], match[4]
    if len(first) == 4 and len(last) <= 2:
        orders = ["Ymd", "Ydm"]
    elif len(last) == 4 and len(first) <= 2:
        orders = ["mdY", "dmY"] if mark == "/" else ["dmY", "mdY"]
    elif len(first) <= 2 and len(last) == 2:
        orders = ["mdy", "dmy", "ymd"] if mark == "/" else ["dmy", "mdy", "ymd"]
    else:
        return []
    return [mark.join(f"%{part}" for part in order) for order in orders]


def _month(match: re.Match[str]) -> str:
    return "%b" if len(match["month"]) == 3 else "%B"


def _year(digits: str) -> str:
    return "%Y" if len(digits) == 4 else "%y"


def _time(rest: str) -> str | None:
    """The format of what follows a date; None where it is no time."""
    if not rest:
        return ""
    match = _TIME.match(rest)
    if match is None:
        return None
    seconds = ":%S" if match["s"] else ""
    seconds += f"{match['f'][0]}%f" if match["f"] else ""
    half = match["half"] or ""
    zone = match["zone"] or ""
    named = (
        zone
        if zone.strip().upper() in ("UTC", "GMT")
        else ("%z" if not zone.startswith(" ") else " %z")
        if zone
        else ""
    )
    hours = f"%I:%M{seconds}{' ' if half.startswith(' ') else ''}%p" if half else f"%H:%M{seconds}"
    return f"{match['gap'] or ''}{hours}{named}"


def order_of(form: str) -> str:
    """Which comes first in a format, of day, month and year."""
    return "".join(c for c in re.findall(r"%([dmyYbB])", form)).replace("Y", "y").replace("B", "b")


def read_form(words: Sequence[str], form: str) -> np.ndarray:
    """Cleaned words as datetime64[us] by one format, NaT for the others; with zones, as UTC."""
    if form == ISO:
        own = pd.Series(pd.NaT, index=range(len(words)), dtype="datetime64[us]")
        marked = np.array([_ISO.match(w) is not None for w in words], dtype=bool)
        if marked.any():
            read = pd.to_datetime(pd.Series(words, dtype=object)[marked], errors="coerce", format=ISO, utc=True)
            own[marked] = read.dt.tz_localize(None).astype("datetime64[us]")
        return own.to_numpy()
    series = pd.Series(words, dtype=object)
    utc = "%z" in form
    if "%d" not in form and "%m" not in form and "%b" not in form.lower():  # a time of day
        series, form = "2000-01-01 " + series, "%Y-%m-%d " + form
    elif "%y" not in form.lower():  # a day of any year; 2000 has the 29th of February
        series, form = "2000 " + series, "%Y " + form
    read = pd.to_datetime(series, errors="coerce", format=form, utc=utc)
    return (read.dt.tz_localize(None) if utc else read).astype("datetime64[us]").to_numpy()


def read_forms(words: Sequence[str], forms: Sequence[str]) -> np.ndarray:
    """Words by the first of these formats that reads them; those written year first always by ISO 8601."""
    clean = [cleaned(word) for word in words]
    found = np.full(len(words), np.datetime64("NaT", "us"))
    for form in (*forms, ISO):
        left = np.flatnonzero(np.isnat(found))
        if not len(left):
            break
        found[left] = read_form([clean[i] for i in left.tolist()], form)
    return found


def first_year(stamps: np.ndarray) -> int | None:
    """The year that years of two digits begin with: they lie on one side of the widest gap, and before 2036.

    None where they fill the century.
    """
    years = np.unique(stamps[~np.isnat(stamps)].astype("datetime64[Y]").astype(np.int64) + 1970) % 100
    years = np.unique(years)
    if not len(years):
        return None
    gaps = np.diff(np.append(years, years[0] + 100))
    start = int(years[(int(gaps.argmax()) + 1) % len(years)])
    span = 100 - int(gaps.max())
    if span > _LIFETIME:
        return None
    return 2000 + start if 2000 + start + span <= _LATEST else 1900 + start


def in_century(stamps: np.ndarray, first: int) -> np.ndarray:
    """The same days in the hundred years from ``first``."""
    year = stamps.astype("datetime64[Y]")
    shift = first + (year.astype(np.int64) + 1970 - first) % 100 - (year.astype(np.int64) + 1970)
    month = stamps.astype("datetime64[M]")
    moved = (month + np.where(np.isnat(stamps), 0, shift) * 12).astype("datetime64[us]") + (stamps - month)
    return np.where(np.isnat(stamps) | (shift == 0), stamps, moved)


def find_forms(words: Sequence[str], counts: np.ndarray) -> tuple[float, list[str], bool]:
    """(share of the cells read, the formats that read them, whether day and month could be exchanged).

    Which of day, month and year comes first is decided by all the words together: one of them may tell.
    """
    clean = [cleaned(word) for word in words]
    step = max(1, len(clean) // _SAMPLE)
    candidates: dict[str, None] = {}
    told = 0
    for word in clean[::step]:
        own = forms_of(word)
        told += bool(own)
        candidates.update(dict.fromkeys(own))
    if told < 0.5 * len(clean[::step]):
        return 0.0, [], False
    by_order: dict[str, list[str]] = {}
    for form in candidates:
        by_order.setdefault(order_of(form), []).append(form)
    rivals = [o for o in by_order if o in _RIVALS]  # one of them holds for the whole column
    free = [f for order, forms in by_order.items() if order not in _RIVALS for f in forms]
    total = float(counts.sum())
    best: tuple[float, list[str]] = (0.0, [])
    shares: dict[str, float] = {}
    for order in rivals or [""]:
        forms = [*(by_order[order] if rivals else ()), *free]
        read = ~np.isnat(read_forms_plain(clean, forms))
        share = float(counts[read].sum()) / total
        shares[order] = share
        if share > best[0]:
            best = share, forms
    other = {o: s for o, s in shares.items() if o in ("dmy", "mdy")}
    swapped = len(other) == 2 and other["dmy"] == other["mdy"] == best[0]
    return best[0], best[1], swapped


def read_forms_plain(clean: Sequence[str], forms: Sequence[str]) -> np.ndarray:
    """Cleaned words by the first of these formats that reads them."""
    found = np.full(len(clean), np.datetime64("NaT", "us"))
    for form in forms:
        left = np.flatnonzero(np.isnat(found))
        if len(left):
            found[left] = read_form([clean[i] for i in left.tolist()], form)
    return found
