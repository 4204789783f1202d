"""A real value with normal noise."""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional as F

from nastavnik.training.likelihoods._base import Likelihood

_HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)
_LEAST = 1e-4  # the smallest deviation, in prepared units: a perfect fit must not make the density infinite


class Gaussian(Likelihood):
    """y ~ N(output, σ²).

    Args:
        noise: a number, σ itself; "learned", one σ found with the weights; or "input", a second output gives
            σ = softplus(s + log(e - 1)), so that σ = 1 where the output is 0 (Nix & Weigend 1994).
    """

    name = "gaussian"

    def __init__(self, noise: float | str = "learned") -> None:
        super().__init__()
        if not (noise in ("learned", "input") or (isinstance(noise, (int, float)) and noise > 0)):
            raise ValueError(f"noise must be a positive number, 'learned' or 'input', but got {noise!r}")
        self.noise = noise
        self.outputs = 2 if noise == "input" else 1
        if noise == "learned":
            self.log_noise = nn.Parameter(torch.zeros(()))
        elif noise != "input":
            self.register_buffer("fixed_noise", torch.tensor(float(noise)))

    def _deviation(self, outputs: torch.Tensor) -> torch.Tensor:
        if self.noise == "input":
            return F.softplus(outputs[..., 1] + math.log(math.e - 1)) + _LEAST
        if self.noise == "learned":
            return self.log_noise.exp().expand(outputs.shape[:-1]) + _LEAST
        fixed = self.get_buffer("fixed_noise")
        return fixed.expand(outputs.shape[:-1])

    def neg_log_likelihood(
        self, outputs: torch.Tensor, targets: torch.Tensor, temperature: torch.Tensor | float = 1.0
    ) -> torch.Tensor:
        """½ ((y - µ) / Tσ)² + log Tσ + ½ log 2π."""
        deviation = self._deviation(outputs) * temperature
        return 0.5 * ((targets - outputs[..., 0]) / deviation) ** 2 + deviation.log() + _HALF_LOG_2PI

    def describe(self, outputs: torch.Tensor, temperature: torch.Tensor | float = 1.0) -> dict[str, torch.Tensor]:
        """``mean`` and ``deviation`` [n], in prepared units."""
        return {"mean": outputs[..., 0], "deviation": self._deviation(outputs) * temperature}
