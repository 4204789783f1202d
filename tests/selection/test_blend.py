"""Boosted trees beside networks: walked as their libraries say, kept by a model, weighed by held-out rows."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn import ensemble
from sklearn.model_selection import cross_val_predict

import nastavnik
from nastavnik.boosted import Boosted, as_networks_say
from nastavnik.data import Columns, Preparation, TargetPreparation
from nastavnik.errors import UserError
from nastavnik.matrices import category_places, tree_matrix
from nastavnik.predictive import (
    ClassPredictive,
    CountPredictive,
    GammaPredictive,
    HurdlePredictive,
    RealPredictive,
    mixture,
)
from nastavnik.selection import BaselineProcess
from nastavnik.selection import _baseline_worker as worker
from nastavnik.selection._baselines import Baseline, is_here
from nastavnik.selection._blend import blend
from nastavnik.targets import Classification, Regression
from nastavnik.task import Task

LIBRARIES = [name for name in ("lightgbm", "catboost") if is_here(name)]


def columns_of(x: np.ndarray, words: np.ndarray | None = None) -> Columns:
    own = np.empty((len(x), 0), dtype=object) if words is None else words
    names = tuple(f"w{j}" for j in range(own.shape[1]))
    return Columns(x, own, tuple(f"x{j}" for j in range(x.shape[1])), names)


def with_holes(rng: np.random.Generator, n: int = 400) -> np.ndarray:
    x = rng.normal(size=(n, 4))
    x[rng.random(x.shape) < 0.1] = np.nan
    return x


def boosted_of(name: str, task: str, estimator: object, classes: tuple[int, ...], x: np.ndarray) -> Boosted:
    arrays = worker.packed(estimator)
    assert arrays is not None
    return Boosted(name, task, classes, arrays, Preparation.fit(columns_of(x), np.arange(len(x))))


@pytest.mark.parametrize("task", ["two classes", "three classes", "regression", "count"])
def test_scikit_learns_trees_are_walked_as_it_does(task: str, rng: np.random.Generator) -> None:
    x, new = with_holes(rng), with_holes(rng)
    signal = np.nan_to_num(x[:, 0]) + np.isnan(x[:, 1])
    if task == "regression":
        y, estimator = signal, ensemble.HistGradientBoostingRegressor(max_iter=30)
    elif task == "count":
        y, estimator = rng.poisson(np.exp(signal)), ensemble.HistGradientBoostingRegressor(max_iter=30, loss="poisson")
    else:
        y = np.digitize(signal, [0.0] if task == "two classes" else [-0.3, 0.5])
        estimator = ensemble.HistGradientBoostingClassifier(max_iter=30)
    estimator.fit(x, y)
    asked = "classification" if "classes" in task else task
    said = boosted_of("gradient_boosting", asked, estimator, tuple(range(int(max(y)) + 1)), x).answers(new)
    wanted = estimator.predict_proba(new) if "classes" in task else estimator.predict(new)
    np.testing.assert_allclose(said, wanted, rtol=1e-12)


@pytest.mark.parametrize("name", LIBRARIES)
@pytest.mark.parametrize("task", ["classification", "regression"])
def test_other_libraries_trees_say_the_same_after_a_record(name: str, task: str, rng: np.random.Generator) -> None:
    words = np.array(["a", "b", "c"], dtype=object)[rng.integers(0, 3, (300, 1))]
    columns = columns_of(with_holes(rng, 300), words)
    preparation = Preparation.fit(columns, np.arange(300))
    rows, places = tree_matrix(columns, preparation), category_places(preparation)
    assert [sorted(set(rows[:, j])) for j in places] == [[1.0, 2.0, 3.0]]
    y = np.nan_to_num(columns.numbers[:, 0]) + (words[:, 0] == "b")
    y = np.digitize(y, [0.0, 1.0]) if task == "classification" else y
    estimator = worker.makers(task, 5, 0, 1, places)[name]().fit(rows, y)
    boosted = Boosted(name, task, (0, 1, 2) if task == "classification" else (), estimator.packed(), preparation)
    again = Boosted.from_record(*boosted.to_record())
    wanted = estimator.predict_proba(rows) if task == "classification" else estimator.predict(rows)
    np.testing.assert_allclose(again.answers(rows), wanted, rtol=1e-6, atol=1e-9)


def test_a_library_that_is_not_there_is_named(rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    x = with_holes(rng)
    own = Boosted(
        "lightgbm", "regression", (), {"file": np.zeros(1, np.uint8)}, Preparation.fit(columns_of(x), np.arange(9))
    )
    monkeypatch.setitem(sys.modules, "lightgbm", None)
    with pytest.raises(UserError, match="trees of lightgbm, which is not installed here"):
        own.answers(x)


def test_held_out_rows_are_predicted_by_trees_of_the_other_folds(rng: np.random.Generator) -> None:
    x, folds = rng.normal(size=(300, 3)), np.arange(300) % 3
    y = x @ [2.0, -1.0, 0.0] + rng.normal(0, 0.5, 300)
    task = Task(Regression("y"), y)
    rows = np.arange(240)
    held = [np.flatnonzero((folds == k) & (np.arange(300) < 240)) for k in range(3)]
    with BaselineProcess(1) as process:
        process.give(columns_of(x), task, rows, np.arange(240, 300), seed=0, seconds=float("inf"), held=held)
        found = {b.name: b for b in process.collect()}["gradient_boosting"]
    assert found.boosted is not None
    assert found.held is not None
    splits = [(np.setdiff1d(rows, fold), fold) for fold in held]
    truth = cross_val_predict(ensemble.HistGradientBoostingRegressor(random_state=0), x[:240], y[:240], cv=splits)
    # the same rows in another order give other bins' borders, hardly
    assert np.corrcoef(found.held, truth)[0, 1] > 0.995
    fresh = found.boosted.answers(x[240:])
    assert found.predictive is not None
    np.testing.assert_allclose(fresh, found.predictive.point(), rtol=1e-9)
    deviation = found.predictive.deviation[0, 0]  # type: ignore[attr-defined]
    assert deviation == pytest.approx(np.sqrt(np.mean((found.held - y[:240]) ** 2)))


class Halves:
    """A library's estimator that says half of the mean, and can be kept; the second fit of a task fails if told."""

    def __init__(self, fails: bool = False) -> None:
        self.fails = fails

    def fit(self, rows: np.ndarray, targets: np.ndarray) -> "Halves":
        if self.fails and len(rows) < 40:
            raise ValueError("too few rows")
        self.said = targets.mean() / 2
        return self

    def predict(self, rows: np.ndarray) -> np.ndarray:
        return np.full(len(rows), self.said)

    def packed(self) -> dict[str, np.ndarray]:
        return {"file": np.zeros(1, np.uint8)}


@pytest.mark.parametrize("seconds,fails", [(1e9, False), (0.0, False), (1e9, True)])
def test_trees_without_time_for_folds_still_know_their_noise(seconds: float, fails: bool) -> None:
    y = 1000.0 + np.arange(40.0)[:, None]
    answers: list[tuple[dict[str, object], list[np.ndarray]]] = []
    job = {"tasks": ["regression"], "folds": [list(range(20)), list(range(20, 40))]}
    kind = {"name": "catboost", "first": 40, "most": 40, "kept": True}

    def fit() -> None:
        worker.fit_growing(
            [lambda: Halves(fails)], job, kind, (y, y[:3], y, None), seconds, lambda r, f: answers.append((r, list(f)))
        )

    if fails:
        with pytest.raises(ValueError, match="too few"):
            fit()
    else:
        fit()
    record, found = answers[-1]
    residuals = y[:, 0] - y.mean() / 2
    assert record["noise"] == [pytest.approx(np.sqrt(np.mean(residuals**2)))]  # in the target's own units
    assert record["packed"] == ["file"]
    assert record["held"] is (seconds > 0 and not fails)
    assert len(found) == 2 + bool(record["held"])
    assert record["last"] is not fails  # what was fitted on all rows was told before the folds
    if record["held"]:
        np.testing.assert_allclose(found[1][:20], y[20:].mean() / 2)


def test_trees_of_several_targets_know_their_noise(rng: np.random.Generator) -> None:
    frame = pd.DataFrame(rng.normal(size=(200, 2)), columns=["a", "b"])
    frame["c"] = 1000 * frame["a"] + rng.normal(0, 300, 200)
    frame["d"] = 1000 * frame["b"] + rng.normal(0, 300, 200)
    run = nastavnik.fit(frame, target="c,d", networks=2, folds=0, deliver="blend", settings={"epochs": 3})
    said = run.result["targets"]["c"]["baselines"]
    assert said["gradient_boosting"]["test"]["nll"]["value"] < said["constant"]["test"]["nll"]["value"]


def test_values_far_below_one_are_moved_too() -> None:
    target = TargetPreparation("spike", (), "log", 1.0, float(np.log(1e-5)), 0.6, 0.0)
    own = HurdlePredictive(np.zeros((1, 3)), np.full((1, 3), 0.3), np.full((1, 3), 0.2), target)
    np.testing.assert_allclose(own.moved(POINT * 1e-5).point(), POINT * 1e-5, rtol=1e-6)


POINT = np.array([2.0, 5.0, 0.7])
LOG = TargetPreparation("real", (), "log", 1.0, 0.5, 0.8, 0.0)
MEAN = np.array([[0.1, 0.4, -0.3], [0.2, 0.3, -0.1]])
DISTRIBUTIONS = [
    RealPredictive(MEAN, np.full((2, 3), 0.3), TargetPreparation("real", centre=1.0, scale=2.0)),
    RealPredictive(MEAN, np.full((2, 3), 0.3), LOG),
    RealPredictive(MEAN, np.full((2, 3), 0.3), LOG, "t", (4.0,)),
    GammaPredictive(MEAN + 1, np.full((2, 3), 3.0), TargetPreparation("positive", scale=2.0, low=0.0)),
    HurdlePredictive(
        MEAN, np.full((2, 3), 0.3), np.full((2, 3), 0.2), TargetPreparation("spike", (), "log", 1.0, 0.1, 0.6, 0.0)
    ),
    CountPredictive(MEAN + 1),
]


@pytest.mark.parametrize("predictive", DISTRIBUTIONS, ids=lambda p: type(p).__name__)
def test_a_distribution_that_is_moved_has_its_point_there(predictive: RealPredictive) -> None:
    np.testing.assert_allclose(predictive.moved(POINT).point(), POINT, rtol=1e-6)


def pool(y: np.ndarray, errors: dict[str, np.ndarray]) -> list[Baseline]:
    preparation = Preparation.fit(columns_of(np.zeros((4, 1))), np.arange(4))
    return [
        Baseline(name, None, len(y), len(y), 0.0, None, Boosted(name, "regression", (), {}, preparation), y + error)
        for name, error in errors.items()
    ]


def test_a_blend_weighs_by_held_out_rows_and_leaves_out_what_does_not_help(rng: np.random.Generator) -> None:
    y = rng.normal(size=2000)
    networks = RealPredictive((y + rng.normal(0, 0.5, 2000))[None], np.full((1, 2000), 0.5), TargetPreparation("real"))
    baselines = pool(y, {"good": rng.normal(0, 0.5, 2000), "bad": rng.normal(0, 5.0, 2000)})
    found = blend(networks, baselines, y)
    assert found is not None
    assert found.shares["networks"] == pytest.approx(0.5, abs=0.1)  # independent errors of one size: halves are best
    assert "bad" not in found.shares
    error = np.sqrt(np.mean((found.held_out.point() - y) ** 2))
    assert error == pytest.approx(0.5 / np.sqrt(2), rel=0.05)
    assert blend(networks, [], y) is None


def test_too_certain_trees_are_calibrated_before_they_join(rng: np.random.Generator) -> None:
    y = rng.integers(0, 2, 3000)
    logit = (2 * y - 1) * 1.0 + rng.normal(0, np.sqrt(2.0), 3000)  # p = sigmoid(logit) is right
    sure = 1 / (1 + np.exp(-4 * logit))
    preparation = Preparation.fit(columns_of(np.zeros((4, 1))), np.arange(4))
    own = Boosted("gradient_boosting", "classification", (0, 1), {}, preparation)
    held = np.stack([1 - sure, sure], axis=1)
    flat = ClassPredictive(np.full((3000, 2), 0.5))
    found = blend(flat, [Baseline("gradient_boosting", None, 9, 9, 0.0, None, own, held)], y)
    assert found is not None
    ((boosted, _),) = found.boosted
    assert boosted.temperature == pytest.approx(4.0, rel=0.3)
    said = as_networks_say(boosted, held, flat)
    assert said.neg_log_likelihood(y).mean() < as_networks_say(own, held, flat).neg_log_likelihood(y).mean()


def steps_and_words(n: int = 500) -> pd.DataFrame:
    """A target of steps, which trees tell better than small networks."""
    rng = np.random.default_rng(5)
    a, b, word = rng.uniform(0, 10, n), rng.uniform(0, 10, n), rng.choice(["red", "blue", "green"], n)
    y = np.floor(a) % 3 * 10 + np.floor(b) % 2 * 5 + 4 * (word == "red") + rng.normal(0, 0.5, n)
    return pd.DataFrame({"a": a, "b": b, "word": word, "y": y})


@pytest.mark.parametrize("folds", [0, 3])
def test_a_blend_is_delivered_saved_and_asked_again(folds: int, tmp_path: Path) -> None:
    frame = steps_and_words()
    run = nastavnik.fit(frame, target="y", networks=12, deliver="blend", folds=folds, out=tmp_path / "run")
    shares = run.result["comparison"]["blend"]["shares"]
    assert shares.keys() - {"networks"}
    assert sum(shares.values()) == pytest.approx(1)
    assert run.result["chosen"]["deliver"] == "blend"
    assert run.model.boosted
    assert len(run.model.others) == max(0, folds - 1)
    network = run.result["comparison"]["validation"]["ensemble"]["r2"]["value"]
    assert run.result["validation"]["r2"]["value"] > network
    best = max(b["test"]["r2"]["value"] for b in run.result["baselines"].values())
    assert run.result["test"]["r2"]["value"] > best - 0.05
    told = (tmp_path / "run" / "model" / "card.md").read_text()
    assert "Delivered is a blend: " in told
    assert "Delivered is a blend: " in (tmp_path / "run" / "report.html").read_text()
    again = nastavnik.Model.load(tmp_path / "run")
    rows = frame.drop(columns="y")
    pd.testing.assert_frame_equal(again.predict(rows), run.model.predict(rows))


def test_the_same_seed_gives_the_same_blend() -> None:
    frame = steps_and_words(300)
    first, second = (nastavnik.fit(frame, target="y", networks=6, deliver="blend", seed=3) for _ in range(2))
    pd.testing.assert_frame_equal(first.model.predict(frame), second.model.predict(frame))


def test_an_ensemble_after_cross_validation_is_of_the_folds_networks(tmp_path: Path) -> None:
    frame = steps_and_words(240)
    run = nastavnik.fit(frame, target="y", networks=12, deliver="ensemble", folds=3, out=tmp_path / "run")
    members = run.model.members
    assert [m.fold for m in members] == [0, 1, 2] * (len(members) // 3)
    assert not run.result["chosen"]["training"]["first_fold"]
    rows = frame.drop(columns="y")
    each = [
        nastavnik.Model(
            run.model.task,
            run.model.columns,
            fold.preparation,
            fold.target,
            run.model.signature,
            (member.__class__(member.learner, member.recipe, member.temperature),),
        ).predict(rows)["prediction"]
        for member in members
        for fold in [run.model.folds[member.fold]]
        for _ in range(member.votes)
    ]
    np.testing.assert_allclose(run.model.predict(rows)["prediction"], np.mean(each, axis=0), rtol=1e-5)
    again = nastavnik.Model.load(tmp_path / "run")
    pd.testing.assert_frame_equal(again.predict(rows), run.model.predict(rows))


def test_the_best_is_the_simplest_that_nothing_is_shown_to_better() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, 2))
    plain = pd.DataFrame({"a": x[:, 0], "b": x[:, 1], "y": x @ [1.0, 2.0] + rng.normal(0, 1.0, 300)})
    assert nastavnik.fit(plain, target="y", networks=8, deliver="best").result["chosen"]["deliver"] == "single"
    steps = nastavnik.fit(steps_and_words(), target="y", networks=8, deliver="best")
    assert steps.result["chosen"]["deliver"] == "blend"


def test_classes_may_be_missing_in_a_fold(rng: np.random.Generator) -> None:
    x = rng.normal(size=(90, 2))
    y = np.where(np.arange(90) < 44, 0, np.where(np.arange(90) < 86, 1, 2))
    x[:, 0] += 2 * y
    held = [np.arange(0, 40), np.arange(40, 80), np.arange(80, 90)]
    task = Task(Classification("y", ("0", "1", "2")), y)
    with BaselineProcess(1, here=True) as process:
        process.give(columns_of(x), task, np.arange(90), np.arange(0), seed=0, seconds=float("inf"), held=held)
        found = {b.name: b for b in process.collect()}["gradient_boosting"]
    assert found.held is not None
    assert found.held.shape == (90, 3)
    assert (found.held[80:, 2] == 0).all()  # no tree of that fold had seen the class


@pytest.mark.parametrize("predictive", DISTRIBUTIONS, ids=lambda p: type(p).__name__)
@pytest.mark.parametrize("near", [False, True])
def test_losses_of_picks_are_those_of_the_mixture(predictive: RealPredictive, near: bool) -> None:
    from nastavnik.predictive import mixture
    from nastavnik.selection._ensemble import _Losses

    own = predictive.take(np.arange(3))
    pool = [own, own.moved(POINT), own.moved(POINT + 1)]
    y = np.array([2.0, 4.0, 1.0])
    weights = np.array([0.5, 1.5, 1.0])
    found = _Losses(pool, y, weights, near)([0, 2, 2])
    together = mixture([pool[0], pool[2], pool[2]])
    wanted = float((together.neg_log_likelihood(y) * weights).mean())
    if near:
        points = np.mean([pool[i].point() for i in (0, 2, 2)], axis=0)
        wanted += 0.5 * 4 * float(np.log(np.mean((points - y) ** 2 * weights)))
    assert found == pytest.approx(wanted, rel=1e-9)


Y = np.array([0.4, 3.0, 1.0])


@pytest.mark.parametrize("predictive", DISTRIBUTIONS, ids=lambda p: type(p).__name__)
def test_votes_are_what_repeats_would_be(predictive: RealPredictive) -> None:
    other = predictive.moved(POINT)
    found, wanted = mixture([predictive, other], [3, 1]), mixture([predictive, predictive, predictive, other])
    np.testing.assert_allclose(found.point(), wanted.point())
    np.testing.assert_allclose(found.neg_log_likelihood(Y), wanted.neg_log_likelihood(Y))
    for q in (0.1, 0.5, 0.9):
        np.testing.assert_allclose(found.quantile(q), wanted.quantile(q), rtol=1e-9)  # type: ignore[arg-type]
    rows = np.array([2, 0])
    np.testing.assert_allclose(found.take(rows).point(), wanted.point()[rows])
    again = mixture([found, other], [4, 4])  # a mixture of mixtures
    densities = [np.exp(-own.neg_log_likelihood(Y)) for own in (again, wanted, other)]
    np.testing.assert_allclose(densities[0], (densities[1] + densities[2]) / 2)


def test_a_network_of_many_members_counts_as_one() -> None:
    one = RealPredictive(np.zeros((1, 3)), np.ones((1, 3)), TargetPreparation("real"))
    many = RealPredictive(np.ones((32, 3)), np.ones((32, 3)), TargetPreparation("real"))
    np.testing.assert_allclose(mixture([one, many]).point(), 0.5)
