"""Task: a dataset's target, the likelihood that suits it, and the metric it is judged by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from nastavnik.data import ColumnInfo, TargetPreparation, is_missing, to_numbers, to_words
from nastavnik.errors import UserError, nearest
from nastavnik.training.likelihoods import LIKELIHOODS, Likelihood
from nastavnik.training.losses import LOSSES, TrainingLoss

KINDS = ("classification", "regression", "count")
MOST_CLASSES = 20  # whole numbers of more distinct values are numbers


@dataclass(frozen=True)
class Task:
    """What is to be predicted. ``kind`` decides the likelihood, its output and the scores.

    ``values`` are the target in own units: class numbers, or real values; ``why`` says how the kind was found.
    The score that networks are chosen by is the validation negative log likelihood, a proper score.
    """

    kind: str
    target: str
    values: np.ndarray
    classes: tuple[str, ...] = ()
    why: str = ""
    class_weights: str = "none"

    @property
    def is_classification(self) -> bool:
        """Whether the target is a class."""
        return self.kind == "classification"

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
        self, rows: np.ndarray, transform: str = "auto", structure: np.ndarray | None = None
    ) -> TargetPreparation:
        """The target's preparation, fitted on training rows; ``structure`` are the rows that decide its transform.

        Raises:
            UserError: a logarithm is asked for, and a value is not positive.
        """
        if self.is_classification:
            return TargetPreparation("class", self.classes)
        if self.kind == "count":
            return TargetPreparation("count")
        positive = bool((self.values > 0).all())
        if transform == "log" and not positive:
            raise UserError(
                f"preparation.target=log needs values above 0, but {self.target!r} goes down to {self.values.min():g}; "
                "try preparation.target=yeo-johnson"
            )
        basis = None if structure is None else self.values[structure]
        return TargetPreparation.fit_real(self.values[rows], transform, structure=basis, positive=positive)

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


_TARGETS = {"classification": "class", "regression": "real", "count": "count"}


def likelihoods_for(kind: str, classes: int) -> list[str]:
    """Names of the likelihoods that suit a kind of target, the default first."""
    named = [name for name, known in LIKELIHOODS.items() if known.target == _TARGETS[kind]]
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


def find_task(frame: pd.DataFrame, info: ColumnInfo, wanted: str | None = None) -> Task:
    """The task of a target column, found from its values or as wanted.

    Raises:
        UserError: a target of one value, with missing cells, of free text, or not of the wanted kind.
    """
    if wanted is not None and wanted not in KINDS:
        raise UserError(f"--task must be one of {', '.join(KINDS)}, but got {wanted!r}")
    values = frame[info.name]
    missing = is_missing(values)
    if missing.all():
        raise UserError(f"every cell of the target {info.name!r} is missing; choose another with --target")
    if missing.any():
        row = int(np.flatnonzero(missing)[0]) + 1
        raise UserError(
            f"the target {info.name!r} is missing in {int(missing.sum())} of {len(missing)} rows (first: row {row}); "
            "leave those rows out"
        )
    if info.kind == "date":
        raise UserError(f"the target {info.name!r} holds dates; name a number or category with --target")
    few = info.kind == "text" and 5 * info.distinct <= len(values)
    if (info.kind == "text" and not few) or (info.kind == "identifier" and not _is_numeric(values, info)):
        raise UserError(
            f"the target {info.name!r} is free text ({info.distinct} distinct values in {len(values)} rows); "
            "name a number or category with --target"
        )
    if info.distinct < 2:
        raise UserError(
            f"the target {info.name!r} has 1 class, {values.iloc[0]!r}, in every row; there is nothing to learn"
        )
    numeric = info.kind in ("number", "identifier") and _is_numeric(values, info)
    if wanted in ("regression", "count") and not numeric:
        raise UserError(f"--task {wanted} needs numbers, but the target {info.name!r} is a {info.kind}")
    if numeric and wanted != "classification":
        return _number_task(values, info, wanted)
    if numeric or info.kind == "category" or wanted == "classification":
        return _class_task(values, info, f"{info.kind} of {info.distinct} values" if wanted is None else "as asked")
    return _class_task(values, info, f"a {info.kind}")


def _is_numeric(values: pd.Series, info: ColumnInfo) -> bool:
    if pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values):
        return True
    return info.kind == "number"


def _number_task(values: pd.Series, info: ColumnInfo, wanted: str | None) -> Task:
    numbers = to_numbers(values, info)
    if np.isnan(numbers).any() or not np.isfinite(numbers).all():
        row = int(np.flatnonzero(~np.isfinite(numbers))[0]) + 1
        raise UserError(f"the target {info.name!r} is not a finite number in row {row}; mend or leave out that row")
    whole = bool(np.all(numbers == np.floor(numbers)))
    if wanted == "count":
        if not whole or numbers.min() < 0:
            raise UserError(f"--task count needs whole numbers from 0 up, but {info.name!r} reaches {numbers.min():g}")
        return Task("count", info.name, numbers, why="as asked")
    if wanted is None and whole and info.distinct <= min(MOST_CLASSES, len(numbers) // 2):
        why = f"{info.distinct} distinct whole numbers, up to {MOST_CLASSES} are taken as classes"
        return _class_task(values, info, why)
    why = "as asked" if wanted else f"numbers of {info.distinct} distinct values"
    return Task("regression", info.name, numbers, why=why)


def _class_task(values: pd.Series, info: ColumnInfo, why: str) -> Task:
    words = to_words(values, info)
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
