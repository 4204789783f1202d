"""The final training: several candidates anew, each to its best step."""

import time

import numpy as np
import pandas as pd
import pytest
import torch

from nastavnik.clock import Clock, Deadline
from nastavnik.data import read_source
from nastavnik.dataset import DatasetOptions, make_dataset
from nastavnik.recipe import Value
from nastavnik.selection import Search, Workbench, families_for, table_space
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


def test_several_after_a_hold_out_have_seen_all_rows(search: Search, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = make_dataset(read_source(table(240)), DatasetOptions(target="y", folds=0))
    chooser = _Chooser(search, dataset)
    chosen = dict.fromkeys(search.ranking[:3], 1)
    _, _, numbers, trained = chooser.model(chosen, None, several=True)
    assert trained == 0  # a number of networks is kept to
    assert numbers == tuple(c.numbers[0] for c in chosen)
    monkeypatch.setattr(search, "networks", None)
    model, kept, numbers, trained = chooser.model(chosen, None, several=True)
    assert list(kept) == list(chosen)
    assert trained == len(model.members) == 3
    assert min(numbers) >= len(search.history)
    wanted = search.bench.whole()[0].preparation
    assert model.preparation.to_record()[0] == wanted.to_record()[0]
    assert chooser.model(chosen, None)[3] == 0  # as they are, where only several are asked for


def test_several_that_all_diverge_anew_are_taken_as_they_are(search: Search, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = make_dataset(read_source(table(240)), DatasetOptions(target="y", folds=0))
    chosen = dict.fromkeys(search.ranking[:3], 1)
    monkeypatch.setattr(search, "networks", None)
    monkeypatch.setattr("nastavnik.selection._choice.train_anew", lambda *given: {})
    _, kept, numbers, trained = _Chooser(search, dataset).model(chosen, None, several=True)
    assert (list(kept), trained) == (list(chosen), 0)
    assert numbers == tuple(c.numbers[0] for c in chosen)
