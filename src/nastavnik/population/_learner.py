"""A network and the likelihood of its output, as the one module that is trained."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from nastavnik.nets import Conduct, copied_module, own_noise
from nastavnik.training.likelihoods import Likelihood, Members
from nastavnik.training.losses import NegLogLikelihood, TrainingLoss


def _seed(seed: int) -> None:
    """Seed torch; on a machine with processors alone without the others' bookkeeping, which takes milliseconds."""
    if torch.accelerator.is_available():
        torch.manual_seed(seed)
    else:
        torch.default_generator.manual_seed(seed)


class Learner(nn.Module):
    """``forward(*inputs, targets=…)`` is the training loss of each row; without targets, the outputs.

    Args:
        network: what is trained; one that says it has ``members`` gives the outputs of each, side by side.
        likelihood: the distribution of the target given the network's outputs; it judges and predicts.
        loss: what is minimized instead of the likelihood's negative log, if anything.
    """

    def __init__(self, network: nn.Module, likelihood: Likelihood, loss: TrainingLoss | None = None) -> None:
        super().__init__()
        self.network = network
        members = int(getattr(network, "members", 1))
        alone = members == 1 or isinstance(likelihood, Members)
        self.likelihood = likelihood if alone else Members(likelihood, members)
        self.loss = loss or NegLogLikelihood()
        self.conduct: Conduct | None = None  # what the network does beside being a function, if it was seen to
        self.moment: int | None = None  # where its draws begin in training; the engine sets it for each step

    def __deepcopy__(self, memo: dict[int, Any]) -> Learner:
        copied = copied_module(self, memo)
        assert isinstance(copied, Learner)
        return copied

    @classmethod
    def seeded(cls, seed: int, build: Callable[[], tuple[Any, ...]]) -> Learner:
        """Build one from its own seed: weights and noise depend on nothing else, torch's global state is untouched.

        ``build`` gives the arguments of a learner.
        """
        with torch.random.fork_rng(devices=[]):
            _seed(seed)
            learner = cls(*build())
        own_noise(learner, seed)
        return learner

    @property
    def draws(self) -> bool:
        """Whether the network was seen to draw random numbers of its own."""
        return self.conduct is not None and self.conduct.draws

    @property
    def normalized(self) -> bool:
        """Whether the training loss is the negative log of a density, so that evidence may be computed."""
        return self.likelihood.normalized and self.loss.normalized

    def forward(
        self,
        *inputs: torch.Tensor,
        targets: torch.Tensor | None = None,
        partners: torch.Tensor | None = None,
        share: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """inputs [n, …], targets [n] -> losses [n], or outputs [n, o].

        With ``partners`` a row's loss is ``share`` of that for its target and the rest of that for its partner.
        """
        if self.conduct is None:
            outputs = self.network(*inputs)
        else:
            outputs = self.conduct.answer(self.network, inputs, self.moment if self.training else 0)
        if targets is None:
            return outputs
        losses = self._losses(outputs, targets)
        if partners is None or share is None:
            return losses
        return share * losses + (1 - share) * self._losses(outputs, partners)

    def _losses(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Of each row; of a network of several members the mean of theirs, each of which learns by itself."""
        whole = self.likelihood
        if not isinstance(whole, Members):
            return self.loss(whole, outputs, targets)
        return whole.together(self.loss(whole.each, whole.apart(outputs), whole.repeated(targets))).mean(1)
