"""Yes or no."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn import functional as F

from nastavnik.training.likelihoods._base import Likelihood


class Bernoulli(Likelihood):
    """Classes 0 and 1 from one logit, p(1) = sigmoid(output / temperature): logistic regression's likelihood."""

    name = "bernoulli"
    weights: torch.Tensor
    label_smoothing: torch.Tensor

    def __init__(self, weights: Sequence[float] | None = None, label_smoothing: float = 0.0) -> None:
        super().__init__()
        self.outputs = 1
        self.register_buffer("weights", torch.ones(2) if weights is None else torch.tensor(list(weights)))
        self.register_buffer("label_smoothing", torch.tensor(float(label_smoothing)))

    def neg_log_likelihood(
        self, outputs: torch.Tensor, targets: torch.Tensor, temperature: torch.Tensor | float = 1.0
    ) -> torch.Tensor:
        """softplus(±output / T), which is -log sigmoid without overflow."""
        sign = 1 - 2 * targets.to(outputs.dtype)
        return F.softplus(sign * outputs[..., 0] / temperature)

    def training_loss(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Cross-entropy with the smoothed target, times the class's weight."""
        z = outputs[..., 0]
        y = targets.to(z.dtype) * (1 - self.label_smoothing) + self.label_smoothing / 2
        loss = F.softplus(z) - y * z  # = -y log σ(z) - (1 - y) log(1 - σ(z))
        return loss * self.weights[targets]

    def describe(self, outputs: torch.Tensor, temperature: torch.Tensor | float = 1.0) -> dict[str, torch.Tensor]:
        """``probabilities`` [n, 2]."""
        one = torch.sigmoid(outputs[..., 0] / temperature)
        return {"probabilities": torch.stack([1 - one, one], dim=-1)}
