"""Findings: folded under their causes, ordered, suppressed; and populations watched."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from nastavnik import UserError
from nastavnik.data import read_source
from nastavnik.dataset import DatasetOptions, make_dataset
from nastavnik.mentor import RULES, Advice, Lab, Rule, Sign, diagnose, in_words, index, page, watch
from nastavnik.nets import FAMILIES
from nastavnik.population import Population
from nastavnik.recipe import Recipe
from nastavnik.selection import Workbench
from nastavnik.trace import History


def made(name: str, score: float, severity: str = "warning", causes: tuple[str, ...] = ()) -> Rule:
    def look(history: History) -> Iterator[Sign]:
        yield Sign(score, evidence={"number": score})

    return Rule(
        name, "data", severity, name, "It shows.", "It does.", "a book", 1.0, look, lambda h: [Advice("mend it")], causes,
        measured=False,
    )  # fmt: skip


def found(*rules: Rule) -> list[tuple[str, str | None]]:
    return [(f.rule, f.root) for f in diagnose(History(), rules={rule.name: rule for rule in rules})]


def test_what_follows_is_folded_under_the_last_cause() -> None:
    a, b = made("a", 2.0), made("b", 9.0, causes=("a",))
    c = made("c", 5.0, causes=("b",))
    assert found(a, b, c) == [("a", None), ("b", "a"), ("c", "a")]


def test_a_cause_that_found_nothing_explains_nothing() -> None:
    assert found(made("a", 0.5), made("b", 3.0, causes=("a",))) == [("b", None)]


def test_of_a_circle_the_gravest_is_the_cause() -> None:
    a, b = made("a", 2.0, causes=("b",)), made("b", 3.0, causes=("a",))
    c = made("c", 9.0, causes=("a",))
    assert found(a, b, c) == [("b", None), ("c", "b"), ("a", "b")]


def test_the_gravest_cause_comes_first() -> None:
    assert [name for name, _ in found(made("a", 50.0), made("b", 2.0, "error"), made("c", 9.0, "info"))] == [
        "b",
        "a",
        "c",
    ]


def test_no_number_is_no_finding_and_infinity_is() -> None:
    assert found(made("a", float("nan")), made("b", float("inf"))) == [("b", None)]


def test_suppressed_rules_are_not_asked() -> None:
    history = History({"finite": False})
    assert "nonfinite_inputs" in [f.rule for f in diagnose(history)]
    assert "nonfinite_inputs" not in [f.rule for f in diagnose(history, suppress=["nonfinite_inputs"])]
    with pytest.raises(UserError, match="there is no rule 'nonfinite_input'; did you mean"):
        diagnose(history, suppress=["nonfinite_input"])


def test_a_broken_rule_is_told_and_passed_over() -> None:
    def fail(history: History) -> Iterator[Sign]:
        raise KeyError("gone")

    broken = Rule("x", "data", "error", "x", "", "", "", 1.0, fail, lambda h: [])
    with pytest.raises(KeyError):
        diagnose(History(), rules={"x": broken})
    told: list[str] = []
    diagnose(History(), rules={"x": broken}, broken=lambda name, error: told.append(name))
    assert told == ["x"]


def test_words_name_rule_place_evidence_and_advice() -> None:
    text = in_words(diagnose(History(), rules={"a": made("a", 2.0)}))
    for part in ("WARNING a (a)", "number 2", "It shows. It does.", "mend it"):
        assert part in text
    assert in_words([]) == "nothing is found to be wrong"


def test_every_cause_is_a_rule_and_every_rule_says_what_it_is() -> None:
    for rule in RULES.values():
        assert set(rule.causes) <= set(RULES), rule.name
        assert rule.severity in ("info", "warning", "error")
        assert rule.symptom
        assert rule.mechanism
        assert rule.source
        assert list(rule.advise(History())), rule.name
        assert rule.name in index()
        assert rule.title in page(rule)


RECIPE = Recipe({
    "network.family": "mlp", "network.width": 8, "network.depth": 2, "network.embedding": "none",
    "network.activation": "tanh", "network.normalization": "none", "network.residual": False,
    "network.dropout": 0.1, "optimizer.name": "adamw", "optimizer.learning_rate": 1e-2,
    "optimizer.weight_decay": 1e-3, "regularization.l2": 1e-3, "schedule.name": "constant", "batch_size": 16,
    "epochs": 4, "loss.name": "likelihood", "seed": 3,
})  # fmt: skip


def iris() -> Workbench:
    dataset = make_dataset(read_source("iris"), DatasetOptions(target="target", folds=0))
    return Workbench(
        dataset.columns, dataset.task, dataset.split, families=list(FAMILIES.values()), settings={}, seed=0
    )


def watched(engine: str) -> tuple[Population, list[History]]:
    """Three networks of different rates on a small table, watched."""
    bench = iris()
    recipes = [RECIPE.replace({"optimizer.learning_rate": rate}) for rate in (1e-3, 1e-2, 1e-1)]
    learners = [bench.learner(recipe, bench.parts[0]) for recipe in recipes]
    population = Population(
        learners, recipes, bench.data, total_steps=28, evaluations=0, instruments={}, engine=engine, own_order=True
    )
    return population, watch(population, 3, count=6)


def test_siblings_that_are_not_watched_tell_their_last_losses() -> None:
    recipes = [RECIPE.replace({"epochs": 2, "seed": seed}) for seed in range(3)]
    every, few = (Lab(iris(), engine="sequential").watch(recipes, first=first) for first in (None, 1))
    for key in every.histories[0].values:
        np.testing.assert_array_equal(few.histories[0].series(*key), every.histories[0].series(*key))
    assert few.histories[0].facts["siblings"] == every.histories[0].facts["siblings"]
    assert len(few.histories[1].series("validation rows' loss")) == 1
    np.testing.assert_array_equal(few.scores, every.scores)


def test_a_population_watched_is_the_population_and_sees_the_same_in_every_way() -> None:
    batched, seen = watched("batched")
    sequential, alone = watched("sequential")
    bare, _ = watched("batched")
    for name, t in batched.state.parameters.items():
        assert torch.equal(t, bare.state.parameters[name])
        assert torch.allclose(t, sequential.state.parameters[name], atol=1e-5)
    for one, other in zip(seen, alone, strict=True):
        assert list(one.values) == list(other.values)
        for key in one.values:
            if key[0] not in ("gradient noise scale", "curvature"):  # ratios of small differences, in single precision
                np.testing.assert_allclose(one.series(*key), other.series(*key), rtol=2e-2, atol=2e-4, err_msg=str(key))
    assert seen[0].facts["learning rate"] == pytest.approx(1e-3)
    assert seen[2].facts["learning rate"] == pytest.approx(1e-1)
    assert seen[0].last("loss term", "penalty") > 0
