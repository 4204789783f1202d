"""How long there is: a deadline, and a request to stop, asked by every loop that may run long."""

from __future__ import annotations

import time
from dataclasses import dataclass, field


@dataclass
class Clock:
    """Seconds since the start against a budget; ``None`` is no budget of time.

    ``stop_requested`` is set by the first Ctrl-C: loops then end where they can end cleanly.
    """

    budget: float | None = None
    started: float = field(default_factory=time.monotonic)
    stop_requested: bool = False

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.started

    @property
    def left(self) -> float:
        """Seconds left of the budget; infinite without one."""
        return float("inf") if self.budget is None else self.budget - self.elapsed


@dataclass
class Deadline:
    """A point before the end of a clock's budget: ``reserve`` seconds are kept for what comes after."""

    clock: Clock
    reserve: float = 0.0

    @property
    def left(self) -> float:
        """Seconds until it."""
        return self.clock.left - self.reserve

    def passed(self) -> bool:
        """Whether it is over, or a stop was asked for."""
        return self.clock.stop_requested or self.left <= 0
