"""Several targets, labels and votes, from a table to report, predictions, compare and check."""

from __future__ import annotations

import hashlib
import json
from importlib import resources
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_linnerud

import nastavnik
from nastavnik.errors import UserError
from nastavnik.recipe import Value


def table(n: int = 240, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 3))
    price = 100 + 10 * (x @ [1.0, 2.0, 0.0]) + rng.normal(size=n)
    frame = pd.DataFrame(x, columns=["a", "b", "c"]).assign(price=np.where(rng.random(n) < 0.2, np.nan, price))
    return frame.assign(sold=pd.Series(np.where(x[:, 0] > 0, "yes", "no")).mask(rng.random(n) < 0.2))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> nastavnik.Run:
    out = tmp_path_factory.mktemp("several") / "run"
    source = out.parent / "table.csv"
    table().to_csv(source, index=False)
    return nastavnik.fit(
        source, target=["price", "sold"], networks=12, folds=0, family="mlp", out=out, settings={"epochs": 20},
        target_weights={"sold": 2.0},
    )  # fmt: skip


def test_each_target_has_scores_of_its_own(run: nastavnik.Run) -> None:
    result = run.result
    schema = json.loads((resources.files("nastavnik") / "schemas" / "result.schema.json").read_text())
    jsonschema.validate({"format_version": 1, **result}, schema)
    assert result["task"]["kind"] == "several"
    assert result["task"]["shares"] == [1.0, 2.0]
    assert set(result["validation"]) == {"nll"}
    price, sold = result["targets"]["price"], result["targets"]["sold"]
    assert price["test"]["r2"]["value"] > 0.9
    assert sold["test"]["accuracy"]["value"] > 0.8
    assert price["baselines"]["linear"]["test"]["r2"]["value"] > 0.95
    assert sold["baselines"]["constant"]["ahead"]["value"] > 0
    known = table()[["price", "sold"]].notna()
    assert [price["rows"], sold["rows"]] == known[known.any(axis=1)].sum().tolist()
    whole = result["validation"]["nll"]["value"]
    rows = run.dataset.task.values[run.dataset.split.validation]
    shares = 1 - np.isnan(rows).mean(0)
    parts = [one["validation"]["nll"]["value"] for one in (price, sold)]
    assert whole == pytest.approx(float(np.dot(shares, parts)), rel=1e-6)


def test_what_sharing_gained_is_told_with_its_interval(run: nastavnik.Run) -> None:
    for name in ("price", "sold"):
        gain = run.result["targets"][name]["gain_of_sharing"]
        assert gain["low"] <= gain["value"] <= gain["high"]
    assert run.result["cost"]["networks"] == 12


def test_the_page_and_the_card_name_both(run: nastavnik.Run) -> None:
    assert run.folder is not None
    page = (run.folder / "report.html").read_text()
    assert "Target by target" in page
    assert "Predicted and true: price" in page
    assert "Are its probabilities honest?: sold" in page
    assert "price, sold" in (run.folder / "model" / "card.md").read_text()


def test_predictions_have_columns_of_each(run: nastavnik.Run) -> None:
    assert run.folder is not None
    new = table(20, seed=5)[["a", "b", "c"]]
    said = nastavnik.Model.load(run.folder).predict(new, quantiles=[0.5])
    expected = ["price.prediction", "price.low", "price.high", "price.q0.5"]
    assert list(said) == [*expected, "sold.prediction", "sold.p_no", "sold.p_yes"]
    pd.testing.assert_frame_equal(said, run.model.predict(new, quantiles=[0.5]))
    assert set(said["sold.prediction"]) <= {"yes", "no"}


def test_networks_are_compared_and_checked(run: nastavnik.Run) -> None:
    assert run.folder is not None
    found = nastavnik.compare(run.folder, criteria="validation,laplace_last_layer")
    assert found.criteria[0]["networks"] > 0
    assert "density" in found.criteria[1]["problem"]  # one target counts twice: that is no likelihood any more
    checked = nastavnik.check(run.folder)
    assert not [f for f in checked.findings if f.severity == "error"]
    assert not checked.faults


def test_a_network_of_several_targets_that_cannot_learn_is_named(tmp_path: Path) -> None:
    source = tmp_path / "table.csv"
    table().to_csv(source, index=False)
    settings: dict[str, Value] = {
        "epochs": 20,
        "optimizer.name": "sgd",
        "optimizer.learning_rate": 1e-9,
        "network.family": "mlp",
    }
    nastavnik.fit(source, target="price,sold", networks=2, folds=0, out=tmp_path / "run", settings=settings)
    checked = nastavnik.check(tmp_path / "run")
    assert {f.rule for f in checked.findings} & {"chance_level", "rate_too_small"}


def test_the_same_seed_gives_the_same_bytes(tmp_path: Path) -> None:
    digests = []
    for name in ("one", "two"):
        nastavnik.fit(table(), target="price,sold", networks=3, folds=0, out=tmp_path / name, settings={"epochs": 5})
        digests.append(hashlib.sha256((tmp_path / name / "model" / "model.safetensors").read_bytes()).hexdigest())
    assert digests[0] == digests[1]


def test_what_several_targets_cannot_be_asked_is_said_at_once() -> None:
    with pytest.raises(UserError, match="--pareto error is the share of wrong classes; for several targets take nll"):
        nastavnik.fit(table(), target="price,sold", networks=2, pareto=("error", "parameters"))
    with pytest.raises(UserError, match="which --target-weight makes it no more"):
        nastavnik.fit(table(), target="price,sold", networks=2, criterion="evidence", target_weights={"sold": 2.0})
    votes = table().assign(cat=1, dog=2)[["a", "cat", "dog"]]
    with pytest.raises(UserError, match="--target-weight says what each of several targets counts, but there is one"):
        nastavnik.fit(votes, target="cat,dog", task="votes", networks=2, target_weights={"cat": 2.0})
    with pytest.raises(ValueError, match=r"every value of target 1 is 1\.0"):
        nastavnik.NastavnikRegressor().fit(np.eye(5), np.column_stack([np.arange(5), np.ones(5)]))


def test_the_audit_names_the_target_and_counts_a_column_once() -> None:
    frame = table().assign(hint=table()["price"].fillna(0) * 2)
    frame.loc[::4, "a"] = np.nan
    run = nastavnik.fit(frame, target="price,sold", networks=1, folds=0, settings={"epochs": 2})
    said = [one["message"] for one in run.dataset.audit]
    assert sum("hint alone tells the target price" in text for text in said) == 1
    assert sum(text.startswith("a: ") and "missing" in text for text in said) == 1


def test_linnerud_from_arrays_in_folds() -> None:
    x, y = load_linnerud(return_X_y=True, as_frame=True)
    run = nastavnik.fit(x, y=y, task="regression", networks=11, settings={"epochs": 20})
    assert list(run.result["targets"]) == ["Weight", "Waist", "Pulse"]
    assert run.dataset.split.folds is not None
    with pytest.raises(UserError, match="y is the target, so that 'Waist' cannot be"):
        nastavnik.fit(x, y=y, target="Waist", networks=2)
    regressor = nastavnik.NastavnikRegressor(networks=2, folds=0).fit(x, y)
    assert regressor.predict(x).shape == (20, 3)


def test_targets_of_which_no_row_has_all_are_learned_and_it_is_said() -> None:
    frame = table()
    first = np.arange(len(frame)) < len(frame) // 2
    frame = frame.assign(price=frame["price"].mask(first), sold=frame["sold"].mask(~first))
    run = nastavnik.fit(frame, target="price,sold", networks=1, folds=0, settings={"epochs": 3})
    assert any("no row has all of price, sold" in note for note in run.dataset.notes)


@pytest.mark.parametrize("target", ["tags", "cat,dog"])
def test_labels_and_votes_go_the_whole_way(target: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(size=(200, 3))
    frame = pd.DataFrame(x, columns=["a", "b", "c"])
    frame["tags"] = [
        ", ".join(w for w, v in zip(("red", "big", "old"), row, strict=True) if v > 0) or "[]" for row in x
    ]
    votes = rng.binomial(5, 1 / (1 + np.exp(-2 * x[:, 0])))
    frame = frame.assign(cat=votes, dog=5 - votes)
    unused = ("cat", "dog") if target == "tags" else ("tags",)
    task = "votes" if target != "tags" else None
    kinds = {"tags": "labels"} if target == "tags" else {}
    frame.to_csv(tmp_path / "table.csv", index=False)
    run = nastavnik.fit(
        tmp_path / "table.csv", target=target, task=task, kinds=kinds, drop=unused, networks=4, folds=0, out=tmp_path / "run",
        family="mlp", settings={"epochs": 30},
    )  # fmt: skip
    schema = json.loads((resources.files("nastavnik") / "schemas" / "result.schema.json").read_text())
    jsonschema.validate({"format_version": 1, **run.result}, schema)
    head = "f1" if target == "tags" else "accuracy"
    assert run.result["test"][head]["value"] > 0.7
    assert all("test" in b for b in run.result["baselines"].values())
    again = nastavnik.Model.load(tmp_path / "run").predict(frame)
    assert len(again) == 200
    checked = nastavnik.check(tmp_path / "run")
    assert not [f for f in checked.findings if f.severity == "error"]


def test_a_likelihood_that_is_for_one_target_leaves_the_others_theirs() -> None:
    frame = table().assign(price=np.exp((table()["price"] - 100) / 20))
    settings: dict[str, Value] = {"likelihood.name": "gamma", "epochs": 3, "network.family": "mlp"}
    run = nastavnik.fit(frame, target="price,sold", networks=12, folds=0, settings=settings)
    parts = run.model.members[0].learner.likelihood.parts
    assert [part.name for part in parts] == ["gamma", "bernoulli"]  # type: ignore[union-attr]
    assert "gain_of_sharing" in run.result["targets"]["sold"]


def test_without_test_rows_labels_are_fitted_too() -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(size=(120, 2))
    frame = pd.DataFrame(x, columns=["a", "b"])
    frame["tags"] = [", ".join(w for w, v in zip(("red", "big"), row, strict=True) if v > 0) or "[]" for row in x]
    options: dict[str, Any] = {"kinds": {"tags": "labels"}, "settings": {"epochs": 2}}
    run = nastavnik.fit(frame, target="tags", networks=1, folds=0, test=0.0, **options)
    assert run.result["test"] is None
