"""One count a row."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nastavnik.errors import UserError
from nastavnik.predictive import CountPredictive, Predictive
from nastavnik.targets._base import Column, OfNumber, Question, Said, Target


class Count(OfNumber):
    """How often something happened: whole numbers from 0 up."""

    kind = "count"
    suits_likelihoods = ("count",)

    @classmethod
    def read(cls, column: Column) -> tuple[Target, np.ndarray]:
        """The counts."""
        numbers = column.wants_numbers(cls.kind)
        if numbers.min() < 0 or not bool(np.all(numbers == np.floor(numbers))):
            name = column.info.name
            raise UserError(f"--task count needs whole numbers from 0 up, but {name!r} reaches {numbers.min():g}")
        return cls(column.info.name), numbers

    def questions(self, values: np.ndarray) -> list[Question]:
        """One, of a rate."""
        return [Question("count", values)]

    def believed(self, answers: Sequence[tuple[Said, np.ndarray]]) -> Predictive:
        """Poisson's distribution of that rate."""
        ((_, found),) = answers
        return CountPredictive(np.maximum(found, 1e-6)[None])
