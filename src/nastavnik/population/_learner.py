"""A network and the likelihood of its output, as the one module that is trained."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from nastavnik.nets import own_noise
from nastavnik.training.likelihoods import Likelihood


class Learner(nn.Module):
    """``forward(*inputs, targets=…)`` is the training loss of each row; without targets, the outputs."""

    def __init__(self, network: nn.Module, likelihood: Likelihood) -> None:
        super().__init__()
        self.network = network
        self.likelihood = likelihood

    @classmethod
    def seeded(cls, seed: int, build: Callable[[], tuple[nn.Module, Likelihood]]) -> Learner:
        """Build one from its own seed: weights and noise depend on nothing else, torch's global state is untouched."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            learner = cls(*build())
        own_noise(learner, seed)
        return learner

    def forward(self, *inputs: torch.Tensor, targets: torch.Tensor | None = None) -> torch.Tensor:
        """inputs [n, …], targets [n] -> losses [n], or outputs [n, o]."""
        outputs = self.network(*inputs)
        return outputs if targets is None else self.likelihood.training_loss(outputs, targets)
