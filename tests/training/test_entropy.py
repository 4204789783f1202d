"""The entropy of plain descent inside the engine, and stopping by it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import nastavnik
from nastavnik.population import Data, Learner, Population
from nastavnik.recipe import Recipe, Value
from nastavnik.training.likelihoods import Gaussian

PRECISION, NOISE, RATE = 2.0, 0.5, 0.05


def world(count: int, engine: str, **extra: Value) -> tuple[Population, torch.Tensor, torch.Tensor]:
    """Linear regression by plain descent on all rows: the curvature is known and stays."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(40, 3, generator=generator, dtype=torch.float64)
    y = x.sum(1) + NOISE * torch.randn(40, generator=generator, dtype=torch.float64)
    rows = np.arange(30)
    data = Data.of([(x,)], [y], [(rows, np.arange(30, 40))], seed=0)
    settings: dict[str, Value] = {
        "optimizer.name": "sgd",
        "optimizer.momentum": 0.0,
        "optimizer.learning_rate": RATE,
        "optimizer.entropy": 1.0,
        "batch_size": 30,
        "regularization.l2": PRECISION / 30,
        **extra,
    }
    recipes = [Recipe({**settings, "seed": s}) for s in range(count)]
    learners = [
        Learner.seeded(s, lambda: (nn.Linear(3, 1, bias=False).double(), Gaussian(noise=NOISE).double()))
        for s in range(count)
    ]
    return Population(learners, recipes, data, total_steps=20, evaluations=4, engine=engine), x[:30], y[:30]


@pytest.mark.parametrize("engine", ["sequential", "batched", "compiled"])
def test_entropy_is_that_of_the_known_curvature(engine: str) -> None:
    population, x, _ = world(300, engine)
    population.train(20)
    h = x.T @ x / NOISE**2 / 30 + PRECISION / 30 * torch.eye(3)
    expected = 20 * (-RATE * h.trace() - RATE**2 * (h @ h).trace())
    total = population.state.optimizer["entropy/total"]
    assert float(total.mean()) == pytest.approx(float(expected), rel=0.05)


def test_the_watched_evidence_is_joint_density_and_entropy() -> None:
    population, x, y = world(3, "batched", **{"stopping.watch": "evidence"})
    population.train(20)
    frame = population.trace.frame()
    last = frame[(frame.instrument == "descent evidence") & (frame.step == 20)].sort_values("network").value.to_numpy()
    for k in range(3):
        w = population.state.parameters["network.weight"][k, 0]
        fit = torch.distributions.Normal(x @ w, NOISE).log_prob(y).sum()
        prior = -0.5 * PRECISION * w.square().sum()
        total = population.state.optimizer["entropy/total"][k]
        assert last[k] == pytest.approx(float(fit + prior + total), rel=1e-5)


def test_stopping_by_evidence_keeps_its_best_moment() -> None:
    population, _, _ = world(3, "batched", **{"stopping.watch": "evidence"})
    population.train(20)
    frame = population.trace.frame()
    own = frame[frame.instrument == "descent evidence"]
    for k, outcome in enumerate(population.harvest()):
        mine = own[own.network == k]
        assert outcome.best_step == mine.step.to_numpy()[mine.value.to_numpy().argmax()]


@pytest.mark.parametrize(
    "extra,words",
    [
        ({"optimizer.momentum": 0.9}, "plain descent alone"),
        ({"optimizer.name": "adamw"}, "plain descent alone"),
        ({"optimizer.clip_norm": 1.0}, "no other wrapper inside it"),
    ],
)
def test_what_is_not_plain_descent_is_refused(extra: dict[str, Value], words: str) -> None:
    with pytest.raises(nastavnik.UserError, match=words):
        world(1, "batched", **extra)


def test_watching_evidence_needs_the_entropy() -> None:
    with pytest.raises(nastavnik.UserError, match=r"pin optimizer\.entropy=1"):
        Population(
            [Learner(nn.Linear(1, 1), Gaussian())],
            [Recipe({"stopping.watch": "evidence", "batch_size": 2, "seed": 0})],
            Data.of([(torch.zeros(4, 1),)], [torch.zeros(4)], [(np.arange(3), np.arange(3, 4))], seed=0),
            total_steps=1,
        )
