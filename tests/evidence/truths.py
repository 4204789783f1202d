"""Small problems whose answers are known."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from nastavnik import evidence

NOISE = 0.3


def powers(x: torch.Tensor, degree: int) -> torch.Tensor:
    return torch.stack([x**i for i in range(degree + 1)], dim=-1)


def polynomials(draws: int, rows: int = 30, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """x and y [draws, rows] of polynomials of degree 1 to 4."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(draws, rows, generator=generator, dtype=torch.float64) * 2 - 1
    y = torch.empty_like(x)
    for k in range(draws):
        w = torch.randn(2 + k % 4, generator=generator, dtype=torch.float64)
        y[k] = powers(x[k], 1 + k % 4) @ w + NOISE * torch.randn(rows, generator=generator, dtype=torch.float64)
    return x, y


def linear_models(
    x: torch.Tensor, y: torch.Tensor, *, precision: float = 1.0
) -> tuple[list[nn.Module], list[evidence.LinearTruth]]:
    """Linear networks at their posteriors' means, and the truth, for designs [draws, rows, P]."""
    truths = [
        evidence.linear_regression(a, b, noise=NOISE, prior_precision=precision) for a, b in zip(x, y, strict=True)
    ]
    networks: list[nn.Module] = []
    for truth in truths:
        module = nn.Linear(x.shape[2], 1, bias=False).double()
        module.weight.data = truth.mean[None].clone()
        networks.append(module)
    return networks, truths


def small_net(inputs: int = 2, hidden: int = 5, outputs: int = 1, seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(inputs, hidden), nn.Tanh(), nn.Linear(hidden, outputs)).double()


def number(record: evidence.Evidence) -> float:
    """The record's number, which must be there."""
    assert record.log_evidence is not None, record.problem
    return record.log_evidence


def belief(record: evidence.Evidence) -> Any:
    """The record's posterior, which must be there."""
    assert record.posterior is not None, record.problem
    return record.posterior
