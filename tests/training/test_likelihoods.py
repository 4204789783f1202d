import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch.nn import functional as F

from nastavnik.training.likelihoods import (
    LIKELIHOODS,
    TEMPERATURES,
    Bernoulli,
    Categorical,
    Gaussian,
    Likelihood,
    Poisson,
)


def draw(name: str) -> tuple[Likelihood, torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(0)
    if name == "categorical":
        return Categorical(4), torch.randn(50, 4, generator=g).double(), torch.randint(0, 4, (50,), generator=g)
    if name == "bernoulli":
        return Bernoulli(), torch.randn(50, 1, generator=g).double(), torch.randint(0, 2, (50,), generator=g)
    if name == "poisson":
        outputs = torch.randn(50, 1, generator=g).double()
        return Poisson(), outputs, torch.poisson(outputs[:, 0].exp(), generator=g)
    return Gaussian("input"), torch.randn(50, 2, generator=g).double(), torch.randn(50, generator=g).double()


def test_against_scipys_densities() -> None:
    for name in LIKELIHOODS:
        likelihood, outputs, targets = draw(name)
        parts = {k: v.numpy() for k, v in likelihood.describe(outputs).items()}
        y = targets.numpy()
        if name in ("categorical", "bernoulli"):
            expected = -np.log(parts["probabilities"][np.arange(50), y])
        elif name == "poisson":
            expected = -stats.poisson.logpmf(y, parts["rate"])
        else:
            expected = -stats.norm.logpdf(y, parts["mean"], parts["deviation"])
        np.testing.assert_allclose(likelihood.neg_log_likelihood(outputs, targets).numpy(), expected, rtol=1e-6)


@pytest.mark.parametrize("name", list(LIKELIHOODS))
def test_gradients_against_central_differences(name: str) -> None:
    likelihood, outputs, targets = draw(name)
    assert torch.autograd.gradcheck(
        lambda o: likelihood.double().training_loss(o, targets), (outputs.requires_grad_(),), eps=1e-6, atol=1e-6
    )


def test_softmax_of_the_lecture() -> None:
    # notes/004 I9: logits (2.0, 0.1, 0.2, 1.0); its 0.59, 0.08, 0.09, 0.21 are the exact values cut off, not rounded
    p = Categorical(4).describe(torch.tensor([[2.0, 0.1, 0.2, 1.0]]))["probabilities"][0]
    exact = np.exp([2.0, 0.1, 0.2, 1.0]) / np.exp([2.0, 0.1, 0.2, 1.0]).sum()
    np.testing.assert_allclose(p.numpy(), exact, rtol=1e-6)
    np.testing.assert_allclose(p.numpy(), [0.59, 0.08, 0.09, 0.21], atol=0.01)


def test_two_class_softmax_is_the_sigmoid() -> None:
    z = torch.randn(20, 1, dtype=torch.float64)
    two = Categorical(2).describe(torch.cat([torch.zeros_like(z), z], 1))["probabilities"]
    torch.testing.assert_close(two, Bernoulli().describe(z)["probabilities"])


def test_extreme_logits_stay_finite() -> None:
    for likelihood, width in ((Categorical(3), 3), (Bernoulli(), 1)):
        outputs = torch.full((2, width), 1e4)
        outputs[:, 0] = -1e4
        assert torch.isfinite(likelihood.neg_log_likelihood(outputs, torch.tensor([0, 1]))).all()


def test_smoothing_and_weights_are_torchs() -> None:
    outputs, y = torch.randn(30, 4), torch.randint(0, 4, (30,))
    ours = Categorical(4, label_smoothing=0.2).training_loss(outputs, y)
    torch.testing.assert_close(ours, F.cross_entropy(outputs, y, label_smoothing=0.2, reduction="none"))
    weights = [1.0, 2.0, 0.5, 3.0]
    ours = Categorical(4, weights).training_loss(outputs, y)
    torch.testing.assert_close(ours, F.cross_entropy(outputs, y, torch.tensor(weights), reduction="none"))


def test_the_profile_finds_the_temperature() -> None:
    g = torch.Generator().manual_seed(1)
    logits = 2 * torch.randn(20_000, 3, generator=g)
    y = torch.multinomial(torch.softmax(logits / 2, 1), 1, generator=g)[:, 0]
    assert TEMPERATURES[int(Categorical(3)(logits, y).argmin())] == pytest.approx(2.0)
    z = torch.randn(20_000, generator=g) * 2
    assert TEMPERATURES[int(Gaussian(0.5)(torch.zeros(20_000, 1), z).argmin())] == pytest.approx(4.0)
    assert TEMPERATURES[9] == 1.0


def test_the_learned_noise_reaches_the_residuals_deviation() -> None:
    y = torch.randn(5000, generator=torch.Generator().manual_seed(2)) * 0.7
    gaussian = Gaussian("learned")
    optimizer = torch.optim.Adam(gaussian.parameters(), lr=0.05)
    for _ in range(300):
        optimizer.zero_grad()
        gaussian.training_loss(torch.zeros(5000, 1), y).mean().backward()
        optimizer.step()
    assert gaussian.describe(torch.zeros(1, 1))["deviation"].item() == pytest.approx(y.std().item(), rel=0.01)


def test_densities_are_normalized() -> None:
    grid = torch.linspace(-20, 20, 40_001, dtype=torch.float64)
    density = (-Gaussian(0.7).double().neg_log_likelihood(torch.full((40_001, 1), 0.3).double(), grid)).exp()
    assert torch.trapezoid(density, grid).item() == pytest.approx(1.0, abs=1e-9)
    counts = torch.arange(0, 200, dtype=torch.float64)
    mass = (-Poisson().neg_log_likelihood(torch.full((200, 1), math.log(6.5)).double(), counts)).exp().sum()
    assert mass.item() == pytest.approx(1.0, abs=1e-12)


def test_noise_must_make_sense() -> None:
    for wrong in (0.0, -1.0, "none"):
        with pytest.raises(ValueError, match="noise must be a positive number"):
            Gaussian(wrong)
