"""Which rows train, validate and test, and the folds of cross-validation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from nastavnik.errors import UserError

_NEVER = -1
PART_WORDS = {  # what people call a part of the split
    "train": "train",
    "training": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "test": "test",
    "testing": "test",
}
Fold = tuple[np.ndarray, np.ndarray]  # rows that train, rows that validate


@dataclass(frozen=True)
class Split:
    """Row ids of each part; ``folds`` divide training and validation rows together, None for a hold-out."""

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray
    folds: tuple[Fold, ...] | None
    method: str
    repeats: int = 1

    @property
    def parts(self) -> tuple[Fold, ...]:
        """The pairs a candidate is trained and validated on: one for a hold-out, k for k folds, each repeated.

        Repeated folds are divided anew; a repeated hold-out has the same rows, for networks of other seeds.
        """
        return self.folds or ((self.train, self.validation),) * self.repeats

    def repeat_of(self, part: int) -> int:
        """Which repeat a part belongs to."""
        return part * self.repeats // len(self.parts)

    @property
    def development(self) -> np.ndarray:
        """Every row that is not test, in order."""
        return np.sort(np.concatenate([self.train, self.validation]))

    def of_rows(self, rows: np.ndarray) -> Split:
        """The same split by the numbers that its rows have elsewhere."""
        folds = None if self.folds is None else tuple((rows[a], rows[b]) for a, b in self.folds)
        own = (rows[self.train], rows[self.validation], rows[self.test])
        return Split(*own, folds, self.method, self.repeats)

    def to_json(self) -> dict[str, Any]:
        """The record kept in ``dataset.json``."""
        folds = None if self.folds is None else [v.tolist() for _, v in self.folds]
        rows = {name: getattr(self, name).tolist() for name in ("train", "validation", "test")}
        return {"method": self.method, **rows, "validation_rows_of_folds": folds, "repeats": self.repeats}


def split_rows(
    n: int,
    *,
    seed: int,
    classes: np.ndarray | None = None,
    groups: np.ndarray | None = None,
    times: np.ndarray | None = None,
    copies: np.ndarray | None = None,
    given: np.ndarray | None = None,
    folds: int | None = None,
    repeats: int = 1,
    test: float = 0.1,
    validation: float = 0.1,
) -> Split:
    """Divide n rows: shuffled (by class where given), by whole groups, by time, or as the source says.

    Args:
        n: rows.
        seed: decides every draw.
        classes: class numbers to stratify by.
        groups: rows of one group never straddle two parts.
        times: later rows are test, the ones before them validation.
        copies: of each row the first row that it repeats: copies follow it into its part.
        given: "train", "validation" or "test" per row.
        folds: divide the non-test rows into this many folds as well.
        repeats: divide them so many times, each time otherwise.
        test: the test part's share; 0 for none.
        validation: the validation part's share.

    Raises:
        UserError: a part would be empty.
    """
    if copies is not None and given is None and groups is None and times is None:
        firsts = np.unique(copies)
        own = split_rows(
            len(firsts),
            seed=seed,
            classes=None if classes is None else classes[firsts],
            folds=folds,
            repeats=repeats,
            test=test,
            validation=validation,
        )
        return _with_copies(own, np.searchsorted(firsts, copies))
    rng = np.random.default_rng(seed)
    rows = np.arange(n)
    if given is not None:
        method = "as given"
        held = rows[given == "test"]
        rest = rows[given != "test"]
        chosen = rows[given == "validation"]
        if not len(chosen):
            chosen = _draw(rest, validation, rng, classes, groups, times)
    else:
        method = "by time" if times is not None else "by group" if groups is not None else "shuffled"
        method += " and stratified" if classes is not None and times is None and groups is None else ""
        held = _draw(rows, test, rng, classes, groups, times)
        rest = np.setdiff1d(rows, held)
        chosen = _draw(rest, validation * n / max(len(rest), 1), rng, classes, groups, times)
    train = np.setdiff1d(rest, chosen)
    for name, part, wanted in (("training", train, 1.0), ("validation", chosen, validation), ("test", held, test)):
        if wanted and not len(part):
            raise UserError(f"the {name} part of the split ({method}) would be empty; give more rows or groups")
    pairs = None
    if folds and times is None:
        pairs = tuple(pair for _ in range(repeats) for pair in _folds(rest, folds, rng, classes, groups))
    return Split(train, chosen, held, pairs, method, repeats)


def _with_copies(split: Split, place: np.ndarray) -> Split:
    """A split of different rows as one of all rows, each of which follows the one that it repeats (``place`` [n])."""

    def all_of(rows: np.ndarray) -> np.ndarray:
        return np.flatnonzero(np.isin(place, rows))

    folds = None if split.folds is None else tuple((all_of(a), all_of(b)) for a, b in split.folds)
    parts = (all_of(split.train), all_of(split.validation), all_of(split.test))
    return Split(*parts, folds, split.method, split.repeats)


def _draw(
    rows: np.ndarray,
    share: float,
    rng: np.random.Generator,
    classes: np.ndarray | None,
    groups: np.ndarray | None,
    times: np.ndarray | None,
) -> np.ndarray:
    """Rows of one part, sorted."""
    count = max(1, round(share * len(rows))) if share else 0
    if count == 0:
        return rows[:0]
    if times is not None:
        ordered = rows[np.argsort(times[rows], kind="stable")]
        first = times[ordered[-count]]  # rows of one moment stay together
        return np.sort(ordered[times[ordered] >= first])
    if groups is not None:
        return rows[np.isin(groups[rows], _groups_of_about(groups[rows], count, rng))]
    if classes is not None:
        return np.sort(_stratified(rows, classes[rows], count, rng))
    return np.sort(rng.permutation(rows)[:count])


def _groups_of_about(groups: np.ndarray, count: int, rng: np.random.Generator) -> list[Any]:
    """Whole groups, in random order, that together have about ``count`` rows; one that overshoots by half is passed."""
    names, sizes = np.unique(groups, return_counts=True)
    if len(names) < 2:
        return []
    taken: list[Any] = []
    total = 0
    for i in rng.permutation(len(names)):
        if total >= count:
            break
        if total + sizes[i] <= max(1.5 * count, 1):
            taken.append(names[i])
            total += int(sizes[i])
    return taken or [names[int(np.argmin(sizes))]]


def _stratified(rows: np.ndarray, classes: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """``count`` rows in which each class keeps its share (largest remainders get the rest)."""
    labels, sizes = np.unique(classes, return_counts=True)
    wanted = sizes * count / len(rows)
    takes = np.floor(wanted).astype(int)
    rest = np.argsort(-(wanted - takes + rng.random(len(labels)) * 1e-6), kind="stable")[: count - takes.sum()]
    takes[rest] += 1
    takes = np.minimum(takes, np.maximum(sizes - 1, 0))  # a class never leaves the training part
    picked = [rng.permutation(rows[classes == c])[:k] for c, k in zip(labels, takes, strict=True)]
    return np.concatenate(picked)


def _folds(
    rows: np.ndarray, k: int, rng: np.random.Generator, classes: np.ndarray | None, groups: np.ndarray | None
) -> tuple[Fold, ...]:
    """k pairs (train, validation) that together validate every row once, but the only row of a class never."""
    k = min(k, len(rows))
    if groups is not None:
        names = rng.permutation(np.unique(groups[rows]))
        place = dict(zip(names, np.arange(len(names)) % k, strict=True))
        number = np.array([place[g] for g in groups[rows]])
        k = min(k, len(names))
    else:
        order = rng.permutation(len(rows))
        if classes is not None:  # deal each class round the folds
            order = order[np.argsort(classes[rows][order], kind="stable")]
        number = np.empty(len(rows), dtype=int)
        number[order] = np.arange(len(rows)) % k
        if classes is not None:  # nothing can be learned of a class whose only row is held out
            names, counts = np.unique(classes[rows], return_counts=True)
            number[np.isin(classes[rows], names[counts == 1])] = _NEVER
    return tuple((rows[number != i], rows[number == i]) for i in range(k))
