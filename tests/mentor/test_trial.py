"""Trials of advice: paired, honest about what is not shown, and factorials against effects known beforehand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from scipy import stats

from nastavnik.data import read_source
from nastavnik.dataset import DatasetOptions, make_dataset
from nastavnik.mentor import Advice, Lab, applicable, factorial, try_advice
from nastavnik.nets import FAMILIES
from nastavnik.recipe import Recipe
from nastavnik.selection import Workbench

RECIPE = Recipe({
    "network.family": "mlp", "network.width": 16, "network.depth": 1, "network.embedding": "none",
    "network.activation": "relu", "network.normalization": "none", "network.residual": False, "network.dropout": 0.0,
    "optimizer.name": "adamw", "optimizer.learning_rate": 1e-5, "optimizer.weight_decay": 1e-3,
    "schedule.name": "constant", "batch_size": 32, "epochs": 20, "loss.name": "likelihood", "seed": 0,
})  # fmt: skip


class Additive:
    """A lab whose scores are a sum of known effects and of a noise that pairs share."""

    classes = 2
    network_steps = 0

    def scores(self, recipes: Sequence[Recipe]) -> np.ndarray:
        found = []
        for recipe in recipes:
            self.network_steps += 10
            noise = np.random.default_rng(recipe.whole("seed")).normal()
            rate, decay = recipe.number("optimizer.learning_rate"), recipe.number("optimizer.weight_decay")
            effect = -0.5 * (rate > 1e-4) + 0.2 * (decay > 0.05) - 0.4 * (rate > 1e-4) * (decay > 0.05)
            own = np.random.default_rng(recipe.whole("seed") + int(1e6 * rate) + int(1e6 * decay)).normal()
            found.append(3 + effect + noise + 0.01 * own if rate < 100 else np.inf)
        return np.array(found)


FASTER = Advice("faster", {"optimizer.learning_rate": 1e-2})
DECAY = Advice("decay", {"optimizer.weight_decay": 0.1})
WILD = Advice("wild", {"optimizer.learning_rate": 1e3})


def test_pairs_take_out_what_they_share() -> None:
    trial = try_advice(Additive(), RECIPE, [FASTER, DECAY, WILD])  # type: ignore[arg-type]
    faster, decay, wild = trial.arms
    assert faster.effect == pytest.approx(-0.5, abs=0.02)
    assert faster.low < -0.5 < faster.high
    assert faster.verdict == "take it"
    assert decay.verdict == "leave it"
    assert wild.diverged == 10
    assert wild.verdict == "leave it"
    assert trial.recommended is faster
    differences = faster.scores - trial.without
    assert faster.level == pytest.approx(1 - 0.05 / 3)  # three arms
    low, high = stats.t.interval(faster.level, 9, differences.mean(), stats.sem(differences))
    assert (faster.low, faster.high) == pytest.approx((low, high))
    assert faster.cost == 1.0


def test_a_change_without_effect_shows_none() -> None:
    other = Advice("smoother", {"loss.label_smoothing": 0.1})
    arm = try_advice(Additive(), RECIPE, [other]).arms[0]  # type: ignore[arg-type]
    assert arm.effect == 0.0
    assert arm.verdict == "no difference is shown"


def test_a_factorial_finds_main_effects_and_interaction() -> None:
    found = factorial(Additive(), RECIPE, [FASTER, DECAY])  # type: ignore[arg-type]
    assert found.effects[("faster (optimizer.learning_rate=0.01)",)][0] == pytest.approx(
        -0.7, abs=0.02
    )  # -0.5 alone, -0.9 beside decay
    assert found.effects[("decay (optimizer.weight_decay=0.1)",)][0] == pytest.approx(
        0.0, abs=0.02
    )  # +0.2 alone, -0.2 beside the rate
    assert found.effects[("faster (optimizer.learning_rate=0.01)", "decay (optimizer.weight_decay=0.1)")][
        0
    ] == pytest.approx(-0.2, abs=0.02)
    assert found.best == (1, 1)
    assert found.best_effect[0] == pytest.approx(-0.7, abs=0.02)  # of other seeds
    with pytest.raises(ValueError, match="different settings"):
        factorial(Additive(), RECIPE, [FASTER, WILD])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="two or three"):
        factorial(Additive(), RECIPE, [FASTER])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "classes", "means_something"),
    [
        ({"optimizer.learning_rate": 1e-5}, 2, False),  # as it is
        ({"optimizer.clip_norm": 1.0}, 2, True),
        ({"network.channels": 3}, 2, False),  # no such setting
        ({"loss.name": "label_smoothing"}, 0, False),  # numbers have no labels to smooth
        ({}, 2, False),
    ],
)
def test_what_can_be_tried(changes: dict[str, Any], classes: int, means_something: bool) -> None:
    assert applicable(Advice("", changes), RECIPE, classes) is means_something


def lab() -> Lab:
    dataset = make_dataset(read_source("iris"), DatasetOptions(target="target", folds=0))
    bench = Workbench(
        dataset.columns, dataset.task, dataset.split, families=list(FAMILIES.values()), settings={}, seed=0
    )
    return Lab(bench, engine="batched")


def test_a_rate_too_small_is_mended_by_the_trial_and_the_same_seeds_give_the_same() -> None:
    own = lab()
    trial = try_advice(own, RECIPE, [FASTER, Advice("slower", {"optimizer.learning_rate": 1e-7})], pairs=4)
    assert trial.recommended is not None
    assert trial.recommended.advice is FASTER
    again = try_advice(lab(), RECIPE, [FASTER], pairs=4)
    assert np.array_equal(again.without, trial.without)
    assert np.array_equal(again.arms[0].scores, trial.arms[0].scores)


def test_a_networks_score_does_not_depend_on_its_neighbours() -> None:
    recipes = [RECIPE.replace({"seed": seed, "optimizer.learning_rate": 1e-2}) for seed in (5, 6)]
    together = lab().scores(recipes)
    assert together == pytest.approx(np.concatenate([lab().scores([r]) for r in recipes]), rel=1e-4)


def test_what_cannot_be_trained_is_refused_with_its_reason() -> None:
    bad = Advice("a wrong name", {"optimizer.name": "adamww"})
    trial = try_advice(lab(), RECIPE, [bad], pairs=2)
    assert trial.arms == ()
    assert "adamww" in trial.refused["a wrong name"]
    with pytest.raises(ValueError, match="pairs must be 2"):
        try_advice(lab(), RECIPE, [bad], pairs=1)
