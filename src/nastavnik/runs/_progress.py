"""What a long job tells whoever watches it."""

from __future__ import annotations

import math
from dataclasses import dataclass

from nastavnik.runs._clock import Clock


@dataclass(frozen=True)
class Progress:
    """Where a search stands: networks trained, alive and dropped, the best score so far (nats per example)."""

    trained: int = 0
    alive: int = 0
    dropped: int = 0
    best: float = math.inf
    interval: tuple[float, float] | None = None


class Watcher:
    """Hears what a job does; this one listens in silence. Faces override it, jobs never ask what it does."""

    def begin(self, clock: Clock) -> None:
        """The job has begun."""

    def doing(self, what: str) -> None:
        """A stage has begun, in a few words."""

    def note(self, text: str) -> None:
        """A line worth keeping."""

    def progress(self, progress: Progress) -> None:
        """The search has moved on."""
