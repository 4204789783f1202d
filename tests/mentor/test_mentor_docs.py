"""The pages are what the rules and the measured results say."""

from __future__ import annotations

import json
import sys
from importlib import import_module
from pathlib import Path

import pytest

from nastavnik.mentor import RULES, calibration, index, page

ROOT = Path(__file__).parents[2]


def test_every_rule_has_its_page_and_no_page_is_old() -> None:
    folder = ROOT / "docs" / "rules"
    assert {path.stem for path in folder.glob("*.md")} == {*RULES, "README"}
    for rule in RULES.values():
        assert (folder / f"{rule.name}.md").read_text(encoding="utf-8") == page(rule), rule.name
    assert (folder / "README.md").read_text(encoding="utf-8") == index()


def test_the_tables_are_those_of_the_results(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [str(ROOT / "benchmarks"), *sys.path])
    tables = import_module("mentor_tables")
    text = (ROOT / "docs" / "mentor.md").read_text(encoding="utf-8")
    assert tables.filled(text) == text


def test_the_calibration_is_that_of_the_bench() -> None:
    results = json.loads((ROOT / "benchmarks" / "results" / "mentor.json").read_text(encoding="utf-8"))
    known = calibration()
    assert set(known) <= set(RULES)
    for name, measured in results["rules"].items():
        assert {k: known[name][k] for k in measured} == measured


@pytest.mark.slow
def test_the_bench_in_short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two tasks, seven faults: what it finds is what the long form found."""
    monkeypatch.setattr(sys, "path", [str(ROOT / "benchmarks"), *sys.path])
    found = import_module("mentor").bench(short=True, histories=None, workers=1, calibrate=False)
    assert found["summary"]["held-out tasks"]["named"] >= 0.85
    assert found["summary"]["healthy"]["without error"] >= 0.9


def test_the_first_page_counts_the_rules() -> None:
    assert f"{len(RULES)} rules" in (ROOT / "README.md").read_text(encoding="utf-8")
