"""Finding a rate, against the largest stable one of a bowl."""

import numpy as np
import pytest
import torch
from torch import nn

import nastavnik
from nastavnik.errors import UserError
from nastavnik.training.likelihoods import Gaussian, Likelihood

N = 256


def bowl() -> tuple[torch.Tensor, torch.Tensor, float]:
    """A regression whose largest curvature is known; descent diverges at twice its inverse."""
    g = torch.Generator().manual_seed(0)
    x = torch.randn(N, 5, generator=g)
    y = x @ torch.tensor([1.0, -2.0, 0.5, 0.0, 3.0]) + 0.1 * torch.randn(N, generator=g)
    whole = torch.cat([x, torch.ones(N, 1)], 1)
    return x, y, 2 / float(torch.linalg.eigvalsh(whole.T @ whole / N).max())


def build() -> tuple[nn.Module, Likelihood]:
    return nn.Linear(5, 1), Gaussian(1.0)


def test_the_threshold_lies_below_the_largest_stable_rate() -> None:
    x, y, stable = bowl()
    found = nastavnik.find_rate(build, x, y, batch_size=N, epochs=60, settings={"optimizer.momentum": 0.0}, high=1e3)
    assert 1 < stable < 2
    assert found.threshold == 1.0  # of 1, 2, 5: the largest below it
    assert found.rate == 0.5
    assert found.words == (
        "the loss falls at every ten from 0.01 up to 1",
        "refined by 1, 2, 5: the largest that falls is 1",
        "half of it is 0.5",
    )
    assert found.losses.shape == (len(found.rates), 20)
    assert np.isnan(found.losses[found.rates > 100 * stable]).any(1).all()


def test_from_below_when_a_hundredth_is_too_much() -> None:
    x, y, stable = bowl()
    found = nastavnik.find_rate(
        build, 100 * x, y, batch_size=N, epochs=60, settings={"optimizer.momentum": 0.0}, low=1e-7
    )
    assert found.threshold <= stable / 1e4 < 5 * found.threshold
    assert "going down from 0.01" in found.words[0]


def test_the_range_test_finds_the_same_order() -> None:
    x, y, stable = bowl()
    found = nastavnik.find_rate(
        build, x, y, method="range", batch_size=N, epochs=150, settings={"optimizer.momentum": 0.0}, low=1e-4, high=100
    )
    # momentary steps above the largest stable rate take a while to show
    assert stable / 2 < found.threshold < 3 * stable
    assert found.rate == pytest.approx(found.threshold / 10)


def test_what_cannot_be_found_says_so() -> None:
    x, y, _ = bowl()
    with pytest.raises(UserError, match="method cannot be 'threshhold'; did you mean 'threshold'"):
        nastavnik.find_rate(build, x, y, method="threshhold")
    with pytest.raises(UserError, match="0 < 100 low <= high must hold"):
        nastavnik.find_rate(build, x, y, low=1.0, high=0.1)
    with pytest.raises(UserError, match="falls at no rate from 10 to 1000"):
        nastavnik.find_rate(build, x, y, batch_size=N, epochs=60, low=10.0, high=1000.0)
