"""Likelihoods and training losses."""

from __future__ import annotations

import itertools
from functools import partial
from typing import Any

import torch

from nastavnik.gradient_check import check_gradients
from nastavnik.recipe import Value
from nastavnik.testing._population import CLASSES, ROWS, check_words, entered, same_as_alone
from nastavnik.training.likelihoods import LIKELIHOODS, TEMPERATURES, Bernoulli, Categorical, Gaussian, Likelihood
from nastavnik.training.likelihoods._positive import ZERO
from nastavnik.training.losses import LOSSES, TrainingLoss

_N = 12
_STEP = 0.3  # of a grid


def check_likelihood(kind: type[Likelihood]) -> None:
    """Sums or integrates to one over all targets, has right derivatives, stays finite, and trains in a population.

    Raises:
        AssertionError: it is not so.
    """
    check_words(kind)
    likelihood = _made(kind).double()
    outputs = torch.randn(_N, likelihood.outputs, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    targets = sample_targets(kind.target, _N, classes_of(likelihood))
    losses = likelihood.neg_log_likelihood(outputs, targets)
    assert losses.shape == (_N,), f"{kind.name} must give one number a row, gave {tuple(losses.shape)}"
    for t, own in zip(TEMPERATURES, likelihood.by_temperature(outputs, targets), strict=True):
        wanted = likelihood.neg_log_likelihood(outputs, targets, t)
        assert torch.allclose(own, wanted), f"{kind.name} says two things of temperature {t:g}"
    for temperature in (1.0, 2.0) if kind.name != "poisson" else (1.0,):
        for mass in total_mass(likelihood, outputs[:3], temperature):
            assert abs(mass - 1) < 1e-5, f"{kind.name} sums to {mass:.6g} at temperature {temperature}, not to 1"

    def loss(outputs: torch.Tensor) -> torch.Tensor:
        return likelihood.neg_log_likelihood(outputs, targets)

    found = check_gradients(loss, outputs)
    assert found, f"{kind.name}: {found}"
    found = check_gradients(likelihood, (outputs, targets))
    assert found, f"{kind.name}: {found}"
    far = likelihood.neg_log_likelihood(60 * torch.sign(outputs), targets)
    assert torch.isfinite(far).all(), f"{kind.name} is not finite for large outputs"
    assert likelihood.describe(outputs), f"{kind.name} describes nothing"
    with entered(LIKELIHOODS, kind):
        rows = sample_targets(kind.target, ROWS, classes_of(likelihood))
        same_as_alone({}, likelihood=_made(kind), targets=rows)


def check_loss(kind: type[TrainingLoss]) -> None:
    """Right derivatives with every likelihood it is for, and K networks with K values trained together as alone.

    Raises:
        AssertionError: it is not so.
    """
    check_words(kind)
    for likelihood in (Categorical(CLASSES), Bernoulli(), Gaussian("learned")):
        if likelihood.target not in kind.targets:
            continue
        outputs = torch.randn(_N, likelihood.outputs, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
        targets = sample_targets(likelihood.target, _N, classes_of(likelihood))
        found = check_gradients(partial(_lost, kind().double(), likelihood.double(), targets), outputs)
        assert found, f"{kind.name} with {likelihood.name}: {found}"
        with entered(LOSSES, kind):
            own: dict[str, Value] = {f"loss.{name}": 0.4 * value for name, value in kind.settings.items()}
            rows = sample_targets(likelihood.target, ROWS, classes_of(likelihood))
            varied = ("optimizer.learning_rate", *own)
            same_as_alone({"loss.name": kind.name, **own}, likelihood=likelihood.float(), targets=rows, varied=varied)


def _lost(loss: TrainingLoss, likelihood: Likelihood, targets: torch.Tensor, outputs: torch.Tensor) -> torch.Tensor:
    found: torch.Tensor = loss(likelihood, outputs, targets)
    return found


def classes_of(likelihood: Likelihood) -> int:
    """How many classes or labels it is of."""
    return 2 if likelihood.name == "bernoulli" else CLASSES


def sample_targets(kind: str, rows: int, classes: int) -> torch.Tensor:
    """Some targets of a kind."""
    g = torch.Generator().manual_seed(2)
    made: dict[str, Any] = {
        "class": lambda: torch.randint(0, classes, (rows,), generator=g),
        "real": lambda: torch.randn(rows, generator=g, dtype=torch.float64),
        "positive": lambda: torch.randn(rows, generator=g, dtype=torch.float64).exp(),
        "spike": lambda: torch.where(
            torch.rand(rows, generator=g) < 0.4, ZERO, torch.randn(rows, generator=g, dtype=torch.float64)
        ),
        "count": lambda: torch.randint(0, 6, (rows,), generator=g).double(),
        "labels": lambda: torch.randint(0, 2, (rows, classes), generator=g).double(),
        "votes": lambda: torch.randint(0, 4, (rows, classes), generator=g).double(),
        "vector": lambda: torch.randn(rows, classes, generator=g, dtype=torch.float64),
    }
    assert kind in made, f"a likelihood's target must be one of {', '.join(made)}, but got {kind!r}"
    targets: torch.Tensor = made[kind]()
    return targets


def total_mass(likelihood: Likelihood, outputs: torch.Tensor, temperature: float) -> list[float]:
    """The probability of all targets together, for each row of outputs."""
    masses = []
    for row in outputs.detach():
        every = _all_targets(likelihood, row)
        with torch.no_grad():
            said = row.expand(len(every), -1)
            density = (-likelihood.neg_log_likelihood(said, every, temperature)).exp()
        if likelihood.target == "spike":
            masses.append(float(torch.trapezoid(density[1:], every[1:]) + density[0]))
        elif likelihood.target in ("real", "positive"):
            masses.append(float(torch.trapezoid(density, every)))
        elif likelihood.target == "vector":
            masses.append(float(density.sum()) * _STEP**likelihood.outputs)
        else:
            masses.append(float(density.sum()))
    return masses


def _all_targets(likelihood: Likelihood, row: torch.Tensor) -> torch.Tensor:
    """Every target there is, or for reals a grid that is fine near the centre and reaches far out."""
    classes = classes_of(likelihood)
    if likelihood.target == "class":
        return torch.arange(classes)
    if likelihood.target == "count":
        return torch.arange(0, 400, dtype=torch.float64)
    if likelihood.target == "labels":
        return torch.tensor(list(itertools.product((0.0, 1.0), repeat=classes)), dtype=torch.float64)
    if likelihood.target == "votes":
        voters = 5
        every = itertools.product(range(voters + 1), repeat=classes)
        return torch.tensor([v for v in every if sum(v) == voters], dtype=torch.float64)
    if likelihood.target == "vector":  # a grid of equal steps, on which a smooth density sums up exactly
        steps = torch.arange(-40, 41, dtype=torch.float64) * _STEP
        return torch.cartesian_prod(*(steps + centre for centre in row)).reshape(-1, len(row))
    if likelihood.target == "positive":
        return torch.exp(torch.linspace(-60, 12, 400_001, dtype=torch.float64))
    if likelihood.target == "spike":  # the zero first
        return torch.cat([torch.tensor([ZERO]), torch.linspace(-29.4, 60, 400_001, dtype=torch.float64)])
    return row[0] + torch.sinh(torch.linspace(-21, 21, 400_001, dtype=torch.float64)) * 0.1


def _made(kind: type[Likelihood]) -> Likelihood:
    return kind.make(2 if kind.name == "bernoulli" else CLASSES, {})
