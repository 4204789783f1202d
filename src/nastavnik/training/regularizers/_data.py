"""Regularizers of what the network sees and of how well it may fit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch.func import grad

from nastavnik.training.optimizers import Tensors
from nastavnik.training.regularizers._base import Batch, Context, Loss, Regularizer


class InputNoise(Regularizer):
    """Adds normal noise to every number input, in its standardized units: nearby inputs should give the same answer."""

    name = "input_noise"
    formula = "x + sigma * N(0, 1)"
    prefer = "for few rows and smooth targets; to first order it is a gradient penalty (Bishop 1995)"
    source = "Sietsma & Dow 1991; Bishop 1995"
    settings: ClassVar[Mapping[str, float]] = {"input_noise": 0.1}
    noisy = True

    def around(self, loss: Loss, context: Context) -> Loss:
        """See ``formula``."""
        sigma, noise = context.settings["input_noise"], context.noise

        def noisy(parameters: Tensors, batch: Batch) -> torch.Tensor:
            inputs = tuple(
                x + sigma * noise.normal(f"input {i}", x) if x.is_floating_point() else x
                for i, x in enumerate(batch.inputs)
            )
            return loss(parameters, batch._replace(inputs=inputs))

        return noisy


class Mixup(Regularizer):
    """Trains on blends of two rows and, in the same share, of their losses: between examples, answers go over evenly.

    Category inputs are not blended: each row keeps those of its own.
    """

    name = "mixup"
    formula = "x = a x_i + (1 - a) x_j, L = a L(y_i) + (1 - a) L(y_j), a ~ Beta(strength, strength), one a step"
    prefer = "for classification with few or noisy labels"
    source = "Zhang et al. 2018"
    settings: ClassVar[Mapping[str, float]] = {"mixup": 0.2}
    noisy = True

    def around(self, loss: Loss, context: Context) -> Loss:
        """See ``formula``; a row's partner is the one before it in the shuffled batch."""
        strength = context.settings["mixup"]
        drawn = context.noise.beta("mixup", strength.clamp(min=1e-3))
        share = torch.where(strength > 0, drawn, torch.ones_like(drawn))

        def blended(parameters: Tensors, batch: Batch) -> torch.Tensor:
            inputs = tuple(share * x + (1 - share) * _rolled(x) if x.is_floating_point() else x for x in batch.inputs)
            return loss(parameters, Batch(inputs, batch.targets, _rolled(batch.targets), share))

        return blended


class GradientPenalty(Regularizer):
    """Makes the loss flat in the inputs: twice the derivatives, two to three times the time."""

    name = "gradient_penalty"
    formula = "L + strength * mean over rows of |d loss_row / d x_row|^2"
    prefer = "against small deliberate changes of the input"
    source = "Drucker & LeCun 1992; Ross & Doshi-Velez 2018"
    settings: ClassVar[Mapping[str, float]] = {"gradient_penalty": 0.01}
    signed = True

    def around(self, loss: Loss, context: Context) -> Loss:
        """See ``formula``; the mean loss's gradient times the number of rows is the rows' own."""

        def penalized(parameters: Tensors, batch: Batch) -> torch.Tensor:
            value = loss(parameters, batch)
            floats = [i for i, x in enumerate(batch.inputs) if x.is_floating_point()]
            rows = batch.targets.shape[0]

            def of_inputs(given: tuple[torch.Tensor, ...]) -> torch.Tensor:
                inputs = list(batch.inputs)
                for i, x in zip(floats, given, strict=True):
                    inputs[i] = x
                return loss(parameters, batch._replace(inputs=tuple(inputs)))

            slopes = grad(of_inputs)(tuple(batch.inputs[i] for i in floats))
            total = torch.stack([(rows * g).square().sum() for g in slopes]).sum() / rows
            return value + context.settings["gradient_penalty"] * total

        return penalized


class Flooding(Regularizer):
    """Keeps the training loss near a level instead of near zero: below it, the gradient turns round."""

    name = "flooding"
    formula = "|L - b| + b"
    prefer = "when a network fits noise; b a little below the validation loss"
    source = "Ishida et al. 2020"
    settings: ClassVar[Mapping[str, float]] = {"flooding": 0.05}
    scheduled = False

    def around(self, loss: Loss, context: Context) -> Loss:
        """See ``formula``."""
        level = context.settings["flooding"]
        return lambda parameters, batch: (loss(parameters, batch) - level).abs() + level


def _rolled(x: torch.Tensor) -> torch.Tensor:
    """Each row in the place of the next, the last in that of the first."""
    return torch.cat([x[-1:], x[:-1]])
