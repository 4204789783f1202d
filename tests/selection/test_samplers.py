"""Samplers: the contract for all, and what each promises."""

import math
from collections import Counter
from typing import Any

import numpy as np
import pytest

from nastavnik.errors import UserError
from nastavnik.selection import SAMPLERS, Keys, Sampler
from nastavnik.selection.samplers import Annealing, HillClimbing, Random
from nastavnik.space import Choice, Number, Space, size
from nastavnik.testing import check_sampler

PLANE = Space({"x": Number(-5.0, 10.0), "y": Number(0.0, 15.0)})
WORDS = Space({"a": Choice.of("p", "q", "r"), "b": Choice.of(1, 2, 4), "c": Number(0, 2, integer=True)})


@pytest.mark.parametrize("name", SAMPLERS)
def test_every_sampler_keeps_the_contract(name: str) -> None:
    check_sampler(SAMPLERS[name])


def test_the_suite_finds_what_is_wrong() -> None:
    class OutOfBounds(Random):
        """Draws too much."""

        def propose(self, rng: Any, given: Any) -> Keys:
            return {**super().propose(rng, given), "rate": 2.0, "a": 9.0}

    with pytest.raises(AssertionError, match=r"dead branch|out of bounds"):
        check_sampler(OutOfBounds)


def run(sampler: Sampler, value: Any, calls: int, batch: int = 4) -> list[float]:
    found: list[float] = []
    while len(found) < calls:
        keys = sampler.ask(batch)
        values = [value(sampler.point(k)) for k in keys]
        sampler.tell(keys, values)
        found += values
    return found


def branin(p: dict[str, Any]) -> float:
    x, y = p["x"], p["y"]
    first = (y - 5.1 / (4 * math.pi**2) * x * x + 5 / math.pi * x - 6) ** 2
    return first + 10 * (1 - 1 / (8 * math.pi)) * math.cos(x) + 10  # its minima are 0.397887


@pytest.mark.parametrize("name", ["tpe", "hill_climbing", "annealing", "genetic", "cma_es"])
def test_those_that_learn_come_nearer_to_branins_minimum_than_random(name: str) -> None:
    ours = [min(run(SAMPLERS[name](PLANE, seed=s), branin, 80)) for s in range(7)]
    random = [min(run(SAMPLERS["random"](PLANE, seed=s), branin, 80)) for s in range(7)]
    assert np.median(ours) < np.median(random)
    assert min(ours) == pytest.approx(0.397887, abs=0.3)


def test_random_covers_options_evenly_and_draws_no_combination_twice() -> None:
    sampler = SAMPLERS["random"](WORDS, seed=0)
    keys = sampler.ask(100)
    assert len(keys) == size(WORDS, None) == 27
    assert Counter(k["a"] for k in keys) == {"p": 9, "q": 9, "r": 9}
    assert sampler.ask(1) == []
    many = SAMPLERS["random"](PLANE, seed=0).ask(4000)
    assert np.mean([float(k["x"]) for k in many]) == pytest.approx(2.5, abs=4 * 15 / 12**0.5 / 4000**0.5)


def test_a_grid_is_every_combination_once_in_no_order_of_its_own() -> None:
    sampler = SAMPLERS["grid"](WORDS, seed=0)
    keys = sampler.ask(50)
    assert len({frozenset(k.items()) for k in keys}) == len(keys) == 27
    first = Counter(k["a"] for k in keys[:9])
    assert len(first) == 3  # a third of the grid is no single branch
    assert [k["x"] for k in SAMPLERS["grid"](PLANE, seed=1).ask(25)].count(-5.0) == 5  # both ends of five points
    huge = Space({f"x{i}": Number(0, 1) for i in range(13)})
    with pytest.raises(UserError, match=r"a grid of this space has about 10\^9 points.*--sampler random"):
        SAMPLERS["grid"](huge, seed=0)


def test_quasi_random_points_are_more_even_than_random_ones() -> None:
    from scipy.stats import qmc

    def unevenness(name: str) -> float:
        keys = SAMPLERS[name](PLANE, seed=0).ask(64)
        places = np.array([[(float(k["x"]) + 5) / 15, float(k["y"]) / 15] for k in keys])
        return float(qmc.discrepancy(places))

    assert unevenness("quasi_random") < unevenness("random") / 4


def test_hill_climbing_shrinks_its_steps_and_starts_anew_when_stuck() -> None:
    sampler = HillClimbing(PLANE, seed=0)
    run(sampler, lambda p: (p["x"] - 1) ** 2 + (p["y"] - 2) ** 2, 60)
    assert sampler._width < 0.1
    stuck = HillClimbing(PLANE, seed=0)
    values = []
    for _ in range(12):  # brackets: neighbours of the old place are still to be told when it starts anew
        keys = stuck.ask(16)
        values.append([float(k["x"]) for k in keys])
        stuck.tell(keys, [1.0] * 16)  # nothing is ever better than the first
    spreads = [np.std(v) for v in values]
    assert max(spreads[2:]) > 3.0  # an axis of 15: at random again
    assert min(spreads[2:]) < 1.0


def test_annealing_takes_worse_points_while_warm() -> None:
    warm, moves = Annealing(PLANE, seed=0), []
    for _ in range(60):
        keys = warm.ask(1)
        warm.tell(keys, [branin(warm.point(keys[0]))])
        assert warm._current is not None
        moves.append(warm._current[0])
    rises = np.diff(moves[10:])
    assert (rises > 0).any()
    assert (rises < 0).any()


def test_what_is_given_is_kept_where_it_is_live() -> None:
    tree = Space({"kind": Choice({"s": Space({"w": Number(1, 9, integer=True)}), "l": Space()}), "r": Number(0, 1)})
    for name in ("random", "tpe", "genetic", "hill_climbing", "annealing"):
        sampler = SAMPLERS[name](tree, seed=0)
        sampler.tell(keys := sampler.ask(30), [float(k["r"]) for k in keys])
        for keys_ in sampler.ask(8, {"kind": "s", "kind=s/w": 3}):
            assert keys_["kind"] == "s"
            assert keys_["kind=s/w"] == 3


def test_nsga2_covers_a_known_front() -> None:
    space = Space({f"x{i}": Number(0.0, 1.0) for i in range(4)})

    def zdt1(p: dict[str, Any]) -> tuple[float, float]:
        rest = 1 + 9 * sum(p[f"x{i}"] for i in range(1, 4)) / 3
        return p["x0"], rest * (1 - (p["x0"] / rest) ** 0.5)  # the front is 1 - √x at rest = 1

    from nastavnik.selection.pareto import hypervolume

    def volume(name: str) -> float:
        sampler = SAMPLERS[name](space, seed=0, objectives=2)
        return hypervolume(np.array(run(sampler, zdt1, 400, batch=8)), (1.0, 6.0))

    assert volume("nsga2") > 0.97 * (6 - 1 / 3)  # of all there is: 6 - ∫(1 - √x)
    assert volume("nsga2") > volume("random")


def test_samplers_refuse_what_they_cannot_do() -> None:
    with pytest.raises(UserError, match="cma_es draws numbers only, and a is a choice"):
        SAMPLERS["cma_es"](WORDS, seed=0)
    with pytest.raises(UserError, match="cma_es needs at least two numbers, but the space has 1"):
        SAMPLERS["cma_es"](Space({"x": Number(0, 1)}), seed=0)
    with pytest.raises(UserError, match="nsga2 seeks a front"):
        SAMPLERS["nsga2"](PLANE, seed=0)


def test_what_is_given_gives_way_before_a_point_is_drawn_twice() -> None:
    tree = Space({"f": Choice({"x": Space({"rate": Number(0.0, 1.0)}), "y": Space()})})
    for name in ("random", "tpe", "genetic"):
        sampler = SAMPLERS[name](tree, seed=0)
        keys = [sampler.ask(1, {"f": "y"})[0] for _ in range(3)]
        assert keys[0] == {"f": "y"}
        assert [k["f"] for k in keys[1:]] == ["x", "x"]


def test_a_grid_gives_back_what_was_withdrawn() -> None:
    sampler = SAMPLERS["grid"](WORDS, seed=0)
    first = sampler.ask(5)
    sampler.withdraw(first[2])
    rest = sampler.ask(30)
    assert first[2] in rest
    assert len(first) - 1 + len(rest) == 27


def test_those_that_follow_a_front_are_those_the_request_lets() -> None:
    from nastavnik.errors import UserError as Refused
    from nastavnik.runs import FitRequest

    for name, sampler in SAMPLERS.items():
        try:
            FitRequest(sampler=name, pareto=("nll", "parameters"))
            assert sampler.several, name
        except Refused:
            assert not sampler.several, name


@pytest.mark.parametrize("step", [0.15, 0.07, 0.03, 0.1])
def test_tpe_knows_every_value_of_a_stepped_number(step: float) -> None:
    node = Number(0.01, 0.51, step=step)
    space = Space({"a": node, "b": Number(0.0, 1.0)})
    sampler = SAMPLERS["tpe"](space, seed=0)
    every = [node.nth(i) for i in range(node.count or 0)]
    sampler.tell([{"a": a, "b": 0.5} for a in every], [1.0 - float(a) for a in every])
    run(sampler, lambda p: 1.0 - p["a"], 60)
    drawn = {k["a"] for k in sampler.ask(40)}
    assert drawn <= set(every)
    assert every[-1] in drawn  # the best of them


@pytest.mark.parametrize("name", SAMPLERS)
def test_what_is_refused_is_not_drawn_again_and_counts_for_nothing(name: str) -> None:
    space = PLANE if name == "cma_es" else WORDS
    sampler = SAMPLERS[name](space, seed=0, objectives=2 if name == "nsga2" else 1)
    first = sampler.ask(12)
    for keys in first:
        sampler.refuse(keys)
    assert not sampler.pending
    rest = sampler.ask(12)
    assert not [keys for keys in rest if keys in first]
    assert len(rest) == 12
