"""An error is proved, or has a second sign that something else measured; alone it is a warning."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from nastavnik.mentor import Advice, Finding, Rule, Sign, diagnose
from nastavnik.trace import History


def made(name: str, severity: str = "error", *, theme: str = "optimizer", sign: Sign | None = None, **own: Any) -> Rule:
    def look(history: History) -> Iterator[Sign]:
        yield Sign(2.0) if sign is None else sign

    plain = Rule(name, theme, severity, name.upper(), "It shows.", "", "a book", 1.0, look, lambda h: [Advice("mend")])
    return replace(plain, **own)


def said(*rules: Rule, history: History | None = None) -> Finding:
    """What the first rule found, asked with the others."""
    found = diagnose(history or History(), rules={rule.name: rule for rule in rules})
    return next(f for f in found if f.rule == rules[0].name)


def ended(score: float, loss: float = 0.5) -> History:
    """Of ten looks, the last losses and scores so: chance is one half."""
    history = History({"class shares": [0.5, 0.5], "steps": 100, "steps taken": 100})
    for look in range(10):
        share = min(look / 6, 1.0)
        history.add("batch loss", look * 10, 1.0)
        history.add("training rows' loss", look * 10, 1.0 + share * (loss - 1.0))
        history.add("training rows' score", look * 10, 0.5 + share * (score - 0.5))
    return history


def test_a_curve_alone_is_a_warning_and_says_so() -> None:
    finding = said(made("a"))
    assert (finding.severity, finding.evidence["besides"]) == ("warning", "no second sign")


@pytest.mark.parametrize(
    "rule",
    [made("exact", measured=False), made("proved", sign=Sign(2.0, proof=True))],
    ids=["a fact", "a probe's proof"],
)
def test_what_is_proved_needs_no_second_sign(rule: Rule) -> None:
    assert said(rule).severity == "error"


def test_a_rule_may_name_its_second_sign() -> None:
    finding = said(made("a", sign=Sign(2.0, besides="trees learn it")))
    assert (finding.severity, finding.evidence["besides"]) == ("error", "trees learn it")


@pytest.mark.parametrize(
    ("other", "severity"),
    [
        (made("b", "warning", theme="data"), "error"),
        (made("b", "warning", theme="optimizer"), "warning"),  # measured by the same curves
        (made("b", "info", theme="data"), "warning"),
        (made("c", "warning", theme="data"), "warning"),  # has nothing to do with it
    ],
)
def test_a_finding_of_another_kind_that_explains_it_is_one(other: Rule, severity: str) -> None:
    assert said(made("a", causes=("b",)), other).severity == severity


def test_what_follows_from_it_is_one() -> None:
    finding = said(made("a"), made("b", "warning", theme="weights", causes=("a",)))
    assert (finding.severity, finding.evidence["besides"]) == ("error", "b")


@pytest.mark.parametrize(
    ("score", "loss", "besides"),
    [
        (0.55, 0.9, "10% of the way from chance to perfect on training rows"),
        (0.95, 2.0, "the loss ends above its start"),
        (0.95, float("nan"), "the loss is no number at the end"),
        (0.95, 0.1, "no second sign"),
    ],
)
def test_how_a_training_ended_is_one(score: float, loss: float, besides: str) -> None:
    assert said(made("a"), history=ended(score, loss)).evidence["besides"] == besides


def test_an_outcome_is_no_second_sign_of_itself() -> None:
    outcome = made("a", theme="examples", outcome=True, causes=("b",))
    other = made("b", "warning", theme="generalization", outcome=True)
    assert said(outcome, other, history=ended(0.5, 2.0)).severity == "warning"


def test_a_finding_that_is_suppressed_is_a_second_sign_all_the_same() -> None:
    rules = {rule.name: rule for rule in (made("a", causes=("b",)), made("b", "warning", theme="data"))}
    assert [(f.rule, f.severity) for f in diagnose(History(), rules=rules, suppress=["b"])] == [("a", "error")]


def test_a_proof_weighs_more_than_a_stronger_curve() -> None:
    def look(history: History) -> Iterator[Sign]:
        yield Sign(1.5, proof=True)
        yield Sign(1.9)

    assert said(replace(made("a"), look=look)).severity == "error"


@pytest.mark.parametrize(("expects", "severity"), [("logits", "error"), ("probabilities", "warning")])
def test_a_loss_that_cannot_be_held_against_the_shares_is_no_second_sign(expects: str, severity: str) -> None:
    history = History({"class shares": [0.9, 0.1], "expects": expects, "steps": 200, "steps taken": 200})
    for look in range(11):
        history.add("batch loss", look * 20, 0.6)
        history.add("training rows' loss", look * 20, 0.7 - 0.02 * look)
        history.add("training rows' score", look * 20, 0.9)
    found = diagnose(history)
    assert [f.severity for f in found if f.rule == "chance_level"] == [severity]
