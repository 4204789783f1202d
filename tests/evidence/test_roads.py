"""What each road asks beforehand, what it says when there is no number, and the pieces it is made of."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from truths import NOISE, belief, linear_models, number, polynomials, powers, small_net

import nastavnik
from nastavnik import evidence
from nastavnik.data import TargetPreparation
from nastavnik.nets import make_activation
from nastavnik.population import Learner
from nastavnik.predictive import ClassPredictive, RealPredictive
from nastavnik.selection.evidence._curvature import gauss_newton
from nastavnik.selection.evidence._descent import Descent, after_noise, start_deviations
from nastavnik.selection.evidence._description import message, whole_number_bits
from nastavnik.selection.evidence._diagnostics import effective_size, r_hat
from nastavnik.selection.evidence._making import make_joint
from nastavnik.selection.evidence._samplers import Chains, Plan
from nastavnik.selection.evidence._structures import Diagonal
from nastavnik.training.likelihoods import Bernoulli, Categorical, Gaussian
from nastavnik.training.losses import LOSSES

X = torch.randn(24, 2, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
Y = (
    X[:, 0]
    - 0.5 * X[:, 1] ** 2
    + 0.3 * torch.randn(24, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
)
CALLS = {
    "laplace": lambda net, **o: evidence.laplace(net, X, Y, **o),
    "variational": lambda net, **o: evidence.variational(net, X, Y, steps=2, **o),
    "langevin": lambda net, **o: evidence.langevin(net, X, Y, warmup=2, draws=10, **o),
    "descent_entropy": lambda net, **o: evidence.descent_entropy(net, X, Y, steps=2, **o),
    "description_length": lambda net, **o: evidence.description_length(net, X, Y, **o),
    "train": lambda net, **o: evidence.train(net, X, Y, steps=2, **o),
}


class Shaken(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = small_net()

    def forward(self, x: Any) -> Any:
        return self.inner(x + 0.1 * torch.randn_like(x))


# Preconditions


@pytest.mark.parametrize("road", CALLS)
def test_randomness_left_on_is_refused(road: Any) -> None:
    dropout = nn.Sequential(nn.Linear(2, 8), nn.Dropout(0.5), nn.Linear(8, 1)).train()
    with pytest.raises(nastavnik.UserError, match=r"second pass.*\.eval\(\).*1 \(Dropout\)"):
        CALLS[road](dropout, likelihood=Gaussian(noise=0.3))
    with pytest.raises(nastavnik.UserError, match="second pass"):
        CALLS[road](Shaken(), likelihood=Gaussian(noise=0.3))


@pytest.mark.parametrize("road", CALLS)
def test_batch_norm_in_training_is_refused_and_frozen_is_not(road: Any) -> None:
    norm = nn.Sequential(nn.Linear(2, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))
    with pytest.raises(nastavnik.UserError, match=r"freeze batch norm by calling \.eval\(\).*BatchNorm1d"):
        CALLS[road](norm.train(), likelihood=Gaussian(noise=0.3))
    CALLS[road](norm.eval(), likelihood=Gaussian(noise=0.3))


def test_a_frozen_dropout_changes_nothing() -> None:
    net = small_net()
    dropped = nn.Sequential(net[0], net[1], nn.Dropout(0.5), net[2]).eval()
    plain = evidence.laplace(net, X, Y, likelihood=Gaussian(noise=0.3))
    assert evidence.laplace(dropped, X, Y, likelihood=Gaussian(noise=0.3)).log_evidence == number(plain)


@pytest.mark.parametrize(
    "change,words",
    [
        ({"y": Y[:, None]}, r"one number a row, got \(24, 1\); flatten them"),
        ({"y": Y.long()}, "must be numbers with a decimal point"),
        ({"y": Y[:10]}, r"as many rows, got \[10, 24\]"),
        ({"x": X.index_fill(0, torch.tensor([2]), math.nan)}, "not numbers"),
        ({"x": X[:, :1]}, "cannot be run on these inputs"),
        ({"likelihood": Categorical(3)}, "whole class numbers"),
        ({"likelihood": None}, "give likelihood="),
        ({"prior_precision": 0.0}, "must be positive"),
        ({"prior_precision": {"0.wieght": 1.0}}, "did you mean '0.weight'"),
        ({"structure": "kron"}, "structure cannot be 'kron'"),
        ({"optimise": "noize"}, "did you mean 'noise'"),
        ({"networks": small_net(outputs=2)}, "must give 1 outputs a row"),
        ({"networks": [small_net(), small_net(hidden=3)]}, "one architecture"),
        ({"networks": []}, "at least one network"),
        ({"networks": small_net().requires_grad_(False)}, "no weights that are trained"),
    ],
)
def test_what_does_not_fit_is_told_in_a_sentence(change: Any, words: Any) -> None:
    given = {"networks": small_net(), "x": X, "y": Y, "likelihood": Gaussian(noise=0.3), **change}
    networks, x, y = (given.pop(name) for name in ("networks", "x", "y"))
    with pytest.raises(nastavnik.UserError, match=words):
        evidence.laplace(networks, x, y, **given)


def test_an_untamed_network_has_no_number() -> None:
    net = small_net()
    list(net.parameters())[-1].data.fill_(math.inf)
    with pytest.raises(nastavnik.UserError, match="no finite number"):
        evidence.laplace(net, X, Y, likelihood=Gaussian(noise=0.3))


def test_weights_trained_by_no_density_are_refused_by_laplace_alone() -> None:
    learner = Learner(small_net(outputs=3), Categorical(3), LOSSES["label_smoothing"]({"label_smoothing": 0.1}))
    y = torch.arange(24) % 3
    with pytest.raises(nastavnik.UserError, match=r"label_smoothing.*no maximum of a joint density"):
        evidence.laplace(learner.double(), X, y)
    assert evidence.description_length(learner, X, y).bits > 0


def test_curvature_that_is_not_positive_gives_no_number() -> None:
    found = evidence.laplace(
        small_net(), X, 10 * Y, likelihood=Gaussian(noise=0.05), structure="hessian", prior_precision=1e-3
    )
    assert found.log_evidence is None
    assert found.posterior is None
    assert "not positive" in found.problem
    assert "no number" in str(found)


def test_chains_that_have_not_met_give_no_number() -> None:
    net = small_net(hidden=8)
    found = evidence.langevin(net, X, Y, likelihood=Gaussian(noise=0.05), warmup=0, draws=8, temperatures=5)
    assert found.log_evidence is None
    assert found.posterior is None
    assert "have not met" in found.problem
    one = evidence.langevin(
        small_net(), X, Y, likelihood=Gaussian(noise=0.3), chains=1, warmup=5, draws=10, temperatures=5
    )
    assert one.log_evidence is None


@pytest.mark.parametrize(
    "options,words",
    [
        ({"sampler": "nuts"}, "sampler cannot be 'nuts'"),
        ({"sampler": "constant_sgd"}, "give batch="),
        ({"batch": 3}, "hmc sees all rows"),
        ({"sampler": "sgld", "batch": 100}, "at most the 24 rows"),
        ({"temperatures": 3}, "at least 5"),
        ({"rate": -1.0}, "rate must be positive"),
    ],
)
def test_wrong_options_of_chains(options: Any, words: Any) -> None:
    with pytest.raises(nastavnik.UserError, match=words):
        evidence.langevin(small_net(), X, Y, likelihood=Gaussian(noise=0.3), **options)


def test_large_networks_are_sent_elsewhere() -> None:
    large = nn.Sequential(nn.Linear(2, 3000), nn.Tanh(), nn.Linear(3000, 1)).double()
    for call, words in (
        (lambda: evidence.laplace(large, X, Y, likelihood=Gaussian(noise=0.3)), "take 'kfac'"),
        (lambda: evidence.variational(large, X, Y, likelihood=Gaussian(noise=0.3), structure="full"), "mean_field"),
    ):
        with pytest.raises(nastavnik.UserError, match=words):
            call()


def test_records_of_other_structures_are_not_comparable() -> None:
    full, kron = (
        evidence.laplace(small_net(), X, Y, likelihood=Gaussian(noise=0.3), structure=s) for s in ("full", "kfac")
    )
    assert not full.comparable(kron)
    assert full.comparable(full)
    assert full.bits == pytest.approx(-number(full) / math.log(2))


def test_the_same_seed_gives_the_same_numbers() -> None:
    for road in ("variational", "langevin", "descent_entropy"):
        one, two = (CALLS[road](small_net(), likelihood=Gaussian(noise=0.3), seed=4) for _ in range(2))
        assert one.log_evidence == two.log_evidence
        assert str(one.details) == str(two.details)


# Training by evidence


def test_training_reaches_a_maximum_and_leaves_the_given_networks_alone() -> None:
    nets = [small_net(seed=s) for s in range(3)]
    before = [p.clone() for p in nets[0].parameters()]
    trained, records = evidence.train(nets, X, Y, likelihood=Gaussian(noise=0.3), per_layer=True, steps=300)
    assert all(torch.equal(a, b) for a, b in zip(before, nets[0].parameters(), strict=True))
    assert max(r.details["gradient"] for r in records) < 1
    for net, record in zip(trained, records, strict=True):
        again = evidence.laplace(
            net, X, Y, likelihood=Gaussian(noise=record.noise or 0.0), prior_precision=record.prior_precision
        )
        assert number(again) == pytest.approx(number(record), rel=1e-4)


# Variational


def test_the_bound_lies_below_the_integrated_evidence() -> None:
    net = evidence.train(small_net(hidden=3), X, Y, likelihood=Gaussian(noise=0.3), optimise=(), steps=100)[0][0]
    truth = evidence.langevin(net, X, Y, likelihood=Gaussian(noise=0.3), warmup=300, draws=1000)
    assert truth.problem is None
    field = evidence.variational(net, X, Y, likelihood=Gaussian(noise=0.3), steps=500)
    full = evidence.variational(net, X, Y, likelihood=Gaussian(noise=0.3), structure="full")
    for bound in (field, full):
        assert bound.bound
        assert number(bound) < truth.log_evidence + 3 * (bound.error + truth.error)
    assert number(full) > number(field) - 3 * (full.error + field.error)


def test_drawing_outputs_and_drawing_weights_come_to_the_same_bound(monkeypatch: Any) -> None:
    import nastavnik.selection.evidence._variational as room

    x, y = polynomials(1)
    design = powers(x, 2)
    networks, truths = linear_models(design, y)
    monkeypatch.setattr(room, "_SMALL", 1)
    found = evidence.variational(networks[0], design[0], y[0], likelihood=Gaussian(noise=NOISE), steps=4000, rate=0.3)
    assert number(found) == pytest.approx(truths[0].mean_field, abs=4 * found.error + 0.1)


def test_graves_prior_follows_the_moments_of_q() -> None:
    found = evidence.variational(
        small_net(), X, Y, likelihood=Gaussian(noise=0.3), optimise=("prior_precision", "prior_mean"), steps=50
    )
    mean, deviation = belief(found).moments()
    m = float(mean.mean())
    assert found.details["prior_mean"][0] == pytest.approx(m)
    assert 1 / found.prior_precision["all"] == pytest.approx(float((deviation**2 + (mean - m) ** 2).mean()))
    torch.testing.assert_close(belief(found).density_at_zero(), torch.exp(-(mean**2) / (2 * deviation**2)))


def test_kl_of_normals_is_torchs() -> None:
    from nastavnik.selection.evidence._variational import Prior

    joint = make_joint(
        nn.Linear(3, 1, bias=False).double(),
        X.repeat(1, 2)[:, :3],
        Y,
        likelihood=Gaussian(noise=1.0),
        prior_precision=2.0,
    )
    factor = torch.tensor([[0.5, 0, 0], [0.2, 0.4, 0], [-0.1, 0.3, 0.7]], dtype=torch.float64)
    mean = torch.tensor([0.3, -1.0, 2.0], dtype=torch.float64)
    logdet = 2 * factor.diagonal().log().sum()
    found = Prior(joint, ()).kl(mean, factor.square().sum(1), logdet, torch.zeros(1), torch.full((1,), 2.0))
    normal = torch.distributions.MultivariateNormal
    truth = torch.distributions.kl_divergence(
        normal(mean, scale_tril=factor), normal(torch.zeros(3).double(), torch.eye(3).double() / 2)
    )
    torch.testing.assert_close(found, truth)


# Descent


def test_entropy_of_linear_descent_is_exact_in_the_mean() -> None:
    x, y = polynomials(1)
    design = powers(x, 2)
    networks, _ = linear_models(design, y)
    joint = make_joint(networks[0], design[0], y[0], likelihood=Gaussian(noise=NOISE))
    descent = Descent(joint, 400, None, False, 0)
    start, beta = float(descent.entropy[0]), []
    h = design[0].T @ design[0] / NOISE**2 + torch.eye(3)
    for _ in range(5):
        before = descent.weights.clone()
        descent.step()
        slope = before @ h - (design[0].T @ y[0] / NOISE**2)
        beta.append(float(((before - descent.weights) / slope).median()))
    expected = sum(-b * h.trace() - b**2 * (h @ h).trace() for b in beta)
    assert float(descent.entropy[0]) - start == pytest.approx(float(expected), rel=0.05)
    exact = sum(torch.logdet(torch.eye(3) - b * h) for b in beta)
    assert float(expected) < float(exact)  # a lower bound on the entropy
    spread = np.cov(descent.weights.T.numpy())  # of a normal start through a linear map: still normal
    entropy = 0.5 * np.linalg.slogdet(2 * np.pi * np.e * spread)[1]
    assert entropy == pytest.approx(start + float(exact), abs=0.2)


def test_descent_is_below_the_truth_and_turns() -> None:
    x, y = polynomials(3)
    design = powers(x, 3)
    networks, truths = linear_models(design, y)
    for noisy in (False, True):
        found = evidence.descent_entropy(
            networks, design, y, likelihood=Gaussian(noise=NOISE), own_data=True, steps=400, noisy=noisy
        )
        for record, truth in zip(found, truths, strict=True):
            assert number(record) < truth.log_evidence + 3 * record.error
            assert record.details["turned"] or noisy


def test_entropy_power_inequality_is_exact_for_round_normals() -> None:
    size, one, other = 5, 0.7, 0.2
    entropy = torch.tensor(0.5 * size * math.log(2 * math.pi * math.e * one))
    both = after_noise(entropy, torch.tensor(other), size)
    assert float(both) == pytest.approx(0.5 * size * math.log(2 * math.pi * math.e * (one + other)), rel=1e-6)


def test_starts_are_no_wider_than_the_prior() -> None:
    joint = make_joint(small_net(inputs=2), X, Y, likelihood=Gaussian(noise=0.3), prior_precision=100.0)
    torch.testing.assert_close(start_deviations(joint), torch.full_like(joint.weights, 0.1))
    wide = make_joint(small_net(inputs=2), X, Y, likelihood=Gaussian(noise=0.3), prior_precision=0.01)
    first = wide.layout.places["network.0.weight"]
    assert float(start_deviations(wide)[0, first][0]) == pytest.approx(2**-0.5)


# Diagnostics


def test_r_hat_and_effective_size_of_known_chains() -> None:
    rng = np.random.default_rng(0)
    plain = rng.normal(size=(4, 2000, 3))
    assert r_hat(plain).max() < 1.01
    np.testing.assert_allclose(effective_size(plain), 8000, rtol=0.15)
    apart = plain + np.array([0, 0, 0, 1.0])[:, None, None]
    assert r_hat(apart).min() > 1.05
    wide = plain * np.array([1, 1, 1, 4.0])[:, None, None]  # the same mean, another spread
    assert r_hat(wide).min() > 1.05
    slow = np.zeros_like(plain)
    for t in range(1, 2000):
        slow[:, t] = 0.8 * slow[:, t - 1] + plain[:, t]
    np.testing.assert_allclose(effective_size(slow), 8000 * 0.2 / 1.8, rtol=0.3)
    assert r_hat(np.ones((2, 10, 1)))[0] == 1.0


# Description length


def test_code_for_whole_numbers_is_a_code() -> None:
    lengths = np.array([whole_number_bits(n) for n in range(1, 20_000)])
    assert 0.8 < (2.0**-lengths).sum() <= 1  # Kraft


def test_the_message_can_be_decoded_and_costs_what_it_says() -> None:
    net = small_net()
    joint = make_joint(net, X, Y, likelihood=Gaussian(noise=0.3), per_layer=True)
    found = evidence.description_length(net, X, Y, likelihood=Gaussian(noise=0.3))
    exponents = torch.tensor([[found.precisions[n.removeprefix("network.")] for n in joint.layout.shapes]])
    delta = joint.layout.each(2.0 ** -exponents.double())
    rounded = (joint.weights / delta).round() * delta
    data = -float(joint.log_likelihoods(rounded)[0]) / math.log(2)
    assert found.parts["data"] == pytest.approx(data)
    assert found.bits == pytest.approx(sum(found.parts.values()))
    for t in range(exponents.shape[1]):  # no precision would have repaid a change
        for step in (-1, 1):
            other = exponents.clone()
            other[:, t] += step
            assert float(message(joint, other).sum()) >= float(message(joint, exponents).sum()) - 1e-6


def test_resolution_shifts_all_models_alike() -> None:
    one, fine = (
        evidence.description_length(small_net(), X, Y, likelihood=Gaussian(noise=0.3), resolution=r) for r in (1, 2**-8)
    )
    assert fine.bits - one.bits == pytest.approx(8 * 24)


def test_weights_that_say_nothing_cost_almost_nothing() -> None:
    net = small_net(hidden=20)
    with torch.no_grad():
        for p in net.parameters():
            p.mul_(1e-6)
    found = evidence.description_length(net, X, Y, likelihood=Gaussian(noise=1.0))
    assert found.parts["weights"] < 81  # a bit a weight


def test_prequential_prefers_the_model_of_the_data() -> None:
    x = torch.randn(200, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    y = 0.8 * x[:, 0] + 0.3 * torch.randn(200, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    line = nn.Linear(1, 1).double()
    constant = nn.Sequential(nn.Linear(1, 1)).double()
    found = evidence.description_length(line, x, y, likelihood=Gaussian(noise=0.3), code="prequential")
    blind = evidence.description_length(
        constant, torch.zeros_like(x), y, likelihood=Gaussian(noise=0.3), code="prequential"
    )
    assert found.bits < blind.bits
    with pytest.raises(nastavnik.UserError, match="code cannot be 'zip'"):
        evidence.description_length(line, x, y, likelihood=Gaussian(noise=0.3), code="zip")


# Conformal


def real(mean: Any, deviation: Any) -> Any:
    return RealPredictive(mean[None], deviation[None], TargetPreparation("real"))


def test_conformal_intervals_cover_whatever_the_model_believes() -> None:
    rng = np.random.default_rng(0)
    covered = []
    for _ in range(200):
        y = rng.standard_t(3, size=260)
        belief = real(np.full(260, 0.3), np.full(260, 0.1))  # far too sure, and off centre
        made = evidence.conformal(belief.take(np.arange(60)), y[:60])
        low, high = made.interval(belief.take(np.arange(60, 260)), 0.9)
        covered.append(np.mean((y[60:] >= low) & (y[60:] <= high)))
    assert 0.89 < np.mean(covered) < 0.93  # at least 0.9, at most 1 / 61 more, and noise


def test_conformal_sets_and_their_refusals() -> None:
    rng = np.random.default_rng(0)
    p = rng.dirichlet(np.ones(4), size=2000)
    y = np.array([rng.choice(4, p=row) for row in p])
    made = evidence.conformal(ClassPredictive(p[:500]), y[:500])
    sets = made.sets(ClassPredictive(p[500:]), 0.8)
    assert 0.77 < sets[np.arange(1500), y[500:]].mean() < 0.83
    with pytest.raises(nastavnik.UserError, match="it takes 99 at least"):
        evidence.conformal(ClassPredictive(p[:50]), y[:50]).sets(ClassPredictive(p), 0.99)
    with pytest.raises(nastavnik.UserError, match="classes have no interval"):
        made.interval(ClassPredictive(p), 0.9)
    with pytest.raises(nastavnik.UserError, match="between 0 and 1"):
        made.sets(ClassPredictive(p), 1.5)


# Other shapes of network


def test_our_own_modules_and_dropouts_serve_in_evaluation_mode() -> None:
    net = nn.Sequential(nn.Linear(2, 4), make_activation({"activation": "prelu"}), nn.Linear(4, 1)).eval()
    for structure in ("full", "kfac", "diagonal", "last_layer"):
        assert evidence.laplace(
            net, X.float(), Y.float(), likelihood=Gaussian(noise=0.3), structure=structure
        ).log_evidence


class Twice(nn.Module):
    """One layer called twice, and one tied to it."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.again, self.tied, self.last = (
            nn.Linear(2, 3),
            nn.Linear(3, 3),
            nn.Linear(3, 3),
            nn.Linear(3, 1),
        )
        self.tied.weight = self.again.weight

    def forward(self, x: Any) -> Any:
        return self.last(self.tied(torch.tanh(self.again(torch.tanh(self.again(torch.tanh(self.first(x))))))))


class Tokens(nn.Module):
    """Positions made into rows before a layer: rows of its input are no rows of the data."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.last = nn.Linear(1, 3), nn.Linear(3, 1)

    def forward(self, x: Any) -> Any:
        h = torch.tanh(self.inner(x.reshape(-1, 1))).reshape(len(x), -1, 3)
        return self.last(h.mean(1))


class Bare(nn.Module):
    """No layer at all, and one that is called without effect."""

    def __init__(self) -> None:
        super().__init__()
        self.w, self.idle = nn.Parameter(torch.tensor([[0.3], [-0.2]])), nn.Linear(2, 1)

    def forward(self, x: Any) -> Any:
        self.idle(x)
        return x @ self.w


@pytest.mark.parametrize("kind", [Twice, Tokens, Bare])
def test_layers_that_are_no_plain_products_have_their_exact_diagonal(kind: Any) -> None:
    torch.manual_seed(0)
    joint = make_joint(kind().double(), X, Y, likelihood=Gaussian(noise=0.3))
    exact = gauss_newton(joint, joint.weights)[0].diagonal()
    torch.testing.assert_close(Diagonal.of(joint).h[0], exact, rtol=1e-6, atol=1e-9)
    assert number(evidence.laplace(kind().double(), X, Y, likelihood=Gaussian(noise=0.3), structure="kfac"))
    assert evidence.description_length(kind().double(), X, Y, likelihood=Gaussian(noise=0.3)).bits


def test_outputs_are_drawn_only_where_weights_act_once(monkeypatch: Any) -> None:
    import nastavnik.selection.evidence._variational as room

    class Pool(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Linear(3, 1, bias=False)

        def forward(self, x: Any) -> Any:
            return self.inner(x[:, None].expand(-1, 50, -1)).mean(1)

    x, y = polynomials(1)
    design = powers(x, 2)
    _, truths = linear_models(design, y)
    monkeypatch.setattr(room, "_SMALL", 1)
    pool = Pool().double()
    pool.inner.weight.data = truths[0].mean[None].clone()
    found = evidence.variational(pool, design[0], y[0], likelihood=Gaussian(noise=NOISE), steps=500, rate=0.3)
    assert number(found) < truths[0].mean_field + 3 * found.error


def test_draws_where_the_loss_is_no_number_give_no_bound() -> None:
    class Root(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.p = nn.Parameter(torch.tensor([0.05]))

        def forward(self, x: Any) -> Any:
            return x[:, :1] * self.p.sqrt()

    found = evidence.variational(Root(), X, Y, likelihood=Gaussian(noise=1.0), steps=20)
    assert found.log_evidence is None or found.log_evidence < float(
        torch.distributions.Normal(X[:, 0] * 0.05**0.5, 1.0).log_prob(Y).sum()
    )


def test_training_suits_other_likelihoods_and_gives_back_the_precision_it_got() -> None:
    y = torch.arange(24) % 3
    trained, records = evidence.train(small_net(outputs=3).float(), X, y, likelihood=Categorical(3), steps=20)
    assert next(trained[0].parameters()).dtype == torch.float32
    assert number(records[0]) < 0
    with pytest.raises(nastavnik.UserError, match="Gaussian noise of one size"):
        evidence.train(small_net(outputs=3), X, y, likelihood=Categorical(3), optimise="noise")


def test_chains_of_batches_go_their_own_ways() -> None:
    found = evidence.langevin(
        nn.Linear(2, 1).double(),
        X,
        Y,
        likelihood=Gaussian(noise=0.3),
        sampler="constant_sgd",
        batch=6,
        warmup=200,
        draws=50,
    )
    assert found.details["draws"] == 200
    chains = Chains(
        make_joint(nn.Linear(2, 1).double(), X, Y, likelihood=Gaussian(noise=0.3)),
        torch.ones(1).double(),
        Plan("constant_sgd", 4, 300, 10, 1, None, 6, 0),
    )
    weights = chains.run().weights[0, 0, :, -1]
    assert (weights[0] - weights[1]).abs().max() > 1e-6


def test_networks_of_one_shape_and_other_code_are_refused() -> None:
    other = nn.Sequential(nn.Linear(2, 5), nn.ReLU(), nn.Linear(5, 1)).double()
    with pytest.raises(nastavnik.UserError, match="one architecture"):
        evidence.laplace([small_net(), other], X, Y, likelihood=Gaussian(noise=0.3))


@pytest.mark.parametrize("labels", [torch.tensor([1, -1]), torch.tensor([1, 2])])
def test_classes_out_of_range_are_refused(labels: Any) -> None:
    with pytest.raises(nastavnik.UserError, match="classes 0 to 1"):
        evidence.laplace(small_net(), X, labels[torch.arange(24) % 2], likelihood=Bernoulli())
