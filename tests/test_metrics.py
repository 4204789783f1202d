import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics as sk

from nastavnik.data import TargetPreparation
from nastavnik.files import plain, to_json
from nastavnik.metrics import difference, scores
from nastavnik.predictive import ClassPredictive, CountPredictive, RealPredictive, mixture, stitch
from nastavnik.recipe import Recipe, parse_settings, parse_value

OWN = TargetPreparation("real")


def test_class_scores_are_scikit_learns(rng: np.random.Generator) -> None:
    logits = rng.normal(size=(300, 4)) * 2
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    y = np.array([rng.choice(4, p=row) for row in p])
    found = scores(ClassPredictive(p), y)
    assert found["accuracy"]["value"] == pytest.approx(sk.accuracy_score(y, p.argmax(1)))
    assert found["balanced_accuracy"]["value"] == pytest.approx(sk.balanced_accuracy_score(y, p.argmax(1)))
    assert found["nll"]["value"] == pytest.approx(sk.log_loss(y, p))
    assert found["ece"]["value"] < 0.1  # drawn from these very probabilities
    for score in found.values():
        assert score["low"] <= score["high"]


def test_real_scores_are_scikit_learns_in_own_units(rng: np.random.Generator) -> None:
    y = rng.normal(5e5, 1e5, 400)
    target = TargetPreparation.fit_real(y, "identity")
    z = target.apply(y).numpy() + rng.normal(0, 0.3, 400)
    found = scores(RealPredictive(z[None], np.full((1, 400), 0.3), target), y)
    own = target.own_units(z)
    assert found["r2"]["value"] == pytest.approx(sk.r2_score(y, own))
    assert found["rmse"]["value"] == pytest.approx(sk.root_mean_squared_error(y, own))
    assert found["mae"]["value"] == pytest.approx(sk.mean_absolute_error(y, own))
    expected = -stats.norm.logpdf(y, own, 0.3 * target.scale).mean()
    assert found["nll"]["value"] == pytest.approx(expected, rel=1e-5)
    assert found["coverage"]["value"] == pytest.approx(0.95, abs=0.04)


def test_the_log_targets_density_is_the_lognormals() -> None:
    y = np.array([1.0, 3.0, 10.0])
    target = TargetPreparation("real", (), "log", 1.0, 0.5, 0.8)
    predictive = RealPredictive(np.full((1, 3), 0.4), np.full((1, 3), 0.6), target)
    expected = -stats.lognorm.logpdf(y, s=0.48, scale=np.exp(0.4 * 0.8 + 0.5))
    np.testing.assert_allclose(predictive.neg_log_likelihood(y), expected, rtol=1e-6)
    low, high = predictive.interval(0.95)
    np.testing.assert_allclose(low, stats.lognorm.ppf(0.025, s=0.48, scale=np.exp(0.82)), rtol=1e-6)
    np.testing.assert_allclose(high, stats.lognorm.ppf(0.975, s=0.48, scale=np.exp(0.82)), rtol=1e-6)


def test_a_mixtures_interval_holds_its_mass(rng: np.random.Generator) -> None:
    members = [RealPredictive(np.array([[m]]), np.array([[s]]), OWN) for m, s in ((-2.0, 0.5), (1.0, 1.0), (4.0, 0.2))]
    both = mixture(members)
    low, high = both.interval(0.9)  # type: ignore[misc]
    draws = np.concatenate([rng.normal(m, s, 200_000) for m, s in ((-2, 0.5), (1, 1), (4, 0.2))])
    assert np.mean(draws < low) == pytest.approx(0.05, abs=0.002)
    assert np.mean(draws > high) == pytest.approx(0.05, abs=0.002)
    density = np.mean([stats.norm.pdf(0.5, m, s) for m, s in ((-2, 0.5), (1, 1), (4, 0.2))])
    assert both.neg_log_likelihood(np.array([0.5]))[0] == pytest.approx(-np.log(density), rel=1e-6)


def test_folds_are_stitched_in_order_and_into_one_unit(rng: np.random.Generator) -> None:
    y = rng.normal(10, 3, 6)
    rows = [np.array([0, 3, 4]), np.array([1, 2, 5])]
    parts = []
    for g, r in enumerate(rows):
        target = TargetPreparation("real", (), "identity", 1.0, 9.0 + g, 2.0 + g)
        parts.append(RealPredictive(target.apply(y[r]).numpy()[None].astype(float), np.full((1, 3), 1.0), target))
    whole = stitch(parts, rows)
    np.testing.assert_allclose(whole.point(), y, rtol=1e-6)
    assert isinstance(whole, RealPredictive)
    np.testing.assert_allclose(whole.deviation[0], [1, 1.5, 1.5, 1, 1, 1.5])


def test_counts_are_poisson(rng: np.random.Generator) -> None:
    rate = np.array([[0.5, 4.0, 30.0]])
    y = np.array([0.0, 6.0, 25.0])
    predictive = CountPredictive(rate)
    np.testing.assert_allclose(predictive.neg_log_likelihood(y), -stats.poisson.logpmf(y, rate[0]), rtol=1e-9)


def test_intervals_cover_as_often_as_they_say() -> None:
    covered = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        right = rng.random(150) < 0.8
        p = np.where(right[:, None], [0.9, 0.1], [0.1, 0.9])
        found = scores(ClassPredictive(p), np.zeros(150), seed=seed)["accuracy"]
        covered += found["low"] <= 0.8 <= found["high"]
    assert covered >= 180  # 95 % of 200 is 190, with a standard deviation of 3


def test_a_perfect_score_on_few_rows_is_not_certain() -> None:
    found = scores(ClassPredictive(np.tile([0.9, 0.1], (18, 1))), np.zeros(18))["accuracy"]
    assert found["value"] == found["high"] == 1.0
    assert found["low"] == pytest.approx(18 / (18 + 1.96**2))


def test_fewer_than_six_rows_bound_nothing(rng: np.random.Generator) -> None:
    """Of five rows all may favour the worse network by chance in more than one of twenty draws: 2 / 2⁵ = 6 %."""
    better = rng.normal(size=6) - 10
    known, unknown = (difference(better[:n], better[:n] + 10) for n in (6, 5))
    assert known["high"] < 0
    assert unknown["value"] == pytest.approx(-10)
    assert np.isnan(unknown["low"])
    assert np.isnan(unknown["high"])


def test_a_paired_difference_is_sharper_than_its_parts(rng: np.random.Generator) -> None:
    common = rng.normal(size=500) * 5
    found = difference(common + 0.1 + rng.normal(0, 0.1, 500), common)
    assert found["low"] > 0
    assert found["value"] == pytest.approx(0.1, abs=0.02)


def test_json_is_strict() -> None:
    record = plain({"a": np.float32(1.5), "b": [np.nan, np.inf], "c": np.arange(2), "d": (True, None)})
    assert record == {"a": 1.5, "b": [None, None], "c": [0, 1], "d": [True, None]}
    assert "NaN" not in to_json({"x": float("nan")})


@settings(max_examples=100, deadline=None)
@given(
    st.dictionaries(
        st.from_regex(r"\A[a-c](\.[a-z]{1,5})?\Z"),
        st.one_of(st.booleans(), st.integers(-5, 5), st.floats(-1e6, 1e6), st.text("xyz", max_size=4)),
        max_size=8,
    )
)
def test_recipes_survive_json(values: dict[str, bool | int | float | str]) -> None:
    clash = any(b.startswith(a + ".") for a in values for b in values)
    if not clash:
        assert Recipe.from_json(Recipe(values).to_json()) == Recipe(values)
        assert hash(Recipe(values)) == hash(Recipe(dict(reversed(values.items()))))


def test_settings_are_read_as_what_they_look_like() -> None:
    assert parse_settings(["a.b=0.1", "c=3", "d=true", "e=adamw", "f=1e-3"]) == {
        "a.b": 0.1,
        "c": 3,
        "d": True,
        "e": "adamw",
        "f": 0.001,
    }
    assert parse_value("False") is False
