"""What a space is made of: numbers, and choices with branches below their values."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nastavnik.errors import UserError
from nastavnik.recipe import Value

if TYPE_CHECKING:
    from nastavnik.space._space import Space


_MOST = 1e15  # of a number's size: beyond it whole numbers are no longer exact, and differences overflow
_MOST_STEPS = 1_000_000_000


def _plain(value: float) -> str:
    return f"{value:g}" if isinstance(value, float) or abs(value) <= _MOST else "a whole number of many digits"


@dataclass(frozen=True)
class Number:
    """A number from ``low`` to ``high``, both included; whole when ``integer``, even on the log axis when ``log``.

    With ``step`` it is low, low + step, … only.
    """

    low: float
    high: float
    log: bool = False
    integer: bool = False
    default: float | None = None
    below: float = math.inf  # a pinned value must be less than this
    least: float = 0.0  # and at least this
    step: float | None = None

    def __post_init__(self) -> None:
        ends = f"low={_plain(self.low)}, high={_plain(self.high)}"
        if not self.low <= self.high:
            raise UserError(f"low <= high must hold, but got {ends}")
        if not (self.low >= -_MOST and self.high <= _MOST):
            raise UserError(f"a range must lie within ±{_MOST:g}, but got {ends}")
        if self.log and self.low <= 0:
            raise UserError(f"a log axis needs low > 0, but got low={_plain(self.low)}")
        if self.integer and any(v != int(v) for v in (self.low, self.high, self.step or 1)):
            raise UserError(f"a whole number needs whole ends and steps, but got {ends}, step={self.step}")
        if self.step is not None:
            self._check_step()
        if self.default is not None:
            self._check_default(self.default)

    def _check_step(self) -> None:
        assert self.step is not None
        if self.log or not 0 < self.step <= _MOST:
            raise UserError(f"a step must be above 0 and has no log axis, but got step={self.step}, log={self.log}")
        if self.step > self.high - self.low > 0 or (self.high - self.low) / self.step > _MOST_STEPS:
            raise UserError(
                f"a step must fit into the range, at most {_MOST_STEPS:,} times, but got step={self.step} from "
                f"{_plain(self.low)} to {_plain(self.high)}"
            )

    def _check_default(self, default: float) -> None:
        fits = self.low <= default <= self.high
        fits = fits and (not self.integer or default == int(default))
        if fits and self.step is not None:
            steps = (default - self.low) / self.step
            fits = math.isclose(steps, round(steps), abs_tol=1e-6)
        if not fits:
            raise UserError(f"the default {default!r} is no value from {_plain(self.low)} to {_plain(self.high)} here")

    @property
    def count(self) -> int | None:
        """How many values there are; None for a continuum."""
        if self.low == self.high:
            return 1
        if self.step is not None:
            return int((self.high - self.low) / self.step + 1e-9) + 1
        return int(self.high - self.low) + 1 if self.integer else None

    def at(self, place: float) -> Value:
        """The value at a place of the axis, from 0 to 1; whole and stepped values have even shares of it."""
        place = min(max(place, 0.0), 1.0)
        if self.step is not None:
            return self.nth(min(int(place * (self.count or 1)), (self.count or 1) - 1))
        if self.log:
            low, high = self._ends()
            value = math.exp(math.log(low) + place * (math.log(high) - math.log(low)))
        elif self.integer:
            value = self.low + min(math.floor(place * (self.count or 1)), (self.count or 1) - 1)
        else:
            value = self.low + place * (self.high - self.low)
        value = min(max(value, self.low), self.high)
        return min(max(round(value), int(self.low)), int(self.high)) if self.integer else float(value)

    def place(self, value: float) -> float:
        """Where on the axis a value lies, from 0 to 1: what ``at`` takes."""
        if self.low == self.high:
            return 0.5
        if self.step is not None or (self.integer and not self.log):
            found = ((value - self.low) / (self.step or 1) + 0.5) / (self.count or 1)
        else:
            low, high = self._ends()
            axis = math.log if self.log else float
            found = (axis(value) - axis(low)) / (axis(high) - axis(low))
        return min(max(found, 0.0), 1.0)

    def points(self, most: int) -> list[Value]:
        """All values, or so many of them evenly over the axis, both ends included."""
        if self.count is not None and self.count <= most:
            return [self.nth(i) for i in range(self.count)]
        if most == 1:
            return [self.at(0.5)]
        if self.log or not (self.integer or self.step):
            axis = math.log if self.log else float
            low, high = axis(self.low), axis(self.high)
            values = [low + i / (most - 1) * (high - low) for i in range(most)]
            found = [math.exp(v) if self.log else v for v in values]
            found[0], found[-1] = self.low, self.high
            return list(dict.fromkeys(round(v) if self.integer else float(v) for v in found))
        last = (self.count or 1) - 1
        return [self.nth(round(i / (most - 1) * last)) for i in range(most)]

    @property
    def last(self) -> float:
        """The largest value: ``high``, or the last step below it."""
        if self.step is None or self.count is None:
            return self.high
        value = self.nth(self.count - 1)
        assert not isinstance(value, str)
        return value

    def nth(self, index: int) -> Value:
        """The value at an index, of those that can be counted."""
        value = self.low + index * (self.step or 1)
        return round(value) if self.integer else float(min(value, self.high))

    def _ends(self) -> tuple[float, float]:
        """Of the continuum that whole numbers on a log axis are rounded from."""
        return (self.low - 0.5, self.high + 0.5) if self.integer and self.low > 0.5 else (self.low, self.high)


@dataclass(frozen=True)
class Choice:
    """One of several values; what hangs below a value exists only where that value is chosen."""

    branches: Mapping[Value, Space]
    default: Value | None = None
    searched: tuple[Value, ...] | None = None  # the values drawn by a search; the others only when pinned

    def __post_init__(self) -> None:
        if not self.options:
            raise UserError("a choice needs at least one value")
        if self.default is not None and self.default not in self.branches:
            raise UserError(f"the default {self.default!r} is none of the options {list(self.branches)}")

    @classmethod
    def of(cls, *values: Value, default: Value | None = None, searched: tuple[Value, ...] | None = None) -> Choice:
        """A plain category without branches."""
        from nastavnik.space._space import Space

        return cls({value: Space() for value in values}, default, searched)

    @property
    def options(self) -> tuple[Value, ...]:
        """The values a search draws from."""
        return tuple(self.branches) if self.searched is None else self.searched


Node = Number | Choice
