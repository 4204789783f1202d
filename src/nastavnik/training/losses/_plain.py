"""Losses that any likelihood has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch

from nastavnik.training.likelihoods import Likelihood
from nastavnik.training.losses._base import TrainingLoss

_ALL = ("class", "real", "positive", "spike", "count", "labels", "votes", "vector", "several")


class NegLogLikelihood(TrainingLoss):
    """The likelihood's own negative log, in nats a row."""

    name = "likelihood"
    formula = "-log p(y | z)"
    prefer = "by default, and whenever evidence is wanted"
    source = "Bishop 1995, ch. 6"
    targets = _ALL

    @property
    def normalized(self) -> bool:
        """Unless classes are weighted."""
        return self.weights is None

    def rows(self, likelihood: Likelihood, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """See ``formula``."""
        return likelihood.neg_log_likelihood(outputs, targets)


class Tempered(TrainingLoss):
    """The negative log likelihood at another temperature: below 1 it asks for large margins less, above 1 more."""

    name = "temperature"
    formula = "-log p(y | z / T)"
    prefer = "to control how sharp the outputs grow; the final temperature is set on held-out rows anyway"
    source = "Guo et al. 2017"
    settings: ClassVar[Mapping[str, float]] = {"temperature": 2.0}
    targets = ("class", "real", "labels", "votes", "vector")
    temperature: torch.Tensor

    def rows(self, likelihood: Likelihood, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """See ``formula``."""
        return likelihood.neg_log_likelihood(outputs, targets, self.temperature)
