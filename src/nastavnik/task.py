"""Task: a dataset's target, the likelihood that suits it, and the metric it is judged by."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from nastavnik.data import TargetPreparation
from nastavnik.errors import UserError, nearest
from nastavnik.kinds import ColumnInfo, level_word, read_column
from nastavnik.training.likelihoods import LIKELIHOODS, Likelihood
from nastavnik.training.losses import LOSSES, TrainingLoss

KINDS = ("classification", "grades", "regression", "count")
_EDGE = 0.1  # how near a target of shares comes to 0 and 1
MOST_CLASSES = 20  # whole numbers of more distinct values are numbers
_CLASS_NAME = re.compile(
    r"(?i)(^|[_\s.-])(label|labels|class|classes|species|type|cluster|category|digit|kind|group)($|[_\s.-])"
)


@dataclass(frozen=True)
class Task:
    """What is to be predicted. ``kind`` decides the likelihood, its output and the scores.

    ``values`` are the target in own units: class numbers, or real values; ``why`` says how the kind was found.
    ``weights`` say how much each row counts, in training and in every score.
    The score that networks are chosen by is the validation negative log likelihood, a proper score.
    """

    kind: str
    target: str
    values: np.ndarray
    classes: tuple[str, ...] = ()
    why: str = ""
    class_weights: str = "none"
    weights: np.ndarray | None = None

    def weighed(self, each: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """What was measured of rows [n], so that its plain mean is the weighed one."""
        if self.weights is None:
            return each
        own = self.weights[rows]
        return each * (own / own.mean())

    @property
    def is_classification(self) -> bool:
        """Whether the target is a class, be it one of an order."""
        return self.kind in ("classification", "grades")

    @property
    def grades(self) -> np.ndarray | None:
        """The numbers that the classes are, where they are grades [C]."""
        return np.array([float(c) for c in self.classes]) if self.kind == "grades" else None

    @property
    def headline(self) -> str:
        """The metric shown first."""
        return "accuracy" if self.is_classification else "r2"

    def to_json(self) -> dict[str, Any]:
        """The record that stands in ``result.json``."""
        record: dict[str, Any] = {"kind": self.kind, "target": self.target}
        if self.is_classification:
            record["classes"] = list(self.classes)
        return record

    def fit_target(
        self,
        rows: np.ndarray,
        transform: str = "auto",
        structure: np.ndarray | None = None,
        likelihood: str | None = None,
    ) -> TargetPreparation:
        """The target's preparation, fitted on training rows; ``structure`` are the rows that decide its transform.

        ``likelihood`` is the name of the one that it is for, by default the usual one.

        Raises:
            UserError: a logarithm is asked for, and a value is not positive.
        """
        if self.is_classification:
            return TargetPreparation("grade" if self.kind == "grades" else "class", self.classes)
        if self.kind == "count":
            return TargetPreparation("count")
        if likelihood is not None and LIKELIHOODS[likelihood].target in ("positive", "spike"):
            self._check_positive(likelihood)
            return TargetPreparation.fit_positive(self.values[rows], spike=LIKELIHOODS[likelihood].target == "spike")
        positive = bool((self.values > 0).all())
        if transform == "log" and not positive:
            raise UserError(
                f"preparation.target=log needs values above 0, but {self.target!r} goes down to {self.values.min():g}; "
                "try preparation.target=yeo-johnson"
            )
        basis = None if structure is None else self.values[structure]
        low, high = self.range
        return TargetPreparation.fit_real(
            self.values[rows], transform, structure=basis, positive=positive, low=low, high=high
        )

    @property
    def range(self) -> tuple[float | None, float | None]:
        """What no value is below or above, where the target is never negative or a share from 0 to 1."""
        low, high = float(self.values.min()), float(self.values.max())
        share = 0 <= low < _EDGE and 1 - _EDGE < high <= 1
        return (0.0 if low >= 0 else None), (1.0 if share else None)

    @property
    def zeros(self) -> float:
        """The share of rows whose value is exactly zero, where none is negative; else 0."""
        return float(np.mean(self.values == 0)) if self.values.min() >= 0 else 0.0

    def _check_positive(self, likelihood: str) -> None:
        """Refuse values that a likelihood of what is never negative cannot have.

        Raises:
            UserError: there are some.
        """
        spike = LIKELIHOODS[likelihood].target == "spike"
        wrong = self.values < 0 if spike else self.values <= 0
        if wrong.any():
            bound = "from 0 up" if spike else "above 0"
            raise UserError(
                f"likelihood.name={likelihood} needs values {bound}, but {self.target!r} goes down to "
                f"{self.values.min():g}"
            )

    def likelihood(self, recipe: Mapping[str, Any]) -> Likelihood:
        """A fresh likelihood, as the recipe says or by default for this kind of target.

        Raises:
            UserError: the recipe's does not suit the target.
        """
        if recipe.get("likelihood.name") == "ordinal" and not all(map(_is_number, self.classes)):
            raise UserError(
                f"likelihood.name=ordinal needs the classes' order, but {self.target!r} holds words such as "
                f"{self.classes[0]!r}; write them as numbers that rise"
            )
        return make_likelihood(self.kind, len(self.classes), recipe)

    def loss(self, recipe: Mapping[str, Any], likelihood: Likelihood, rows: np.ndarray) -> TrainingLoss:
        """A fresh training loss; class weights come from the training rows.

        Raises:
            UserError: the recipe's does not suit the likelihood.
        """
        weights = None
        if self.class_weights == "balanced":
            counts = np.bincount(self.values[rows].astype(int), minlength=len(self.classes))
            weights = len(rows) / (len(self.classes) * np.maximum(counts, 1))
        return make_loss(recipe, likelihood, None if weights is None else weights.tolist())


_NO_TARGETS = {
    "date": "dates", "labels": "several labels in a cell", "image": "pictures", "array": "an array in a cell",
}  # fmt: skip
_TARGETS = {
    "classification": ("class",),
    "grades": ("class",),
    "regression": ("real", "positive", "spike"),
    "count": ("count",),
}


def likelihoods_for(kind: str, classes: int) -> list[str]:
    """Names of the likelihoods that suit a kind of target, the default first."""
    named = [name for name, known in LIKELIHOODS.items() if known.target in _TARGETS[kind]]
    named.sort(key=lambda name: kind == "grades" and name != "ordinal")  # an order is kept unless another is asked for
    return [name for name in named if (name != "bernoulli" or classes == 2) and (name != "ordinal" or classes > 2)]


def make_likelihood(kind: str, classes: int, recipe: Mapping[str, Any]) -> Likelihood:
    """The likelihood a recipe names, or the default of a kind of target.

    Raises:
        UserError: there is none of that name for this target, or its options are wrong.
    """
    known = likelihoods_for(kind, classes)
    name = str(recipe.get("likelihood.name", known[0]))
    if name not in known:
        raise UserError(f"likelihood.name cannot be {name!r} for this {kind}{nearest(name, known)}")
    options = {key.removeprefix("likelihood."): v for key, v in recipe.items() if key.startswith("likelihood.")}
    return LIKELIHOODS[name].make(classes, options)


def make_loss(recipe: Mapping[str, Any], likelihood: Likelihood, weights: list[float] | None = None) -> TrainingLoss:
    """The training loss a recipe names, by default the likelihood's own.

    Raises:
        UserError: there is none of that name, or it is not for this likelihood.
    """
    name = str(recipe.get("loss.name", "likelihood"))
    if name not in LOSSES:
        raise UserError(f"loss.name cannot be {name!r}{nearest(name, LOSSES)}")
    LOSSES[name].check(likelihood)
    return LOSSES[name]({key.removeprefix("loss."): v for key, v in recipe.items() if key.startswith("loss.")}, weights)


def find_task(values: pd.Series, info: ColumnInfo, wanted: str | None = None, *, classes: bool = False) -> Task:
    """The task of a target column whose cells all hold something, found from them or as wanted.

    Args:
        values: the cells.
        info: how they are read.
        wanted: one of ``KINDS``.
        classes: whether the source says that whole numbers are names of classes.

    Raises:
        UserError: a target of one value, of dates or free text, or not of the wanted kind.
    """
    if wanted is not None and wanted not in KINDS:
        raise UserError(f"--task must be one of {', '.join(KINDS)}, but got {wanted!r}")
    if info.kind in _NO_TARGETS:
        what = _NO_TARGETS[info.kind]
        raise UserError(f"the target {info.name!r} holds {what}; name a number or category with --target")
    if info.distinct < 2:
        raise UserError(
            f"the target {info.name!r} has 1 class, {level_word(values.iloc[0])!r}, in every row; "
            "there is nothing to learn"
        )
    numbers = _as_numbers(values, info)
    few = 5 * info.distinct <= len(values)
    if numbers is None and info.kind in ("text", "identifier") and not few:
        raise UserError(
            f"the target {info.name!r} is free text ({info.distinct} distinct values in {len(values)} rows); "
            "name a number or category with --target"
        )
    if numbers is None and wanted not in (None, "classification"):
        raise UserError(f"--task {wanted} needs numbers, but the target {info.name!r} is a {info.kind}")
    if numbers is not None and wanted != "classification" and info.kind != "boolean":
        return _number_task(values, numbers, info, wanted, classes)
    if wanted == "classification" or numbers is not None:
        return _class_task(values, info, "as asked" if wanted else f"a {info.kind}")
    return _class_task(values, info, f"{info.kind} of {info.distinct} values")


def _as_numbers(values: pd.Series, info: ColumnInfo) -> np.ndarray | None:
    """The target as numbers, where its kind gives one for each row."""
    if info.kind in ("number", "duration"):
        found = read_column(values, info).numbers.get(info.name)
        return None if found is None or info.reading.get("words") else found
    typed = pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values)
    return values.to_numpy(dtype=np.float64, na_value=np.nan) if typed and info.kind != "category" else None


def _number_task(values: pd.Series, numbers: np.ndarray, info: ColumnInfo, wanted: str | None, classes: bool) -> Task:
    if not np.isfinite(numbers).all():
        row = int(np.flatnonzero(~np.isfinite(numbers))[0]) + 1
        raise UserError(f"the target {info.name!r} is not a finite number in row {row}; mend or leave out that row")
    whole = bool(np.all(numbers == np.floor(numbers)))
    distinct = len(np.unique(numbers))
    if wanted == "count":
        if not whole or numbers.min() < 0:
            raise UserError(f"--task count needs whole numbers from 0 up, but {info.name!r} reaches {numbers.min():g}")
        return Task("count", info.name, numbers, why="as asked")
    if wanted == "grades":
        if not whole or not 3 <= distinct <= MOST_CLASSES:
            raise UserError(
                f"--task grades needs 3 to {MOST_CLASSES} different whole numbers, but {info.name!r} holds {distinct}"
                + ("" if whole else ", not all whole")
            )
        return _grades(numbers, info, "as asked")
    if wanted is None and whole and distinct <= min(MOST_CLASSES, len(numbers) // 2):
        in_a_row = distinct >= 3 and distinct == int(np.ptp(numbers)) + 1
        if in_a_row and not classes and not _CLASS_NAME.search(info.name):
            why = f"{distinct} whole numbers in a row are grades; --task classification takes them as names, "
            return _grades(numbers, info, why + "--task regression as quantities")
        why = f"{distinct} distinct whole numbers, up to {MOST_CLASSES} are taken as classes"
        return _class_task(values, info, why if not classes else f"{distinct} classes, as the source says")
    why = "as asked" if wanted else f"numbers of {distinct} distinct values"
    return Task("regression", info.name, numbers, why=why)


def _grades(numbers: np.ndarray, info: ColumnInfo, why: str) -> Task:
    levels, places = np.unique(numbers, return_inverse=True)
    return Task("grades", info.name, places.astype(np.int64), tuple(f"{v:g}" for v in levels), why)


def _class_task(values: pd.Series, info: ColumnInfo, why: str) -> Task:
    words = [level_word(cell) for cell in values]
    classes = tuple(sorted(set(words), key=_class_order))
    number = {word: i for i, word in enumerate(classes)}
    if len(classes) > 1000 or len(classes) > 0.5 * len(words) + 5:
        raise UserError(f"the target {info.name!r} has {len(classes)} classes in {len(words)} rows; too many to learn")
    return Task("classification", info.name, np.array([number[w] for w in words]), classes, why)


def _is_number(word: str) -> bool:
    return _class_order(word)[0] == 0


def _class_order(word: str) -> tuple[int, float, str]:
    try:
        return (0, float(word), word)
    except ValueError:
        return (1, 0.0, word)
