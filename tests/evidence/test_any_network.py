"""Evidence of networks that vmap or torch.func cannot run: the right number, or a sentence."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from nastavnik import evidence
from nastavnik.errors import UserError
from nastavnik.training.likelihoods import Gaussian

X = torch.randn(12, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
Y = X[:, 0].clone()
NOISE = Gaussian(noise=0.3)


class Recurrent(nn.Module):
    def __init__(self, kind: Any) -> None:
        super().__init__()
        self.read, self.say = kind(1, 2, batch_first=True), nn.Linear(2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.say(self.read(x[:, :, None])[0][:, -1])


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
def test_laplace_of_a_recurrent_network_is_the_determinant_written_out(kind: Any) -> None:
    torch.manual_seed(1)
    network = Recurrent(kind).double().eval()
    weights = [p for p in network.parameters() if p.requires_grad]
    rows = []
    for output in network(X)[:, 0]:
        rows.append(torch.cat([g.flatten() for g in torch.autograd.grad(output, weights, retain_graph=True)]))
    jacobian, w = torch.stack(rows), torch.cat([p.detach().flatten() for p in weights])
    curvature = jacobian.T @ jacobian / 0.09 + torch.eye(len(w), dtype=torch.float64)
    fit = torch.distributions.Normal(network(X)[:, 0], 0.3).log_prob(Y).sum()
    truth = float((fit - 0.5 * w @ w - 0.5 * torch.linalg.slogdet(curvature)[1]).detach())
    found = evidence.laplace(network, X, Y, likelihood=NOISE, structure="full")
    assert found.log_evidence == pytest.approx(truth, rel=1e-6)


def test_other_roads_answer_for_a_recurrent_network() -> None:
    torch.manual_seed(1)
    network = Recurrent(nn.LSTM).double().eval()
    assert evidence.variational(network, X, Y, likelihood=NOISE, steps=2).log_evidence is not None
    assert evidence.description_length(network, X, Y, likelihood=NOISE).nats is not None


class Sign(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        return x.sign()

    @staticmethod
    def backward(ctx: Any, g: torch.Tensor) -> torch.Tensor:
        return g


class Own(nn.Linear):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return Sign.apply(super().forward(x))


def test_what_torch_func_cannot_differentiate_is_said() -> None:
    with pytest.raises(UserError, match=r"torch\.func cannot differentiate the network"):
        evidence.laplace(Own(3, 1).double(), X, Y, likelihood=NOISE)
