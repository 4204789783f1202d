"""Predictive distributions of what is never negative, and of grades, against scipy and simulation."""

import numpy as np
import pytest
from scipy import stats

from nastavnik.data import TargetPreparation
from nastavnik.metrics import scores
from nastavnik.predictive import ClassPredictive, GammaPredictive, HurdlePredictive, RealPredictive, mixture, stitch
from nastavnik.targets import crps

RNG = np.random.default_rng(0)
Y = RNG.gamma(2.0, 3.0, 400)


def gamma(shape: float = 2.0) -> GammaPredictive:
    target = TargetPreparation.fit_positive(Y, spike=False)
    return GammaPredictive(np.full((1, 400), 6.0 / target.scale), np.full((1, 400), shape), target)


def hurdle(n: int, mean: float, deviation: float, zero: float, target: TargetPreparation) -> HurdlePredictive:
    one = np.ones((1, n))
    return HurdlePredictive(mean * one, deviation * one, zero * one, target)


def test_a_gamma_is_scipys() -> None:
    own, known = gamma(), stats.gamma(2.0, scale=3.0)
    np.testing.assert_allclose(own.neg_log_likelihood(Y), -known.logpdf(Y))
    np.testing.assert_allclose(own.quantile(0.9), known.ppf(0.9))
    np.testing.assert_allclose(own.point(), 6.0)
    assert own.interval(0.95)[0][0] == pytest.approx(known.ppf(0.025))


def test_a_mixture_of_gammas_has_the_mean_of_their_distributions() -> None:
    own = mixture([gamma(1.0), gamma(8.0)])
    value = own.quantile(0.8)
    assert value is not None
    share = np.mean([stats.gamma(k, scale=6 / k).cdf(value[0]) for k in (1.0, 8.0)])
    assert share == pytest.approx(0.8, abs=1e-6)
    density = np.mean([stats.gamma(k, scale=6 / k).pdf(Y) for k in (1.0, 8.0)], axis=0)
    np.testing.assert_allclose(own.neg_log_likelihood(Y), -np.log(density))


def test_a_hurdle_is_a_chance_of_zero_and_a_log_normal() -> None:
    y = np.where(RNG.random(5000) < 0.3, 0.0, np.exp(1 + 0.5 * RNG.normal(size=5000)))
    target = TargetPreparation.fit_positive(y, spike=True)
    mean, deviation = (1 - target.centre) / target.scale, 0.5 / target.scale
    own = hurdle(5000, mean, deviation, 0.3, target)
    known = stats.lognorm(0.5, scale=np.e)
    expected = np.where(y == 0, -np.log(0.3), -np.log(0.7) - known.logpdf(np.where(y == 0, 1, y)))
    np.testing.assert_allclose(own.neg_log_likelihood(y), expected, rtol=1e-5)
    assert own.quantile(0.25)[0] == 0
    assert own.quantile(0.65)[0] == pytest.approx(known.ppf(0.5), rel=1e-6)
    assert own.point()[0] == pytest.approx(0.7 * known.mean(), rel=1e-6)
    coverage = np.mean((own.interval(0.9)[0] <= y) & (y <= own.interval(0.9)[1]))
    assert coverage == pytest.approx(0.95, abs=0.02)  # nothing lies below zero


def test_folds_are_put_together_in_the_units_of_the_first() -> None:
    first, second = (TargetPreparation.fit_positive(y, spike=True) for y in (Y[:200], Y[200:] * 3))
    parts = []
    for target in (first, second):
        z = (np.log(6.0) - target.centre) / target.scale
        parts.append(hurdle(3, z, 0.5 / target.scale, 0.2, target))
    joined = stitch(parts, [np.array([0, 2, 4]), np.array([1, 3, 5])])
    np.testing.assert_allclose(joined.point(), joined.point()[0])


def test_intervals_stay_in_the_targets_range() -> None:
    target = TargetPreparation.fit_real(RNG.random(200), "identity", low=0.0, high=1.0)
    own = RealPredictive(np.array([[-2.0, 0.0, 2.0]]), np.ones((1, 3)), target)
    low, high = own.interval(0.95)
    assert (low >= 0).all()
    assert (high <= 1).all()
    draws = target.own_units(-2.0 + np.random.default_rng(1).normal(size=200_000))
    assert own.point()[0] == pytest.approx(draws.mean(), abs=5e-3)


def test_grades_have_a_mean_and_quantiles() -> None:
    own = ClassPredictive(np.array([[0.1, 0.2, 0.7], [0.5, 0.5, 0.0]]), np.array([3.0, 4.0, 7.0]))
    np.testing.assert_allclose(own.expected(), [6.0, 3.5])
    found = own.quantile(0.25)
    assert found is not None
    np.testing.assert_array_equal(found, [4.0, 3.0])
    told = scores(own, np.array([2, 0]))
    assert told["mae"]["value"] == pytest.approx(0.75)
    assert told["rmse"]["value"] == pytest.approx(np.sqrt((1 + 0.25) / 2))


def test_weighed_scores_are_those_of_repeated_rows() -> None:
    own = RealPredictive(RNG.normal(size=(1, 50)), np.ones((1, 50)), TargetPreparation("real"))
    y, weights = RNG.normal(size=50), RNG.integers(1, 4, 50)
    many = np.repeat(np.arange(50), weights)
    weighed, repeated = scores(own, y, weights=weights.astype(float)), scores(own.take(many), y[many])
    for name in weighed:
        assert weighed[name]["value"] == pytest.approx(repeated[name]["value"])


def test_the_ranked_probability_score_is_the_normals_closed_form() -> None:
    y = RNG.normal(size=300)
    own = RealPredictive(np.zeros((1, 300)), np.ones((1, 300)), TargetPreparation("real"))
    exact = y * (2 * stats.norm.cdf(y) - 1) + 2 * stats.norm.pdf(y) - 1 / np.sqrt(np.pi)  # Gneiting & Raftery 2007
    np.testing.assert_allclose(crps(own, y).mean(), exact.mean(), rtol=0.05)
