"""Fronts, optimism, forecasts, expected gain and hyperparameters' importance, against truth."""

import itertools
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nastavnik.recipe import Recipe
from nastavnik.selection import Candidate, hyperparameter_importance, optimism, scored_forecasts
from nastavnik.selection._bracket import cost_share, rungs_of
from nastavnik.selection._forecast import Forecast, forecast
from nastavnik.selection._gain import expected_gain, resolution
from nastavnik.selection.pareto import best_first, crowding, front, hypervolume, layers, on_front

points = st.lists(st.tuples(*[st.integers(0, 6)] * 3), min_size=1, max_size=12)


@given(points)
@settings(max_examples=60, deadline=None)
def test_the_front_is_who_nobody_beats(given_points: list[tuple[int, ...]]) -> None:
    table = np.array(given_points, dtype=float)

    def beats(a: Any, b: Any) -> bool:
        return bool((a <= b).all() and (a < b).any())

    truth = [i for i, p in enumerate(table) if not any(beats(q, p) for q in table)]
    assert front(table) == truth
    found = layers(table)
    assert sorted(itertools.chain(*found)) == list(range(len(table)))
    assert found[0] == truth
    assert sorted(best_first(given_points)) == list(range(len(table)))


@given(points)
@settings(max_examples=60, deadline=None)
def test_hypervolume_is_the_count_of_unit_cells(given_points: list[tuple[int, ...]]) -> None:
    table = np.array(given_points, dtype=float)
    cells = itertools.product(range(7), repeat=3)
    truth = sum(any(all(p[j] <= c[j] for j in range(3)) for p in table) for c in cells)
    assert hypervolume(table, (7, 7, 7)) == pytest.approx(truth)


def test_what_is_no_number_or_beyond_the_reference_counts_nothing() -> None:
    table = np.array([[1.0, 1.0], [np.nan, 0.0], [0.0, np.inf], [9.0, 0.0]])
    assert front(table) == [0, 3]
    assert hypervolume(table, (2, 2)) == 1.0
    assert hypervolume(table[3:], (2, 2)) == 0.0
    lonely = crowding(np.array([[0.0, 4.0], [1.0, 3.0], [4.0, 0.0]]))
    assert lonely.tolist() == [np.inf, 2.0, np.inf]  # (4 - 0) / 4 + (4 - 0) / 4
    assert best_first([(0.3, 10), (np.inf, 5), (0.2, 20), (0.25, 15)])[-1] == 1
    assert best_first([]) == []
    assert len(crowding(np.empty((0, 2)))) == 0


def test_a_front_is_as_sure_as_its_rows() -> None:
    rng = np.random.default_rng(0)
    losses = rng.normal([[0.0], [0.0], [1.0]], 1.0, size=(3, 200))
    shares = on_front(losses, np.array([[5.0], [5.0], [1.0]]))
    assert shares[2] == 1.0  # the only small one
    assert shares[0] + shares[1] == pytest.approx(1.0, abs=0.02)  # twins: one of them at a time


def test_the_winner_of_many_coins_is_corrected_to_chance() -> None:
    covered = bare = 0
    for seed in range(100):
        errors = np.random.default_rng(seed).integers(0, 2, (60, 200)).astype(float)
        found = optimism(errors, seed=seed)
        half = 1.96 * 0.5 / 200**0.5
        covered += found.low <= 0.5 <= found.high
        bare += abs(found.apparent - 0.5) <= half
        assert found.corrected > found.apparent
    assert covered >= 90
    assert bare < 50


def test_a_winner_far_ahead_is_hardly_corrected() -> None:
    rng = np.random.default_rng(1)
    losses = rng.normal(2.0, 0.1, (30, 300))
    losses[7] -= 1.0
    found = optimism(losses)
    assert found.candidates == 30
    assert found.corrected == pytest.approx(found.apparent, abs=0.005)
    assert found.high - found.low == pytest.approx(2 * 1.96 * losses[7].std(ddof=1) / 300**0.5)
    broken = np.vstack([losses, np.full((1, 300), np.nan), np.full((1, 300), np.inf)])
    assert optimism(broken) == found
    perfect = optimism(np.zeros((3, 50)))
    assert perfect.high > 0.0  # no error in fifty rows is no proof of none
    with pytest.raises(ValueError, match="at least one candidate and two rows"):
        optimism(np.zeros((1, 1)))


def candidate(number: int, score: float, status: str = "finished", keys: Any = None, **more: Any) -> Candidate:
    values: dict[str, Any] = {
        "generation": 0, "recipe": Recipe({"seed": number}), "numbers": (number,), "values": (score,), "best_step": 1,
        "steps": 10, "total_steps": 10, "seconds": 1.0, "parameters": 5, **more,
    }  # fmt: skip
    return Candidate(number=number, keys=keys or {}, status=status, score=score, **values)


def test_candidates_survive_their_record() -> None:
    import json

    from nastavnik.files import plain

    one = candidate(3, math.inf, "diverged", {"a": 1}, rungs=((0.25, math.inf), (0.5, 1.5)))
    again = Candidate.from_json(json.loads(json.dumps(plain(one.to_json()))))
    assert {**again.__dict__, "recipe": None} == {**one.__dict__, "recipe": None}


def test_forecasts_hold_their_interval_on_curves_like_those_before() -> None:
    rng = np.random.default_rng(0)

    def curve() -> tuple[float, float]:
        final = rng.uniform(0.2, 1.0)
        return final + rng.uniform(0.05, 0.25), final  # at a quarter of the training, and at its end

    history = [candidate(i, end, rungs=((0.25, b),)) for i, (b, end) in enumerate(curve() for _ in range(60))]
    assert forecast(0, 0.25, 0.5, history[:5]) is None
    assert forecast(0, 0.25, math.inf, history) is None
    made, ends = [], []
    for i in range(100, 300):
        before, end = curve()
        made.append(forecast(i, 0.25, before, history))
        ends.append(candidate(i, end))
    assert all(f is not None for f in made)
    kept = [f for f in made if f is not None]
    report = scored_forecasts(kept, ends)
    assert report["scored"] == 200
    assert 0.75 <= report["coverage"] <= 0.98
    assert report["error"] < 0.1
    condemned = [f for f in kept if f.condemned]
    assert condemned
    assert 0.03 < np.mean([f.control for f in condemned]) < 0.3  # one in eight goes on
    assert report["wrongly_condemned"] <= 0.1 * max(1, report["condemned_controls"]) + 1


def test_one_lucky_network_condemns_nobody() -> None:
    history = [candidate(i, 0.5 + 0.01 * i, rungs=((0.25, 0.7 + 0.01 * i),)) for i in range(20)]
    lucky = candidate(99, 0.1, rungs=((0.25, 0.9),))
    for known in (history, [*history, lucky]):
        made = forecast(100, 0.25, 0.705, known)
        assert made is not None
        assert not made.condemned
        assert made.bar == pytest.approx(0.57 if known is history else 0.56)  # the eighth best
        hopeless = forecast(100, 0.25, 2.0, known)
        assert hopeless is not None
        assert hopeless.condemned


def test_a_forecast_survives_its_record() -> None:
    made = forecast(4, 0.25, 0.6, [candidate(i, 0.1 * i, rungs=((0.25, 0.1 * i + 0.2),)) for i in range(12)])
    assert made is not None
    assert Forecast(**made.to_json()) == made


def test_expected_gain_is_that_of_fresh_draws() -> None:
    rng = np.random.default_rng(2)
    scores = rng.normal(1.0, 0.1, 40)
    history = [candidate(i, float(s)) for i, s in enumerate(scores)]
    fresh = rng.normal(1.0, 0.1, (2000, 20)).min(1)
    truth = np.clip(scores.min() - fresh, 0, None).mean()
    assert expected_gain(history, 20, seed=0) == pytest.approx(truth, abs=0.03)
    assert expected_gain(history, 200, seed=0) > expected_gain(history, 5, seed=0)
    assert expected_gain(history[:10], 5, seed=0) == math.inf
    assert expected_gain(history, 0, seed=0) == 0.0
    settled = [candidate(i, 1.0 + 1e-9 * i) for i in range(40)]
    assert expected_gain(settled, 100, seed=0) < 1e-7
    gap = rng.normal(size=400)
    far = [np.zeros(400), 3 * gap, gap]
    assert resolution(far) == pytest.approx(1.96 * gap.std(ddof=1) / 20)  # of the pair that differs least
    assert resolution([np.zeros(1), np.ones(1)]) == math.inf


def test_rungs_are_those_of_the_plan() -> None:
    assert rungs_of("halving", 0, 16, False) == ((0.15, 0.5), (0.4, 0.5), (1.0, 1.0))
    assert cost_share(rungs_of("halving", 0, 16, False)) == pytest.approx(0.15 + 0.25 * 0.5 + 0.6 * 0.25)
    assert rungs_of("none", 3, 16, False) == ((1.0, 1.0),)
    assert rungs_of("halving", 0, 3, False) == ((1.0, 1.0),)  # too few to be thinned out
    assert [len(rungs_of("hyperband", g, 16, False)) for g in range(5)] == [4, 3, 2, 1, 4]
    assert dict(rungs_of("none", 0, 16, True)) == {0.25: 1.0, 0.55: 1.0, 0.75: 1.0, 1.0: 1.0}


def test_importance_names_what_mattered_and_its_interval_holds_zero_for_what_did_not() -> None:
    rng = np.random.default_rng(0)
    history = []
    for i in range(120):
        rate, kind = float(rng.uniform(-4, 0)), str(rng.choice(["a", "b"]))
        keys: dict[str, Any] = {"rate": rate, "kind": kind, "noise": float(rng.random())}
        if kind == "a":
            keys["kind=a/width"] = int(rng.integers(4, 64))
        history.append(candidate(i, (rate + 2) ** 2 + (1.0 if kind == "b" else 0.0), keys=keys))
    found = {r["name"]: r for r in hyperparameter_importance(history, seed=0)}
    assert set(found) == {"rate", "kind", "noise", "width"}
    assert next(iter(found)) == "rate"
    assert found["rate"]["low"] > 0.3
    assert found["noise"]["low"] < 0.02 < found["kind"]["importance"] + found["width"]["importance"]
    assert hyperparameter_importance(history[:10], seed=0) == []
