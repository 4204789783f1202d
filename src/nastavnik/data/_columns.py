"""The inputs of n rows, read: numbers, words and bags of words, and what could not be taken."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from nastavnik.errors import UserError
from nastavnik.rooms import touched

_PIECE = 2**24  # bytes of rows that are looked at together


@dataclass(frozen=True)
class Lost:
    """Cells that hold something, but nothing a network can be given: they count as missing, and are said."""

    name: str
    count: int
    row: int  # the first of them, from 0
    cell: str
    why: str

    def __str__(self) -> str:
        cells = "1 cell" if self.count == 1 else f"{self.count} cells"
        return f"{self.name}: {cells} {self.why}, taken as missing (first: row {self.row + 1}, {self.cell})"


@dataclass(frozen=True)
class Bag:
    """Which tokens each of n cells holds, and how often: row i holds ``tokens[starts[i]:starts[i + 1]]``.

    ``tokens`` are places in ``vocabulary``, each at most once a row, ``counts`` their numbers. ``weighting`` says what
    a network is given: "presence" (a label is there or not) or "words" (weighed by how rare they are).
    """

    starts: np.ndarray
    tokens: np.ndarray
    counts: np.ndarray
    vocabulary: tuple[str, ...]
    weighting: str

    def __len__(self) -> int:
        return len(self.starts) - 1

    def take(self, rows: np.ndarray) -> Bag:
        """Some of the rows."""
        lengths = np.diff(self.starts)[rows]
        starts = np.concatenate([[0], np.cumsum(lengths)])
        place = np.repeat(self.starts[:-1][rows] - starts[:-1], lengths) + np.arange(starts[-1])
        return replace(self, starts=starts, tokens=self.tokens[place], counts=self.counts[place])

    def of_row(self, row: int) -> list[str]:
        """The tokens of one row."""
        return [self.vocabulary[t] for t in self.tokens[self.starts[row] : self.starts[row + 1]]]

    def rows_with(self) -> np.ndarray:
        """In how many rows each token of the vocabulary stands."""
        return np.bincount(self.tokens, minlength=len(self.vocabulary))

    def _places(self, vocabulary: Sequence[str]) -> np.ndarray:
        """By own token its place in another vocabulary, -1 where it is not there."""
        place = {token: j for j, token in enumerate(vocabulary)}
        return np.array([place.get(token, -1) for token in self.vocabulary], dtype=np.int64)

    def rows_with_each(self, vocabulary: Sequence[str]) -> np.ndarray:
        """In how many rows each of these tokens stands."""
        own = self._places(vocabulary)[self.tokens] if len(self.tokens) else np.zeros(0, dtype=np.int64)
        return np.bincount(own[own >= 0], minlength=len(vocabulary))

    def dense(self, vocabulary: Sequence[str]) -> np.ndarray:
        """Counts [n, tokens] of these tokens."""
        column = self._places(vocabulary)
        found = np.zeros((len(self), len(vocabulary)), dtype=np.float32)
        if len(self.tokens):
            rows = np.repeat(np.arange(len(self)), np.diff(self.starts))
            own = column[self.tokens]
            found[rows[own >= 0], own[own >= 0]] = self.counts[own >= 0]
        return found


@dataclass(frozen=True)
class Field:
    """What n cells hold that is more than a number: one array [n, …] of the smallest dtype that holds it.

    ``sort`` says what a network's first layer is to make of it: "picture" (uint8 [n, height, width, channels]),
    "tokens" (int32 [n, length]: 0 fills up, others are places in ``vocabulary``, from 1) or "array" (float32).
    ``said`` are what is odd about the cells: (check, severity, sentence) each. Some of its rows are ``chosen`` of the
    same ``held`` array, which may be larger than memory, and read when somebody asks for ``values`` or ``pieces``.
    """

    held: np.ndarray
    sort: str
    vocabulary: tuple[str, ...] = ()
    said: tuple[tuple[str, str, str], ...] = ()
    chosen: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.held if self.chosen is None else self.chosen)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one row."""
        return self.held.shape[1:]

    @property
    def values(self) -> np.ndarray:
        """All rows [n, …]."""
        return self.held if self.chosen is None else self.held[self.chosen]

    def row(self, i: int) -> np.ndarray:
        """One of them."""
        return self.held[i if self.chosen is None else self.chosen[i]]

    def pieces(self) -> Iterator[np.ndarray]:
        """The rows one after the other, so many at a time that they fit into memory."""
        size = max(1, _PIECE // max(1, math.prod(self.shape) * self.held.itemsize))
        for start in range(0, len(self), size):
            rows = slice(start, start + size)
            piece = self.held[rows if self.chosen is None else self.chosen[rows]]
            yield piece
            touched(piece.nbytes)

    def take(self, rows: np.ndarray) -> Field:
        """Some of the rows."""
        return replace(self, chosen=np.arange(len(self))[rows] if self.chosen is None else self.chosen[rows])

    @property
    def keys(self) -> np.ndarray:
        """A number for each row [n] that rows of equal content share."""
        each = (row.tobytes() for piece in self.pieces() for row in np.ascontiguousarray(piece))
        return np.frombuffer(b"".join(hashlib.blake2b(row, digest_size=8).digest() for row in each), dtype=np.uint64)


@dataclass(frozen=True)
class Columns:
    """The inputs of n rows: ``numbers`` [n, d] with NaN where missing, ``words`` [n, c] with None where missing, bags,
    and fields, which hold an array a row.

    They stand in the order of their columns' descriptions, whatever types the cells had; a column may give several
    (a date its parts), and ``sources`` names the column of each. ``lost`` are the cells that could not be taken.
    """

    numbers: np.ndarray
    words: np.ndarray
    number_names: tuple[str, ...]
    word_names: tuple[str, ...]
    lost: tuple[Lost, ...] = ()
    bags: tuple[Bag, ...] = ()
    bag_names: tuple[str, ...] = ()
    sources: Mapping[str, str] = field(default_factory=dict)
    fields: Mapping[str, Field] = field(default_factory=dict)  # by the name of its column

    def take(self, rows: np.ndarray) -> Columns:
        """Some of the rows."""
        bags = tuple(bag.take(rows) for bag in self.bags)
        fields = {name: own.take(rows) for name, own in self.fields.items()}
        return replace(self, numbers=self.numbers[rows], words=self.words[rows], bags=bags, lost=(), fields=fields)

    @property
    def width(self) -> int:
        """About how many numbers a row is."""
        inside = sum(math.prod(own.shape) for own in self.fields.values() if own.sort != "tokens")
        return self.numbers.shape[1] + self.words.shape[1] + inside

    def source(self, feature: str) -> str:
        """The column that a feature was read from."""
        return self.sources.get(feature, feature)

    def ordered(self, number_names: Sequence[str], word_names: Sequence[str], bag_names: Sequence[str] = ()) -> Columns:
        """The same cells in the order of these names.

        Raises:
            UserError: the names are not the same.
        """
        given = (self.number_names, self.word_names, self.bag_names)
        wanted = (tuple(number_names), tuple(word_names), tuple(bag_names))
        if given == wanted:
            return self
        for own, others in zip(given, wanted, strict=True):
            if sorted(own) != sorted(others):
                strange = sorted(set(own) ^ set(others)) or [n for n in own if own.count(n) > 1]
                raise UserError(f"the columns read are not those that were prepared: {', '.join(strange[:6])}")
        return replace(
            self,
            numbers=self.numbers[:, [self.number_names.index(n) for n in number_names]],
            words=self.words[:, [self.word_names.index(n) for n in word_names]],
            bags=tuple(self.bags[self.bag_names.index(n)] for n in bag_names),
            number_names=wanted[0],
            word_names=wanted[1],
            bag_names=wanted[2],
        )

    def __len__(self) -> int:
        return len(self.numbers)
