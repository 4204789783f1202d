"""Other networks in the same loop: those that take turns with one that is watched, and those that its loss rests on."""

from __future__ import annotations

import itertools
import weakref
from typing import Protocol

from torch import nn

TURN = [0]  # the number of whoever took the last step
_NUMBERS = itertools.count(1)
_ALL: weakref.WeakSet[Players] = weakref.WeakSet()


class Watched(Protocol):
    """A loop, as the others see it."""

    model: nn.Module
    steps: int

    def has_others(self) -> bool:
        """Whether its loss holds a module with parameters."""

    def versions_beside(self) -> dict[int, int]:
        """How often each parameter that its loss holds beside the model's was changed, by the parameter's ``id``."""


class Players:
    """Whether a loss moves by itself, as it rests on another network that is being trained: a GAN's, a target's."""

    def __init__(self, loop: Watched) -> None:
        self.number = next(_NUMBERS)
        self._loop = weakref.ref(loop)
        self._version: int | None = None  # of the others' weights, at the last look
        _ALL.add(self)

    def others_stepped(self) -> bool:
        """Whether another watched network took a step since this one did; from now on it is this one's turn."""
        others = TURN[0] not in (0, self.number)
        TURN[0] = self.number
        return others

    def moving(self) -> bool:
        """Whether the loss's other network was trained since the last look, or another's loss rests on this network."""
        loop = self._loop()
        if loop is None:
            return False
        version = sum(loop.versions_beside().values()) if loop.has_others() else 0
        moved = self._version is not None and version != self._version
        self._version = version
        others = [other for other in _ALL if other is not self and other.rests_on_others()]
        if moved or not others:
            return moved
        own = {id(p) for p in loop.model.parameters()}
        return any(other.plays_against(own) for other in others)

    def rests_on_others(self) -> bool:
        """Whether this one has begun, and its loss holds another network."""
        loop = self._loop()
        return loop is not None and loop.steps > 0 and loop.has_others()

    def plays_against(self, parameters: set[int]) -> bool:
        """Whether this one is trained by what a network of these parameters says."""
        loop = self._loop()
        return loop is not None and not parameters.isdisjoint(loop.versions_beside())
