"""Preparation of words that name things: known levels, the rest as one; how common a name is; the target by name."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from nastavnik.data._columns import Columns

FEW = 50  # so many names are all known, however rare; of more, those that training met once share a place
_MOST = 2000  # names that have a place of their own
_MEANS_FROM = 10  # names of which the target's mean is taken, where that is asked for
_ENOUGH = 30  # rows a name: then its own place in an embedding is learned well enough, without counts and means
_PRIOR = 10.0  # rows that the mean over all names counts for beside those of one name
_FOLDS = 5
_GONE = ""  # the level of a missing cell


@dataclass(frozen=True)
class Names:
    """How words become numbers 1…L by ``levels``, 0 for unseen and rare ones; a missing cell may be a level.

    Of a column of more than 50 names those that stand in one training row only are rare; where there are fewer than 30
    rows a name, how common a name is stands beside it as a number. With ``means`` the target's mean by name takes the
    place of a column of more than 10.
    ``sizes`` are the embeddings', the same in every fold.
    """

    word_names: tuple[str, ...]
    levels: tuple[tuple[str, ...], ...]
    rare: tuple[tuple[str, ...], ...]
    all_sizes: tuple[int, ...]
    counted: tuple[int, ...]  # columns whose names' counts are told
    averaged: tuple[int, ...]  # columns whose names are replaced by means of the target
    counts: np.ndarray  # by level of each counted column, one after the other
    means: np.ndarray  # [levels of each averaged column, m]

    @classmethod
    def fit(cls, columns: Columns, rows: np.ndarray, structure: np.ndarray, target: np.ndarray | None) -> Names:
        """By training rows; ``structure`` decides how many levels there may be. ``target`` [n, m]: take its means."""
        levels, rare, sizes = [], [], []
        for j in range(columns.words.shape[1]):
            known = Counter(columns.words[structure, j])
            own = known if structure is rows else Counter(columns.words[rows, j])
            gone = known.pop(None, 0) > 0
            own.pop(None, None)
            least = _least(known)
            kept = sorted(word for word, n in own.items() if n >= least)
            levels.append(((_GONE,) if gone else ()) + tuple(kept))
            rare.append(tuple(sorted(word for word, n in own.items() if n < least)))
            sizes.append(1 + gone + sum(n >= least for n in known.values()))
        counted = tuple(j for j, size in enumerate(sizes) if size > FEW and len(structure) < _ENOUGH * size)
        averaged = () if target is None else tuple(j for j, size in enumerate(sizes) if size > _MEANS_FROM)
        found = cls(
            columns.word_names,
            tuple(levels),
            tuple(rare),
            tuple(sizes),
            counted,
            averaged,
            np.zeros(0),
            np.zeros((0, 0)),
        )
        codes = found.codes(columns.take(rows))
        counts = [np.bincount(codes[:, j], minlength=len(levels[j]) + 1) for j in counted]
        means = [] if target is None else [_means(codes[:, j], target[rows], len(levels[j]) + 1) for j in averaged]
        return cls(
            **{
                **found.__dict__,
                "counts": np.concatenate([_standard(np.log1p(c), c) for c in counts]) if counts else np.zeros(0),
                "means": np.concatenate(means) if means else np.zeros((0, 0)),
            }
        )

    def codes(self, columns: Columns) -> np.ndarray:
        """The level of each cell [n, c], 0 for what is none."""
        codes = np.zeros(columns.words.shape, dtype=np.int64)
        for j, levels in enumerate(self.levels):
            number: dict[Any, int] = {word: i + 1 for i, word in enumerate(levels)}
            number[None] = number.get(_GONE, 0)
            codes[:, j] = [number.get(word, 0) for word in columns.words[:, j]]
        return codes

    def embedded(self, codes: np.ndarray) -> np.ndarray:
        """The codes of those columns that are embedded."""
        return np.ascontiguousarray(codes[:, self._embedded])

    def numbers(self, codes: np.ndarray) -> list[np.ndarray]:
        """Blocks of numbers: means of the target by name first, then how common each name is."""
        blocks = []
        if self.averaged:
            blocks.append(
                np.concatenate(
                    [self.means[self._starts(self.averaged)[i] + codes[:, j]] for i, j in enumerate(self.averaged)],
                    axis=1,
                )
            )
        if self.counted:
            starts = self._starts(self.counted)
            blocks.append(np.stack([self.counts[starts[i] + codes[:, j]] for i, j in enumerate(self.counted)], axis=1))
        return [block.astype(np.float32) for block in blocks]

    def cross_fitted(self, columns: Columns, rows: np.ndarray, target: np.ndarray) -> np.ndarray | None:
        """The means' block for the training rows, each from the training rows of other folds [rows, columns · m]."""
        if not self.averaged:
            return None
        codes = self.codes(columns.take(rows))
        fold = np.random.default_rng(0).permutation(len(rows)) % _FOLDS
        blocks = []
        for j in self.averaged:
            size, own = len(self.levels[j]) + 1, np.empty((len(rows), target.shape[1]))
            scale = _spread(codes[:, j], target[rows], size)
            for k in range(_FOLDS):
                mine = fold == k
                own[mine] = _means(codes[~mine, j], target[rows][~mine], size, scale)[codes[mine, j]]
            blocks.append(own)
        return np.concatenate(blocks, axis=1).astype(np.float32)

    def unseen(self, columns: Columns) -> dict[str, int]:
        """How many cells of each column hold a word that training never saw."""
        counts = {}
        for j, name in enumerate(self.word_names):
            known = {*self.levels[j], *self.rare[j]}
            cells = sum(w is not None and w not in known for w in columns.words[:, j])
            if cells:
                counts[name] = cells
        return counts

    @property
    def _embedded(self) -> list[int]:
        return [j for j in range(len(self.levels)) if j not in self.averaged]

    @property
    def sizes(self) -> tuple[int, ...]:
        """How many values each embedded column takes, the one for unseen and rare words included."""
        return tuple(self.all_sizes[j] for j in self._embedded)

    @property
    def number_names(self) -> list[str]:
        """Of what ``numbers`` gives."""
        m = self.means.shape[1]
        means = [
            f"{self.word_names[j]}: mean target" + (f" {k + 1}" if m > 1 else "")
            for j in self.averaged
            for k in range(m)
        ]
        return [*means, *(f"{self.word_names[j]}: how common" for j in self.counted)]

    def _starts(self, which: tuple[int, ...]) -> list[int]:
        return np.concatenate([[0], np.cumsum([len(self.levels[j]) + 1 for j in which])]).astype(int).tolist()

    def to_record(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """Plain JSON and arrays."""
        record = {
            "word_names": list(self.word_names),
            "levels": [list(x) for x in self.levels],
            "rare": [list(x) for x in self.rare],
            "sizes": list(self.all_sizes),
            "counted": list(self.counted),
            "averaged": list(self.averaged),
        }
        return record, {"level_counts": self.counts, "level_means": self.means}

    @classmethod
    def from_record(cls, record: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> Names:
        """Read what ``to_record`` wrote."""
        return cls(
            tuple(record["word_names"]),
            tuple(tuple(x) for x in record["levels"]),
            tuple(tuple(x) for x in record["rare"]),
            tuple(record["sizes"]),
            tuple(record["counted"]),
            tuple(record["averaged"]),
            arrays["level_counts"],
            arrays["level_means"],
        )


def _least(known: Counter[Any]) -> int:
    """How many rows a name must stand in to have a place of its own."""
    if len(known) <= FEW:
        return 1
    counts = sorted(known.values(), reverse=True)
    return max(2, counts[_MOST] + 1 if len(counts) > _MOST else 2)


def _means(codes: np.ndarray, target: np.ndarray, size: int, scale: np.ndarray | None = None) -> np.ndarray:
    """The target's means by level [size, m], drawn to the mean of all, over the spread of the levels' means."""
    scale = _spread(codes, target, size) if scale is None else scale
    centre = target.mean(0) if len(target) else np.zeros(target.shape[1])
    counts = np.bincount(codes, minlength=size)[:, None]
    sums = np.stack([np.bincount(codes, target[:, k], minlength=size) for k in range(target.shape[1])], axis=1)
    return (sums - counts * centre) / (counts + _PRIOR) / scale


def _spread(codes: np.ndarray, target: np.ndarray, size: int) -> np.ndarray:
    """The deviation of the levels' means over the rows [m]."""
    own = _means(codes, target, size, np.ones(target.shape[1]))[codes]
    return np.maximum(own.std(0), 1e-3 * np.maximum(target.std(0), 1e-12))


def _standard(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Values brought to mean 0 and deviation 1 over the rows that have them."""
    mean = np.average(values, weights=weights) if weights.sum() else 0.0
    deviation = np.sqrt(np.average((values - mean) ** 2, weights=weights)) if weights.sum() else 0.0
    return (values - mean) / deviation if deviation > 1e-9 else values * 0.0
