"""The final training: several candidates anew, each to its best step."""

import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from nastavnik.data import read_source
from nastavnik.dataset import DatasetOptions, make_dataset
from nastavnik.model import Model
from nastavnik.recipe import Value
from nastavnik.runs import Clock, Deadline
from nastavnik.selection import Search, Strategy, Workbench, families_for, table_space
from nastavnik.selection._choice import _Chooser
from nastavnik.selection._final import train_anew
from nastavnik.trace import Trace


def table(rows: int) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(size=(rows, 3)), columns=list("abc"))
    return frame.assign(y=frame["a"] * frame["b"] + rng.normal(0, 0.1, rows))


@pytest.fixture(scope="module")
def search() -> Search:
    dataset = make_dataset(read_source(table(240)), DatasetOptions(target="y", folds=0))
    families = families_for(("mlp",), dataset.columns)
    settings: dict[str, Value] = {"epochs": 6, "network.embedding": "none", "network.width": 8, "network.depth": 1}
    bench = Workbench(dataset.columns, dataset.task, dataset.split, families=families, settings=settings, seed=0)
    space = table_space(len(dataset.split.train), 3, families=families, target=dataset.task.target).pin(settings)
    found = Search(bench, space, seed=0, deadline=Deadline(Clock(None)), networks=10, trace=Trace(), engine="batched")
    found.run()
    return found


def test_on_the_same_rows_it_ends_where_each_was_best(search: Search) -> None:
    candidates = search.ranking[:5]
    assert len({c.best_step for c in candidates}) > 1
    before = search.network_steps
    found = train_anew(search, candidates, search.bench.parts[0], search.bench.data, 100, None)
    assert sorted(c.number for c in found) == sorted(c.number for c in candidates)
    assert search.network_steps - before == sum(c.best_step for c in candidates)
    for c, learner in found.items():
        wanted = search.pool[c.number][0].state_dict()
        for name, own in learner.state_dict().items():
            torch.testing.assert_close(own, wanted[name], rtol=1e-3, atol=1e-4, msg=name)


def test_what_is_not_done_in_time_is_missing(search: Search) -> None:
    clock = Clock(1e-3)
    time.sleep(2e-3)
    part, data = search.bench.whole()
    assert train_anew(search, search.ranking[:3], part, data, 100, Deadline(clock)) == {}


def test_several_after_a_hold_out_are_taken_as_they_are(search: Search, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = make_dataset(read_source(table(240)), DatasetOptions(target="y", folds=0))
    chosen = dict.fromkeys(search.ranking[:3], 1)
    monkeypatch.setattr(search, "networks", None)  # as under a clock
    model, kept, numbers, trained = _Chooser(search, dataset).model(chosen, None, several=True)
    assert (list(kept), trained) == (list(chosen), 0)
    assert numbers == tuple(c.numbers[0] for c in chosen)
    assert [m.learner for m in model.members] == [search.pool[c.number][0] for c in chosen]


@pytest.fixture(scope="module")
def two_ways() -> Search:
    """A search in which numbers are prepared in two ways, of inputs for which that matters."""
    frame = table(240)
    frame["a"] = np.exp(2 * frame["a"])
    dataset = make_dataset(read_source(frame), DatasetOptions(target="y", folds=0))
    families = families_for(("mlp",), dataset.columns)
    settings: dict[str, Value] = {"epochs": 4, "network.embedding": "none", "network.width": 8, "network.depth": 1}
    bench = Workbench(dataset.columns, dataset.task, dataset.split, families=families, settings=settings, seed=0)
    own: dict[str, Value] = {**settings, "preparation.numbers": "standard,quantile"}
    space = table_space(len(dataset.split.train), 3, families=families, target=dataset.task.target, pinned=own)
    found = Search(
        bench, space, seed=0, deadline=Deadline(Clock(None)), networks=8, trace=Trace(), engine="batched",
        strategy=Strategy(sampler="quasi_random"),
    )  # fmt: skip
    found.run()
    return found


def test_members_prepared_in_two_ways_predict_as_each_does_alone(two_ways: Search, tmp_path: Path) -> None:
    frame = table(240)
    frame["a"] = np.exp(2 * frame["a"])
    dataset = make_dataset(read_source(frame), DatasetOptions(target="y", folds=0))
    chooser = _Chooser(two_ways, dataset)
    each = {c.recipe["preparation.numbers"]: c for c in reversed(chooser.ranking)}
    assert set(each) == {"standard", "quantile"}
    chosen = {each["standard"]: 2, each["quantile"]: 1}
    model, *_ = chooser.model(chosen, None, several=True)
    assert len(model.folds) == 2
    alone = [chooser.model({c: 1}, None, several=True)[0].predict(frame)["prediction"] for c in chosen]
    wanted = (2 * alone[0] + alone[1]) / 3
    np.testing.assert_allclose(model.predict(frame)["prediction"], wanted, rtol=1e-9)
    model.save(tmp_path)
    np.testing.assert_array_equal(Model.load(tmp_path).predict(frame)["prediction"], model.predict(frame)["prediction"])
    held = chooser.held_out(chosen)
    np.testing.assert_allclose(held.point(), wanted[chooser.rows], rtol=1e-6)


def test_networks_of_a_target_prepared_otherwise_do_not_join(two_ways: Search) -> None:
    bench = two_ways.bench
    point = dict(two_ways.ranking[0].recipe)
    assert bench.of(point).joins(bench.of({**point, "preparation.numbers": "quantile"}))
    assert not bench.of(point).joins(bench.of({**point, "preparation.target": "yeo-johnson"}))
