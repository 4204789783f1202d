"""Several labels a row, each there or not."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nastavnik.errors import UserError
from nastavnik.figure import BLUE, Figure, blank
from nastavnik.kinds import read_column
from nastavnik.predictive import LabelsPredictive, Predictive
from nastavnik.targets._base import Column, Question, Said, Target

_FEWEST = 2  # rows a label must stand in
_MOST = 1000
_SHOWN = 30  # of a picture
_SHORT = 8  # labels of one row in words
_LEAST = 1e-6


class Labels(Target):
    """Several labels in a cell, each there or not."""

    kind = "labels"
    of_words = True
    suits_likelihoods = ("labels",)
    asks_about = "Which labels are found"

    @classmethod
    def suits(cls, column: Column) -> str | None:
        """Cells that hold several names."""
        return "several names in a cell" if column.info.kind == "labels" else None

    @classmethod
    def read(cls, column: Column) -> tuple[Target, np.ndarray]:
        """Whether each label is there [n, L]; labels of a single row are left out."""
        info = column.info
        if info.kind != "labels":
            raise UserError(
                f"--task labels needs several names in a cell, but the target {info.name!r} is a {info.kind}; "
                f"if it holds some, say so with --kind {info.name}=labels"
            )
        bag = read_column(column.values, info).bags[info.name]
        rows = bag.rows_with()
        kept = [word for word, n in zip(bag.vocabulary, rows, strict=True) if _FEWEST <= n < len(column.values)]
        if len(kept) < 2 or len(kept) > _MOST:
            raise UserError(
                f"the target {info.name!r} holds {len(kept)} labels that stand in some rows and not in others; "
                f"2 to {_MOST} can be learned"
            )
        kept.sort()
        return cls(info.name, tuple(kept)), (bag.dense(tuple(kept)) > 0).astype(np.float64)

    def wrong(self, predictive: Predictive, y: np.ndarray) -> np.ndarray:
        """Whether any label of a row is wrong."""
        return (predictive.point() != y).any(1).astype(float)

    def questions(self, values: np.ndarray) -> list[Question]:
        """A classification for each label."""
        return [Question("classification", own) for own in values.T]

    def believed(self, answers: Sequence[tuple[Said, np.ndarray]]) -> Predictive:
        """The probability that each is there."""
        each = [
            found @ (np.array(record["classes"]) == 1).astype(float) if len(found) else found
            for record, found in answers
        ]
        return LabelsPredictive(np.clip(np.stack(each, axis=1), _LEAST, 1 - _LEAST))

    def table(self, predictive: Predictive, level: float, quantiles: Sequence[float]) -> dict[str, np.ndarray]:
        """``prediction``, the labels that are likelier there than not, and ``p_<label>`` for each."""
        assert isinstance(predictive, LabelsPredictive)
        if quantiles:
            raise UserError(f"quantiles are of numbers, but {self.name!r} holds labels")
        each = {f"p_{name}": predictive.probabilities[:, j] for j, name in enumerate(self.classes)}
        words = [", ".join(self._there(row)) for row in predictive.point()]
        return {"prediction": np.array(words, dtype=object), **each}

    def said(self, values: np.ndarray, row: int) -> str:
        """The labels."""
        return _listed(self._there(values[row]))

    def guessed(self, predictive: Predictive, row: int) -> str:
        """The labels that are likelier there than not."""
        return _listed(self._there(predictive.point()[row]))

    def picture(self, predictive: Predictive, y: np.ndarray, part: str) -> Figure:
        """Of each label the share of its rows in which it is found, the commonest labels first."""
        said = predictive.point()
        order = np.argsort(-y.sum(0), kind="stable")[:_SHOWN]
        order = order[y[:, order].sum(0) > 0]
        figure = blank(f"share of its {part} rows in which it is found", "")
        figure.draw(
            "bar",
            x=[float((said[:, j] * y[:, j]).sum() / y[:, j].sum()) for j in order],
            y=[self.classes[j] for j in order],
            text=[f"{int(y[:, j].sum())} rows" for j in order],
            orientation="h",
            marker={"color": BLUE},
            showlegend=False,
            hovertemplate="%{y}: %{x:.3f} of %{text}<extra></extra>",
        )
        figure.lay_out(yaxis={"autorange": "reversed"}, xaxis={"range": [0, 1.02]})
        figure.lay_out(height=182 + 22 * len(order))
        return figure

    def _there(self, row: np.ndarray) -> list[str]:
        return [self.classes[j] for j in np.flatnonzero(row > 0.5)]


def _listed(words: list[str]) -> str:
    return ", ".join(words[:_SHORT]) + (" …" if len(words) > _SHORT else "") if words else "none"
