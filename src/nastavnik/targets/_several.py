"""Several targets of a row, learned together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nastavnik.data import SeveralPreparations, TargetPreparation
from nastavnik.errors import UserError, nearest
from nastavnik.predictive import JointPredictive, Predictive, divided
from nastavnik.targets._base import Column, Fitting, Question, Said, Target
from nastavnik.training.likelihoods import Likelihood
from nastavnik.training.likelihoods import Several as SeveralLikelihood
from nastavnik.training.losses import SeveralLosses, TrainingLoss


@dataclass(frozen=True)
class Several(Target):
    """Several targets, each of a kind of its own: one network, and a likelihood for each target.

    Values are [n, columns], one target's beside the other's, NaN where one is not known. ``shares`` are what each
    target's loss counts; 1 for all leaves it to their likelihoods (Kendall et al. 2018).
    """

    each: tuple[Target, ...] = ()
    widths: tuple[int, ...] = ()
    shares: tuple[float, ...] = ()

    kind = "several"
    suits_likelihoods = ("several",)

    @classmethod
    def of(cls, found: Sequence[tuple[Target, np.ndarray]], shares: Mapping[str, float]) -> tuple[Several, np.ndarray]:
        """Targets with their values, put together; ``shares`` by a target's name."""
        targets = tuple(target for target, _ in found)
        values = [v.reshape(len(v), -1).astype(np.float64) for _, v in found]
        name = ", ".join(t.name for t in targets)
        own = tuple(float(shares.get(t.name, 1.0)) for t in targets)
        several = cls(name, each=targets, widths=tuple(v.shape[1] for v in values), shares=own)
        return several, np.concatenate(values, axis=1)

    @classmethod
    def read(cls, column: Column) -> tuple[Target, np.ndarray]:
        """Not from one column.

        Raises:
            UserError: always.
        """
        raise UserError(f"several targets need several names, but --target names {column.info.name!r} alone")

    @property
    def columns(self) -> tuple[str, ...]:
        """All targets'."""
        return tuple(name for part in self.each for name in part.columns)

    @property
    def parts(self) -> tuple[Target, ...]:
        """Each target by itself."""
        return self.each

    def divided(self, values: np.ndarray) -> list[np.ndarray]:
        """Each target's own values, NaN where they are not known."""
        return divided(values, self.widths)

    def likelihoods(self) -> list[str]:
        """Those that suit any of them."""
        return list(dict.fromkeys(name for part in self.each for name in part.likelihoods()))

    def losses(self) -> list[str]:
        """Those that suit any of them."""
        return list(dict.fromkeys(name for part in self.each for name in part.losses()))

    @property
    def has_noise(self) -> bool:
        """Whether one of them has."""
        return any(part.has_noise for part in self.each)

    def transforms(self) -> bool:
        """Whether one of them may be."""
        return any(part.transforms() for part in self.each)

    def likelihood(self, recipe: Mapping[str, Any]) -> Likelihood:
        """One for each target; a name that the recipe gives is for those that it suits."""
        name = recipe.get("likelihood.name")
        known = self.likelihoods()
        if name is not None and name not in known:
            raise UserError(f"likelihood.name cannot be {name!r} for these targets{nearest(str(name), known)}")
        plain = {key: v for key, v in recipe.items() if key != "likelihood.name"}
        each = [part.likelihood(recipe if name in part.likelihoods() else plain) for part in self.each]
        return SeveralLikelihood(each, self.widths)

    def loss(
        self, recipe: Mapping[str, Any], likelihood: Likelihood, rows: np.ndarray | None = None, weights: str = "none"
    ) -> TrainingLoss:
        """One for each target; a name that the recipe gives is for those that it suits."""
        assert isinstance(likelihood, SeveralLikelihood)
        name = str(recipe.get("loss.name", "likelihood"))
        if name not in self.losses():
            raise UserError(f"loss.name cannot be {name!r} for these targets{nearest(name, self.losses())}")
        plain = {key: v for key, v in recipe.items() if key != "loss.name"}
        own_rows = [None] * len(self.each) if rows is None else self.divided(rows)
        losses = []
        for part, own, values in zip(self.each, likelihood.members, own_rows, strict=True):
            known = None if values is None else values[known_rows(values)]
            losses.append(part.loss(recipe if name in part.losses() else plain, own, known, weights))
        return SeveralLosses(losses, self.shares)

    def prepare(self, values: np.ndarray, by: Fitting) -> TargetPreparation:
        """Each target's, by its own known rows."""
        found = []
        for part, own in zip(self.each, self.divided(values), strict=True):
            known = known_rows(own)
            rows, basis = by.rows[known[by.rows]], by.structure
            basis = None if basis is None else basis[known[basis]]
            name = by.likelihood if by.likelihood in part.likelihoods() else None
            found.append(part.prepare(own, Fitting(rows, by.transform, basis, name)))
        return SeveralPreparations.of(found, self.widths)

    def strata(self, values: np.ndarray) -> np.ndarray | None:
        """The classes of the first target that has some; where it is not known, a further one."""
        for part, own in zip(self.each, self.divided(values), strict=True):
            if part.strata(own) is not None:
                return np.where(known_rows(own), np.nan_to_num(own), len(part.classes)).astype(np.int64)
        return None

    def averaged(self, values: np.ndarray) -> np.ndarray:
        """Each target's, NaN where it is not known."""
        blocks = []
        for part, own in zip(self.each, self.divided(values), strict=True):
            known = known_rows(own)
            some = part.averaged(own[known])
            block = np.full((len(own), some.shape[1]), np.nan)
            block[known] = some
            blocks.append(block)
        return np.concatenate(blocks, axis=1)

    def explained(self, predictive: Predictive, y: np.ndarray) -> float | None:
        """The worst target's."""
        assert isinstance(predictive, JointPredictive)
        each = []
        for part, one, own in zip(self.each, predictive.parts, self.divided(y), strict=True):
            rows = np.flatnonzero(known_rows(own))
            each.append(part.explained(one.take(rows), own[rows]) if len(rows) else None)
        known = [value for value in each if value is not None]
        return min(known) if known else None

    def questions(self, values: np.ndarray) -> list[Question]:
        """Each target's."""
        return [q for part, own in zip(self.each, self.divided(values), strict=True) for q in part.questions(own)]

    def believed(self, answers: Sequence[tuple[Said, np.ndarray]]) -> Predictive:
        """A distribution for each target."""
        found, start = [], 0
        for part, width in zip(self.each, self.widths, strict=True):
            found.append(part.believed(answers[start : start + width]))
            start += width
        return JointPredictive(tuple(found), self.widths)

    def table(self, predictive: Predictive, level: float, quantiles: Sequence[float]) -> dict[str, np.ndarray]:
        """Each target's columns, ``<target>.prediction`` and so on; quantiles of those that have some."""
        assert isinstance(predictive, JointPredictive)
        found = {}
        for part, one in zip(self.each, predictive.parts, strict=True):
            shares = quantiles if one.quantile(0.5) is not None else ()
            for name, column in part.table(one, level, shares).items():
                found[f"{part.name}.{name}"] = column
        return found

    def said(self, values: np.ndarray, row: int) -> str:
        """Each target's value, a dash where it is not known."""
        words = []
        for part, own in zip(self.each, self.divided(values[row : row + 1]), strict=True):
            words.append(f"{part.name}: {part.said(own, 0) if known_rows(own)[0] else '–'}")
        return "; ".join(words)

    def guessed(self, predictive: Predictive, row: int) -> str:
        """Each target's."""
        assert isinstance(predictive, JointPredictive)
        each = zip(self.each, predictive.parts, strict=True)
        return "; ".join(f"{part.name}: {part.guessed(one, row)}" for part, one in each)

    def to_json(self) -> dict[str, Any]:
        """Each target's record stands in ``targets``."""
        record = {"targets": [part.to_json() for part in self.each], "widths": list(self.widths)}
        return {**super().to_json(), **record, "shares": list(self.shares)}


def known_rows(values: np.ndarray) -> np.ndarray:
    """Which rows of a target's values [n] or [n, columns] are known."""
    if not np.issubdtype(values.dtype, np.floating):
        return np.ones(len(values), dtype=bool)
    return ~np.isnan(values.reshape(len(values), -1)).any(1)
