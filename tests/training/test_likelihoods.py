import numpy as np
import pytest
import torch
from scipy import stats

from nastavnik.data import TargetPreparation
from nastavnik.errors import UserError
from nastavnik.targets import Classification, Regression
from nastavnik.testing._likelihoods import sample_targets
from nastavnik.training.likelihoods import (
    LIKELIHOODS,
    TEMPERATURES,
    Bernoulli,
    Categorical,
    Gaussian,
    Likelihood,
    Ordinal,
    StudentT,
)


def draw(name: str) -> tuple[Likelihood, torch.Tensor, torch.Tensor]:
    made = LIKELIHOODS[name].make(2 if name == "bernoulli" else 3, {"noise": "input", "freedom": 3.0}).double()
    g = torch.Generator().manual_seed(0)
    outputs = torch.randn(50, made.outputs, generator=g, dtype=torch.float64)
    return made, outputs, sample_targets(made.target, 50, 2 if name == "bernoulli" else 3)


@pytest.mark.parametrize("name", list(LIKELIHOODS))
def test_against_scipys_densities(name: str) -> None:
    likelihood, outputs, targets = draw(name)
    parts = {k: v.detach().numpy() for k, v in likelihood.describe(outputs).items()}
    y = targets.numpy()
    if likelihood.target == "class":
        expected = -np.log(parts["probabilities"][np.arange(50), y])
    elif likelihood.target == "count":
        expected = -stats.poisson.logpmf(y, parts["rate"])
    elif likelihood.target == "labels":
        expected = -stats.bernoulli.logpmf(y, parts["probabilities"]).sum(1)
    elif likelihood.target == "votes":
        expected = -stats.multinomial.logpmf(y, y.sum(1), parts["probabilities"])
    elif likelihood.target == "vector":
        expected = -stats.norm(parts["mean"], parts["deviation"]).logpdf(y).sum(1)
    elif name == "gamma":
        expected = -stats.gamma(parts["shape"], scale=parts["mean"] / parts["shape"]).logpdf(y)
    elif name == "hurdle":
        some = -stats.norm(parts["mean"], parts["deviation"]).logpdf(y) - np.log1p(-parts["zero"])
        expected = np.where(y == -30, -np.log(parts["zero"]), some)
    else:
        shape = {"gaussian": stats.norm, "laplace": stats.laplace, "student_t": stats.t(3)}[name]
        expected = -shape.logpdf((y - parts["mean"]) / parts["deviation"]) + np.log(parts["deviation"])
    found = likelihood.neg_log_likelihood(outputs, targets).detach().numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_an_ordinals_classes_are_differences_of_a_logistic() -> None:
    ordinal = Ordinal(5).double()
    z = torch.tensor([[0.3], [-2.0], [8.0]], dtype=torch.float64)
    edges = torch.sigmoid(ordinal.thresholds - z).detach().numpy()
    expected = np.diff(np.concatenate([np.zeros((3, 1)), edges, np.ones((3, 1))], axis=1), axis=1)
    np.testing.assert_allclose(ordinal.describe(z)["probabilities"].detach(), expected, rtol=1e-9)
    # at first an output of 0 finds all classes equally likely
    even = Ordinal(4).describe(torch.zeros(1, 1))["probabilities"].detach()
    np.testing.assert_allclose(even, 0.25, rtol=1e-5)


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
        gaussian.neg_log_likelihood(torch.zeros(5000, 1), y).mean().backward()
        optimizer.step()
    assert gaussian.describe(torch.zeros(1, 1))["deviation"].item() == pytest.approx(y.std().item(), rel=0.01)


def test_noise_must_make_sense() -> None:
    for wrong in (0.0, -1.0, "none"):
        with pytest.raises(ValueError, match="noise must be a positive number"):
            Gaussian(wrong)
    with pytest.raises(ValueError, match="freedom must be positive"):
        StudentT(freedom=0.0)


def test_a_likelihood_must_suit_its_target() -> None:
    with pytest.raises(
        UserError, match=r"likelihood\.name cannot be 'laplase' for this regression; did you mean 'laplace'"
    ):
        Regression("y").likelihood({"likelihood.name": "laplase"})
    with pytest.raises(UserError, match=r"likelihood\.name cannot be 'ordinal' for this classification"):
        Classification("y", ("0", "1")).likelihood({"likelihood.name": "ordinal"})
    assert isinstance(Classification("y", ("0", "1")).likelihood({}), Bernoulli)
    assert isinstance(Regression("y").likelihood({"likelihood.noise": 0.3}), Gaussian)


@pytest.mark.parametrize("name", ["gaussian", "laplace", "student_t"])
def test_predictions_have_the_distributions_quantiles(name: str) -> None:
    likelihood = LIKELIHOODS[name].make(0, {"noise": 0.5})
    described = {k: v.double().numpy() for k, v in likelihood.describe(torch.tensor([[1.0], [2.0]])).items()}
    target = TargetPreparation.fit_real(np.array([0.0, 10.0, 20.0]), "identity")
    found = likelihood.predictive(described, target)
    low, high = found.interval(0.9)  # type: ignore[misc]
    shape = {"gaussian": stats.norm, "laplace": stats.laplace, "student_t": stats.t(4)}[name]
    ends = [target.own_units(np.array([1.0, 2.0]) + 0.5 * shape.ppf(q)) for q in (0.05, 0.95)]
    np.testing.assert_allclose([low, high], ends)
    y = np.array([12.0, 30.0])
    z = (y - target.own_units(np.array([1.0, 2.0]))) / (0.5 * target.scale)
    np.testing.assert_allclose(found.neg_log_likelihood(y), -shape.logpdf(z) + np.log(0.5 * target.scale))
