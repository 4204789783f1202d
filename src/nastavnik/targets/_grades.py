"""One grade a row: classes of an order."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from nastavnik.data import TargetPreparation
from nastavnik.errors import UserError
from nastavnik.predictive import ClassPredictive, Predictive
from nastavnik.targets._base import Column, Fitting, Said, Target, quantile_columns
from nastavnik.targets._classification import MOST_CLASSES, Classification

_CLASS_NAME = re.compile(
    r"(?i)(^|[_\s.-])(label|labels|class|classes|species|type|cluster|category|digit|kind|group)($|[_\s.-])"
)


class Grades(Classification):
    """Three to twenty whole numbers in a row, of which more is more."""

    kind = "grades"
    of_words = False

    @classmethod
    def suits(cls, column: Column) -> str | None:
        """Few whole numbers in a row, under a name that does not say that they are names."""
        told = Classification.suits(column)
        if told is None or column.told or column.numbers is None or column.info.kind == "boolean":
            return None
        distinct = len(np.unique(column.numbers))
        in_a_row = distinct >= 3 and distinct == int(np.ptp(column.numbers)) + 1
        if not in_a_row or _CLASS_NAME.search(column.info.name):
            return None
        return (
            f"{distinct} whole numbers in a row are grades; --task classification takes them as names, "
            "--task regression as quantities"
        )

    @classmethod
    def read(cls, column: Column) -> tuple[Target, np.ndarray]:
        """The grades' places in their order."""
        numbers = column.wants_numbers(cls.kind)
        levels, places = np.unique(numbers, return_inverse=True)
        whole = bool(np.all(numbers == np.floor(numbers)))
        if not whole or not 3 <= len(levels) <= MOST_CLASSES:
            raise UserError(
                f"--task grades needs 3 to {MOST_CLASSES} different whole numbers, but {column.info.name!r} holds "
                f"{len(levels)}" + ("" if whole else ", not all whole")
            )
        return cls(column.info.name, tuple(f"{v:g}" for v in levels)), places.astype(np.int64)

    @property
    def numbers(self) -> np.ndarray:
        """The numbers that the classes are [C]."""
        return np.array([float(c) for c in self.classes])

    def likelihoods(self) -> list[str]:
        """The order is kept unless another is asked for."""
        return sorted(super().likelihoods(), key=lambda name: name != "ordinal")

    def prepare(self, values: np.ndarray, by: Fitting) -> TargetPreparation:
        """Places as they are."""
        return TargetPreparation("grade", self.classes)

    def rivals(self, values: np.ndarray) -> tuple[str, ...]:
        """With the order and without."""
        return ("ordinal", "categorical")

    def believed(self, answers: Sequence[tuple[Said, np.ndarray]]) -> Predictive:
        """Probabilities of grades."""
        found = super().believed(answers)
        assert isinstance(found, ClassPredictive)
        return replace(found, grades=self.numbers)

    def table(self, predictive: Predictive, level: float, quantiles: Sequence[float]) -> dict[str, np.ndarray]:
        """``prediction``, ``p_<grade>``, ``expected`` (the mean), and a column for each quantile."""
        assert isinstance(predictive, ClassPredictive)
        table = super().table(predictive, level, ())
        return {**table, "expected": predictive.expected(), **quantile_columns(predictive, quantiles)}
