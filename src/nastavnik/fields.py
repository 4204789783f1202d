"""What a network's first layer must know of a column that is more than a number."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

UNKNOWN = 1  # the place of words that are not in the vocabulary; 0 fills up


@dataclass(frozen=True)
class Entry:
    """One field: its column, its sort ("picture", "tokens", "array"), a row's shape, how many words.

    ``counted`` is where the same words stand counted among the numbers, if they do.
    """

    name: str
    sort: str
    shape: tuple[int, ...]
    levels: int = 0
    counted: tuple[int, int] | None = None

    @property
    def size(self) -> int:
        """Numbers in a row."""
        return prod(self.shape)
