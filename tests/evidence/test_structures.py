"""Curvature in every shape against dense oracles, and the yardstick's values."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from truths import number, small_net

import nastavnik
from nastavnik import evidence
from nastavnik.selection.evidence._curvature import exact_hessian, gauss_newton
from nastavnik.selection.evidence._layers import Layers
from nastavnik.selection.evidence._making import make_joint
from nastavnik.selection.evidence._structures import Diagonal, Full, Kronecker
from nastavnik.training.likelihoods import (
    Bernoulli,
    Categorical,
    Gaussian,
    Laplace,
    MultiLabel,
    Ordinal,
    Poisson,
    StudentT,
    Votes,
)

X = torch.randn(12, 2, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
REAL = torch.randn(12, generator=torch.Generator().manual_seed(4), dtype=torch.float64)


def dense(joint: Any, k: Any = 0) -> Any:
    """Σ Jᵀ Λ J by plain autograd, row by row: slow and obvious."""
    w = joint.weights[k].clone().requires_grad_()
    total = torch.zeros(len(w), len(w), dtype=w.dtype)
    for row in range(joint.rows):
        x, y = joint.inputs[0][row : row + 1], joint.targets[row : row + 1]
        z = joint.outputs(w, joint.constants_of(k), (x,))
        j = torch.stack([torch.autograd.grad(z[0, o], w, retain_graph=True)[0] for o in range(z.shape[1])])
        hessian = torch.autograd.functional.hessian(
            lambda v, y=y: joint.likelihood.double().neg_log_likelihood(v[None], y)[0], z[0].detach()
        )
        total += j.T @ hessian @ j
    return total


LIKELIHOODS = [
    (Gaussian(noise=0.5), REAL, 1),
    (Gaussian(noise="learned"), REAL, 1),
    (Bernoulli(), (REAL > 0).long(), 1),
    (Categorical(3), torch.arange(12) % 3, 3),
    (Poisson(), (REAL.abs() * 3).round(), 1),
]


@pytest.mark.parametrize("likelihood,y,outputs", LIKELIHOODS, ids=lambda v: getattr(v, "name", ""))
def test_gauss_newton_is_the_dense_oracle(likelihood: Any, y: Any, outputs: Any) -> None:
    joint = make_joint(small_net(outputs=outputs), X, y, likelihood=likelihood)
    torch.testing.assert_close(gauss_newton(joint, joint.weights)[0], dense(joint), rtol=1e-6, atol=1e-8)
    diagonal = Diagonal.of(joint)
    torch.testing.assert_close(diagonal.h[0], dense(joint).diagonal(), rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(diagonal.log_likelihood, joint.log_likelihoods(joint.weights))


@pytest.mark.parametrize(
    "likelihood,targets",
    [
        (Categorical(4), torch.arange(12) % 4),
        (Bernoulli(), torch.arange(12) % 2),
        (Gaussian(noise="input"), REAL),
        (Poisson(), REAL.abs().round()),
        (MultiLabel(2), torch.stack([torch.arange(12) % 2, torch.arange(12) % 2], 1).double()),
        (Votes(3), torch.ones(12, 3, dtype=torch.float64)),
        (Ordinal(4), torch.arange(12) % 4),
        (StudentT(noise=0.5), REAL * 0.1),
    ],
    ids=lambda v: getattr(v, "name", ""),
)
def test_curvature_columns_multiply_to_the_second_derivatives(likelihood: Any, targets: Any) -> None:
    likelihood = likelihood.double()
    z = torch.randn(12, likelihood.outputs, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 0.3
    columns = likelihood.curvature_columns(z, targets).detach()
    found = torch.einsum("rni,rnj->nij", columns, columns)
    for row in range(12):
        exact = torch.autograd.functional.hessian(
            lambda v, row=row: likelihood.neg_log_likelihood(v[None], targets[row : row + 1])[0], z[row]
        )
        values, vectors = torch.linalg.eigh(exact)
        positive = vectors @ torch.diag(values.clamp(min=0)) @ vectors.T
        torch.testing.assert_close(found[row], positive, rtol=1e-6, atol=1e-9)


class Widened(nn.Module):
    """What no elementwise activation does: every unit hears its neighbour."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.tanh() + x.roll(1, -1).relu()


@pytest.mark.parametrize(
    "between,short",
    [
        (nn.ReLU(), True),
        (nn.ReLU(inplace=True), True),
        (nn.Sequential(nn.GELU(), nn.Tanh()), True),
        (nn.Identity(), True),
        (Widened(), False),
        (nn.LayerNorm(6), False),
    ],
    ids=lambda v: type(v).__name__,
)
def test_the_short_way_to_a_diagonal_is_taken_where_it_is_exact(between: nn.Module, short: bool) -> None:
    torch.manual_seed(2)
    net = nn.Sequential(nn.Linear(2, 6), between, nn.Linear(6, 4)).double()
    joint = make_joint(net, X, torch.arange(12) % 4, likelihood=Categorical(4))
    assert [portion.short is not None for portion in Layers(joint).of(0)] == [short]
    torch.testing.assert_close(Diagonal.of(joint).h[0], dense(joint).diagonal(), rtol=1e-6, atol=1e-8)


def test_curvature_of_outputs_is_what_its_columns_say() -> None:
    z = torch.randn(12, 4, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    columns = Categorical(4).curvature_columns(z, torch.arange(12) % 4)
    found = Categorical(4).curvature(z, torch.arange(12) % 4)
    torch.testing.assert_close(found, torch.einsum("rno,rnp->nop", columns, columns))


def test_softmax_curvature_of_certain_rows_is_finite() -> None:
    columns = Categorical(3).curvature_columns(torch.tensor([[400.0, 0.0, -400.0], [0.0, 0.0, 500.0]]), torch.zeros(2))
    assert torch.isfinite(columns).all()


def convolutional() -> Any:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 3, 3, padding=1, stride=2),
        nn.ReLU(inplace=True),
        nn.BatchNorm2d(3),
        nn.Flatten(),
        nn.Linear(12, 3),
    ).eval()


def test_layers_of_every_kind_have_their_exact_diagonal() -> None:
    x = torch.randn(9, 1, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    joint = make_joint(convolutional(), x, torch.arange(9) % 3, likelihood=Categorical(3))
    torch.testing.assert_close(Diagonal.of(joint).h[0], dense(joint).diagonal(), rtol=1e-5, atol=1e-8)


def test_kronecker_blocks_are_the_products_of_their_factors() -> None:
    # of one row a layer's block is exactly G ⊗ A, and a bias's block always is Σ g gᵀ
    net = small_net(outputs=3)
    one = make_joint(net, X[:1], torch.zeros(1, dtype=torch.long), likelihood=Categorical(3))
    full, kron = dense(one), Kronecker.of(one)
    for block in kron.each[0]:
        place = one.layout.places[block.name]
        assert block.left is not None
        left = block.left @ torch.diag(block.rows) @ block.left.T
        right = torch.diag(block.columns)
        if block.right is not None:
            right = block.right @ right @ block.right.T
        torch.testing.assert_close(torch.kron(left, right.double()), full[place, place], rtol=1e-6, atol=1e-9)
    many = make_joint(net, X, torch.arange(12) % 3, likelihood=Categorical(3))
    full, kron = dense(many), Kronecker.of(many)
    bias = next(b for b in kron.each[0] if b.name.endswith("0.bias"))
    place = many.layout.places[bias.name]
    assert bias.left is not None
    torch.testing.assert_close(
        bias.left @ torch.diag(bias.rows) @ bias.left.T, full[place, place], rtol=1e-6, atol=1e-9
    )


@pytest.mark.parametrize("kind", [Full, Kronecker, Diagonal])
def test_structures_agree_with_their_own_dense_matrix(kind: Any) -> None:
    joint = make_joint(small_net(outputs=3), X, torch.arange(12) % 3, likelihood=Categorical(3), per_layer=True)
    structure = kind.of(joint)
    alpha = torch.tensor([[0.5, 1.0, 2.0, 4.0]], dtype=torch.float64)
    s = torch.tensor([1.7], dtype=torch.float64)
    p = joint.layout.size
    eye = torch.eye(p, dtype=torch.float64)
    covariance = structure.spread(0, eye[None], alpha[0], s[0])[0]
    precision = torch.linalg.inv(covariance)
    torch.testing.assert_close(structure.logdet(alpha, s)[0], torch.logdet(precision))
    torch.testing.assert_close(structure.variances(0, alpha[0], s[0]), covariance.diagonal())
    torch.testing.assert_close(structure.traces(alpha, s)[0], joint.layout.summed(covariance.diagonal()))
    draws = structure.draws(0, eye, alpha[0], s[0])  # rows are F's columns
    torch.testing.assert_close(draws.T @ draws, covariance)


def test_full_with_one_and_with_many_precisions_agree() -> None:
    joint = make_joint(small_net(), X, REAL, likelihood=Gaussian(noise=0.5))
    many = make_joint(small_net(), X, REAL, likelihood=Gaussian(noise=0.5), per_layer=True)
    one, other = Full.of(joint), Full.of(many)
    s = torch.ones(1, dtype=torch.float64)
    alpha = torch.full((1, 1), 0.7, dtype=torch.float64)
    torch.testing.assert_close(one.logdet(alpha, s), other.logdet(alpha.expand(1, 4), s))
    torch.testing.assert_close(one.traces(alpha, s).sum(), other.traces(alpha.expand(1, 4), s).sum())


def test_exact_hessian_is_that_of_finite_differences() -> None:
    joint = make_joint(small_net(), X, REAL, likelihood=Gaussian(noise=0.5))
    hessian = exact_hessian(joint, joint.weights)[0]
    e = 1e-4
    for i in (0, 7, 20):
        step = torch.zeros_like(joint.weights)
        step[0, i] = e
        values = [-float(joint.log_likelihoods(joint.weights + t * step)[0]) for t in (1, 0, -1)]
        assert float(hessian[i, i]) == pytest.approx((values[0] - 2 * values[1] + values[2]) / e**2, rel=1e-3, abs=1e-3)


def test_last_layer_is_full_over_its_weights_alone() -> None:
    net = small_net()
    last = evidence.laplace(net, X, REAL, likelihood=Gaussian(noise=0.5), structure="last_layer")
    features = torch.cat([net[:2](X), torch.ones(12, 1)], dim=1).detach()
    # Laplace at the given weights: log p(D|w) + log p(w) + ½ P log 2π - ½ log |A| of that linear model
    w = nn.utils.parameters_to_vector(net[2].parameters()).detach()
    a = features.T @ features / 0.25 + torch.eye(6)
    fit = torch.distributions.Normal(features @ w, 0.5).log_prob(REAL).sum()
    prior = torch.distributions.Normal(0, 1).log_prob(w).sum()
    expected = fit + prior + 3 * np.log(2 * np.pi) - 0.5 * torch.logdet(a)
    assert number(last) == pytest.approx(float(expected))


def test_a_population_gets_what_each_network_gets_alone() -> None:
    networks = [small_net(seed=s) for s in range(3)]
    for structure in ("full", "kfac", "diagonal"):
        together = evidence.laplace(networks, X, REAL, likelihood=Gaussian(noise=0.5), structure=structure)
        for network, record in zip(networks, together, strict=True):
            alone = evidence.laplace(network, X, REAL, likelihood=Gaussian(noise=0.5), structure=structure)
            assert number(record) == pytest.approx(number(alone), rel=1e-10)


def test_modules_that_vmap_cannot_batch_are_done_one_by_one() -> None:
    class Stubborn(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = small_net()

        def forward(self, x: Any) -> Any:
            return self.inner(x) if float(x.sum()) > -1e9 else -self.inner(x)

    found = evidence.laplace([Stubborn(), Stubborn()], X, REAL, likelihood=Gaussian(noise=0.5))
    plain = evidence.laplace(small_net(), X, REAL, likelihood=Gaussian(noise=0.5))
    assert number(found[1]) == pytest.approx(number(plain))


@pytest.mark.parametrize(
    "structure,value,optimised", [("full", -391.96, -333.3), ("kfac", -760.42, -529.2), ("diagonal", -1769.08, -1169.8)]
)
def test_boston_yardstick(real_data: Any, structure: Any, value: Any, optimised: Any) -> None:
    saved = np.load(real_data / "evidence" / "boston.npz")
    net = nn.Sequential(nn.Linear(13, 50), nn.Tanh(), nn.Linear(50, 1))
    net.load_state_dict({n: torch.tensor(saved[n]) for n in net.state_dict()})
    x, y = torch.tensor(saved["x"]), torch.tensor(saved["y"])[:, 0]
    found = evidence.laplace(net, x, y, likelihood=Gaussian(noise=0.3), structure=structure)
    assert number(found) == pytest.approx(value, rel=1e-4)
    best = evidence.laplace(net, x, y, likelihood=Gaussian(noise=0.3), structure=structure, optimise="prior_precision")
    assert number(best) == pytest.approx(optimised, rel=2e-4)


@pytest.mark.parametrize("structure,value,optimised", [("kfac", -3171.82, -1861.7), ("diagonal", -9247.51, -3002.4)])
def test_mnist_yardstick(real_data: Any, structure: Any, value: Any, optimised: Any) -> None:
    from nastavnik.data import read_source

    saved = np.load(real_data / "evidence" / "mnist.npz")
    net = nn.Sequential(nn.Linear(784, 100), nn.ReLU(), nn.Linear(100, 10))
    net.load_state_dict({n: torch.tensor(saved[n]) for n in net.state_dict()})
    frame = read_source(str(real_data / "mnist")).frame.iloc[:5000]
    y = torch.from_numpy(frame["label"].to_numpy().astype(np.int64))
    pixels = np.stack([cell.load() for cell in frame["image"]])
    x = torch.from_numpy(pixels.reshape(len(pixels), -1).astype(np.float32) / 255)
    found = evidence.laplace(net, x, y, likelihood=Categorical(10), structure=structure)
    assert number(found) == pytest.approx(value, rel=1e-4)
    best = evidence.laplace(net, x, y, likelihood=Categorical(10), structure=structure, optimise="prior_precision")
    assert number(best) == pytest.approx(optimised, rel=1e-3)


def test_laplace_likelihood_is_refused_for_want_of_curvature() -> None:
    with pytest.raises(nastavnik.UserError, match="no second derivative"):
        evidence.laplace(small_net(), X, REAL, likelihood=Laplace(noise=0.5))
