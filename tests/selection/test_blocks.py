"""Blocks by design: what decides shapes is drawn for a block, numbers for each network in it; and where a search begins."""

import math
from collections import Counter

import numpy as np
import pandas as pd
import pytest
import torch

from nastavnik.data import read_source
from nastavnik.dataset import DatasetOptions, make_dataset
from nastavnik.recipe import Recipe, Value
from nastavnik.runs import Clock, Deadline
from nastavnik.selection import Candidate, Search, Workbench, families_for, table_space
from nastavnik.selection._portfolio import Start, centred, first_points, portfolio
from nastavnik.selection._structures import rivals
from nastavnik.selection.samplers import SIBLINGS
from nastavnik.space import Choice, Number, Space, nodes_by_key
from nastavnik.targets import Classification, Regression
from nastavnik.trace import Trace


@pytest.fixture(scope="module")
def search() -> Search:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(size=(300, 4)), columns=list("abcd"))
    frame["y"] = frame["a"] * frame["b"]
    dataset = make_dataset(read_source(frame), DatasetOptions(target="y", folds=0))
    families = families_for((), dataset.columns)
    bench = Workbench(dataset.columns, dataset.task, dataset.split, families=families, settings={}, seed=0)
    space = table_space(len(dataset.split.train), 4, families=families, target=dataset.task.target)
    return Search(bench, space, seed=0, deadline=Deadline(Clock(None)), networks=48, trace=Trace())


def test_a_bracket_is_a_few_blocks_whose_networks_differ_in_numbers(search: Search) -> None:
    drawn = search.drawing.draw(48, 0)
    blocks = Counter(recipe.shape for _, recipe in drawn if recipe["network.family"] == "mlp")
    assert max(blocks.values()) <= SIBLINGS
    assert sum(count == SIBLINGS for count in blocks.values()) >= 4
    first = [recipe for _, recipe in drawn if recipe.shape == drawn[0][1].shape]
    assert len(first) == SIBLINGS
    for name in ("optimizer.learning_rate", "network.dropout", "network.sigma", "seed"):
        assert len({recipe[name] for recipe in first}) == SIBLINGS, name


def test_the_same_seed_draws_the_same(search: Search) -> None:
    drawn = []
    for _ in range(2):
        fresh = Search(search.bench, search.space, seed=0, deadline=Deadline(Clock(None)), networks=48, trace=Trace())
        drawn.append([recipe for _, recipe in fresh.drawing.draw(24, 0)])
    assert drawn[0] == drawn[1]


@pytest.mark.parametrize("target", [Classification("y", ("a", "b")), Regression("y")])
@pytest.mark.parametrize("rows", [300, 3000, 30_000])
def test_the_default_is_the_portfolios_first_and_its_others_are_points_of_the_space(
    target: Classification | Regression, rows: int
) -> None:
    space = table_space(rows, 5, target=target)
    default, first = space.default(), portfolio(target, 5)[0]
    for name, value in first.settings.items():
        assert default[name] == value, name
    points = first_points(space, target, 5)
    assert len(points) == len(portfolio(target, 5)) - 1
    nodes = nodes_by_key(space)
    for keys, start in zip(points, portfolio(target, 5)[1:], strict=True):
        for key, value in keys.items():
            node = nodes[key]
            if isinstance(node, Number):
                assert not isinstance(value, str)
                assert node.low <= value <= node.high, key
            else:
                assert value in node.options, key
        point = space.draw(lambda key, node, keys=keys: keys[key])  # type: ignore[misc]
        Recipe({**point, "seed": 0})
        assert point["network.activation"] == start.settings["network.activation"]
        assert point["epochs"] == pytest.approx(int(default["epochs"]) * start.length, rel=0.6)


@pytest.mark.parametrize("inputs,embedding,others", [(32, "periodic", True), (33, "none", False), (200, "none", False)])
def test_many_inputs_enter_without_waves(inputs: int, embedding: str, others: bool) -> None:
    for target in (Classification("y", ("a", "b")), Regression("y")):
        space = table_space(3000, inputs, target=target)
        assert space.default()["network.embedding"] == embedding
        assert bool(first_points(space, target, inputs)) == others


def test_a_preparation_tried_beside_the_usual_one_begins_no_block(search: Search) -> None:
    space = table_space(240, 4, target=search.bench.task.target, alternatives={"preparation.numbers": "standard"})
    fresh = Search(search.bench, space, seed=0, deadline=Deadline(Clock(None)), networks=48, trace=Trace())
    drawn = [recipe for _, recipe in fresh.drawing.draw(24, 0)]
    plain = [recipe for recipe in drawn if recipe["preparation.numbers"] == "standard"]
    assert {recipe["network.family"] for recipe in plain} == {"linear", "mlp"}
    assert len(plain) == 2
    blocks = Counter(recipe.shape for recipe in drawn if recipe not in plain and recipe["network.family"] == "mlp")
    assert sorted(blocks.values())[-2:] == [SIBLINGS, SIBLINGS]


def test_starts_that_pins_make_one_are_trained_once(search: Search) -> None:
    pins: dict[str, Value] = {name: value for name, value in search.space.default().items() if name != "network.family"}
    space = table_space(240, 4, target=search.bench.task.target, pinned={**pins, "network.family": "mlp"})
    fresh = Search(search.bench, space, seed=0, deadline=Deadline(Clock(None)), networks=48, trace=Trace())
    assert len(first_points(space, search.bench.task.target, 4)) > 1
    fresh.drawing.draw(1, 0)
    assert fresh.drawing.queue == []


def test_each_shape_of_the_first_bracket_keeps_its_own_best() -> None:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(size=(120, 2)), columns=list("ab")).assign(y=rng.normal(size=120))
    dataset = make_dataset(read_source(frame), DatasetOptions(target="y", folds=0))
    families = families_for(("mlp",), dataset.columns)
    bench = Workbench(dataset.columns, dataset.task, dataset.split, families=families, settings={}, seed=0)
    space = table_space(96, 2, families=families, target=dataset.task.target, pinned={"epochs": 8})
    search = Search(bench, space, seed=0, deadline=Deadline(Clock(None)), networks=24, trace=Trace(), engine="batched")
    search.run()
    shapes: dict[object, list[str]] = {}
    for candidate in search.history:
        shapes.setdefault(candidate.recipe.shape, []).append(candidate.status)
    assert len(shapes) > 2
    for statuses in shapes.values():
        thinned = math.ceil(0.5 * math.ceil(0.5 * len(statuses)))  # at either rung of "halving"
        assert len(statuses) - statuses.count("dropped") == thinned


def test_each_further_block_begins_with_a_rival(search: Search) -> None:
    fresh = Search(search.bench, search.space, seed=0, deadline=Deadline(Clock(None)), networks=48, trace=Trace())
    fresh.drawing.sampler.tell([], [])
    fresh.drawing._usual = []
    others: list[dict[str, Value]] = [
        {"network.family": "mlp", "network.family=mlp/network.embedding": e} for e in ("piecewise", "none")
    ]
    drawn = fresh.drawing.draw(3 * SIBLINGS, 1, others)
    found = [recipe["network.embedding"] for _, recipe in drawn[SIBLINGS:]]
    assert found == ["piecewise"] * SIBLINGS + ["none"] * SIBLINGS


def test_rivals_are_structures_that_are_not_shown_to_be_worse(search: Search) -> None:
    fresh = Search(search.bench, search.space, seed=0, deadline=Deadline(Clock(None)), networks=48, trace=Trace())
    rows = np.random.default_rng(0).normal(1.0, 0.5, 200)
    shifts = {"periodic": 0.0, "piecewise": 0.01, "none": 0.5}
    for i, (embedding, shift) in enumerate(shifts.items()):
        keys: dict[str, Value] = {"network.family": "mlp", "network.family=mlp/network.embedding": embedding}
        recipe = Recipe({"network.family": "mlp", "network.embedding": embedding, "seed": 0})
        fresh.losses[i] = rows + shift + 0.1 * np.random.default_rng(i).normal(size=200)
        score = float(fresh.losses[i].mean())
        fresh.history.append(Candidate(i, 1, keys, recipe, (i,), "finished", score, (score,), 1, 1, 1, 1.0, 1, ()))
    leader = fresh.ranking[0].recipe["network.embedding"]
    other = next(iter({"periodic", "piecewise"} - {leader}))
    assert rivals(fresh.ranking, fresh.losses, ("linear",)) == [
        {"network.family": "mlp", "network.family=mlp/network.embedding": other}
    ]


def test_what_is_pinned_goes_before_the_portfolio() -> None:
    pins: dict[str, Value] = {"network.activation": "tanh", "optimizer.learning_rate": 0.0007, "epochs": 7}
    space = table_space(3000, 5, target=Regression("y"), pinned=pins)
    points = [space.default()]
    for keys in first_points(space, Regression("y"), 5):
        points.append(space.draw(lambda key, node, keys=keys: keys[key]))  # type: ignore[misc]
    for point in points:
        for name, value in pins.items():
            assert point[name] == value


def test_a_value_that_a_space_does_not_have_is_left_out() -> None:
    space = Space({"network.width": Choice.of(32, 64, default=32), "rate": Number(0.1, 1.0, default=0.5)})
    found = centred(space, Start({"network.width": 128, "rate": 0.7, "other": 3}))
    assert found.default() == {"network.width": 32, "rate": 0.7}
    beyond = centred(space, Start({"rate": 7.0}))
    assert beyond.default()["rate"] == 0.5


def test_what_was_told_of_is_not_trained_again_from_the_queue(search: Search) -> None:
    drawing = search.drawing
    drawn = drawing.draw(2, 0)
    told, waiting = (keys for keys, _ in drawn)
    drawing.sampler.tell([told], [1.0])
    drawing.withdraw(drawn)
    assert [keys for keys in drawing.queue if keys in (told, waiting)] == [told, waiting]
    again = drawing.draw(4, 2)
    assert told not in [keys for keys, _ in again]
    assert waiting in [keys for keys, _ in again]


def test_a_module_that_is_not_ours_shares_no_program() -> None:
    from nastavnik.nets import Factory
    from nastavnik.selection._populating import _kin

    frame = pd.DataFrame({"a": np.arange(40.0), "y": np.arange(40.0) % 7})
    dataset = make_dataset(read_source(frame), DatasetOptions(target="y", folds=0))
    own = Factory(torch.nn.Linear, name="own")
    for family in (own, *families_for(("mlp",), dataset.columns)):
        bench = Workbench(dataset.columns, dataset.task, dataset.split, families=[family], settings={}, seed=0)
        recipe = Recipe({"network.family": family.name, "epochs": 3, "seed": 0})
        assert (_kin(bench, recipe) is None) is (family is own)
