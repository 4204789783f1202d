"""What a kind of target is: the contract."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np
import pandas as pd

from nastavnik.data import TargetPreparation
from nastavnik.errors import UserError, nearest
from nastavnik.figure import BLUE, INK, Figure, blank
from nastavnik.kinds import ColumnInfo
from nastavnik.predictive import Predictive, RealPredictive
from nastavnik.training.likelihoods import LIKELIHOODS, Likelihood
from nastavnik.training.losses import LOSSES, TrainingLoss

_MOST_POINTS = 4000  # of a picture
Said = Mapping[str, Any]


@dataclass(frozen=True)
class Column:
    """A target's cells, which all hold something, as a kind of target looks at them.

    ``numbers`` are the cells as numbers where they give any; ``told`` says that the source calls whole numbers names of
    classes.
    """

    values: pd.Series
    info: ColumnInfo
    numbers: np.ndarray | None = None
    told: bool = False

    def wants_numbers(self, kind: str) -> np.ndarray:
        """The cells as finite numbers.

        Raises:
            UserError: they are none.
        """
        name = self.info.name
        if self.numbers is None:
            raise UserError(f"--task {kind} needs numbers, but the target {name!r} is a {self.info.kind}")
        if not np.isfinite(self.numbers).all():
            row = int(np.flatnonzero(~np.isfinite(self.numbers))[0]) + 1
            raise UserError(f"the target {name!r} is not a finite number in row {row}; mend or leave out that row")
        return self.numbers


class Found(NamedTuple):
    """A target, its values in own units [n] or [n, columns], and how its kind was found."""

    target: Target
    values: np.ndarray
    why: str


class Question(NamedTuple):
    """What a cheap estimator is asked: "classification", "count" or "regression" of values [n], NaN if not known."""

    task: str
    values: np.ndarray


class Fitting(NamedTuple):
    """By what a target is prepared: the training ``rows``; how real values are given another shape (``transform``, or
    "auto"); the rows that decide that, so that folds share it (``structure``, by default ``rows``); the name of the
    ``likelihood`` that it is for, by default the usual one.
    """

    rows: np.ndarray
    transform: str = "auto"
    structure: np.ndarray | None = None
    likelihood: str | None = None


@dataclass(frozen=True)
class Target(ABC):
    """What is to be predicted, and all that training, scores, baselines and pages need to know of its kind.

    ``name`` is the column's; ``classes`` are the words that values are numbers of, where they are. Values [n] or
    [n, columns] are in own units. A kind is one file: subclass, and a line in ``TARGETS``.
    """

    name: str
    classes: tuple[str, ...] = ()

    kind: ClassVar[str]
    suits_likelihoods: ClassVar[tuple[str, ...]]  # what likelihoods call their target; losses are for the first
    usual_loss: ClassVar[str] = "likelihood"
    together: ClassVar[bool] = False  # whether it is read from several columns, all of which must be known
    of_words: ClassVar[bool] = False  # whether it may be asked for where cells are no numbers
    asks_about: ClassVar[str] = "Predicted and true"  # the report's picture

    # Finding it

    @classmethod
    def suits(cls, column: Column) -> str | None:
        """Why a column is taken for this kind where none is asked for; None where it is not: by default never."""
        return None

    @classmethod
    @abstractmethod
    def read(cls, column: Column) -> tuple[Target, np.ndarray]:
        """The target and its values.

        Raises:
            UserError: the column cannot be of this kind.
        """

    @property
    def columns(self) -> tuple[str, ...]:
        """The table's columns that it is read from."""
        return (self.name,)

    @property
    def parts(self) -> tuple[Target, ...]:
        """Each target by itself."""
        return (self,)

    def divided(self, values: np.ndarray) -> list[np.ndarray]:
        """Each target's own values."""
        return [values]

    # Training

    def likelihoods(self) -> list[str]:
        """Names of the likelihoods that suit it, the default first."""
        return [name for name, known in LIKELIHOODS.items() if known.target in self.suits_likelihoods]

    def likelihood(self, recipe: Mapping[str, Any]) -> Likelihood:
        """A fresh one, as the recipe says or by default.

        Raises:
            UserError: there is none of that name for this target, or its options are wrong.
        """
        known = self.likelihoods()
        name = str(recipe.get("likelihood.name", known[0]))
        if name not in known:
            raise UserError(f"likelihood.name cannot be {name!r} for this {self.kind}{nearest(name, known)}")
        options = {key.removeprefix("likelihood."): v for key, v in recipe.items() if key.startswith("likelihood.")}
        return LIKELIHOODS[name].make(len(self.classes), options)

    def losses(self) -> list[str]:
        """Names of the training losses that suit it."""
        return [name for name, loss in LOSSES.items() if self.suits_likelihoods[0] in loss.targets]

    def loss(
        self, recipe: Mapping[str, Any], likelihood: Likelihood, rows: np.ndarray | None = None, weights: str = "none"
    ) -> TrainingLoss:
        """A fresh training loss, as the recipe says or the likelihood's own.

        Args:
            recipe: the recipe.
            likelihood: what judges.
            rows: the values of the training rows, where ``weights`` look at them.
            weights: "none", or "balanced": classes count alike.

        Raises:
            UserError: there is none of that name, or it is not for this likelihood.
        """
        return make_loss(recipe, likelihood)

    def prepare(self, values: np.ndarray, by: Fitting) -> TargetPreparation:
        """How values, all of them in own units, become what the likelihood sees.

        Raises:
            UserError: values are not what the transform or the likelihood needs.
        """
        return TargetPreparation(self.kind)

    @property
    def has_noise(self) -> bool:
        """Whether its likelihoods have a noise that a recipe sets."""
        return False

    def transforms(self) -> bool:
        """Whether its values may be given another shape before they are learned."""
        return False

    def rivals(self, values: np.ndarray) -> tuple[str, ...]:
        """The likelihoods that are to be compared by a short training, the usual one first; none without a question."""
        return ()

    def strata(self, values: np.ndarray) -> np.ndarray | None:
        """Class numbers [n], which a split shares out evenly; None where there are none."""
        return None

    def averaged(self, values: np.ndarray) -> np.ndarray:
        """Values [n, m] whose means a preparation may take by a category's levels, NaN where they are not known."""
        return values.reshape(len(values), -1).astype(np.float64)

    # Judging

    def wrong(self, predictive: Predictive, y: np.ndarray) -> np.ndarray | None:
        """Whether the class is wrong [n], as 0 and 1; None where there are no classes."""
        return None

    def explained(self, predictive: Predictive, y: np.ndarray) -> float | None:
        """The share of the variance in own units that is explained (R²); None where predictions have bounds."""
        return None

    def surprise(self, predictive: Predictive, y: np.ndarray) -> np.ndarray:
        """What likelihoods are compared by, row by row [n], the less the better: nats where densities compare."""
        return predictive.neg_log_likelihood(y)

    # Cheap baselines

    @abstractmethod
    def questions(self, values: np.ndarray) -> list[Question]:
        """What estimators are asked, one each."""

    @abstractmethod
    def believed(self, answers: Sequence[tuple[Said, np.ndarray]]) -> Predictive:
        """Their answers, each with its record (``classes`` it saw, ``noise``), as a distribution of the target."""

    # Faces

    @abstractmethod
    def table(self, predictive: Predictive, level: float, quantiles: Sequence[float]) -> dict[str, np.ndarray]:
        """The columns of a prediction file.

        Raises:
            UserError: quantiles are asked for, and there are none.
        """

    @abstractmethod
    def said(self, values: np.ndarray, row: int) -> str:
        """The value of one row in words."""

    @abstractmethod
    def guessed(self, predictive: Predictive, row: int) -> str:
        """What is predicted of one row, in words."""

    def picture(self, predictive: Predictive, y: np.ndarray, part: str) -> Figure:
        """How good predictions of a part's rows are, at a glance: predicted against true values."""
        guess, y = predictive.point(), y.astype(np.float64)
        some = np.random.default_rng(0).permutation(len(y))[:_MOST_POINTS]
        figure = blank(f"predicted ({part} rows)", "true")
        figure.draw(
            "scattergl",
            x=guess[some],
            y=y[some],
            mode="markers",
            marker={"size": 4, "color": BLUE, "opacity": 0.5},
            name="rows",
            text=some,
            hovertemplate="predicted %{x:.4g}<br>true %{y:.4g}<extra></extra>",
        )
        ends = [float(min(guess.min(), y.min())), float(max(guess.max(), y.max()))]
        figure.draw("scatter", x=ends, y=ends, mode="lines", line={"color": INK, "dash": "dot"}, name="exact")
        return figure

    # Records

    def to_json(self) -> dict[str, Any]:
        """The record that stands in ``result.json`` and ``model.json``."""
        record: dict[str, Any] = {"kind": self.kind, "target": self.name}
        return {**record, "classes": list(self.classes)} if self.classes else record

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Target:
        """Read what ``to_json`` wrote."""
        return cls(record["target"], tuple(record.get("classes", ())))


class OfNumber(Target):
    """What targets of one number a row share."""

    def averaged(self, values: np.ndarray) -> np.ndarray:
        """As they are."""
        return values[:, None].astype(np.float64)

    def explained(self, predictive: Predictive, y: np.ndarray) -> float:
        """R²."""
        y = y.astype(np.float64)
        error, spread = predictive.point() - y, y - y.mean()
        with np.errstate(over="ignore", invalid="ignore"):
            return float(1 - (error**2).sum() / max(float((spread**2).sum()), 1e-300))

    def questions(self, values: np.ndarray) -> list[Question]:
        """One regression."""
        return [Question("regression", values)]

    def believed(self, answers: Sequence[tuple[Said, np.ndarray]]) -> Predictive:
        """With normal noise."""
        ((record, found),) = answers
        return RealPredictive(found[None], np.full((1, len(found)), record["noise"]), TargetPreparation("real"))

    def table(self, predictive: Predictive, level: float, quantiles: Sequence[float]) -> dict[str, np.ndarray]:
        """``prediction``, ``low``, ``high`` and a column for each quantile."""
        interval = predictive.interval(level)
        assert interval is not None
        table = {"prediction": predictive.point(), "low": interval[0], "high": interval[1]}
        return {**table, **quantile_columns(predictive, quantiles)}

    def said(self, values: np.ndarray, row: int) -> str:
        """The number."""
        return in_digits(float(values[row]))

    def guessed(self, predictive: Predictive, row: int) -> str:
        """The number."""
        return in_digits(float(predictive.take(np.array([row])).point()[0]))


def quantile_columns(predictive: Predictive, quantiles: Sequence[float]) -> dict[str, np.ndarray]:
    """A column ``q<share>`` for each."""
    found = {}
    for q in quantiles:
        value = predictive.quantile(q)
        assert value is not None
        found[f"q{q:g}"] = value
    return found


def in_digits(value: float) -> str:
    """A number in four significant digits, large ones with separators."""
    return f"{value:,.0f}".replace(",", "\u2009") if abs(value) >= 10_000 else f"{value:.4g}"


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
