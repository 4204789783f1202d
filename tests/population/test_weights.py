"""What rows weigh: how often an epoch takes them, and how much they count in validation."""

import numpy as np
import torch

from nastavnik.population import Data
from nastavnik.population._data import Order
from nastavnik.training.likelihoods import TEMPERATURES, Gaussian


def test_an_epoch_takes_each_row_as_often_as_it_weighs() -> None:
    x = torch.arange(20.0)[:, None]
    weights = np.where(np.arange(20) < 5, 4.0, 1.0)
    data = Data.of([(x,)], [x[:, 0]], [(np.arange(16), np.arange(16, 20))], seed=0, weights=weights)
    order = Order(data, batch=4)
    rows = order.rows(0, 4 * 500)[:, 0].reshape(500, 16)
    counts = np.stack([np.bincount(epoch, minlength=16) for epoch in rows.numpy()])
    expected = 16 * weights[:16] / weights[:16].sum()
    np.testing.assert_allclose(counts.mean(0), expected, atol=0.08)
    assert (np.abs(counts - expected) < 1).all()  # rounded up or down, never more
    assert torch.equal(rows[7], Order(data, batch=4).rows(28, 32)[:, 0].reshape(16))  # a function of the epoch alone


def test_validation_losses_are_weighed_means() -> None:
    g = torch.Generator().manual_seed(0)
    outputs, targets = torch.randn(30, 1, generator=g), torch.randn(30, generator=g)
    weights = torch.randint(0, 4, (30,), generator=g).float()
    repeated = torch.repeat_interleave(torch.arange(30), weights.long())
    likelihood = Gaussian("learned")
    found = likelihood(outputs, targets, weights)
    assert found.shape == (len(TEMPERATURES),)
    torch.testing.assert_close(found, likelihood(outputs[repeated], targets[repeated]))
