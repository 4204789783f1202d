"""Heavy tails and wild rows: preparations that are tried, units that compare, and what may not be delivered."""

import numpy as np
import pandas as pd
import pytest

import nastavnik
from nastavnik.data import Table
from nastavnik.dataset import DatasetOptions, make_dataset
from nastavnik.errors import UserError
from nastavnik.model import DataWarning, Member, member_predictive
from nastavnik.nets import FAMILIES
from nastavnik.recipe import Recipe
from nastavnik.selection import Workbench
from nastavnik.selection._held_out import HeldOut
from nastavnik.selection._wild import absurd, shown_above_zero
from nastavnik.space import Choice, Space


@pytest.fixture(scope="module")
def sums() -> nastavnik.Run:
    """A sum of two columns of heavy tails, which neither soft clipping nor a logarithm can express."""
    rng = np.random.default_rng(0)
    a, b = rng.pareto(1.6, 700), rng.pareto(1.6, 700)
    return nastavnik.fit(pd.DataFrame({"a": a, "b": b, "y": a + b}), target="y", networks=12, folds=0)


def test_a_sum_of_heavy_tails_is_learned(sums: nastavnik.Run) -> None:
    assert sums.result["test"]["r2"]["value"] > 0.99
    assert sums.result["chosen"]["recipe"]["preparation"] == {"numbers": "standard", "target": "identity"}


def test_plain_preparations_are_among_the_first_candidates_and_trained_to_their_end(sums: nastavnik.Run) -> None:
    first = sums.networks[sums.networks["generation"] == 0]
    plain = first[(first["preparation.numbers"] == "standard") & (first["preparation.target"] == "identity")]
    assert set(plain["network.family"]) == {"linear", "mlp"}
    linear = first[first["network.family"] == "linear"].head(2)
    assert set(linear["status"]) <= {"finished", "stopped"}


def test_a_careful_persons_linear_baseline(sums: nastavnik.Run) -> None:
    assert sums.result["baselines"]["linear"]["test"]["r2"]["value"] > 0.99


def test_tables_without_heavy_tails_search_no_preparation(rng: np.random.Generator) -> None:
    x = rng.normal(size=(200, 2))
    run = nastavnik.fit(x, x @ [1.0, 2.0], networks=4, folds=0)
    assert set(run.networks["preparation.numbers"]) == {"auto"}
    assert set(run.networks["preparation.target"]) == {"auto"}


@pytest.mark.parametrize("folds", [0, 3])
def test_scores_of_targets_prepared_otherwise_are_in_the_same_units(folds: int) -> None:
    """What a search adds to a candidate's nats is what the density in the target's own units asks for."""
    rng = np.random.default_rng(1)
    frame = pd.DataFrame({"x": rng.normal(size=300), "y": np.exp(2 * rng.normal(size=300))})
    dataset = make_dataset(Table(frame, "t", target="y"), DatasetOptions(folds=folds))
    bench = Workbench(
        dataset.columns, dataset.task, dataset.split, families=list(FAMILIES.values()), settings={}, seed=0
    )
    recipe = Recipe({"network.family": "linear", "seed": 0, "likelihood.noise": "learned"})
    plain = bench.of(recipe.replace({"preparation.target": "identity"}))
    assert bench.parts[0].target.transform == "log"
    assert plain is not bench
    held = HeldOut(bench)
    own, searched = [], []
    for one in (bench, plain):
        learners = [one.learner(recipe, part) for part in one.parts]
        nats = np.empty(len(frame))
        for g, (part, (_, rows)) in enumerate(zip(one.parts, dataset.split.parts, strict=True)):
            predictive = member_predictive(Member(learners[g], recipe), part.rows(rows)[0], part.target)
            nats[rows] = predictive.neg_log_likelihood(dataset.task.values[rows])
        own.append(nats[held.rows])
        untempered = [bench_losses(one, learners, g, rows) for g, (_, rows) in enumerate(dataset.split.parts)]
        offsets = [np.mean(one.row_offset(g, rows)) for g, (_, rows) in enumerate(dataset.split.parts)]
        searched.append(np.mean([u.mean() for u in untempered]) + one.offset)
        assert one.offset == pytest.approx(np.mean(offsets))
    parts = [np.isin(held.rows, rows) for _, rows in dataset.split.parts]
    gap = np.mean([(own[1] - own[0])[mine].mean() for mine in parts])
    assert searched[1] - searched[0] == pytest.approx(gap, rel=1e-4)


def bench_losses(bench: Workbench, learners: list, g: int, rows: np.ndarray) -> np.ndarray:
    import torch

    inputs, targets = bench.data.rows_of(g, torch.from_numpy(rows))
    with torch.no_grad():
        return learners[g].likelihood.neg_log_likelihood(learners[g](*inputs), targets).numpy()


def test_one_wild_row_neither_hides_a_difference_nor_makes_one() -> None:
    rng = np.random.default_rng(0)
    gaps = rng.normal(0.1, 0.3, 300)
    assert shown_above_zero(gaps, 1.96)
    assert shown_above_zero(np.append(gaps, 1000.0), 1.96)  # the mean's interval is 6 wide now
    none = rng.normal(0.0, 0.3, 300)
    assert not shown_above_zero(none, 1.96)
    assert not shown_above_zero(np.append(none, 1000.0), 1.96)


def test_what_is_worse_than_a_constant_beside_something_good_is_absurd() -> None:
    assert absurd({"linear": -3_049_049.0, "mlp": 0.9, "other": 0.2}) == {"linear": -3_049_049.0}
    assert absurd({"a": -0.02, "b": 0.03}) == {}  # noise
    assert absurd({"a": float("nan"), "b": 0.03}).keys() == {"a"}
    assert absurd({"a": -5.0}) == {}  # there is nothing better


def test_a_linear_model_that_one_wild_row_protects_is_not_delivered() -> None:
    rng = np.random.default_rng(3)
    x = np.abs(rng.normal(size=1200))
    y = np.exp(np.minimum(x, 2.5) + 0.2 * rng.normal(size=1200))
    part = np.array(["train"] * 960 + ["validation"] * 120 + ["test"] * 120)
    x[1000] = 12
    y[1000] = np.exp(2.5)
    run = nastavnik.fit(pd.DataFrame({"x": x, "part": part, "y": y}), target="y", networks=16, split="part")
    assert run.result["validation"]["r2"]["value"] > 0.5
    with pytest.warns(DataWarning, match="x: 1 rows lie far outside the training range"):
        far = run.model.predict(pd.DataFrame({"x": [12.0]}))
    assert float(far["prediction"].iloc[0]) < 5 * y.max()


@pytest.fixture(scope="module")
def searched() -> nastavnik.Run:
    rng = np.random.default_rng(0)
    x = rng.normal(size=200)
    y = np.exp(x + 0.1 * rng.normal(size=200))
    space = Space({"preparation.target": Choice.of("log", "identity")})
    return nastavnik.fit(x[:, None], y, networks=8, folds=0, family="linear", space=space)


def test_preparations_of_the_target_may_be_searched(searched: nastavnik.Run) -> None:
    assert set(searched.networks["preparation.target"]) == {"log", "identity"}
    assert searched.result["chosen"]["recipe"]["preparation"]["target"] == "log"  # y is a power of e


def test_but_not_by_evidence_nor_where_a_value_forbids_it(rng: np.random.Generator) -> None:
    space = Space({"preparation.target": Choice.of("log", "identity")})
    x = rng.normal(size=(100, 1))
    with pytest.raises(UserError, match=r"preparation\.target can be searched by validation only"):
        nastavnik.fit(x, np.exp(x[:, 0]), networks=4, space=space, criterion="evidence")
    with pytest.raises(UserError, match=r"preparation\.target=log needs values above 0"):
        nastavnik.fit(x, x[:, 0], networks=4, space=space)
