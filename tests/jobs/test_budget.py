"""Budgets of time: what is refused, how the time is planned on a slow machine, and what is never delivered."""

import re
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nastavnik
from nastavnik.cli._display import summary
from nastavnik.data import read_source
from nastavnik.dataset import Dataset, DatasetOptions, make_dataset
from nastavnik.errors import UserError
from nastavnik.jobs._setup import prepare
from nastavnik.population import Population
from nastavnik.report import against_baselines, best_baseline, hardly_trained
from nastavnik.report._words import verdict
from nastavnik.runs import Clock, Deadline, FitRequest, beside
from nastavnik.selection import Search, deliver, families_named, training_of
from nastavnik.trace import Trace


@pytest.fixture
def wine() -> Dataset:
    return make_dataset(read_source("wine"), DatasetOptions(target="target", folds=0))


def test_there_is_a_network_when_making_it_ready_took_all_the_time(
    wine: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(10)
    begin = Population.begin

    def slowly(self: Population, deadline: Deadline | None = None) -> None:
        clock.started -= 20 * (self._way is None)
        begin(self, deadline)

    monkeypatch.setattr(Population, "begin", slowly)
    search = search_of(wine, clock)
    search.run()
    assert search.ranking[0].steps > 0


def search_of(dataset: Dataset, clock: Clock) -> Search:
    """Trainings of forty steps, batched."""
    request = FitRequest(budget=clock.budget, folds=0, settings={"epochs": 10})
    bench, space, strategy = prepare(dataset, families_named(("linear", "mlp")), request)
    deadline = Deadline(clock)
    engine = "batched"
    return Search(
        bench, space, seed=0, deadline=deadline, networks=None, trace=Trace(), engine=engine, strategy=strategy
    )


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[float], float]], None]:
    """A machine on which a network's step takes as long as said, by the seconds that have gone by; nothing else does."""

    def begin(seconds_a_step: Callable[[float], float]) -> None:
        now = [0.0]
        advance = Population._stretch

        def stretch(self: Population, start: int, stop: int, measured: bool) -> Any:
            now[0] += (stop - start) * len(self) * seconds_a_step(now[0])
            return advance(self, start, stop, measured)

        monkeypatch.setattr(Population, "_stretch", stretch)
        monkeypatch.setattr(time, "monotonic", lambda: now[0])
        monkeypatch.setattr(Clock, "slowness", 1.0)

    return begin


@pytest.mark.parametrize(
    ("seconds_a_step", "budget"),
    [(lambda now: 0.1, 40.0), (lambda now: 0.4, 70.0), (lambda now: 0.8 if 20 < now % 50 < 40 else 0.1, 90.0)],
    ids=["quick", "slow", "load that comes and goes"],
)
def test_what_is_delivered_was_trained_and_the_time_is_kept(
    wine: Dataset,
    slow: Callable[[Callable[[float], float]], None],
    seconds_a_step: Callable[[float], float],
    budget: float,
) -> None:
    slow(seconds_a_step)
    clock = Clock(budget, started=0.0)
    search = search_of(wine, clock)
    search.run()
    assert clock.elapsed <= budget + 1.0
    first = search.history[0]
    assert first.recipe["network.family"] == "linear"
    assert first.status in ("finished", "stopped")
    chosen = deliver(search, wine, FitRequest(budget=budget, folds=0), [], touch=lambda: 1, expired=lambda: True)
    assert not chosen.training["hardly_trained"]
    others = [c for c in search.history if c.recipe["network.family"] != "linear" and c.steps]
    assert any(c.status in ("finished", "stopped") for c in others)  # fewer, but trained to their end


def test_candidates_are_let_go_at_once_when_the_machine_slows_down(
    wine: Dataset, slow: Callable[[Callable[[float], float]], None]
) -> None:
    slow(lambda now: 0.1 if now < 15 else 1.0)
    search = search_of(wine, Clock(100.0, started=0.0))
    search.run()
    cut = [c for c in search.history if c.status == "cut"]
    assert cut
    assert search.deadline.clock.elapsed < 115


def test_the_last_one_in_training_has_its_schedule_shortened_to_what_fits(
    wine: Dataset, slow: Callable[[Callable[[float], float]], None]
) -> None:
    slow(lambda now: 1.0)  # forty steps, and twenty-five seconds
    search = search_of(wine, Clock(25.0, started=0.0))
    search.run()
    first = search.history[0]
    assert first.status == "finished"
    assert 8 <= first.steps == first.total_steps < 25
    assert search.deadline.clock.elapsed <= 26
    found = training_of(search, [first])
    assert found["hardly_trained"] == (first.steps < 20)
    assert found["usual_steps"] == 40


def test_the_linear_family_comes_first_and_once_shrunk(wine: Dataset) -> None:
    search = search_of(wine, Clock(1e6, started=time.monotonic()))
    drawn = search.drawing.draw(search._plan_first(), 0)
    recipes = [recipe for _, recipe in drawn]
    assert {recipe["network.family"] for recipe in recipes} == {"linear"}
    assert [recipe["optimizer.weight_decay"] for recipe in recipes] == [0.05, 2.0]
    assert search._spared(drawn) == frozenset(recipes)
    pinned = prepare(wine, families_named(("linear", "mlp")), FitRequest(settings={"optimizer.weight_decay": 0.01}))
    bench, space, strategy = pinned
    clock = Clock(1e6, started=time.monotonic())
    own = Search(bench, space, seed=0, deadline=Deadline(clock), networks=None, trace=Trace(), strategy=strategy)
    assert own.drawing.first(bench.linear_families) == 1


def test_the_end_moves_back_when_the_machine_gets_faster(
    wine: Dataset, slow: Callable[[Callable[[float], float]], None]
) -> None:
    slow(lambda now: 1.0 if now < 8 else 0.01)
    search = search_of(wine, Clock(25.0, started=0.0))
    search.run()
    first = search.history[0]
    assert first.total_steps == 40
    assert not training_of(search, [first])["hardly_trained"]


def test_what_works_for_the_run_itself_does_not_make_the_machine_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    now, worked = [0.0], [0.0]

    def process_time() -> float:  # every look at it takes time: a third of it is ours
        now[0] += 3e-3
        worked[0] += 1e-3
        return worked[0]

    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr(time, "process_time", process_time)
    monkeypatch.setattr(nastavnik.runs._clock, "_processors", lambda: 1)
    assert Clock().slowness == pytest.approx(4.5, rel=0.1)  # others' share, and that of the caches
    with beside(), beside():
        assert Clock().slowness == 1.0


def test_the_hardly_trained_are_not_delivered_where_another_is_there(wine: Dataset) -> None:
    clock = Clock(None)
    bench, space, strategy = prepare(wine, families_named(("linear", "mlp")), FitRequest(networks=2, folds=0))
    search = Search(bench, space, seed=0, deadline=Deadline(clock), networks=2, trace=Trace(), strategy=strategy)
    search.run()
    request = FitRequest(networks=2, folds=0)
    mlp, linear = search.history
    assert (mlp.recipe["network.family"], linear.recipe["network.family"]) == ("mlp", "linear")
    search.history = [replace(mlp, status="cut", steps=1, score=-1.0), linear]
    search.losses[0] = search.losses[0] * 0 - 1.0
    found = deliver(search, wine, request, [], touch=lambda: 1, expired=lambda: True)
    assert found.candidates[0].number == 1
    assert not found.training["hardly_trained"]
    assert "hardly trained: 1 of" in next(f["against"] for f in found.finalists if f["number"] == 0)
    search.history = [replace(mlp, status="cut", steps=1), replace(linear, status="cut", steps=2)]
    found = deliver(search, wine, request, [], touch=lambda: 1, expired=lambda: True)
    assert found.training["hardly_trained"]  # nothing else is there, and it is said
    assert found.training["steps"] in (1, 2)


def test_a_final_training_without_time_gives_way_to_a_network_of_the_folds() -> None:
    data = make_dataset(read_source("iris"), DatasetOptions(target="target", folds=3))
    bench, space, strategy = prepare(data, families_named(("linear", "mlp")), FitRequest(networks=6, folds=3))
    clock = Deadline(Clock(None))
    search = Search(bench, space, seed=0, deadline=clock, networks=6, trace=Trace(), strategy=strategy)
    search.run()
    request = FitRequest(networks=6, folds=3)
    found = deliver(search, data, request, [], touch=lambda: 1, expired=lambda: True, deadline=Deadline(Clock(0.0)))
    assert found.final_networks == 0
    assert found.training["first_fold"]
    assert found.numbers == (found.candidates[0].numbers[0],)
    right = found.test_predictive.point() == data.task.values[found.test_rows]  # type: ignore[union-attr]
    assert right.mean() > 0.6
    whole = deliver(search, data, request, [], touch=lambda: 1, expired=lambda: True)
    assert whole.final_networks == 1
    assert not whole.training["first_fold"]


def test_a_budget_that_cannot_be_kept_is_refused_with_the_least_one(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"a budget of 0.2 s is too short: .* give --budget \d+s or more") as caught:
        nastavnik.fit("iris", budget=0.2, out=tmp_path / "r")
    assert not (tmp_path / "r").exists()
    least = float(re.findall(r"--budget (\d+)s", str(caught.value))[0])
    assert least > 1


def test_a_budget_that_starting_would_use_up_is_refused_before_anything_is_imported() -> None:
    begun = time.monotonic() - 0.5
    with pytest.raises(UserError, match=r"a budget of 2 s is too short: starting alone takes about 4 s .* --budget 9s"):
        Clock(2.0, begun - 0.01).refuse_too_short()
    Clock(20.0, begun).refuse_too_short()
    Clock(None, begun).refuse_too_short()


def test_the_clock_of_a_process_counts_its_imports() -> None:
    assert Clock.of_process().elapsed >= time.process_time() - 0.01 or Clock.of_process().elapsed > 1


def result_of(ours: float, baseline: dict[str, Any], **training: Any) -> dict[str, Any]:
    score = {"value": ours, "low": ours - 0.1, "high": ours + 0.1}
    usual = {"steps": 10, "planned_steps": 10, "usual_steps": 10, "hardly_trained": False, "first_fold": False}
    return {
        "task": {"kind": "classification", "target": "y"},
        "chosen": {"training": {**usual, **training}},
        "validation": {"accuracy": score, "nll": score},
        "test": {"accuracy": score, "nll": score},
        "baselines": {"gradient_boosting": baseline, "random_forest": {"seconds": 1.0, "failed": "no time"}},
        "optimism": {},
        "front": [],
        "search": {"rejected": 0, "objectives": ["nll"]},
        "cost": {"networks": 1, "seconds": 1.0, "wasted_seconds": 0.0},
    }


def scored(value: float, low: float, high: float, **more: Any) -> dict[str, Any]:
    score = {"value": value, "low": value - 0.1, "high": value + 0.1}
    return {
        "seconds": 1.0,
        "test": {"accuracy": score},
        "ahead": {"value": 0.9 - value, "low": low, "high": high},
        **more,
    }


@pytest.mark.parametrize(
    ("baseline", "standing"),
    [
        (scored(0.92, -0.05, 0.01), "no difference that these rows can show"),
        (scored(0.95, -0.08, -0.02), "ahead of us"),
        (scored(0.80, 0.05, 0.15), "behind"),
    ],
)
def test_screen_and_report_say_the_same_of_baselines(baseline: dict[str, Any], standing: str, tmp_path: Path) -> None:
    result = result_of(0.9, baseline)
    found = best_baseline(result)
    assert found is not None
    assert found[2] == standing
    assert standing in summary(result, tmp_path)
    assert standing in against_baselines(result)
    assert "Without an answer: random forest" in summary(result, tmp_path)
    assert "Without an answer: random forest" in against_baselines(result)


def test_a_baseline_of_fewer_rows_says_so_in_the_headline(tmp_path: Path) -> None:
    result = result_of(0.9, scored(0.8, 0.05, 0.15, trained_on_rows=2000, of_rows=18_000))
    for said in (summary(result, tmp_path), against_baselines(result)):
        assert "gradient boosting (trained on 2,000 of 18,000 rows only)" in said


def test_hardly_trained_stands_beside_the_headline_everywhere(tmp_path: Path) -> None:
    words = "Hardly trained: the budget was enough for 1 of the 328 steps"
    result = result_of(0.9, scored(0.8, 0.05, 0.15), steps=1, usual_steps=328, hardly_trained=True)
    assert words in summary(result, tmp_path)
    assert words in verdict(result)  # of report and card
    assert hardly_trained(result_of(0.9, scored(0.8, 0.05, 0.15))) == ""


def test_the_standing_is_that_of_paired_rows(tmp_path: Path) -> None:
    run = nastavnik.fit("wine", networks=2, folds=0, seed=3)
    for record in run.result["baselines"].values():
        gap = run.result["test"]["accuracy"]["value"] - record["test"]["accuracy"]["value"]
        assert record["ahead"]["value"] == pytest.approx(gap)
        assert record["ahead"]["low"] <= gap <= record["ahead"]["high"]
    training = run.result["chosen"]["training"]
    assert training["planned_steps"] == training["usual_steps"] >= training["steps"] > 0
    assert np.isfinite(training["share"])
