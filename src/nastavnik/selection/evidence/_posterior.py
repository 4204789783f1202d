"""What is believed of a network's weights, and what it predicts: linearised, normal, or draws."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np
import torch

from nastavnik.data import TargetPreparation
from nastavnik.predictive import Predictive, RealPredictive, mixture
from nastavnik.selection.evidence._curvature import outputs_jacobians
from nastavnik.selection.evidence._joint import Joint, batched
from nastavnik.selection.evidence._structures import Structure
from nastavnik.training.likelihoods import Gaussian

DRAWS = 100
_ROWS = 4096


class Posterior(Protocol):
    """A distribution of one network's weights; vectors are in the order of the network's parameters."""

    def moments(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and standard deviation of each weight [P]."""
        ...

    def sample(self, count: int, *, seed: int = 0) -> torch.Tensor:
        """Weights [count, P]."""
        ...

    def outputs(self, x: object, *, draws: int = DRAWS, seed: int = 0) -> Moments:
        """What is believed of the network's outputs for rows x."""
        ...

    def predictive(
        self, x: object, *, target: TargetPreparation | None = None, draws: int = DRAWS, seed: int = 0
    ) -> Predictive:
        """What is believed of the targets of rows x, the weights' doubt included.

        ``target`` brings it back to the target's own units; ``draws`` are of outputs or weights, where they are needed.
        """
        ...


class Moments(NamedTuple):
    """Of the network's outputs: ``mean`` [n, o] and ``covariance`` [n, o, o]; the likelihood's noise is not in it."""

    mean: torch.Tensor
    covariance: torch.Tensor


class Linearised:
    """A normal posterior around weights, seen through the network's linearization there (Immer et al. 2021)."""

    def __init__(self, joint: Joint, structure: Structure, k: int) -> None:
        """Of the k-th network, at the joint's present precision and noise."""
        self._joint, self._structure, self._k = joint, structure, k
        self._alpha = joint.precision[k]
        self._s = joint.factor[k] ** -2 if joint.has_noise else joint.factor[k]

    def moments(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The weights, and the roots of A⁻¹'s diagonal."""
        variances = self._structure.variances(self._k, self._alpha, self._s)
        return self._joint.weights[self._k], variances.sqrt()

    def sample(self, count: int, *, seed: int = 0) -> torch.Tensor:
        """Weights [count, P]."""
        w = self._joint.weights[self._k]
        noise = standard_normal((count, len(w)), seed, w)
        return w + self._structure.draws(self._k, noise, self._alpha, self._s)

    def outputs(self, x: object, *, draws: int = DRAWS, seed: int = 0) -> Moments:
        """Of the linearised outputs, in closed form."""
        joint, k = self._joint, self._k
        inputs = as_inputs(x, joint.weights.dtype)
        with torch.no_grad():
            mean = joint.outputs(joint.weights[k], joint.constants_of(k), inputs)
            spread = [self._structure.spread(k, j, self._alpha, self._s) for j in outputs_jacobians(joint, k, inputs)]
        return Moments(mean, torch.cat(spread))

    def predictive(
        self, x: object, *, target: TargetPreparation | None = None, draws: int = DRAWS, seed: int = 0
    ) -> Predictive:
        """Of normal noise in closed form; else the mixture over draws of the outputs."""
        joint, k = self._joint, self._k
        target = target or plain_target(joint)
        mean, spread = self.outputs(x)
        noise = joint.noise()
        if isinstance(joint.likelihood, Gaussian) and noise is not None:
            deviation = (spread[:, 0, 0] + noise[k] ** 2).sqrt()
            return RealPredictive(_array(mean[:, 0])[None], _array(deviation)[None], target)
        values, vectors = torch.linalg.eigh(spread.double())
        half = (vectors * values.clamp(min=0).sqrt()[:, None, :]).to(mean)
        noise_ = standard_normal((draws, *mean.shape), seed, mean)
        return described(joint, k, mean + torch.einsum("nij,snj->sni", half, noise_), target)


class Draws:
    """Weights [S, P] as they were drawn, each equally likely."""

    def __init__(self, joint: Joint, k: int, weights: torch.Tensor) -> None:
        self._joint, self._k, self.weights = joint, k, weights

    def moments(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Over the draws."""
        return self.weights.mean(0), self.weights.std(0)

    def sample(self, count: int, *, seed: int = 0) -> torch.Tensor:
        """Some of them, with replacement."""
        generator = torch.Generator().manual_seed(seed)
        return self.weights[torch.randint(len(self.weights), (count,), generator=generator)]

    def predictive(
        self, x: object, *, target: TargetPreparation | None = None, draws: int = DRAWS, seed: int = 0
    ) -> Predictive:
        """The mixture over at most ``draws`` of them, evenly spaced."""
        return mixture_of(self._joint, self._k, self._some(draws), x, target)

    def outputs(self, x: object, *, draws: int = DRAWS, seed: int = 0) -> Moments:
        """Over at most ``draws`` of them, evenly spaced."""
        return _moments(drawn_outputs(self._joint, self._k, self._some(draws), x))

    def _some(self, count: int) -> torch.Tensor:
        return self.weights[torch.linspace(0, len(self.weights) - 1, min(count, len(self.weights))).round().long()]


class Normal:
    """A normal posterior N(mean, F Fᵀ); ``factor`` [P, P], or its diagonal [P]."""

    def __init__(self, joint: Joint, k: int, mean: torch.Tensor, factor: torch.Tensor) -> None:
        self._joint, self._k, self.mean, self.factor = joint, k, mean, factor

    def moments(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and standard deviation."""
        return self.mean, self.factor if self.factor.ndim == 1 else self.factor.square().sum(1).sqrt()

    def density_at_zero(self) -> torch.Tensor:
        """λ_i = exp(-µ_i² / 2σ_i²) [P]: how little a weight would be missed (Graves 2011)."""
        mean, deviation = self.moments()
        return torch.exp(-0.5 * (mean / deviation).square())

    def sample(self, count: int, *, seed: int = 0) -> torch.Tensor:
        """Weights [count, P]."""
        noise = standard_normal((count, len(self.mean)), seed, self.mean)
        return self.mean + (noise * self.factor if self.factor.ndim == 1 else noise @ self.factor.T)

    def predictive(
        self, x: object, *, target: TargetPreparation | None = None, draws: int = DRAWS, seed: int = 0
    ) -> Predictive:
        """The mixture over draws of weights."""
        return mixture_of(self._joint, self._k, self.sample(draws, seed=seed), x, target)

    def outputs(self, x: object, *, draws: int = DRAWS, seed: int = 0) -> Moments:
        """Over draws of weights."""
        return _moments(drawn_outputs(self._joint, self._k, self.sample(draws, seed=seed), x))


def mixture_of(
    joint: Joint, k: int, weights: torch.Tensor, x: object, target: TargetPreparation | None = None
) -> Predictive:
    """The mixture of the k-th network's predictions with weights [S, P]."""
    return described(joint, k, drawn_outputs(joint, k, weights, x), target or plain_target(joint))


def drawn_outputs(joint: Joint, k: int, weights: torch.Tensor, x: object) -> torch.Tensor:
    """The k-th network's outputs [S, n, o] with weights [S, P]."""
    inputs = as_inputs(x, joint.weights.dtype)
    pieces = []
    for start in range(0, len(inputs[0]), _ROWS):
        some = tuple(t[start : start + _ROWS] for t in inputs)
        few = max(1, 2**24 // (len(some[0]) * joint.likelihood.outputs + joint.layout.size))
        with torch.no_grad():
            each = [
                batched(joint.outputs, (0, None, None))(part, joint.constants_of(k), some)
                for part in weights.split(few)
            ]
        pieces.append(torch.cat(each))
    return torch.cat(pieces, dim=1)


def _moments(outputs: torch.Tensor) -> Moments:
    """Over draws [S, n, o]."""
    mean = outputs.mean(0)
    away = outputs - mean
    return Moments(mean, torch.einsum("sni,snj->nij", away, away) / max(1, len(outputs) - 1))


def described(joint: Joint, k: int, outputs: torch.Tensor, target: TargetPreparation) -> Predictive:
    """The mixture of what S outputs [S, n, o] say."""
    constants = joint.constants_of(k)
    members = []
    for one in outputs:
        said = joint.described(one, constants, joint.factor[k])
        members.append(joint.likelihood.predictive({n: _array(t) for n, t in said.items()}, target))
    return mixture(members)


def plain_target(joint: Joint) -> TargetPreparation:
    """A target that is in its own units already."""
    likelihood = joint.likelihood
    classes = tuple(str(c) for c in range(max(2, likelihood.outputs)))
    return TargetPreparation(likelihood.target, classes if likelihood.target == "class" else ())


def as_inputs(x: object, dtype: torch.dtype) -> tuple[torch.Tensor, ...]:
    """What ``forward`` takes, as a tuple, real numbers in the computation's precision."""
    given = tuple(torch.as_tensor(t) for t in (x if isinstance(x, (tuple, list)) else (x,)))
    return tuple(t.to(dtype) if t.is_floating_point() else t for t in given)


def standard_normal(shape: tuple[int, ...], seed: int, like: torch.Tensor) -> torch.Tensor:
    """Noise from its own seed, of a tensor's type and place."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(like)


def _array(t: torch.Tensor) -> np.ndarray:
    return t.detach().double().cpu().numpy()
