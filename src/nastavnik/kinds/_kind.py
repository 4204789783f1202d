"""What a kind of column is: the contract, and what recognising and reading give back."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar

import numpy as np

from nastavnik.data import Bag, Field, Lost
from nastavnik.kinds._cells import Cells


@dataclass(frozen=True)
class Guess:
    """That a column is of a kind: how sure, why in words, and what is needed to read its cells again, as plain JSON.

    A reading that costs something to find may be a function, which is called if the guess wins.
    """

    confidence: float
    reason: str
    reading: Mapping[str, Any] | Callable[[], Mapping[str, Any]] = field(default_factory=dict)

    @property
    def record(self) -> dict[str, Any]:
        """The reading, found."""
        return dict(self.reading() if callable(self.reading) else self.reading)


@dataclass(frozen=True)
class Wishes:
    """What the user said about how columns are to be read; ``picture_size`` is the most pixels of a picture's side."""

    decimal: str | None = None
    date_formats: tuple[str, ...] = ()
    picture_size: int | None = None


@dataclass
class Features:
    """What was read of a column's n cells, by the name of each feature.

    ``numbers`` float64 [n] with NaN where missing, ``words`` [n] with None where missing, ``bags`` the words or labels
    of each cell, ``fields`` an array of each cell (a picture, a text's tokens); ``lost`` are cells that hold something
    which could not be taken.
    """

    numbers: dict[str, np.ndarray] = field(default_factory=dict)
    words: dict[str, np.ndarray] = field(default_factory=dict)
    bags: dict[str, Bag] = field(default_factory=dict)
    fields: dict[str, Field] = field(default_factory=dict)
    lost: list[Lost] = field(default_factory=list)


@dataclass(frozen=True)
class ColumnInfo:
    """One column: its kind and why, and what is needed to read its cells again at prediction."""

    name: str
    kind: str
    reason: str
    distinct: int
    missing: int
    reading: Mapping[str, Any] = field(default_factory=dict)
    missing_words: tuple[str, ...] = ()
    examples: tuple[tuple[str, str], ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The plain record kept in ``dataset.json`` and ``model.json``."""
        return asdict(self)

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> ColumnInfo:
        """Read what ``to_json`` wrote."""
        own = {"missing_words": tuple(record["missing_words"]), "examples": tuple(map(tuple, record["examples"]))}
        return cls(**{**record, **own})


class Kind(ABC):
    """One sort of cell. All that is asked of it takes the whole column; nothing is learned from it but its reading.

    ``recognise`` looks at a column and says how sure it is; the surest kind wins, of equals the first in the table.
    ``read`` turns cells into numbers, words, bags of words or fields by the stored reading, whatever types the cells
    have, and names what it could not read. How they become what a network takes in is fitted on training rows by
    ``data.Preparation``, alike for every kind. ``left_out`` kinds tell a model nothing.
    """

    name: ClassVar[str]
    about: ClassVar[str]
    left_out: ClassVar[bool] = False

    @abstractmethod
    def recognise(self, cells: Cells, wishes: Wishes) -> Guess | None:
        """Whether the column is of this kind."""

    def given(self, cells: Cells, wishes: Wishes) -> Guess:
        """The reading of a column that the user says is of this kind: whatever part of it can be read is.

        Raises:
            UserError: no cell at all can be read so.
        """
        found = self.recognise(cells, wishes)
        return Guess(1.0, "given", {} if found is None else found.record)

    @abstractmethod
    def read(self, cells: Cells, reading: Mapping[str, Any]) -> Features:
        """Cells to features.

        Raises:
            UserError: most cells are not of this kind.
        """

    def audit(self, numbers: Mapping[str, np.ndarray], info: ColumnInfo) -> Sequence[tuple[str, str, str]]:
        """What is odd about a column, by the numbers [n] read from it: (check, severity, sentence) each."""
        return ()

    def show(self, features: Features, row: int) -> str:
        """How a person sees what was read of one cell."""
        parts = [_number(v[row], name) for name, v in features.numbers.items() if not np.isnan(v[row])]
        parts += [str(v[row]) for v in features.words.values() if v[row] is not None]
        parts += [", ".join(bag.of_row(row)[:8]) for bag in features.bags.values()]
        return "; ".join(part for part in parts if part) or "missing"


def _number(value: float, name: str) -> str:
    part = name.rpartition(".")[2] if "." in name else ""
    return f"{value:g}" if not part else f"{part} {value:g}"
