"""One class a row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from nastavnik.data import TargetPreparation
from nastavnik.errors import UserError
from nastavnik.figure import BLUE, INK, Figure, blank
from nastavnik.kinds import level_word
from nastavnik.predictive import ClassPredictive, Predictive
from nastavnik.targets._base import Column, Fitting, Question, Said, Target, make_loss
from nastavnik.training.likelihoods import Likelihood
from nastavnik.training.losses import TrainingLoss

MOST_CLASSES = 20  # whole numbers of more distinct values are numbers
_ROWS_A_CLASS = 3  # so are those of fewer rows a value
_MOST_MEANS = 10  # classes whose shares are taken by level
_LEAST = 1e-12


class Classification(Target):
    """One of several classes, words or whole numbers of few values."""

    kind = "classification"
    of_words = True
    suits_likelihoods = ("class",)
    usual_loss = "label_smoothing"
    asks_about = "Are its probabilities honest?"

    @classmethod
    def suits(cls, column: Column) -> str | None:
        """Words, yes or no, or few whole numbers."""
        info, numbers = column.info, column.numbers
        if numbers is None:
            return f"{info.kind} of {info.distinct} values"
        if info.kind == "boolean":
            return "a boolean"
        if not np.isfinite(numbers).all() or not np.all(numbers == np.floor(numbers)):
            return None
        distinct = len(np.unique(numbers))
        if distinct > min(MOST_CLASSES, len(numbers) // _ROWS_A_CLASS):
            return None
        if column.told:
            return f"{distinct} classes, as the source says"
        return f"{distinct} distinct whole numbers, up to {MOST_CLASSES} are taken as classes"

    @classmethod
    def read(cls, column: Column) -> tuple[Target, np.ndarray]:
        """Class numbers, the classes in the order of their words or numbers."""
        words = [level_word(cell) for cell in column.values]
        classes = tuple(sorted(set(words), key=class_order))
        number = {word: i for i, word in enumerate(classes)}
        name = column.info.name
        if len(classes) > 1000 or len(classes) > 0.5 * len(words) + 5:
            raise UserError(f"the target {name!r} has {len(classes)} classes in {len(words)} rows; too many to learn")
        return cls(name, classes), np.array([number[w] for w in words])

    def likelihoods(self) -> list[str]:
        """Of two classes one logit, of more an order only if it is asked for."""
        named = [n for n in super().likelihoods() if n != "bernoulli" or len(self.classes) == 2]
        return [n for n in named if n != "ordinal" or len(self.classes) > 2]

    def likelihood(self, recipe: Mapping[str, Any]) -> Likelihood:
        """See ``Target``."""
        if recipe.get("likelihood.name") == "ordinal" and not all(class_order(c)[0] == 0 for c in self.classes):
            raise UserError(
                f"likelihood.name=ordinal needs the classes' order, but {self.name!r} holds words such as "
                f"{self.classes[0]!r}; write them as numbers that rise"
            )
        return super().likelihood(recipe)

    def loss(
        self, recipe: Mapping[str, Any], likelihood: Likelihood, rows: np.ndarray | None = None, weights: str = "none"
    ) -> TrainingLoss:
        """See ``Target``; balanced, a class weighs n / (classes · its rows)."""
        if weights != "balanced" or rows is None:
            return make_loss(recipe, likelihood)
        counts = np.bincount(rows.astype(int), minlength=len(self.classes))
        own = len(rows) / (len(self.classes) * np.maximum(counts, 1))
        return make_loss(recipe, likelihood, own.tolist())

    def prepare(self, values: np.ndarray, by: Fitting) -> TargetPreparation:
        """Class numbers as they are."""
        return TargetPreparation("class", self.classes)

    def strata(self, values: np.ndarray) -> np.ndarray:
        """The classes."""
        return values

    def averaged(self, values: np.ndarray) -> np.ndarray:
        """Whether a row is of each class but one, of the commonest ten."""
        commonest = np.argsort(-np.bincount(values.astype(int), minlength=len(self.classes)), kind="stable")
        return (values[:, None] == commonest[None, : min(_MOST_MEANS, len(self.classes) - 1)]).astype(np.float64)

    def wrong(self, predictive: Predictive, y: np.ndarray) -> np.ndarray:
        """Whether the likeliest class is another."""
        return (predictive.point() != y).astype(float)

    def questions(self, values: np.ndarray) -> list[Question]:
        """One classification."""
        return [Question("classification", values)]

    def believed(self, answers: Sequence[tuple[Said, np.ndarray]]) -> Predictive:
        """Probabilities, of classes that an estimator never saw hardly any."""
        ((record, found),) = answers
        every = np.full((len(found), len(self.classes)), _LEAST)
        if len(found):
            every[:, record["classes"]] = np.clip(found, _LEAST, 1)
        return ClassPredictive(every / every.sum(1, keepdims=True))

    def table(self, predictive: Predictive, level: float, quantiles: Sequence[float]) -> dict[str, np.ndarray]:
        """``prediction``, the likeliest class, and ``p_<class>`` for each."""
        assert isinstance(predictive, ClassPredictive)
        if quantiles:
            raise UserError(f"quantiles are of numbers, but {self.name!r} is a class")
        each = {f"p_{name}": predictive.probabilities[:, j] for j, name in enumerate(self.classes)}
        return {"prediction": np.array(self.classes, dtype=object)[predictive.point()], **each}

    def said(self, values: np.ndarray, row: int) -> str:
        """The class."""
        return self.classes[int(values[row])]

    def guessed(self, predictive: Predictive, row: int) -> str:
        """The likeliest class and its probability."""
        assert isinstance(predictive, ClassPredictive)
        own = predictive.probabilities[row]
        return f"{self.classes[int(own.argmax())]} ({own.max():.2f})"

    def picture(self, predictive: Predictive, y: np.ndarray, part: str) -> Figure:
        """Confidence against the share that is right."""
        assert isinstance(predictive, ClassPredictive)
        confidence = predictive.probabilities.max(1)
        right = predictive.point() == y
        edges = np.linspace(0, 1, 11)
        place = np.clip(np.digitize(confidence, edges) - 1, 0, 9)
        figure = blank(f"confidence ({part} rows)", "share that is right")
        used = [b for b in range(10) if (place == b).any()]
        figure.draw(
            "bar",
            x=[(edges[b] + edges[b + 1]) / 2 for b in used],
            y=[float(right[place == b].mean()) for b in used],
            text=[f"{int((place == b).sum())} rows" for b in used],
            width=0.09,
            marker={"color": BLUE, "opacity": 0.7},
            name="measured",
            hovertemplate="confidence about %{x:.2f}<br>right %{y:.3f}<br>%{text}<extra></extra>",
        )
        figure.draw("scatter", x=[0, 1], y=[0, 1], mode="lines", line={"color": INK, "dash": "dot"}, name="calibrated")
        figure.lay_out(xaxis={"range": [0, 1.02]})
        figure.lay_out(yaxis={"range": [0, 1.02]})
        return figure


def class_order(word: str) -> tuple[int, float, str]:
    """Numbers by size, then words."""
    try:
        return (0, float(word), word)
    except ValueError:
        return (1, 0.0, word)
