import copy
import dataclasses
import json
import re
import shutil
from importlib import resources
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression, RidgeCV
from torch import nn

import nastavnik
from nastavnik.data import read_source
from nastavnik.errors import UserError

QUICK: dict[str, Any] = {"networks": 6, "folds": 0}
SHORT: dict[str, Any] = {**QUICK, "settings": {"epochs": 5}}  # where nothing need be learned
TWENTY: dict[str, Any] = {"networks": 20, "folds": 0, "settings": {"epochs": 12}}  # two brackets


def schema() -> dict[str, object]:
    return json.loads((resources.files("nastavnik") / "schemas" / "result.schema.json").read_text())


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One finished run that several tests look at."""
    folder = tmp_path_factory.mktemp("runs") / "wine"
    nastavnik.fit("wine", networks=12, out=folder, deliver="ensemble")
    return folder


def test_a_run_folder_holds_what_the_plan_says(fitted: Path) -> None:
    names = {p.name for p in fitted.iterdir()}
    assert names == {
        "run.json", "dataset.json", "networks.csv", "trace", "result.json", "model", "checkpoint", "report.html",
    }  # fmt: skip
    assert {p.name for p in (fitted / "model").iterdir()} == {"model.safetensors", "model.json", "card.md"}
    for path in fitted.rglob("*.json"):
        versions = {"model.json": 4, "search.json": 2}
        assert json.loads(path.read_text())["format_version"] == versions.get(path.name, 1)
    assert not [p for p in fitted.rglob("*") if p.name.startswith(".") or p.suffix == ".part"]


def test_the_result_has_its_published_form(fitted: Path) -> None:
    result = json.loads((fitted / "result.json").read_text())
    jsonschema.validate(result, schema())
    assert result["test_touches"] == 1
    assert result["task"]["classes"] == ["class_0", "class_1", "class_2"]
    assert set(result["baselines"]) == {
        "constant",
        "linear",
        "k_nearest_neighbours",
        "random_forest",
        "gradient_boosting",
    }
    assert result["cost"]["networks"] <= 12
    accuracy = result["test"]["accuracy"]
    assert accuracy["low"] <= accuracy["value"] <= accuracy["high"]


def test_the_test_scores_are_those_of_the_loaded_model_on_the_test_rows(fitted: Path) -> None:
    frame = read_source("wine").frame
    rows = json.loads((fitted / "dataset.json").read_text())["split"]["test"]
    table = nastavnik.Model.load(fitted).predict(frame.iloc[rows])
    accuracy = (table["prediction"].to_numpy() == frame["target"].iloc[rows].to_numpy()).mean()
    assert accuracy == pytest.approx(json.loads((fitted / "result.json").read_text())["test"]["accuracy"]["value"])
    np.testing.assert_allclose(table[["p_class_0", "p_class_1", "p_class_2"]].sum(axis=1), 1.0)


def test_networks_and_trace_tell_the_whole_story(fitted: Path) -> None:
    networks = pd.read_csv(fitted / "networks.csv")
    result = json.loads((fitted / "result.json").read_text())
    assert len(networks) == result["cost"]["networks"]
    trace = pd.concat(pd.read_parquet(p) for p in (fitted / "trace").glob("part-*.parquet"))
    assert list(trace.columns) == ["network", "step", "epoch", "instrument", "layer", "value"]
    assert set(trace["network"]) == set(networks["network"])
    assert set(result["chosen"]["networks"]) <= set(networks["network"])


def test_the_report_needs_no_connection(fitted: Path) -> None:
    page = re.sub(r"<script.*?</script>", "", (fitted / "report.html").read_text(), flags=re.DOTALL)
    assert "What was chosen" in page
    outside = [part for part in ('src="http', "src='http", 'href="http', "@import", "<link") if part in page]
    assert outside == []


def test_the_same_command_gives_the_same_bytes(tmp_path: Path) -> None:
    folders = [tmp_path / name for name in "ab"]
    for folder in folders:
        nastavnik.fit("wine", networks=12, out=folder, seed=3, settings={"epochs": 10})
    first, second = ((f / "model" / "model.safetensors").read_bytes() for f in folders)
    assert first == second
    results = [json.loads((f / "result.json").read_text()) for f in folders]
    for result in results:
        del result["cost"]
        for baseline in result["baselines"].values():
            del baseline["seconds"]
    assert results[0] == results[1]


def test_a_model_says_the_same_for_a_row_alone(fitted: Path) -> None:
    frame = read_source("wine").frame
    model = nastavnik.Model.load(fitted)
    whole = model.predict(frame)
    for i in (0, 77, 177):
        pd.testing.assert_frame_equal(model.predict(frame.iloc[[i]]), whole.iloc[[i]], rtol=1e-10)


@pytest.mark.parametrize("rows", [1, 50])
def test_many_rows_are_predicted_in_pieces(fitted: Path, monkeypatch: pytest.MonkeyPatch, rows: int) -> None:
    frame = read_source("wine").frame.set_axis(np.arange(178)[::-1] // 2)  # an index that repeats itself
    model = nastavnik.Model.load(fitted)
    whole = model.predict(frame)
    monkeypatch.setattr("nastavnik.model._AT_ONCE", rows)
    pd.testing.assert_frame_equal(model.predict(frame), whole, rtol=1e-10)
    assert len(model.predict(frame[:0])) == 0


def test_regression_with_every_kind_of_column(houses: pd.DataFrame) -> None:
    run = nastavnik.fit(houses, target="price", networks=16)
    jsonschema.validate({"format_version": 1, **run.result}, schema())
    assert run.result["test"]["r2"]["value"] > 0.8
    assert run.folder is None
    table = run.model.predict(houses)
    assert list(table.columns) == ["prediction", "low", "high"]
    inside = ((houses["price"] >= table["low"]) & (houses["price"] <= table["high"])).mean()
    assert 0.85 < inside <= 1.0


def test_counts_are_poisson(rng: np.random.Generator) -> None:
    x = rng.normal(size=(300, 2))
    y = rng.poisson(np.exp(1 + 0.7 * x[:, 0]))
    run = nastavnik.fit(x, y, task="count", **QUICK)
    assert run.result["task"]["kind"] == "count"
    assert run.result["test"]["r2"]["value"] > 0.3


def test_what_is_pinned_is_not_searched(houses: pd.DataFrame) -> None:
    settings: dict[str, Any] = {
        "optimizer.name": "sgd",
        "optimizer.learning_rate": 0.01,
        "network.width": 20,
        "epochs": 5,
    }
    run = nastavnik.fit(houses, target="price", family="mlp", settings=settings, **QUICK)
    for name, value in settings.items():
        assert (run.networks[name] == value).all()
    assert run.networks["network.dropout"].nunique() > 1


def test_a_users_own_module_is_a_family(houses: pd.DataFrame, tmp_path: Path) -> None:
    def make(inputs: int, outputs: int) -> nn.Module:
        return nn.Sequential(nn.Linear(inputs, 12), nn.ReLU(), nn.Dropout(0.1), nn.Linear(12, outputs))

    run = nastavnik.fit(houses, target="town", family=make, out=tmp_path / "r", **SHORT)
    assert (run.networks["network.family"] == "factory").all()
    with pytest.raises(UserError, match="family 'factory', which is not ours"):
        nastavnik.Model.load(tmp_path / "r")
    from nastavnik.nets import Factory

    model = nastavnik.Model.load(tmp_path / "r", family=Factory(make))
    pd.testing.assert_frame_equal(model.predict(houses), run.model.predict(houses))


def test_ensembles_hold_several_networks(houses: pd.DataFrame) -> None:
    run = nastavnik.fit(houses, target="price", deliver="ensemble", networks=8, folds=0, settings={"epochs": 10})
    assert len(run.model.members) == len(run.result["chosen"]["networks"]) >= 1
    assert len({id(m.learner) for m in run.model.members}) == len(run.model.members)
    assert set(run.result["comparison"]["validation"]) == {"single", "ensemble"}


def test_a_network_picked_twice_counts_twice(houses: pd.DataFrame, tmp_path: Path) -> None:
    run = nastavnik.fit(houses, target="price", **SHORT)
    (member,) = run.model.members
    other = dataclasses.replace(member, learner=copy.deepcopy(member.learner), temperature=5.0)
    twice = dataclasses.replace(run.model, members=(dataclasses.replace(member, votes=2), other))
    thrice = dataclasses.replace(run.model, members=(member, member, other))
    pd.testing.assert_frame_equal(twice.predict(houses), thrice.predict(houses))
    twice.save(tmp_path / "model")
    pd.testing.assert_frame_equal(nastavnik.Model.load(tmp_path / "model").predict(houses), twice.predict(houses))


def test_groups_times_and_given_splits(houses: pd.DataFrame) -> None:
    houses["plot"] = np.arange(len(houses)) // 3
    grouped = nastavnik.fit(houses, target="price", group="plot", **SHORT)
    parts = [set(houses["plot"].iloc[getattr(grouped.dataset.split, p)]) for p in ("train", "validation", "test")]
    assert parts[0].isdisjoint(parts[1] | parts[2])
    assert parts[1].isdisjoint(parts[2])
    assert "plot" not in grouped.dataset.columns.number_names
    timed = nastavnik.fit(houses, target="price", time="sold", **SHORT)
    sold = pd.to_datetime(houses["sold"])
    assert sold.iloc[timed.dataset.split.train].max() < sold.iloc[timed.dataset.split.test].min()
    houses["part"] = ["train"] * 100 + ["valid"] * 30 + ["test"] * 30
    given = nastavnik.fit(houses, target="price", split="part", **SHORT)
    assert given.dataset.split.test.tolist() == list(range(130, 160))


def test_repeated_identifiers_stay_together(houses: pd.DataFrame) -> None:
    houses.insert(0, "id", [7_000_000 + 11 * (i - (i % 10 == 9)) for i in range(len(houses))])
    run = nastavnik.fit(houses, target="price", **SHORT)
    split = run.dataset.split
    ids = houses["id"].to_numpy()
    assert not set(ids[split.test]) & set(ids[split.train])
    assert not set(ids[split.validation]) & set(ids[split.train])
    assert any("rows of one id stay together" in note for note in run.dataset.notes)


def test_class_weights_lift_the_rare_class(rng: np.random.Generator) -> None:
    n = 1500
    x = rng.normal(size=(n, 2))
    y = (x[:, 0] + rng.normal(size=n) > 2.2).astype(int)
    settings = {"epochs": 20}
    plain, weighted = (
        nastavnik.fit(x, y, folds=0, networks=1, family="linear", settings=settings, class_weights=w)
        for w in ("none", "balanced")
    )
    shares = [
        run.model.predictive(run.dataset.columns).probabilities[:, 1].mean()  # type: ignore[attr-defined]
        for run in (plain, weighted)
    ]
    assert shares[1] > 2 * shares[0]


def test_few_networks_mean_a_hold_out_and_many_folds() -> None:
    few = nastavnik.fit("iris", networks=3, settings={"epochs": 5})
    many = nastavnik.fit("iris", networks=11, settings={"epochs": 5})
    assert few.dataset.split.folds is None
    assert many.dataset.split.folds is not None
    assert many.result["cost"]["networks"] == 11  # two candidates in five folds, and the final network


def test_linear_regression_reaches_the_closed_form(rng: np.random.Generator) -> None:
    # notes/004 I4: as a family of depth 0 it equals the closed form
    x = rng.normal(size=(600, 4))
    y = x @ [1.0, -2.0, 0.5, 0.0] + 3 + rng.normal(0, 0.3, 600)
    pins: dict[str, Any] = {
        "optimizer.weight_decay": 0.0,
        "optimizer.learning_rate": 0.05,
        "epochs": 200,
        "preparation.target": "identity",
    }
    run = nastavnik.fit(x, y, family="linear", networks=1, folds=0, settings=pins)
    train = run.dataset.split.train
    exact = np.linalg.lstsq(np.c_[x[train], np.ones(len(train))], y[train], rcond=None)[0]
    expected = np.c_[x, np.ones(600)] @ exact
    assert (
        np.abs(run.model.predict(pd.DataFrame(x, columns=[f"x{j}" for j in range(4)]))["prediction"] - expected).max()
        < 0.1
    )


@pytest.mark.slow
def test_breast_cancer_and_diabetes_keep_up_with_linear_models() -> None:
    from sklearn.datasets import load_breast_cancer, load_diabetes
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    for name, load, make, least in (
        ("breast_cancer", load_breast_cancer, lambda: make_pipeline(StandardScaler(), LogisticRegression()), -0.03),
        ("diabetes", load_diabetes, lambda: make_pipeline(StandardScaler(), RidgeCV(np.logspace(-2, 4, 25))), -0.05),
    ):
        x, y = load(return_X_y=True)
        gaps = []
        for seed in range(3):
            run = nastavnik.fit(name, networks=101, seed=seed)
            split = run.dataset.split
            theirs = make().fit(x[split.development], y[split.development]).score(x[split.test], y[split.test])
            assert run.result["test"] is not None
            head = "accuracy" if name == "breast_cancer" else "r2"
            gaps.append(run.result["test"][head]["value"] - theirs)
        assert np.mean(gaps) > least


def test_a_finished_run_goes_on_with_more_networks(tmp_path: Path) -> None:
    short: dict[str, Any] = {"folds": 0, "settings": {"epochs": 5}}
    straight = nastavnik.fit("iris", networks=9, out=tmp_path / "a", **short)
    nastavnik.fit("iris", networks=4, out=tmp_path / "b", **short)
    more = nastavnik.fit(resume=tmp_path / "b", networks=9)
    assert more.result["cost"]["networks"] == straight.result["cost"]["networks"] == 9
    assert more.result["test_touches"] == 2


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run that nothing disturbed."""
    folder = tmp_path_factory.mktemp("runs") / "whole"
    nastavnik.fit("iris", **TWENTY, out=folder)
    return folder


def test_an_interrupted_run_is_resumed_to_the_same_bytes(whole: Path, tmp_path: Path) -> None:
    from nastavnik.runs import Watcher

    class Stop(Exception):
        pass

    class Breaker(Watcher):
        """Breaks the fit off in the middle of its second bracket."""

        def progress(self, progress: object) -> None:
            if progress.trained > 17:  # type: ignore[attr-defined]
                raise Stop

    broken = tmp_path / "broken"
    with pytest.raises(Stop):
        nastavnik.fit("iris", **TWENTY, out=broken, watcher=Breaker())
    assert not (broken / "model").exists()
    resumed = nastavnik.fit(resume=broken)
    assert resumed.result["test"] == json.loads((whole / "result.json").read_text())["test"]
    first, second = ((run / "model" / "model.safetensors").read_bytes() for run in (whole, broken))
    assert first == second
    one, other = (pd.read_csv(run / "networks.csv").drop(columns="seconds") for run in (whole, broken))
    pd.testing.assert_frame_equal(one, other)


def test_a_resumed_run_keeps_its_folds(tmp_path: Path) -> None:
    nastavnik.fit("iris", networks=4, out=tmp_path / "r", settings={"epochs": 5})  # too few for folds
    more = nastavnik.fit(resume=tmp_path / "r", networks=20)
    assert more.dataset.split.folds is None
    assert more.result["cost"]["networks"] == 20


def test_a_skewed_target_with_zeros_and_negatives(rng: np.random.Generator) -> None:
    x = rng.normal(size=(400, 2))
    y = np.where(rng.random(400) < 0.3, 0.0, np.exp(2 * x[:, 0] + rng.normal(0, 0.1, 400)))
    y[:5] = -0.5
    run = nastavnik.fit(x, y, networks=16)
    assert run.model.target.transform == "yeo-johnson"
    table = run.model.predict(pd.DataFrame(x, columns=["x0", "x1"]))
    assert np.isfinite(table.to_numpy()).all()
    assert table["prediction"].abs().max() < 100 * y.max()


def test_twenty_rows_are_enough_and_undefined_scores_are_null(tmp_path: Path) -> None:
    frame = pd.DataFrame({"a": np.arange(20) * 1.5, "p": np.repeat([1.25, 2.5], 10)})
    run = nastavnik.fit(frame, target="p", task="regression", out=tmp_path / "r", **SHORT)
    jsonschema.validate(json.loads((tmp_path / "r" / "result.json").read_text()), schema())
    for score in run.result["test"].values():
        assert all(v is None or abs(v) < 1e6 for v in score.values())


def test_odd_frames_are_read(rng: np.random.Generator) -> None:
    n = 60
    frame = pd.DataFrame(
        {
            0: rng.normal(size=n),
            "span": pd.to_timedelta(rng.integers(1, 90, n), unit="D"),
            "lists": [[1, 2]] * n,
            "when": pd.date_range("2021-01-01", periods=n, tz="Europe/Berlin"),
            "kind": pd.Categorical(["a", "b", None] * (n // 3)),
            "yes": rng.choice([True, False], n),
            "empty": [None] * n,
            3: rng.choice(["p", "q"], n),
        }
    )
    run = nastavnik.fit(frame, target=3, **SHORT)
    assert set(run.model.predict(frame.iloc[:5])["prediction"]) <= {"p", "q"}


def test_a_run_ended_by_hand_is_resumed_to_the_same_bytes(whole: Path, tmp_path: Path) -> None:
    from nastavnik.runs import Clock, Progress, Watcher

    class Hand(Watcher):
        """Asks for the end in the middle of the second bracket, as Ctrl-C does."""

        def begin(self, clock: Clock) -> None:
            self.clock = clock

        def progress(self, progress: Progress) -> None:
            self.clock.stop_requested = progress.trained > 17

    stopped = nastavnik.fit("iris", **TWENTY, out=tmp_path / "stopped", watcher=Hand())
    assert stopped.result["test"]["accuracy"]["value"] > 0.5
    assert json.loads((tmp_path / "stopped" / "run.json").read_text())["status"] == "interrupted"
    nastavnik.fit(resume=tmp_path / "stopped")
    first, second = ((run / "model" / "model.safetensors").read_bytes() for run in (whole, tmp_path / "stopped"))
    assert first == second
    assert json.loads((tmp_path / "stopped" / "result.json").read_text())["test_touches"] == 2


def test_resume_wants_the_same_data(houses_csv: Path, houses: pd.DataFrame, tmp_path: Path) -> None:
    nastavnik.fit(houses_csv, target="price", out=tmp_path / "r", **SHORT)
    houses.iloc[5:].to_csv(houses_csv, index=False)
    before = (tmp_path / "r" / "result.json").read_bytes()
    with pytest.raises(UserError, match=r"is not what the run .* was trained on"):
        nastavnik.fit(resume=tmp_path / "r", networks=12)
    assert (tmp_path / "r" / "result.json").read_bytes() == before
    shutil.rmtree(tmp_path / "r" / "checkpoint")
    with pytest.raises(UserError, match="there is no folder"):
        nastavnik.fit(resume=tmp_path / "none")
