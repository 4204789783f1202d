"""Regularizers of the weights and of what units say.

Biases, normalization scales and other vectors are exempt.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch

from nastavnik.training.optimizers import Tensors, decays
from nastavnik.training.regularizers._base import Batch, Context, Loss, Regularizer


class L1(Regularizer):
    """Pulls every weight towards zero by the same force: many weights become nearly zero, a few stay large."""

    name = "l1"
    formula = "L + (lambda / n) * sum |w|, gradient (lambda / n) * sign(w), sign(0) = 0"
    prefer = "to find out which inputs and connections matter"
    source = "Tibshirani 1996"
    settings: ClassVar[Mapping[str, float]] = {"l1": 1e-5}
    signed = True
    by_weight = True

    def around(self, loss: Loss, context: Context) -> Loss:
        """See ``formula``."""
        return lambda parameters, batch: loss(parameters, batch) + context.settings["l1"] * _absolute(parameters)


class L2(Regularizer):
    """Pulls every weight towards zero in proportion to its size, through the gradient (coupled): a Gaussian prior."""

    name = "l2"
    formula = "L + (lambda / 2n) * sum w^2, gradient (lambda / n) * w"
    prefer = "with SGD, and for evidence: it is a prior of precision lambda; with Adam take decoupled decay"
    source = "Tikhonov 1963; Krogh & Hertz 1991"
    settings: ClassVar[Mapping[str, float]] = {"l2": 1e-4}
    signed = True
    by_weight = True

    def around(self, loss: Loss, context: Context) -> Loss:
        """See ``formula``."""
        return lambda parameters, batch: loss(parameters, batch) + 0.5 * context.settings["l2"] * _squares(parameters)


class ElasticNet(Regularizer):
    """L1 and L2 together: sparse, but correlated inputs share their weight."""

    name = "elastic_net"
    formula = "L + (lambda / n) * (a * sum |w| + (1 - a) / 2 * sum w^2), a = elastic_l1_share"
    prefer = "instead of l1 where inputs are correlated"
    source = "Zou & Hastie 2005; scikit-learn's ElasticNet"
    settings: ClassVar[Mapping[str, float]] = {"elastic_net": 1e-5, "elastic_l1_share": 0.5}
    signed = True
    by_weight = True

    def around(self, loss: Loss, context: Context) -> Loss:
        """See ``formula``."""
        strength, share = context.settings["elastic_net"], context.settings["elastic_l1_share"]

        def penalized(parameters: Tensors, batch: Batch) -> torch.Tensor:
            penalty = share * _absolute(parameters) + 0.5 * (1 - share) * _squares(parameters)
            return loss(parameters, batch) + strength * penalty

        return penalized


class DecoupledL2(Regularizer):
    """Shrinks every weight by a share of its size each step, apart from the gradient, round any optimizer."""

    name = "decoupled_l2"
    formula = "after each step: w = w - rate * strength * w_before"
    prefer = "with adaptive optimizers; AdamW's own weight_decay is the same"
    source = "Loshchilov & Hutter 2019"
    settings: ClassVar[Mapping[str, float]] = {"decoupled_l2": 0.01}
    acts_after = True
    signed = True

    def after(self, parameters: Tensors, before: Tensors, rate: torch.Tensor, settings: Tensors) -> Tensors:
        """See ``formula``."""
        share = rate * settings["decoupled_l2"]
        return {n: w - share * before[n] if decays(w) else w for n, w in parameters.items()}


class MaxNorm(Regularizer):
    """Bounds the length of each unit's incoming weights, by projection after each step."""

    name = "max_norm"
    formula = "w_row = w_row * min(1, c / |w_row|)"
    prefer = "with dropout and large rates"
    source = "Srebro et al. 2005; Srivastava et al. 2014"
    settings: ClassVar[Mapping[str, float]] = {"max_norm": 3.0}
    acts_after = True
    scheduled = False

    def after(self, parameters: Tensors, before: Tensors, rate: torch.Tensor, settings: Tensors) -> Tensors:
        """See ``formula``."""
        new = dict(parameters)
        for name, w in parameters.items():
            if decays(w):
                length = w.flatten(1).square().sum(1).sqrt().reshape(-1, *[1] * (w.ndim - 1))
                new[name] = w * (settings["max_norm"] / length.clamp(min=1e-12)).clamp(max=1.0)
        return new


class ActivityL1(Regularizer):
    """Pulls what units say towards zero: few of them speak at a time."""

    name = "activity_l1"
    formula = "L + strength * mean over rows of sum |h| over all activations"
    prefer = "for sparse codes and autoencoders"
    source = "Olshausen & Field 1996 (sparse codes)"
    settings: ClassVar[Mapping[str, float]] = {"activity_l1": 1e-4}
    signed = True
    watches = True

    def around(self, loss: Loss, context: Context) -> Loss:
        """See ``formula``."""

        def penalized(parameters: Tensors, batch: Batch) -> torch.Tensor:
            value = loss(parameters, batch)
            said = [h.abs().flatten(1).sum(1).mean() for h in context.activations]
            return value + context.settings["activity_l1"] * torch.stack(said).sum() if said else value

        return penalized


class WeightNoise(Regularizer):
    """Takes the gradient at randomly moved weights, another move each step: prefers wide minima."""

    name = "weight_noise"
    formula = "L at w + sigma * N(0, 1)"
    prefer = "for recurrent networks, where dropout hurts memory"
    source = "Graves 2011"
    settings: ClassVar[Mapping[str, float]] = {"weight_noise": 0.01}
    noisy = True

    def around(self, loss: Loss, context: Context) -> Loss:
        """See ``formula``."""
        sigma = context.settings["weight_noise"]

        def moved(parameters: Tensors, batch: Batch) -> torch.Tensor:
            noise = context.noise
            there = {n: w + sigma * noise.normal(f"weight {n}", w) if decays(w) else w for n, w in parameters.items()}
            return loss(there, batch)

        return moved


def _absolute(parameters: Tensors) -> torch.Tensor:
    return torch.stack([w.abs().sum() for w in parameters.values() if decays(w)]).sum()


def _squares(parameters: Tensors) -> torch.Tensor:
    return torch.stack([w.square().sum() for w in parameters.values() if decays(w)]).sum()
