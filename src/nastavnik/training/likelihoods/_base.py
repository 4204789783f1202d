"""The contract of a likelihood."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import nn

TEMPERATURES = tuple(2.0 ** (i / 3) for i in range(-9, 10))  # 1/8 to 8, a third of an octave apart


class Likelihood(nn.Module):
    """The distribution of a target given a network's outputs; a module, so that noise may be learned with the weights.

    ``outputs`` is how many outputs a row the network must give. ``neg_log_likelihood`` is in nats per example,
    normalized over the target's values, in the units the target was prepared to. ``temperature`` sharpens (< 1) or
    flattens (> 1) the distribution without moving its centre (Guo et al. 2017).
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
        """Mean negative log likelihood of these rows at each of ``TEMPERATURES`` (nats per example) [19].

        The least of them is a network's calibrated score; folds are averaged first, so that they share a temperature.
        """
        return torch.stack([self.neg_log_likelihood(outputs, targets, t).mean() for t in TEMPERATURES])

    def describe(self, outputs: torch.Tensor, temperature: torch.Tensor | float = 1.0) -> dict[str, torch.Tensor]:
        """The distribution's parameters by name: ``probabilities``, or ``mean`` and ``deviation``, or ``rate``."""
        raise NotImplementedError
