"""Bayesian linear regression: every road against the exact evidence and posterior."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from truths import NOISE, belief, linear_models, number, polynomials, powers

from nastavnik import evidence
from nastavnik.training.likelihoods import Gaussian


def test_the_truth_is_the_density_of_the_data() -> None:
    # y ~ N(0, noise² I + X Xᵀ / α): the evidence without any posterior
    x, y = polynomials(3)
    design = powers(x[0], 3)
    covariance = NOISE**2 * np.eye(30) + (design @ design.T).numpy() / 2.0
    found = evidence.linear_regression(design, y[0], noise=NOISE, prior_precision=2.0)
    assert found.log_evidence == pytest.approx(stats.multivariate_normal(np.zeros(30), covariance).logpdf(y[0].numpy()))


@pytest.mark.parametrize("degree", [1, 3, 6])
def test_laplace_and_bounds_are_exact_on_100_draws(degree: Any) -> None:
    x, y = polynomials(100)
    design = powers(x, degree)
    networks, truths = linear_models(design, y)
    exact = np.array([t.log_evidence for t in truths])
    noise = Gaussian(noise=NOISE)
    full = evidence.laplace(networks, design, y, likelihood=noise, own_data=True)
    np.testing.assert_allclose([number(r) for r in full], exact, rtol=1e-6)
    bound = evidence.variational(networks, design, y, likelihood=noise, structure="full", own_data=True, steps=5)
    np.testing.assert_allclose([number(r) for r in bound], exact, rtol=1e-6)
    field = evidence.variational(networks, design, y, likelihood=noise, own_data=True, steps=5)
    np.testing.assert_allclose([number(r) for r in field], [t.mean_field for t in truths], rtol=1e-6)
    assert all(number(r) < t for r, t in zip(field, exact, strict=True))


def test_bounds_find_the_optimum_from_elsewhere() -> None:
    x, y = polynomials(4)
    design = powers(x, 2)
    networks, truths = linear_models(design, y)
    for module in networks:
        with torch.no_grad():
            next(module.parameters()).add_(0.3)
    found = evidence.variational(
        networks, design, y, likelihood=Gaussian(noise=NOISE), structure="full", own_data=True, steps=60
    )
    np.testing.assert_allclose([number(r) for r in found], [t.log_evidence for t in truths], atol=1e-2)
    field = evidence.variational(networks, design, y, likelihood=Gaussian(noise=NOISE), own_data=True, steps=2000)
    np.testing.assert_allclose([number(r) for r in field], [t.mean_field for t in truths], atol=1e-2)


def test_posterior_and_predictive_are_exact() -> None:
    x, y = polynomials(2)
    design = powers(x, 3)
    networks, truths = linear_models(design, y)
    found = evidence.laplace(networks[1], design[1], y[1], likelihood=Gaussian(noise=NOISE))
    mean, deviation = belief(found).moments()
    torch.testing.assert_close(mean, truths[1].mean)
    torch.testing.assert_close(deviation, truths[1].covariance.diagonal().sqrt(), rtol=1e-5, atol=1e-8)
    new = powers(torch.linspace(-2, 2, 7, dtype=torch.float64), 3)
    predictive = belief(found).predictive(new)
    variance = (new @ truths[1].covariance * new).sum(1) + NOISE**2
    np.testing.assert_allclose(predictive.deviation[0], variance.sqrt(), rtol=1e-5)
    drawn = belief(found).sample(20_000, seed=1)
    np.testing.assert_allclose(np.cov(drawn.T.numpy()), truths[1].covariance, rtol=0.1, atol=1e-3)


def test_integration_holds_the_truth_in_its_interval() -> None:
    x, y = polynomials(20)
    design = powers(x, 3)
    networks, truths = linear_models(design, y)
    found = evidence.langevin(
        networks, design, y, likelihood=Gaussian(noise=NOISE), own_data=True, warmup=80, draws=200, leapfrog=3, chains=3
    )
    z = np.array([(number(r) - t.log_evidence) / r.error for r, t in zip(found, truths, strict=True)])
    assert (np.abs(z) < 1.96).sum() >= 16  # of 20; a 95 % interval leaves out one on average
    assert np.abs(z).max() < 4
    assert max(r.error for r in found) < 0.3


def test_integration_is_exact_for_exact_moments() -> None:
    # E_t and Var_t of log p(D|w) in closed form; many draws of the same two moments: only the spacing is left
    from nastavnik.selection.evidence._langevin import integrate

    x, y = polynomials(1)
    design = powers(x[0], 2)
    ladder = (np.linspace(0, 1, 24)) ** 5
    rng = np.random.default_rng(0)
    fits = []
    for t in ladder:
        a = t * design.T @ design / NOISE**2 + torch.eye(3, dtype=torch.float64)
        mean = torch.linalg.solve(a, t * design.T @ y[0] / NOISE**2)
        draws = (
            mean
            + torch.linalg.solve_triangular(
                torch.linalg.cholesky(a).T, torch.from_numpy(rng.normal(size=(3, 4000))), upper=True
            ).T
        )
        residual = y[0] - draws @ design.T
        fit = -0.5 * residual.square().sum(1) / NOISE**2 - 15 * math.log(2 * math.pi * NOISE**2)
        fits.append(fit.reshape(4, 1000).numpy())
    found = integrate(ladder, np.array(fits))
    exact = evidence.linear_regression(design, y[0], noise=NOISE, prior_precision=1.0).log_evidence
    assert abs(found.value - exact) < 3 * found.error
    assert found.error < 0.05


def test_optimised_prior_and_noise_are_a_maximum_of_the_exact_evidence() -> None:
    x, y = polynomials(3)
    design = powers(x, 3)
    for k in range(3):
        networks, _ = linear_models(design, y)
        _, records = evidence.train(networks[k], design[k], y[k], likelihood=Gaussian(noise=NOISE), steps=200)
        precision, noise = records[0].prior_precision["all"], records[0].noise or 0.0

        def exact(log_precision: Any, log_noise: Any, k: Any = k) -> Any:
            return evidence.linear_regression(
                design[k], y[k], noise=math.exp(log_noise), prior_precision=math.exp(log_precision)
            ).log_evidence

        here = exact(math.log(precision), math.log(noise))
        assert number(records[0]) == pytest.approx(here, rel=1e-5)
        for dp, dn in ((0.1, 0), (-0.1, 0), (0, 0.1), (0, -0.1)):
            assert exact(math.log(precision) + dp, math.log(noise) + dn) < here + 1e-6


@pytest.mark.parametrize("sampler,options", [("sgld", {"rate": 0.02}), ("sghmc", {"rate": 0.01}), ("hmc", {})])
def test_samplers_draw_the_posterior(sampler: Any, options: Any) -> None:
    x, y = polynomials(1)
    design = powers(x, 2)
    networks, truths = linear_models(design, y)
    found = evidence.langevin(
        networks[0], design[0], y[0], likelihood=Gaussian(noise=NOISE), sampler=sampler, temperatures=1, chains=8,
        warmup=300, draws=3000 if sampler != "hmc" else 600, **options
    )  # fmt: skip
    mean, deviation = belief(found).moments()
    truth = truths[0].covariance.diagonal().sqrt()
    assert ((mean - truths[0].mean) / truth).abs().max() < 0.25
    np.testing.assert_allclose(deviation / truth, 1, atol=0.15)
    assert found.log_evidence is None
    assert "draws, not evidence" in found.problem


def test_constant_sgd_has_the_posteriors_spread_at_the_derived_rate() -> None:
    # Mandt et al. 2017: at the derived rate the stationary spread, averaged over directions, is the posterior's
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(400, 3, generator=generator, dtype=torch.float64)
    y = x.sum(1) + NOISE * torch.randn(400, generator=generator, dtype=torch.float64)
    networks, truths = linear_models(x[None], y[None])
    found = evidence.langevin(
        networks[0], x, y, likelihood=Gaussian(noise=NOISE), sampler="constant_sgd", batch=20, chains=8, warmup=500,
        draws=4000,
    )  # fmt: skip
    _, deviation = belief(found).moments()
    ratio = deviation / truths[0].covariance.diagonal().sqrt()
    assert float(ratio.log().mean().exp()) == pytest.approx(1, abs=0.2)


@pytest.mark.slow
def test_degrees_chosen_are_within_half_a_nat_of_the_best() -> None:
    x, y = polynomials(100)
    roads = {
        "laplace": lambda n, d: evidence.laplace(n, d, y, likelihood=Gaussian(noise=NOISE), own_data=True),
        "variational": lambda n, d: evidence.variational(
            n, d, y, likelihood=Gaussian(noise=NOISE), own_data=True, structure="full", steps=5
        ),
        "integration": lambda n, d: evidence.langevin(
            n, d, y, likelihood=Gaussian(noise=NOISE), own_data=True, leapfrog=4, chains=3, warmup=150, draws=400
        ),
    }
    exact = np.empty((100, 5))
    values = {name: np.empty((100, 5)) for name in roads}
    for degree in range(5):
        networks, truths = linear_models(powers(x, degree), y)
        exact[:, degree] = [t.log_evidence for t in truths]
        for name, road in roads.items():
            values[name][:, degree] = [number(r) for r in road(networks, powers(x, degree))]
    for name, found in values.items():
        regret = exact.max(1) - exact[np.arange(100), found.argmax(1)]
        assert (regret <= 0.5).sum() >= 95, name
