"""When the mentor looks: often at first, then ever more seldom, and never for longer than it may."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch

NEVER = 10**12
_LATER = 1.05  # times the step at which there was no time left for a look, the next is asked for
_GROWTH = 1.75  # a look's step over that of the look before
_DENSE = 8  # steps up to which the growth is twofold
_HORIZON = 400  # steps: as much as they allow may be spent from the beginning, so that short trainings are seen too
_TRIES = 3  # of a class of instruments that fails


class Cadence:
    """At which steps which classes of instruments look.

    Args:
        costs: the classes.
        own: look every so many steps with these; the others share looks ever further apart.
        budget: share of the loop's own time that the shared looks may take.
    """

    def __init__(self, costs: Sequence[str], own: Mapping[str, int], budget: float) -> None:
        self.costs, self.own, self.budget = list(costs), dict(own), budget
        self.shared_at = 0  # the next step at which those without a cadence of their own look
        self._failed: dict[str, int] = {}

    @property
    def shared(self) -> list[str]:
        """The classes without a cadence of their own."""
        return [c for c in self.costs if c not in self.own]

    def due(self, step: int, looked: float, elapsed: float) -> list[str]:
        """The classes that look at this step, after so many seconds of looking since the beginning."""
        now = [c for c in self.costs if c in self.own and step % self.own[c] == 0]
        return [*now, *self.shared] if self.shared and self._shared_due(step, looked, elapsed) else now

    def after(self, step: int) -> int:
        """The next step behind this one that may be looked at."""
        following = step + 1
        steps = [-(-following // every) * every for c, every in self.own.items() if c in self.costs]
        if self.shared:
            steps.append(max(following, self.shared_at))
        return min(steps, default=following + NEVER)

    def failed(self, cost: str) -> None:
        """What fails again and again is not tried any more."""
        self._failed[cost] = self._failed.get(cost, 0) + 1
        if self._failed[cost] >= _TRIES and cost in self.costs:
            self.costs.remove(cost)

    def _shared_due(self, step: int, looked: float, elapsed: float) -> bool:
        if step < self.shared_at:
            return False
        if not trains_alone():  # all processes must look at the same steps
            elapsed = math.inf
        a_step = max(elapsed - looked, 0.0) / max(step, 1)
        if looked > self.budget * a_step * max(step, _HORIZON) and step > 1:
            self.shared_at = math.ceil(_LATER * step)  # and not step after step, as being awake costs as well
            return False
        self.shared_at = max(step + 1, math.ceil(step * (_GROWTH if step >= _DENSE else 2)))
        return True


def trains_alone() -> bool:
    """Whether this process trains alone."""
    known = torch.distributed.is_available() and torch.distributed.is_initialized()
    return not known or torch.distributed.get_world_size() == 1
