"""Trials of advice: the same recipe with and without a change, seed by seed, on the same rows in the same order."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from nastavnik.errors import UserError
from nastavnik.files import plain
from nastavnik.mentor._diagnosis import Finding
from nastavnik.mentor._lab import Lab
from nastavnik.mentor._rule import Advice
from nastavnik.recipe import Recipe, Value

PAIRS = 10
LEVEL = 0.95
_FIRST_SEED = 50_000  # of trials: not the seeds that led to the finding
_WORST = 10.0  # nats a row beyond the median, which is what a diverged network counts


@dataclass(frozen=True)
class Arm:
    """One change tried: ``scores`` [pairs] beside ``without`` [pairs], nats a validation row.

    ``effect`` is the mean difference (below 0 is better) with its interval at ``level``; ``cost`` its steps over
    those of the recipe as it was; ``diverged`` how many networks did. Scores more than ten nats beyond the median, of
    what diverged too, count as that; ``capped`` is how many, with the change and without.
    """

    advice: Advice
    scores: np.ndarray
    effect: float
    low: float
    high: float
    cost: float
    diverged: int
    level: float = LEVEL
    capped: int = 0

    @property
    def verdict(self) -> str:
        """take it, leave it, or no difference shown."""
        return "take it" if self.high < 0 else "leave it" if self.low > 0 else "no difference is shown"

    def to_json(self) -> dict[str, Any]:
        """As ``findings.json`` has it."""
        return plain(
            {
                "changes": dict(self.advice.changes),
                "words": self.advice.words,
                "pairs": len(self.scores),
                "effect": self.effect,
                "low": self.low,
                "high": self.high,
                "level": self.level,
                "cost": self.cost,
                "diverged": self.diverged,
                "verdict": self.verdict,
            }
        )


@dataclass(frozen=True)
class Trial:
    """Several changes of one recipe against leaving it as it is; ``refused`` what could not be tried, and why."""

    arms: tuple[Arm, ...]
    without: np.ndarray
    refused: Mapping[str, str]

    @property
    def recommended(self) -> Arm | None:
        """The best of those that are shown to help; None if none is."""
        helping = [arm for arm in self.arms if arm.high < 0]
        return min(helping, key=lambda arm: arm.effect, default=None)


def applicable(advice: Advice, recipe: Recipe, classes: int) -> bool:
    """Whether a change means something for this recipe: it has such a setting, and another value of it."""
    changes = advice.changes
    known = all(name in recipe or not name.startswith("network.") for name in changes)
    other = any(recipe.get(name) != value for name, value in changes.items())
    suits = classes > 0 or not any(name.startswith("loss.") for name in changes)
    return bool(changes) and known and other and suits


def try_advice(lab: Lab, recipe: Recipe, advice: Sequence[Advice], *, pairs: int = PAIRS) -> Trial:
    """Train ``recipe`` and each change of it from the same seeds, and compare their validation scores pair by pair.

    The intervals are Student's over the pairs; with m changes each is at 1 − 0.05 / m, so that all hold together at
    95 % (Bonferroni) and the best of many useless ones is not taken for a cure.

    Raises:
        ValueError: fewer than two pairs.
    """
    usable = [one for one in advice if applicable(one, recipe, lab.classes)]
    return try_recipes(lab, recipe, [(one, changed(recipe, one.changes)) for one in usable], pairs=pairs)


def try_recipes(lab: Lab, recipe: Recipe, others: Sequence[tuple[Advice, Recipe]], *, pairs: int = PAIRS) -> Trial:
    """The same for recipes that are written out; an ``Advice`` beside each names it.

    Raises:
        ValueError: fewer than two pairs.
    """
    if pairs < 2:
        raise ValueError(f"pairs must be 2 or more, but got {pairs}")
    seeds = [_FIRST_SEED + recipe.whole("seed") % 1000 + i for i in range(pairs)]
    before = lab.network_steps
    without = lab.scores([recipe.replace({"seed": seed}) for seed in seeds])
    usual = max(1, lab.network_steps - before)
    arms, refused = [], {}
    level = 1 - (1 - LEVEL) / max(1, len(others))
    for one, other in others:
        before = lab.network_steps
        try:
            scores = lab.scores([other.replace({"seed": seed}) for seed in seeds])
        except UserError as error:
            refused[one.words] = str(error)
            continue
        arms.append(_arm(one, scores, without, (lab.network_steps - before) / usual, level))
    return Trial(tuple(arms), without, refused)


def changed(recipe: Recipe, changes: Mapping[str, Value]) -> Recipe:
    """The recipe with changes; a fraction stays a fraction, so that its shape is the same."""
    return recipe.replace(
        {
            name: float(value) if isinstance(recipe.get(name), float) and not isinstance(value, str) else value
            for name, value in changes.items()
        }
    )


def try_finding(lab: Lab, recipe: Recipe, finding: Finding, *, pairs: int = PAIRS) -> tuple[Finding, Trial]:
    """The finding with the trial of its advice on record, and the trial."""
    trial = try_advice(lab, recipe, finding.advice, pairs=pairs)
    best = trial.recommended or min(trial.arms, key=lambda arm: arm.effect, default=None)
    record = (
        None
        if best is None
        else {**best.to_json(), "arms": [arm.to_json() for arm in trial.arms], "refused": dict(trial.refused)}
    )
    return replace(finding, trial=record), trial


@dataclass(frozen=True)
class Factorial:
    """Several changes with and without each other: ``effects`` of each, averaged over the others, and the best set."""

    effects: dict[tuple[str, ...], tuple[float, float, float]]
    best: tuple[int, ...]
    best_effect: tuple[float, float, float]


def factorial(lab: Lab, recipe: Recipe, advice: Sequence[Advice], *, pairs: int = PAIRS) -> Factorial:
    """Every subset of up to three changes from the same seeds; main effects and pairs' interactions with intervals.

    The best set is trained once more from other seeds, beside the recipe as it was, so that its effect owes nothing to
    having been chosen.

    Raises:
        ValueError: fewer than two or more than three changes, or two that change the same setting.
        UserError: changes that cannot be made together.
    """
    if not 2 <= len(advice) <= 3:
        raise ValueError(f"a factorial needs two or three changes, but got {len(advice)}")
    names = [name for one in advice for name in one.changes]
    if len(set(names)) < len(names):
        raise ValueError("a factorial's changes must be of different settings")
    seeds = [_FIRST_SEED + recipe.whole("seed") % 1000 + i for i in range(2 * pairs)]
    seeds, fresh = seeds[:pairs], seeds[pairs:]
    cells = list(itertools.product((0, 1), repeat=len(advice)))

    def score(cell: tuple[int, ...], seeds: Sequence[int]) -> np.ndarray:
        changes: dict[str, Value] = {}
        for on, one in zip(cell, advice, strict=True):
            changes |= one.changes if on else {}
        return lab.scores([changed(recipe, changes).replace({"seed": seed}) for seed in seeds])

    scores = {cell: score(cell, seeds) for cell in cells}
    worst = _bound(np.concatenate(list(scores.values())))
    capped = {cell: np.minimum(values, worst) for cell, values in scores.items()}
    effects = {}
    for size in (1, 2):
        for which in itertools.combinations(range(len(advice)), size):
            signs = {cell: np.prod([1 if cell[i] else -1 for i in which]) for cell in cells}
            contrast = np.mean([signs[cell] * capped[cell] for cell in cells], axis=0) * 2
            effects[tuple(_named(advice[i]) for i in which)] = _interval(contrast)
    best = min(cells, key=lambda cell: float(capped[cell].mean()))
    again = [np.minimum(score(cell, fresh), worst) for cell in (best, cells[0])]
    return Factorial(effects, best, _interval(again[0] - again[1]))


def _named(advice: Advice) -> str:
    """The words, and what is changed: advice of several findings may have the same words."""
    return f"{advice.words} ({', '.join(f'{name}={value}' for name, value in advice.changes.items())})"


def _arm(advice: Advice, scores: np.ndarray, without: np.ndarray, cost: float, level: float) -> Arm:
    both = np.concatenate([scores, without])
    worst = _bound(both)
    effect = _interval(np.minimum(scores, worst) - np.minimum(without, worst), level)
    return Arm(advice, scores, *effect, cost, int((~np.isfinite(scores)).sum()), level, int((both > worst).sum()))


def _bound(scores: np.ndarray) -> float:
    """What the worst count as, so that one of 10⁸ nats does not drown the others."""
    finite = scores[np.isfinite(scores)]
    return float(np.median(finite)) + _WORST if len(finite) else 0.0


def _interval(differences: np.ndarray, level: float = LEVEL) -> tuple[float, float, float]:
    """Mean, low and high of paired differences, by Student's distribution."""
    from scipy.special import stdtrit

    mean, n = float(differences.mean()), len(differences)
    half = float(stdtrit(n - 1, (1 + level) / 2) * differences.std(ddof=1) / np.sqrt(n))
    return mean, mean - half, mean + half
