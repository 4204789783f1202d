"""How long there is: a deadline, a request to stop, and how busy the machine is now; asked by all that may run long."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from nastavnik.errors import UserError

_LOOK_EVERY = 2.0  # seconds between two looks at how busy the machine is
_LOOK = 0.01  # seconds of the processor that a look takes
_LONG_LOOK = 0.05  # the same among several processes of ours
_BUSY = 1.2  # times as slow by the wall
_SHARED = 1.5  # and so much slower while it runs, as others use the core's caches and its other thread
_MOST = 50.0  # times as slow: beyond that a look ends
_START = 8.0  # times as long as until the command line is read: the imports of a fit
_CREDIBLE = 300.0  # seconds that imports may have taken before a clock is made


@dataclass
class Clock:
    """Seconds since the start against a budget; ``None`` is no budget of time.

    ``stop_requested`` is set by the first Ctrl-C: loops then end where they can end cleanly.
    """

    budget: float | None = None
    started: float = field(default_factory=time.monotonic)
    stop_requested: bool = False
    _slow: float = 1.0
    _looked: float = field(default=float("-inf"))

    @classmethod
    def of_process(cls, budget: float | None = None) -> Clock:
        """A clock that began when this process did, its imports included."""
        return cls(budget, time.monotonic() - _process_age())

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.started

    @property
    def left(self) -> float:
        """Seconds left of the budget; infinite without one."""
        return float("inf") if self.budget is None else self.budget - self.elapsed

    def refuse_too_short(self) -> None:
        """Refuse a budget that starting alone would use up, told by how long this process has taken to get here.

        To be asked before what is heavy is imported, which takes several times as long as what was imported until then.

        Raises:
            UserError: with the least budget, as this machine is now.
        """
        start = _START * self.elapsed
        if self.budget is not None and self.budget < start:
            raise UserError(
                f"a budget of {self.budget:g} s is too short: starting alone takes about {start:.0f} s on this machine "
                f"as it is now; give --budget {math.ceil(2 * start)}s or more"
            )

    @property
    def slowness(self) -> float:
        """How many times as long as alone this process takes now, as others want the processor too; at least 1.

        What works beside it for the same run (``beside``) is not counted: it will have ended when the run does.
        A look is a hundredth of a second of work against the wall clock, taken anew every two seconds; rises count at
        once and falls by halves, so that load which comes and goes is not forgotten between two looks.
        """
        now = time.monotonic()
        if now - self._looked >= _LOOK_EVERY:
            seen = _look(max(1.0, (1 + len(_BESIDE)) / _processors()))
            self._slow = max(seen, (self._slow + seen) / 2)
            self._looked = time.monotonic()
        return self._slow


_BESIDE: list[object] = []  # what works for this run in other processes now


@contextmanager
def beside() -> Iterator[None]:
    """While a process of ours works beside this one."""
    token = object()
    _BESIDE.append(token)
    try:
        yield
    finally:
        _BESIDE.remove(token)


def _processors() -> int:
    """That this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _look(own: float) -> float:
    """Times as slow, beyond what our ``own`` processes explain; what other threads of ours do is work, too."""
    enough = _LOOK if own <= 1 else _LONG_LOOK  # among several of ours, over some of the scheduler's turns
    wall, worked = time.monotonic(), time.process_time()
    while (done := time.process_time() - worked) < enough and time.monotonic() - wall < _MOST * _LOOK:
        pass
    times = (time.monotonic() - wall) / max(done, 1e-6) / own
    return min(_MOST, times * _SHARED) if times > _BUSY else 1.0


def _process_age() -> float:
    """Seconds since this process began; where the system does not tell, the processor's seconds it has had."""
    try:
        began = int(Path("/proc/self/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[19])
        age = time.clock_gettime(time.CLOCK_BOOTTIME) - began / os.sysconf("SC_CLK_TCK")
    except (OSError, AttributeError, ValueError, IndexError):
        return time.process_time()
    return age if time.process_time() <= age < _CREDIBLE else time.process_time()


@dataclass
class Deadline:
    """A point before the end of a clock's budget: ``reserve`` seconds are kept for what comes after."""

    clock: Clock
    reserve: float = 0.0

    @property
    def left(self) -> float:
        """Seconds until it."""
        return self.clock.left - self.reserve

    @property
    def unlimited(self) -> bool:
        """Whether no clock limits anything."""
        return self.clock.budget is None

    def passed(self) -> bool:
        """Whether it is over, or a stop was asked for."""
        return self.clock.stop_requested or self.left <= 0
