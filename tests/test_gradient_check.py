import pytest
import torch
from torch import nn

import nastavnik
from nastavnik import check_gradients
from nastavnik.training.likelihoods import Gaussian


class _Wrong(torch.autograd.Function):
    """A square whose derivative is forgotten to be doubled."""

    @staticmethod
    def forward(ctx: object, x: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(x)  # type: ignore[attr-defined]
        return x * x

    @staticmethod
    def backward(ctx: object, *gradients: torch.Tensor) -> torch.Tensor:
        (x,) = ctx.saved_tensors  # type: ignore[attr-defined]
        return x * gradients[0]


def test_right_and_wrong_derivatives() -> None:
    x = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    assert check_gradients(lambda x: x * x, x).passed
    found = check_gradients(_Wrong.apply, x)
    assert not found
    assert found.error == pytest.approx(0.5, abs=0.01)
    assert found.measured == pytest.approx(2 * found.derived, rel=1e-6)
    assert "DISAGREE: largest error 0.5 at input" in str(found)


def test_modules_likelihoods_and_dicts() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Tanh(), nn.Linear(6, 2))
    before = {name: t.clone() for name, t in network.state_dict().items()}
    found = nastavnik.check_gradients(network, torch.randn(8, 4))
    assert found
    assert found.looked_at > 60
    assert all(torch.equal(t, before[name]) for name, t in network.state_dict().items())  # left as it is
    assert check_gradients(Gaussian("learned"), (torch.randn(9, 1), torch.randn(9)))
    assert check_gradients(
        lambda p, n: (p["w"] ** n["power"]).sum(), ({"w": torch.rand(3)}, {"power": torch.tensor(3)})
    )


def test_what_cannot_be_checked_says_so() -> None:
    with pytest.raises(ValueError, match="two calls gave different values"):
        check_gradients(nn.Dropout(0.5), torch.randn(50))
    with pytest.raises(ValueError, match="nothing to differentiate"):
        check_gradients(lambda x: x, torch.arange(3))
