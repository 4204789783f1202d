"""Grid search: every combination once, in shuffled order, none held in memory."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import numpy as np

from nastavnik.errors import UserError
from nastavnik.recipe import Value
from nastavnik.selection.samplers._base import Keys, Sampler
from nastavnik.space import POINTS, Space, decode, in_digits, size

MOST = 1_000_000


class Grid(Sampler):
    """All combinations, each once; numbers of many values at five points of their axis, both ends included.

    The order is a pseudo-random permutation: a grid that is broken off is then a random sample of itself, not its
    first branch.

    Raises:
        UserError: the grid has more than a million points.
    """

    name = "grid"
    several = True
    tries = 5000
    formula = "the n-th combination, n by a keyed permutation"
    prefer = "for few categories of which all combinations are wanted, with the budget for all of them"
    source = "Bergstra & Bengio 2012 (a grid beside random draws)"

    def __init__(self, space: Space, *, seed: int, objectives: int = 1) -> None:
        super().__init__(space, seed=seed, objectives=objectives)
        self.size: int = size(space, POINTS)
        if self.size > MOST:
            raise UserError(
                f"a grid of this space has {in_digits(self.size)} points, which no budget finishes; give fewer options "
                "and shorter ranges, or take --sampler random or tpe"
            )
        self._next = 0

    def propose(self, rng: np.random.Generator, given: Mapping[str, Value]) -> Keys | None:
        """The next of the permutation that was not drawn before."""
        while self._next < self.size:
            keys = decode(self.space, permuted(self._next, self.size, self.seed), POINTS)
            self._next += 1
            if frozenset(keys.items()) not in self._seen:
                return keys
        return None

    def withdraw(self, keys: Keys) -> None:
        """It comes again in its place of the order."""
        super().withdraw(keys)
        self._next = 0

    def hear(self, keys: Keys, values: tuple[float, ...]) -> None:
        """Nothing is learned."""


def permuted(index: int, count: int, seed: int) -> int:
    """Where a permutation of 0…count-1 takes an index: a Feistel network, walked until it lands inside."""
    half = max(1, ((count - 1).bit_length() + 1) // 2)
    mask = (1 << half) - 1
    while True:
        left, right = index >> half, index & mask
        for turn in range(4):
            digest = hashlib.blake2b(f"{seed}/{turn}/{right}".encode(), digest_size=8).digest()
            left, right = right, left ^ (int.from_bytes(digest, "big") & mask)
        index = (left << half) | right
        if index < count:
            return index
