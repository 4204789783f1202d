"""Training losses, and the identities of notes/003-g §3."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from nastavnik.errors import UserError
from nastavnik.population import Learner
from nastavnik.training.likelihoods import Bernoulli, Categorical, Gaussian, Laplace, MultiLabel, Poisson, Votes
from nastavnik.training.losses import LOSSES

G = torch.Generator().manual_seed(0)
Z, Y = torch.randn(30, 4, generator=G), torch.randint(0, 4, (30,), generator=G)


def test_smoothing_and_weights_are_torchs() -> None:
    ours = LOSSES["label_smoothing"]({"label_smoothing": 0.2})(Categorical(4), Z, Y)
    torch.testing.assert_close(ours, F.cross_entropy(Z, Y, label_smoothing=0.2, reduction="none"))
    weights = [1.0, 2.0, 0.5, 3.0]
    ours = LOSSES["likelihood"](weights=weights)(Categorical(4), Z, Y)
    torch.testing.assert_close(ours, F.cross_entropy(Z, Y, torch.tensor(weights), reduction="none"))
    # two classes from one logit
    y = Y % 2
    ours = LOSSES["label_smoothing"]({"label_smoothing": 0.2})(Bernoulli(), Z[:, :1], y)
    soft = y * 0.8 + 0.1
    torch.testing.assert_close(ours, F.binary_cross_entropy_with_logits(Z[:, 0], soft, reduction="none"))


def test_focal_huber_quantile_and_temperature_are_their_formulas() -> None:
    p = torch.softmax(Z, 1)[torch.arange(30), Y]
    focal = LOSSES["focal"]({"focal_gamma": 1.5})(Categorical(4), Z, Y)
    torch.testing.assert_close(focal, -((1 - p) ** 1.5) * p.log())
    even = LOSSES["focal"]({"focal_gamma": 0.0})(Categorical(4), Z, Y)
    torch.testing.assert_close(even, -p.log())
    real = torch.randn(30, generator=torch.Generator().manual_seed(1)) * 2
    huber = LOSSES["huber"]({"huber_threshold": 0.7})(Gaussian(), Z[:, :1], real)
    torch.testing.assert_close(huber, F.huber_loss(Z[:, 0], real, delta=0.7, reduction="none"))
    r = real - Z[:, 0]
    pinball = LOSSES["quantile"]({"quantile": 0.9})(Gaussian(), Z[:, :1], real)
    torch.testing.assert_close(pinball, torch.where(r > 0, 0.9 * r, -0.1 * r))
    warm = LOSSES["temperature"]({"temperature": 3.0})(Categorical(4), Z, Y)
    torch.testing.assert_close(warm, F.cross_entropy(Z / 3, Y, reduction="none"))  # notes/003-b (83), c = 1/3


def test_which_losses_are_densities() -> None:
    assert {name: loss().normalized for name, loss in LOSSES.items()} == {n: n == "likelihood" for n in LOSSES}
    assert not LOSSES["likelihood"](weights=[1.0, 2.0]).normalized
    assert Learner(torch.nn.Identity(), Categorical(4)).normalized
    assert not Learner(torch.nn.Identity(), Categorical(4), LOSSES["focal"]()).normalized


def test_losses_refuse_what_they_are_not_for() -> None:
    with pytest.raises(UserError, match=r"loss\.name=huber is for targets of kind real, but categorical is for class"):
        LOSSES["huber"].check(Categorical(3))
    with pytest.raises(UserError, match="trains the centre alone"):
        LOSSES["quantile"].check(Gaussian("input"))
    LOSSES["huber"].check(Laplace())


# Identities of notes/003-g §3


def test_r5_cross_entropy_against_squared_error_on_a_sigmoid() -> None:
    m = torch.tensor([-10.0, -5.0, -2.0, 0.0], dtype=torch.float64)
    ones = torch.ones(4, dtype=torch.long)
    entropy = torch.func.grad(lambda m: Bernoulli().neg_log_likelihood(m[:, None], ones).sum())(m)
    square = torch.func.grad(lambda m: ((torch.sigmoid(m) - 1) ** 2).sum())(m)
    np.testing.assert_allclose(-entropy, [0.99995, 0.9933, 0.8808, 0.5], atol=5e-5)
    np.testing.assert_allclose(-square, [9.08e-5, 0.01321, 0.1850, 0.25], rtol=2e-3)
    grid = torch.linspace(-3, 3, 60_001, dtype=torch.float64)
    slopes = torch.func.grad(lambda m: ((torch.sigmoid(m) - 1) ** 2).sum())(grid).abs()
    assert float(grid[slopes.argmax()]) == pytest.approx(math.log(0.5), abs=1e-3)  # where σ = 1/3
    assert float(slopes.max()) == pytest.approx(0.2963, abs=1e-4)


def test_r6_softmax() -> None:
    z = torch.tensor([[1.0, 2.0, -0.5]], dtype=torch.float64)
    p = torch.softmax(z, 1)
    torch.testing.assert_close(torch.softmax(z + 7.3, 1), p)
    assert torch.softmax(0.5 * z, 1).max() < p.max() < torch.softmax(2 * z, 1).max()
    torch.testing.assert_close(torch.softmax(200 * z, 1), torch.tensor([[0.0, 1.0, 0.0]], dtype=torch.float64))
    # the likelihood's temperature is 1/C
    torch.testing.assert_close(Categorical(3).describe(z, 0.5)["probabilities"], torch.softmax(2 * z, 1))


def test_r7_two_classes_are_a_sigmoid() -> None:
    z = torch.randn(20, 1, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    y = (torch.arange(20) % 3 == 0).long()
    two = Categorical(2).neg_log_likelihood(torch.cat([torch.zeros_like(z), z], 1), y)
    torch.testing.assert_close(two, Bernoulli().neg_log_likelihood(z, y))


def test_r8_cross_entropy_is_divergence_and_entropy() -> None:
    p = torch.tensor([[0.55, 0.45]], dtype=torch.float64)
    entropy = -(p * p.log()).sum()
    assert float(entropy) == pytest.approx(0.68814, abs=5e-6)
    for logits in ([[0.3, -0.2]], [[2.0, 1.0]], [[0.0, 0.0]]):
        q = torch.softmax(torch.tensor(logits, dtype=torch.float64), 1)
        ce = -(p * q.log()).sum()
        kl = (p * (p / q).log()).sum()
        torch.testing.assert_close(ce, kl + entropy)
    # shares of votes are such soft labels: the loss differs from cross-entropy by a constant of the target alone
    votes = Votes(2)
    z = torch.tensor([[0.3, -0.2], [2.0, 1.0]], dtype=torch.float64)
    both = votes.neg_log_likelihood(z, p.expand(2, 2))
    ce = -(p * F.log_softmax(z, 1)).sum(1)
    torch.testing.assert_close(both[0] - both[1], ce[0] - ce[1])


@pytest.mark.parametrize("target", [[0.55, 0.45], [0.7, 0.3]])
def test_r9_soft_labels_are_reproduced(target: list[float]) -> None:
    votes = torch.tensor([target], dtype=torch.float64)
    z = torch.zeros(1, 2, dtype=torch.float64)
    for _ in range(500):
        z = z - torch.func.grad(lambda z: Votes(2).neg_log_likelihood(z, votes).sum())(z)
    torch.testing.assert_close(Votes(2).describe(z)["probabilities"], votes, atol=1e-6, rtol=0)


def test_r10_two_modes_and_a_normal_output() -> None:
    y = torch.tensor([0.5, 1.5] * 50, dtype=torch.float64)
    z = torch.zeros(1, dtype=torch.float64)
    for _ in range(200):
        z = z - 0.5 * torch.func.grad(lambda z: Gaussian(1.0).double().neg_log_likelihood(z.expand(100, 1), y).mean())(
            z
        )
    assert float(z) == pytest.approx(1.0)


def test_r11_huber_is_squared_error_with_a_clipped_gradient() -> None:
    r = torch.linspace(-4, 4, 81, dtype=torch.float64)
    loss = LOSSES["huber"]({"huber_threshold": 1.3}).double()
    slope = torch.func.grad(lambda z: loss(Gaussian(), z[:, None], torch.zeros(81, dtype=torch.float64)).sum())(r)
    torch.testing.assert_close(slope, r.clamp(-1.3, 1.3))


def test_r12_losses_from_distributions() -> None:
    """Normal → squared error, Laplace → absolute error; the scale does not move the best centre; Poisson's rate is the mean."""
    y = torch.tensor([0.0, 1.0, 2.0, 9.0, 10.0], dtype=torch.float64)
    centres = torch.linspace(0, 10, 1001, dtype=torch.float64)
    for noise in (0.3, 1.0, 4.0):
        for likelihood, best in ((Gaussian(noise), 4.4), (Laplace(noise), 2.0)):
            losses = torch.stack([likelihood.double().neg_log_likelihood(c.expand(5, 1), y).sum() for c in centres])
            assert float(centres[losses.argmin()]) == pytest.approx(best, abs=0.011)
    losses = torch.stack([Poisson().neg_log_likelihood(c.expand(5, 1).log(), y).sum() for c in centres[1:]])
    assert float(centres[1:][losses.argmin()]) == pytest.approx(4.4, abs=0.011)


def test_r17_point_estimates_by_metric() -> None:
    """Of an asymmetric distribution the mean minimizes squared error, the median absolute error, a quantile the pinball."""
    draws = torch.distributions.Exponential(1.0).icdf(torch.linspace(0.0005, 0.9995, 1000, dtype=torch.float64))
    centres = torch.linspace(0, 4, 4001, dtype=torch.float64)

    def best(losses: torch.Tensor) -> float:
        return float(centres[losses.mean(1).argmin()])

    away = draws - centres[:, None]
    assert best(away**2) == pytest.approx(float(draws.mean()), abs=2e-3)
    assert best(away.abs()) == pytest.approx(math.log(2), abs=3e-3)
    quantile = LOSSES["quantile"]({"quantile": 0.9}).double()
    pinball = torch.stack([quantile(Gaussian(), c.expand(1000, 1), draws) for c in centres])
    assert best(pinball) == pytest.approx(-math.log(0.1), abs=6e-3)


def test_r23_products_underflow_and_sums_of_logs_do_not() -> None:
    densities = torch.full((2000,), 0.3)
    assert float(densities.prod()) == 0
    assert float(-densities.log().sum()) == pytest.approx(2000 * -math.log(0.3), rel=1e-5)


def test_r24_losses_from_logits_stay_finite() -> None:
    z = torch.tensor([[200.0, -200.0, 0.0]])
    assert torch.isinf(-torch.softmax(z, 1).log()[0, 1])
    assert float(Categorical(3).neg_log_likelihood(z, torch.tensor([1]))) == pytest.approx(400)
    assert float(Bernoulli().neg_log_likelihood(torch.tensor([[-300.0]]), torch.tensor([1]))) == pytest.approx(300)


def test_several_labels_are_as_many_bernoullis() -> None:
    # notes/003-b (63): outputs that do not exclude each other
    z = torch.randn(8, 3, generator=torch.Generator().manual_seed(5))
    y = (z > 0.3).float()
    each = torch.stack([Bernoulli().neg_log_likelihood(z[:, j : j + 1], y[:, j].long()) for j in range(3)])
    torch.testing.assert_close(MultiLabel(3).neg_log_likelihood(z, y), each.sum(0))
