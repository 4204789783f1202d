"""Regularizers against their formulas, and the notes' numbers."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats

from nastavnik.noise import Noise
from nastavnik.recipe import Recipe
from nastavnik.testing._training import Bowl
from nastavnik.training import Method
from nastavnik.training.optimizers import Tensors
from nastavnik.training.regularizers import REGULARIZERS, Batch, Context, strengths
from nastavnik.training.schedules import Time


def changed(name: str, **settings: float) -> tuple[Bowl, torch.Tensor, Tensors]:
    """A bowl, its objective with a regularizer, and the gradient of that."""
    bowl = Bowl()
    values = {**REGULARIZERS[name].settings, **settings}
    tensors = {n: torch.tensor(v, dtype=torch.float64) for n, v in values.items()}
    context = Context(tensors, Noise(torch.tensor(5, dtype=torch.int32), torch.tensor(2.0, dtype=torch.float64)))

    def loss(p: Tensors, batch: Batch) -> torch.Tensor:
        outputs = batch.inputs[0] @ p["w"] + p["b"]
        context.activations[:] = [outputs]
        rows = 0.5 * (outputs - batch.targets).square().sum(1)
        if batch.partners is None or batch.share is None:
            return rows.mean()
        other = 0.5 * (outputs - batch.partners).square().sum(1)
        return (batch.share * rows + (1 - batch.share) * other).mean()

    whole = REGULARIZERS[name]().around(loss, context)
    batch = Batch((bowl.x,), bowl.y)
    return bowl, whole(bowl.parameters, batch), torch.func.grad(whole)(bowl.parameters, batch)


def test_penalties_on_weights_are_their_formulas_and_spare_biases() -> None:
    bowl, _, plain = changed("l2", l2=0.0)
    w = bowl.parameters["w"]
    start = bowl.objective(bowl.parameters)
    for name, settings, penalty, slope in (
        ("l2", {"l2": 0.3}, 0.15 * w.square().sum(), 0.3 * w),
        ("l1", {"l1": 0.3}, 0.3 * w.abs().sum(), 0.3 * w.sign()),
        (
            "elastic_net",
            {"elastic_net": 0.3, "elastic_l1_share": 0.2},
            0.3 * (0.2 * w.abs().sum() + 0.4 * w.square().sum()),
            0.3 * (0.2 * w.sign() + 0.8 * w),
        ),
        ("l2", {"l2": -0.3}, -0.15 * w.square().sum(), -0.3 * w),  # the sign flipped: an honest control
    ):
        _, value, gradient = changed(name, **settings)
        torch.testing.assert_close(value, start + penalty)
        torch.testing.assert_close(gradient["w"], plain["w"] + slope)
        torch.testing.assert_close(gradient["b"], plain["b"])


def test_l1_shrinks_by_a_constant_and_leaves_zero_alone() -> None:
    # notes/003-b T25, (96)-(97): w - ηλ/n · sgn(w), sgn(0) = 0
    w = torch.tensor([[0.5, -2.0, 0.0, 1e-3]], dtype=torch.float64)
    settings = {"l1": torch.tensor(0.1, dtype=torch.float64)}
    context = Context(settings, Noise(torch.tensor(0), torch.tensor(0.0)))
    penalized = REGULARIZERS["l1"]().around(lambda p, batch: p["w"].sum() * 0, context)
    gradient = torch.func.grad(lambda p: penalized(p, Batch((), torch.zeros(1))))({"w": w})["w"]
    torch.testing.assert_close(gradient, torch.tensor([[0.1, -0.1, 0.0, 0.1]], dtype=torch.float64))


def test_l1_leaves_many_weights_near_zero_and_a_few_large() -> None:
    """notes/003-b T25: at an equal loss from data, L1's weights are sparser than L2's."""
    g = torch.Generator().manual_seed(0)
    x = torch.randn(60, 30, generator=g, dtype=torch.float64)
    y = x[:, 0] - 2 * x[:, 1] + 0.5 * torch.randn(60, generator=g, dtype=torch.float64)
    shares = []
    for power, strength in ((1, 0.15), (2, 0.3)):
        w = torch.zeros(30, dtype=torch.float64)
        for _ in range(4000):
            w = w - 0.02 * (x.T @ (x @ w - y) / 60 + strength * (w.sign() if power == 1 else w))
        shares.append(float((w.abs() < 0.02).double().mean()))
    assert shares[0] > 0.6
    assert shares[1] < 0.4


def test_the_strength_is_per_example() -> None:
    # notes/003-b T16, B46; notes/003-c H11: λ/n is kept when n changes
    assert math.isclose(0.1 / 1000, 5.0 / 50_000)
    assert math.isclose(1000 / 50_000, 20 / 1000)
    small, large = (strengths({"regularization.l2": 1e-4}, n, None)[0] for n in (1000, 50_000))
    assert [small.total, large.total] == pytest.approx([0.1, 5.0])
    assert small.per_example == large.per_example
    assert 1 - 0.5 * small.total / 1000 == pytest.approx(1 - 0.5 * large.total / 50_000)


def test_what_strengths_stand_for() -> None:
    """A coupled L2 of strength λ/n is a Gaussian prior of precision λ: both have the same stationary point."""
    bowl = Bowl()
    found = strengths({"regularization.l2": 0.02, "optimizer.weight_decay": 0.01}, 30, decay_is_coupled=False)
    assert [s.name for s in found] == ["optimizer.weight_decay", "regularization.l2"]
    assert found[0].prior_precision is None
    assert "no prior" in found[0].note
    precision = found[1].prior_precision
    assert precision == pytest.approx(0.6)
    whole = torch.cat([bowl.x, torch.ones(30, 1, dtype=torch.float64)], 1)
    prior = torch.diag(torch.tensor([precision] * 4 + [0.0], dtype=torch.float64))
    posterior = torch.linalg.solve(whole.T @ whole + prior, whole.T @ bowl.y)  # of unit noise
    p = {"w": posterior[:4], "b": posterior[4]}
    gradient = torch.func.grad(lambda p: bowl.objective(p) + 0.5 * 0.02 * p["w"].square().sum())(p)
    assert max(float(t.abs().max()) for t in gradient.values()) < 1e-12
    assert strengths({"regularization.l2": -0.02}, 30, None)[0].prior_precision is None


def test_decoupled_decay_and_the_largest_norm() -> None:
    w = torch.tensor([[3.0, 4.0], [0.3, 0.4]], dtype=torch.float64)
    rate, before = torch.tensor(0.1, dtype=torch.float64), {"w": 2 * w, "b": torch.ones(2, dtype=torch.float64)}
    new = {"w": w, "b": torch.ones(2, dtype=torch.float64)}
    found = REGULARIZERS["decoupled_l2"]().after(new, before, rate, {"decoupled_l2": torch.tensor(0.5)})
    torch.testing.assert_close(found["w"], w - 0.05 * 2 * w)
    assert torch.equal(found["b"], new["b"])
    found = REGULARIZERS["max_norm"]().after(new, before, rate, {"max_norm": torch.tensor(1.0)})
    torch.testing.assert_close(found["w"], torch.tensor([[0.6, 0.8], [0.3, 0.4]], dtype=torch.float64))


def test_flooding_turns_the_gradient_below_its_level() -> None:
    bowl, value, gradient = changed("flooding", flooding=100.0)
    torch.testing.assert_close(value, 200 - bowl.objective(bowl.parameters))
    plain = bowl.gradients(bowl.parameters)
    torch.testing.assert_close(gradient["w"], -plain["w"])
    _, value, gradient = changed("flooding", flooding=0.0)
    torch.testing.assert_close(gradient["w"], plain["w"])


def test_activity_and_gradient_penalties_are_their_formulas() -> None:
    bowl, value, _ = changed("activity_l1", activity_l1=0.1)
    said = bowl.outputs(bowl.parameters)
    torch.testing.assert_close(value, bowl.objective(bowl.parameters) + 0.1 * said.abs().sum() / 30)
    _, value, _ = changed("gradient_penalty", gradient_penalty=0.1)
    slopes = (said - bowl.y) @ bowl.parameters["w"].T  # of each row's loss in its inputs
    torch.testing.assert_close(value, bowl.objective(bowl.parameters) + 0.1 * slopes.square().sum(1).mean())


def test_mixup_blends_rows_and_losses() -> None:
    bowl, value, _ = changed("mixup", mixup=0.4)
    noise = Noise(torch.tensor(5, dtype=torch.int32), torch.tensor(2.0, dtype=torch.float64))
    a = float(noise.beta("mixup", torch.tensor(0.4, dtype=torch.float64)))
    assert 0 < a < 1
    x = a * bowl.x + (1 - a) * bowl.x.roll(1, 0)
    outputs = x @ bowl.parameters["w"] + bowl.parameters["b"]
    rows = [0.5 * (outputs - y).square().sum(1).mean() for y in (bowl.y, bowl.y.roll(1, 0))]
    torch.testing.assert_close(value, a * rows[0] + (1 - a) * rows[1])


@pytest.mark.parametrize("both", [0.2, 1.0, 4.0])
def test_shares_of_mixup_are_betas(both: float) -> None:
    shape = torch.tensor(both, dtype=torch.float64)
    stream = torch.tensor(9, dtype=torch.int32)
    draws = torch.stack(
        [Noise(stream, torch.tensor(float(t), dtype=torch.float64)).beta("mixup", shape) for t in range(1500)]
    )
    assert stats.kstest(draws.numpy(), stats.beta(both, both).cdf).pvalue > 1e-3


def test_noise_is_normal_uniform_and_its_own() -> None:
    like = torch.zeros(200, 50, dtype=torch.float64)
    noise = Noise(torch.tensor(3, dtype=torch.int32), torch.tensor(1.0, dtype=torch.float64))
    normal, uniform = noise.normal("a", like), noise.uniform("a", like)
    assert stats.kstest(normal.flatten().numpy(), "norm").pvalue > 1e-3
    assert stats.kstest(uniform.flatten().numpy(), "uniform").pvalue > 1e-3
    later = noise._replace(step=torch.tensor(2.0, dtype=torch.float64))
    other = noise._replace(stream=torch.tensor(4, dtype=torch.int32))
    for different in (noise.normal("b", like), later.normal("a", like), other.normal("a", like)):
        assert abs(np.corrcoef(normal.flatten(), different.flatten())[0, 1]) < 5 / 100
    assert torch.equal(normal, noise.normal("a", like))


def test_input_noise_is_to_first_order_a_gradient_penalty() -> None:
    """Bishop 1995: on a linear model with squared error the mean over noise adds σ²/2 · Σ w² exactly."""
    bowl = Bowl()
    values = []
    for t in range(3000):
        context = Context(
            {"input_noise": torch.tensor(0.3, dtype=torch.float64)},
            Noise(torch.tensor(1, dtype=torch.int32), torch.tensor(float(t), dtype=torch.float64)),
        )
        noisy = REGULARIZERS["input_noise"]().around(
            lambda p, batch: 0.5 * (batch.inputs[0] @ p["w"] + p["b"] - batch.targets).square().sum(1).mean(), context
        )
        values.append(float(noisy(bowl.parameters, Batch((bowl.x,), bowl.y))))
    expected = float(bowl.objective(bowl.parameters) + 0.5 * 0.09 * bowl.parameters["w"].square().sum())
    error = float(np.std(values)) / math.sqrt(len(values))
    assert np.mean(values) == pytest.approx(expected, abs=5 * error)


def test_penalties_follow_their_schedule_epoch_by_epoch() -> None:
    method = Method.of(
        Recipe({"regularization.l2": 0.5, "regularization.schedule": "rising", "optimizer.name": "adamw"})
    )
    settings = {name: torch.tensor(0.5) for name in method.settings}

    def strength(step: float) -> float:
        moments = (step, step / 10, step / 100)
        return float(method.at(settings, Time(*(torch.tensor(m) for m in moments))).regularization["l2"])

    # within an epoch of ten steps nothing changes
    assert [strength(s) for s in (0, 9, 10, 19, 50, 59)] == pytest.approx([0, 0, 0.05, 0.05, 0.25, 0.25])
