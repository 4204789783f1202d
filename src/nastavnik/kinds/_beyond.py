"""Numbers that no measurement reaches: infinite ones, those far beyond their column, and programs' "no data"."""

from __future__ import annotations

import numpy as np

from nastavnik.data import Lost

LARGEST = 3.4e38  # beyond it no number fits a network; the ends of single precision are many programs' "no data"
_HUGE = 1e30, 1e150  # a column whose middle is beyond the first may hold numbers up to the second
_BEYOND = 1e8  # times what nearly all others stay below: no measurement is that far from its column


def within(numbers: np.ndarray, name: str, largest: float, lost: list[Lost]) -> np.ndarray:
    """Numbers [n] with NaN for what is infinite or not below ``largest``, which is noted."""
    with np.errstate(invalid="ignore"):
        beyond = np.abs(numbers) >= largest
    if not beyond.any():
        return numbers
    row = int(np.flatnonzero(beyond)[0])
    endless = bool(np.isinf(numbers[beyond]).all())
    verb = "is" if beyond.sum() == 1 else "are"
    why = f"{verb} infinite" if endless else f"{verb} infinite or beyond ±{largest:.2g}"
    lost.append(Lost(name, int(beyond.sum()), row, f"{numbers[row]:g}", why))
    return np.where(beyond, np.nan, numbers)


def limits(numbers: np.ndarray) -> dict[str, float]:
    """What no cell of the column can reach, where that is another number than usual."""
    finite = np.abs(numbers[np.isfinite(numbers)])
    if not len(finite):
        return {}
    if np.median(finite) > _HUGE[0]:
        return {"largest": _HUGE[1]}
    bound = _BEYOND * float(np.quantile(finite, 0.95))
    beyond = finite > bound
    if bound > 0 and beyond.any() and len(finite) >= 20:
        return {"largest": bound}
    return {}


def sentinel(values: np.ndarray) -> tuple[float, int, float, float] | None:
    """(value, count, low and high of the others) where one extreme value comes again and again, far from the rest."""
    present = values[~np.isnan(values)]
    if len(present) < 20:
        return None
    for value in (present.min(), present.max()):
        same = present == value
        rest = present[~same]
        if (
            same.sum() < max(3, 0.002 * len(present))
            or len(rest) < 0.3 * len(present)
            or float(value).is_integer() is False
        ):
            continue
        low, high = float(rest.min()), float(rest.max())
        gap = low - value if value < low else value - high
        spread = max(high - low, 1e-12)
        crosses = value < 0 <= low  # below zero, where no other is
        if len(np.unique(rest)) > 3 and (gap > 0.5 * spread or (crosses and value in (-1, -9, -99, -999, -9999))):
            return float(value), int(same.sum()), low, high
    return None
