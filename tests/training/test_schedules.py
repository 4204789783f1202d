"""Schedules against torch.optim.lr_scheduler, and the notes' strategies."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nastavnik.training.schedules import SCHEDULES, Time, factor_at

EPOCHS, LENGTH = 40, 5  # epochs, steps of each
Scheduler = Callable[[torch.optim.Optimizer], Any]


def at(name: str, step: float, **settings: float) -> float:
    values = {**SCHEDULES[name].settings, **settings}
    tensors = {key: torch.tensor(value, dtype=torch.float64) for key, value in values.items()}
    moments = (step, step / LENGTH, step / (EPOCHS * LENGTH))
    return float(factor_at(SCHEDULES[name], Time(*(torch.tensor(m, dtype=torch.float64) for m in moments)), tensors))


def theirs(make: Scheduler, count: int) -> list[float]:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = make(optimizer)
    rates = []
    for _ in range(count):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


LR = torch.optim.lr_scheduler
BY_EPOCH: dict[str, tuple[dict[str, float], Scheduler]] = {
    "step": ({"gamma": 0.5, "every": 7.0}, lambda o: LR.StepLR(o, 7, 0.5)),
    "exponential": ({"gamma": 0.9}, lambda o: LR.ExponentialLR(o, 0.9)),
    "cosine": ({}, lambda o: LR.CosineAnnealingLR(o, EPOCHS)),
    "warm_restarts": ({"first": 4.0, "times": 2.0}, lambda o: LR.CosineAnnealingWarmRestarts(o, 4, 2)),
    "warm_restarts even": ({"first": 6.0, "times": 1.0}, lambda o: LR.CosineAnnealingWarmRestarts(o, 6, 1)),
    "cyclical": ({"low": 0.2, "period": 10.0}, lambda o: LR.CyclicLR(o, 0.2, 1.0, step_size_up=5)),
    "linear": ({}, lambda o: LR.LinearLR(o, 1.0, 1e-12, total_iters=EPOCHS)),
}


@pytest.mark.parametrize("case", list(BY_EPOCH))
def test_epoch_by_epoch_as_torch(case: str) -> None:
    settings, make = BY_EPOCH[case]
    ours = [at(case.split()[0], epoch * LENGTH, **settings) for epoch in range(EPOCHS)]
    assert ours == pytest.approx(theirs(make, EPOCHS), abs=1e-6)


def test_one_cycle_step_by_step_as_torch() -> None:
    """PyTorch counts its steps from 0 to the last one; our progress has its end after the last step."""
    total = EPOCHS * LENGTH
    expected = theirs(lambda o: LR.OneCycleLR(o, 1.0, total_steps=total + 1, pct_start=0.3), total)
    # its peak lies at pct_start · total_steps - 1, ours at pct_start of the training
    peak = (0.3 * (total + 1) - 1) / total
    ours = [at("one_cycle", step, up=peak) for step in range(total)]
    assert ours == pytest.approx(expected, abs=1e-6)


def test_the_two_strategies_of_the_lecture() -> None:
    # notes/004 I17: lr · 0.99998 each step, and lr · 0.1 on a plateau (test_stopping)
    assert at("per_step", 1000) == pytest.approx(0.99998**1000, rel=1e-9)
    assert SCHEDULES["plateau"].settings == {"factor": 0.1}


def test_warm_up_goes_before_any_schedule() -> None:
    assert [at("warmup", s, warmup=0.5) for s in (0, 50, 100, 150)] == pytest.approx([0, 0.5, 1, 1])
    # the cosine then runs over the rest
    assert at("cosine", 100, warmup=0.5) == pytest.approx(1)
    assert at("cosine", 150, warmup=0.5) == pytest.approx(0.5)
    assert at("cosine", 40, warmup=0.0) == pytest.approx(at("cosine", 40))


def test_rising_falling_and_root() -> None:
    assert at("rising", 50) == pytest.approx(0.25)
    assert at("linear", 50) == pytest.approx(0.75)
    assert at("inverse_sqrt", 399 / 1, flat=100.0) == pytest.approx(0.5)
    assert at("inverse_sqrt", 10, flat=100.0) == 1
    assert at("range_test", 100, span=1e4) == pytest.approx(100)


@given(st.floats(0, 199.99), st.floats(1.0, 30.0), st.floats(1.0, 4.0))
def test_warm_restarts_stay_between_their_ends(step: float, first: float, times: float) -> None:
    assert 0 <= at("warm_restarts", step, first=first, times=times) <= 1 + 1e-9


@given(st.floats(0.1, 0.9), st.floats(1, 20))
def test_step_falls_by_gamma_every_so_often(gamma: float, every: float) -> None:
    epoch = every * 2.5
    assert at("step", epoch * LENGTH, gamma=gamma, every=every) == pytest.approx(gamma ** math.floor(2.5), rel=1e-6)
