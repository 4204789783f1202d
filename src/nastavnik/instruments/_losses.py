"""What a batch's outputs and losses say of ONE network, and what its step did to them."""

from __future__ import annotations

import torch

from nastavnik.instruments._sight import Sight

Measured = dict[str, torch.Tensor]


def batch_loss(sight: Sight) -> Measured:
    """Mean loss of the batch before the step."""
    return {"": sight.losses.mean()}


def predicted_change(sight: Sight) -> Measured:
    """∇C·Δw: how much the step should change the batch's loss if the loss were a plane."""
    moment = sight.moment
    parts = [(g * (moment.after[n] - moment.before[n])).sum() for n, g in moment.gradients.items()]
    return {"": torch.stack(parts).sum()}


def actual_change(sight: Sight) -> Measured:
    """How much the step did change it, on the same rows with the same noise."""
    return {"": sight.losses_after.mean() - sight.losses.mean()}


def output_deviation(sight: Sight) -> Measured:
    """Root of the mean variance over rows of the outputs: 0 for a network that says the same of every row."""
    outputs = sight.outputs.reshape(len(sight.outputs), -1)
    return {"": outputs.var(0, correction=0).mean().sqrt()}


def output_least(sight: Sight) -> Measured:
    """The smallest output."""
    return {"": sight.outputs.amin()}


def output_most(sight: Sight) -> Measured:
    """The largest output."""
    return {"": sight.outputs.amax()}


def output_sum_deviation(sight: Sight) -> Measured:
    """Largest distance of a row's sum of outputs from 1: zero when they are probabilities already."""
    outputs = sight.outputs.reshape(len(sight.outputs), -1)
    return {"": (outputs.sum(1) - 1).abs().amax()}


def output_stuck(sight: Sight) -> Measured:
    """Share of outputs that sit on the smallest or the largest of them: what a squashing output layer
    leaves; 0 where all outputs are the same."""
    return {"": stuck_share(sight.outputs)}


def stuck_share(values: torch.Tensor) -> torch.Tensor:
    """Share of numbers that sit on the smallest or the largest of them; 0 where all are the same."""
    values = values.reshape(-1)
    spread = values.amax() - values.amin()
    span = spread.clamp(min=1e-12)
    low = ((values - values.amin()) < 1e-6 * span).to(values.dtype).mean()
    high = ((values.amax() - values) < 1e-6 * span).to(values.dtype).mean()
    return torch.where(spread > 1e-6, torch.maximum(low, high), torch.zeros_like(low))
