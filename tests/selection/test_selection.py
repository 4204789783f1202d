import time

import numpy as np
import pytest

from nastavnik.data import Columns, TargetPreparation
from nastavnik.errors import UserError
from nastavnik.nets import FAMILIES
from nastavnik.predictive import ClassPredictive, Predictive, RealPredictive
from nastavnik.selection import SAMPLERS, fit_baselines, greedy_ensemble, importance, table_space
from nastavnik.space import Choice, Number, Space
from nastavnik.targets import Classification, Regression
from nastavnik.task import Task

TREE = Space(
    {
        "network.family": Choice(
            {
                "small": Space({"network.width": Choice.of(4, 8)}),
                "large": Space(
                    {
                        "optimizer.learning_rate": Number(1e-3, 1.0, log=True),
                        "network.depth": Number(1, 3, integer=True),
                    }
                ),
            },
            default="large",
        ),
        "network.dropout": Number(0.0, 0.5, default=0.2, below=1.0),
    },
    {"batch_size": 32},
)


def test_pins_are_given_not_asked() -> None:
    pinned = TREE.pin({"network.family": "small", "network.width": 6, "network.dropout": 0.7})
    assert pinned.default() == {"batch_size": 32, "network.family": "small", "network.width": 6, "network.dropout": 0.7}
    for values, sentence in (
        ({"network.widht": 3}, "did you mean 'network.width'"),
        ({"network.family": "smal"}, "did you mean 'small'"),
        ({"network.dropout": 1.0}, "must be less than 1"),
        ({"network.dropout": "much"}, "must be a number"),
        ({"network.depth": 1.5}, "must be a whole number"),
        ({"network.width": "wide"}, "cannot be 'wide'"),
    ):
        with pytest.raises(UserError, match=sentence):
            TREE.pin(values)
    with pytest.raises(UserError, match="low <= high must hold, but got low=2, high=1"):
        Number(2, 1)
    with pytest.raises(UserError, match="a log axis needs low > 0"):
        Number(0, 1, log=True)


@pytest.mark.parametrize("rows", [25, 400, 3000, 60_000])
def test_table_spaces_give_every_family_a_whole_recipe(rows: int) -> None:
    for target in (Classification("y", ("a", "b")), Regression("y")):
        space = table_space(rows, 10, target=target)
        sampler = SAMPLERS["random"](space, seed=0)
        for point in map(sampler.point, sampler.ask(12)):
            assert {
                "network.family",
                "optimizer.name",
                "optimizer.learning_rate",
                "schedule.name",
                "batch_size",
                "epochs",
            } <= set(point)
            assert ("loss.label_smoothing" in point) == (target.kind == "classification")
    assert set(FAMILIES) == {"linear", "mlp", "cnn", "bag", "tabm", "ft_transformer"}


def test_greedy_ensembles_never_lose_to_the_best_member(rng: np.random.Generator) -> None:
    y = rng.integers(0, 3, 200)
    pool: list[Predictive] = []
    for strength in (0.5, 1.0, 1.5):
        logits = rng.normal(size=(200, 3)) + strength * np.eye(3)[y]
        pool.append(ClassPredictive(np.exp(logits) / np.exp(logits).sum(1, keepdims=True)))
    picks = greedy_ensemble(pool, y)
    together = np.mean([pool[i].probabilities for i in picks], axis=0)  # type: ignore[attr-defined]
    best = min(p.neg_log_likelihood(y).mean() for p in pool)
    assert -np.log(together[np.arange(200), y]).mean() <= best + 1e-12


def columns_of(x: np.ndarray) -> Columns:
    return Columns(x, np.empty((len(x), 0), dtype=object), tuple(f"x{j}" for j in range(x.shape[1])), ())


def test_baselines_are_scikit_learns_and_say_what_they_were_trained_on(rng: np.random.Generator) -> None:
    x = rng.normal(size=(600, 3))
    y = x @ [2.0, -1.0, 0.0] + rng.normal(0, 0.5, 600)
    task = Task(Regression("y"), y)
    rows = np.arange(500)
    wanted = np.arange(500, 600)
    found = {b.name: b for b in fit_baselines(columns_of(x), task, rows, wanted, seed=0)}
    assert list(found) == ["constant", "linear", "k_nearest_neighbours", "random_forest", "gradient_boosting"]
    assert all(b.rows == b.all_rows == 500 for b in found.values())
    linear, constant = found["linear"].predictive, found["constant"].predictive
    assert isinstance(linear, RealPredictive)
    assert isinstance(constant, RealPredictive)
    assert linear.deviation[0, 0] == pytest.approx(0.5, rel=0.25)  # from 50 held-out residuals
    assert np.mean((linear.point() - y[500:]) ** 2) < 0.35
    assert constant.point() == pytest.approx(y[:500].mean())
    one_class = Task(Classification("y", ("a", "b")), np.zeros(600, dtype=int))
    refused = {b.name: b.failed for b in fit_baselines(columns_of(x), one_class, rows, wanted, seed=0)}
    assert "class" in str(refused["linear"])


def test_importance_finds_the_column_that_matters(rng: np.random.Generator) -> None:
    x = rng.normal(size=(400, 3))
    y = 3 * x[:, 1]
    own = TargetPreparation("real")

    def predict(part: Columns, places: np.ndarray) -> Predictive:
        assert len(places) == len(part)
        return RealPredictive(3 * part.numbers[None, :, 1], np.ones((1, len(part))), own)

    found = importance(predict, columns_of(x), y, seed=0)
    assert found[0]["column"] == "x1"
    assert found[0]["rise"] == pytest.approx(9.0, rel=0.2)  # half of the variance of the difference of two draws
    assert [f["rise"] for f in found[1:]] == [0.0, 0.0]


def test_importance_asks_a_slow_model_of_fewer_rows(rng: np.random.Generator) -> None:
    x, own, asked = rng.normal(size=(400, 3)), TargetPreparation("real"), []

    def predict(part: Columns, places: np.ndarray) -> Predictive:
        asked.append(len(part))
        time.sleep(len(part) * 1e-4)
        return RealPredictive(3 * part.numbers[None, :, 1], np.ones((1, len(part))), own)

    found = importance(predict, columns_of(x), 3 * x[:, 1], seed=0, seconds=0.1)
    assert asked[:2] == [400, 400]
    assert set(asked[2:]) == {max(asked[2:])}
    assert 100 <= asked[2] < 250  # all rows six times take a quarter of a second
    assert found[0]["column"] == "x1"
