"""A real value with noise: normal, Laplace, Student's t."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from nastavnik.errors import UserError
from nastavnik.predictive import RealPredictive
from nastavnik.training.likelihoods._base import Likelihood

if TYPE_CHECKING:
    from nastavnik.data import TargetPreparation

_LEAST = 1e-4  # the smallest scale, in prepared units: a perfect fit must not make the density infinite


class RealLikelihood(Likelihood):
    """y = output + scale · e, with e of a fixed standard distribution.

    Args:
        noise: a number, the scale itself; "learned", one scale found with the weights; or "input", a second output
            gives scale = softplus(s + log(e - 1)), so that it is 1 where the output is 0 (Nix & Weigend 1994).
    """

    target = "real"
    distribution: ClassVar[str]  # scipy.stats' name of the standard distribution

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

    @classmethod
    def make(cls, classes: int, options: Mapping[str, Any]) -> Self:
        """With ``likelihood.noise``.

        Raises:
            UserError: it is neither a positive number nor one of the words.
        """
        try:
            return cls(noise=options.get("noise", "learned"))
        except ValueError as error:
            raise UserError(f"likelihood.{error}") from error

    @abstractmethod
    def standard(self, z: torch.Tensor) -> torch.Tensor:
        """-log density of the standard distribution at z."""

    def scale(self, outputs: torch.Tensor) -> torch.Tensor:
        """outputs [n, o] -> [n]."""
        if self.noise == "input":
            return F.softplus(outputs[..., 1] + math.log(math.e - 1)) + _LEAST
        if self.noise == "learned":
            return self.log_noise.exp().expand(outputs.shape[:-1]) + _LEAST
        return self.get_buffer("fixed_noise").expand(outputs.shape[:-1])

    def neg_log_likelihood(
        self, outputs: torch.Tensor, targets: torch.Tensor, temperature: torch.Tensor | float = 1.0
    ) -> torch.Tensor:
        """standard((y - µ) / Ts) + log Ts."""
        scale = self.scale(outputs) * temperature
        return self.standard((targets - outputs[..., 0]) / scale) + scale.log()

    def describe(self, outputs: torch.Tensor, temperature: torch.Tensor | float = 1.0) -> dict[str, torch.Tensor]:
        """``mean`` (the centre) and ``deviation`` (the scale) [n], in prepared units."""
        return {"mean": outputs[..., 0], "deviation": self.scale(outputs) * temperature}

    def predictive(self, described: Mapping[str, np.ndarray], target: TargetPreparation) -> RealPredictive:
        """In own units."""
        mean, deviation = described["mean"][None], described["deviation"][None]
        return RealPredictive(mean, deviation, target, self.distribution, self.shape())

    def shape(self) -> tuple[float, ...]:
        """The standard distribution's shape parameters."""
        return ()


class Gaussian(RealLikelihood):
    """A real value with normal noise: squared error, scaled by the noise."""

    name = "gaussian"
    formula = "((y - z) / Ts)^2 / 2 + log Ts + log(2 pi) / 2"
    prefer = "by default for real targets; noise=input when some rows are noisier than others"
    source = "Gauss 1809; Nix & Weigend 1994"
    distribution = "norm"

    def standard(self, z: torch.Tensor) -> torch.Tensor:
        """½ z² + ½ log 2π."""
        return 0.5 * z**2 + 0.5 * math.log(2 * math.pi)

    def curvature_columns(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """1 / s where the noise is one number."""
        if self.noise == "input":
            return super().curvature_columns(outputs, targets)
        return (1 / self.scale(outputs))[None, :, None]


class Laplace(RealLikelihood):
    """A real value with two-sided exponential noise: absolute error, scaled; the centre is the median."""

    name = "laplace"
    formula = "|y - z| / Ts + log Ts + log 2"
    prefer = "when a few targets are far off, or the median is wanted"
    source = "Laplace 1774"
    distribution = "laplace"
    curved = False

    def standard(self, z: torch.Tensor) -> torch.Tensor:
        """|z| + log 2."""
        return z.abs() + math.log(2)


class StudentT(RealLikelihood):
    """A real value with heavy-tailed noise of ``freedom`` degrees of freedom: outliers hardly pull."""

    name = "student_t"
    formula = "(f + 1) / 2 * log(1 + ((y - z) / Ts)^2 / f) + log Ts + log B(1/2, f/2) + log(f) / 2"
    prefer = "when outliers are many; freedom 4 is a usual choice"
    source = "Lange et al. 1989"
    settings: ClassVar[Mapping[str, float]] = {"freedom": 4.0}
    distribution = "t"
    freedom: torch.Tensor

    def __init__(self, noise: float | str = "learned", freedom: float = 4.0) -> None:
        super().__init__(noise)
        if not freedom > 0:
            raise ValueError(f"freedom must be positive, but got {freedom!r}")
        self.register_buffer("freedom", torch.tensor(float(freedom)))

    @classmethod
    def make(cls, classes: int, options: Mapping[str, Any]) -> Self:
        """With ``likelihood.noise`` and ``likelihood.freedom``."""
        try:
            return cls(options.get("noise", "learned"), float(options.get("freedom", cls.settings["freedom"])))
        except ValueError as error:
            raise UserError(f"likelihood.{error}") from error

    def standard(self, z: torch.Tensor) -> torch.Tensor:
        """See ``formula``."""
        f = self.freedom
        half = torch.lgamma(0.5 * f) + math.lgamma(0.5) - torch.lgamma(0.5 * (f + 1))
        return 0.5 * (f + 1) * torch.log1p(z * z / f) + half + 0.5 * f.log()

    def shape(self) -> tuple[float, ...]:
        """The degrees of freedom."""
        return (float(self.freedom),)
