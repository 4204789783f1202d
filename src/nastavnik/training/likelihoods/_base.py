"""The contract of a likelihood."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import nn


class Likelihood(nn.Module):
    """The distribution of a target given a network's outputs; a module, so that noise may be learned with the weights.

    ``outputs`` is how many outputs a row the network must give. ``neg_log_likelihood`` is in nats per example,
    normalized over the target's values, in the units the target was prepared to. ``temperature`` sharpens (< 1) or
    flattens (> 1) the distribution without moving its centre; ``best_temperature`` finds the one under which given
    rows are likeliest.
    """

    name: ClassVar[str]
    outputs: int

    def neg_log_likelihood(
        self, outputs: torch.Tensor, targets: torch.Tensor, temperature: torch.Tensor | float = 1.0
    ) -> torch.Tensor:
        """outputs [n, o], targets [n] -> nats [n]."""
        raise NotImplementedError

    def training_loss(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """What is minimized, per example [n]: the negative log likelihood, weighted where the recipe says so."""
        return self.neg_log_likelihood(outputs, targets)

    def forward(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """The score: mean negative log likelihood of these rows at their best temperature (nats per example)."""
        temperature = self.best_temperature(outputs, targets)
        return self.neg_log_likelihood(outputs, targets, temperature).mean()

    def best_temperature(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """The temperature that minimizes the mean negative log likelihood of these rows (a scalar)."""
        return torch.ones((), dtype=outputs.dtype, device=outputs.device)

    def describe(self, outputs: torch.Tensor, temperature: torch.Tensor | float = 1.0) -> dict[str, torch.Tensor]:
        """The distribution's parameters by name: ``probabilities``, or ``mean`` and ``deviation``, or ``rate``."""
        raise NotImplementedError


def search_temperature(likelihood: Likelihood, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """The best of 13 temperatures from 1/4 to 4, evenly on the log axis (Guo et al. 2017 for the idea)."""
    grid = torch.logspace(-2, 2, 13, base=2.0, dtype=outputs.dtype, device=outputs.device)
    losses = torch.stack([likelihood.neg_log_likelihood(outputs, targets, t).mean() for t in grid])
    return grid[losses.nan_to_num(nan=torch.inf).argmin()]
