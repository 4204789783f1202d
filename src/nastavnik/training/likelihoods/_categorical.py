"""One of C classes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn import functional as F

from nastavnik.training.likelihoods._base import Likelihood


class Categorical(Likelihood):
    """Classes 0…C-1 from C logits, p = softmax(outputs / temperature); the loss is cross-entropy.

    ``weights`` multiply the training loss of each class and nothing else. ``label_smoothing`` is a per-network
    buffer: the training target gives that share evenly to all classes (Szegedy et al. 2016).
    """

    name = "categorical"
    weights: torch.Tensor | None
    label_smoothing: torch.Tensor | None

    def __init__(
        self, classes: int, weights: Sequence[float] | None = None, label_smoothing: float | None = None
    ) -> None:
        super().__init__()
        self.outputs = classes
        smoothing = None if label_smoothing is None else torch.tensor(float(label_smoothing))
        self.register_buffer("weights", None if weights is None else torch.tensor(list(weights)))
        self.register_buffer("label_smoothing", smoothing)

    def neg_log_likelihood(
        self, outputs: torch.Tensor, targets: torch.Tensor, temperature: torch.Tensor | float = 1.0
    ) -> torch.Tensor:
        """-log softmax(outputs / T)[target]."""
        return -_pick(F.log_softmax(outputs / temperature, dim=-1), targets)

    def training_loss(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Cross-entropy with the smoothed target, times the class's weight."""
        log_p = F.log_softmax(outputs, dim=-1)
        loss = -_pick(log_p, targets)
        if self.label_smoothing is not None:
            loss = (1 - self.label_smoothing) * loss - self.label_smoothing * log_p.mean(-1)
        return loss if self.weights is None else loss * self.weights[targets]

    def describe(self, outputs: torch.Tensor, temperature: torch.Tensor | float = 1.0) -> dict[str, torch.Tensor]:
        """``probabilities`` [n, C]."""
        return {"probabilities": torch.softmax(outputs / temperature, dim=-1)}


def _pick(values: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return values.gather(-1, targets.unsqueeze(-1)).squeeze(-1)
