"""How people voted on a row: counts or shares of each class, a column each."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nastavnik.errors import UserError
from nastavnik.predictive import Predictive, VotesPredictive
from nastavnik.targets._base import Column, Question, Said, Target

_LEAST = 1e-6


class Votes(Target):
    """Counts or shares of votes for each class, read from a column each (``--target cat,dog --task votes``)."""

    kind = "votes"
    together = True
    suits_likelihoods = ("votes",)

    @classmethod
    def read(cls, column: Column) -> tuple[Target, np.ndarray]:
        """Not from one column.

        Raises:
            UserError: always.
        """
        raise UserError(f"--task votes needs a column for each class, but --target names {column.info.name!r} alone")

    @classmethod
    def read_together(cls, columns: Sequence[Column]) -> tuple[Target, np.ndarray]:
        """The votes [n, classes] of columns that are a class each.

        Raises:
            UserError: a column holds no numbers from 0 up, or a row no vote.
        """
        names = [column.info.name for column in columns]
        values = np.stack([column.wants_numbers(cls.kind) for column in columns], axis=1)
        if (values < 0).any():
            row, place = (int(i[0]) for i in np.nonzero(values < 0))
            raise UserError(f"--task votes needs numbers from 0 up, but {names[place]!r} holds less in row {row + 1}")
        none = np.flatnonzero(values.sum(1) == 0)
        if len(none):
            raise UserError(f"nobody voted in row {none[0] + 1}: {', '.join(names)} are all 0; leave out that row")
        return cls(", ".join(names), tuple(names)), values

    @property
    def columns(self) -> tuple[str, ...]:
        """One for each class."""
        return self.classes

    def averaged(self, values: np.ndarray) -> np.ndarray:
        """The shares of all classes but the last."""
        return (values / values.sum(1, keepdims=True))[:, :-1]

    def wrong(self, predictive: Predictive, y: np.ndarray) -> np.ndarray:
        """Whether the class of most votes is another."""
        return (predictive.point().argmax(1) != y.argmax(1)).astype(float)

    def questions(self, values: np.ndarray) -> list[Question]:
        """A regression for each class's share."""
        return [Question("regression", own) for own in (values / values.sum(1, keepdims=True)).T]

    def believed(self, answers: Sequence[tuple[Said, np.ndarray]]) -> Predictive:
        """The shares, brought to a sum of one."""
        shares = np.clip(np.stack([found for _, found in answers], axis=1), _LEAST, None)
        return VotesPredictive(shares / shares.sum(1, keepdims=True))

    def table(self, predictive: Predictive, level: float, quantiles: Sequence[float]) -> dict[str, np.ndarray]:
        """``prediction``, the likeliest class, and ``p_<class>`` for each, the share it is expected to have."""
        if quantiles:
            raise UserError(f"quantiles are of numbers, but {self.name!r} are votes")
        shares = predictive.point()
        each = {f"p_{name}": shares[:, j] for j, name in enumerate(self.classes)}
        return {"prediction": np.array(self.classes, dtype=object)[shares.argmax(1)], **each}

    def said(self, values: np.ndarray, row: int) -> str:
        """Each class's votes."""
        return ", ".join(f"{name} {v:g}" for name, v in zip(self.classes, values[row], strict=True) if v)

    def guessed(self, predictive: Predictive, row: int) -> str:
        """The likeliest class and its share."""
        own = predictive.point()[row]
        return f"{self.classes[int(own.argmax())]} ({own.max():.2f})"
