"""Preparation of bags: labels as yes or no, words weighed by how rare they are."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from nastavnik.data._columns import Bag, Columns

_MOST = 1000  # words of one column that a network is given
_MOST_LABELS = 200
_ROWS_A_WORD = 4
_CELLS = 250_000_000  # of one dense matrix of words
_FEWEST = 3  # rows a word must stand in
_NARROW = 0.2  # least deviation that a label's indicator is divided by


@dataclass(frozen=True)
class Bags:
    """How the tokens of cells become numbers, one for each token of ``vocabularies``.

    Labels: there or not, brought to mean 0 and deviation 1. Words: log(1 + count) · log(n / rows with it), each cell's
    vector brought to length 1 (Salton & Buckley 1988) and then to the usual number of words, so that one word is about
    as large as a standardized number.
    """

    bag_names: tuple[str, ...]
    weightings: tuple[str, ...]
    vocabularies: tuple[tuple[str, ...], ...]
    centre: np.ndarray  # by token, all bags one after the other
    weight: np.ndarray
    length: np.ndarray  # of each bag's vectors

    @classmethod
    def fit(cls, columns: Columns, rows: np.ndarray, structure: np.ndarray, leave: Collection[str] = ()) -> Bags:
        """By training rows; ``structure`` decides which tokens are known, ``leave`` which weightings are left out."""
        vocabularies, centres, weights, lengths = [], [], [], []
        for bag in columns.bags:
            vocabulary = () if bag.weighting in leave else _vocabulary(bag.take(structure))
            counts = bag.take(rows).rows_with_each(vocabulary)
            present = counts / max(len(rows), 1)
            if bag.weighting == "presence":
                centres.append(present)
                weights.append(1 / np.maximum(np.sqrt(present * (1 - present)), _NARROW))
                lengths.append(0.0)
            else:
                centres.append(np.zeros(len(vocabulary)))
                weights.append(np.where(present > 0, np.log1p(1 / np.maximum(present, 1e-12)), 0.0))
                lengths.append(float(np.sqrt(max(1.0, counts.sum() / max(len(rows), 1)))))
            vocabularies.append(vocabulary)
        return cls(
            columns.bag_names,
            tuple(bag.weighting for bag in columns.bags),
            tuple(vocabularies),
            np.concatenate(centres) if centres else np.zeros(0),
            np.concatenate(weights) if weights else np.zeros(0),
            np.array(lengths),
        )

    def apply(self, columns: Columns) -> list[np.ndarray]:
        """A block of numbers [n, tokens] of each bag; those that ``ranges`` names come last."""
        blocks = []
        for i in self._order:
            if not self.vocabularies[i]:
                continue
            own, place = columns.bags[i].dense(self.vocabularies[i]), self._place(i)
            if self.weightings[i] == "presence":
                block = ((own > 0) - self.centre[place]) * self.weight[place]
            else:
                block = np.log1p(own, out=own)  # in place: the block is the largest array there is
                block *= self.weight[place].astype(np.float32)
                norm = np.sqrt(np.einsum("ij,ij->i", block, block))[:, None]
                block *= self.length[i] / np.maximum(norm, 1e-12)
            blocks.append(block.astype(np.float32, copy=False))
        return blocks

    @property
    def _order(self) -> list[int]:
        """Labels before words."""
        return sorted(range(len(self.bag_names)), key=lambda i: self.weightings[i] == "words")

    def _place(self, i: int) -> slice:
        start = sum(len(v) for v in self.vocabularies[:i])
        return slice(start, start + len(self.vocabularies[i]))

    def ranges(self, start: int) -> tuple[tuple[int, int], ...]:
        """Where the words of each text stand, of blocks that begin at ``start``."""
        found = []
        for i in self._order:
            size = len(self.vocabularies[i])
            if self.weightings[i] == "words" and size:
                found.append((start, start + size))
            start += size
        return tuple(found)

    @property
    def word_names(self) -> list[str]:
        """The texts of ``ranges``."""
        return [self.bag_names[i] for i in self._order if self.weightings[i] == "words" and self.vocabularies[i]]

    @property
    def number_names(self) -> list[str]:
        """Of what ``apply`` gives."""
        return [f"{self.bag_names[i]}: {token}" for i in self._order for token in self.vocabularies[i]]

    def to_record(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """Plain JSON and arrays."""
        record = {
            "bag_names": list(self.bag_names),
            "weightings": list(self.weightings),
            "vocabularies": [list(v) for v in self.vocabularies],
        }
        return record, {"bag_centre": self.centre, "bag_weight": self.weight, "bag_length": self.length}

    @classmethod
    def from_record(cls, record: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> Bags:
        """Read what ``to_record`` wrote."""
        return cls(
            tuple(record["bag_names"]),
            tuple(record["weightings"]),
            tuple(tuple(v) for v in record["vocabularies"]),
            arrays["bag_centre"],
            arrays["bag_weight"],
            arrays["bag_length"],
        )


def _vocabulary(bag: Bag) -> tuple[str, ...]:
    """The commonest tokens that stand in several rows, but not in all."""
    rows, n = bag.rows_with(), len(bag)
    least = 2 if bag.weighting == "presence" else max(_FEWEST, round(0.0005 * n))
    most = min(
        _MOST_LABELS if bag.weighting == "presence" else _MOST, max(20, n // _ROWS_A_WORD), max(20, _CELLS // max(n, 1))
    )
    able = np.flatnonzero((rows >= least) & (rows < n))
    chosen = sorted(able.tolist(), key=lambda t: (-rows[t], bag.vocabulary[t]))[:most]
    return tuple(sorted(bag.vocabulary[t] for t in chosen))
