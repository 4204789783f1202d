"""The step: what training does to ONE network, as a pure function."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch.func import functional_call, grad

from nastavnik.instruments import Instrument, Moment
from nastavnik.population._learner import Learner
from nastavnik.training.optimizers import Optimizer, Tensors
from nastavnik.training.schedules import Schedule


class State(NamedTuple):
    """Everything of one network that a step changes."""

    parameters: Tensors
    buffers: Tensors
    optimizer: Tensors


class Batch(NamedTuple):
    """The rows of one step: numbers [b, d], categories [b, c], targets [b]."""

    numbers: torch.Tensor
    categories: torch.Tensor
    targets: torch.Tensor


Step = Callable[[State, Batch, Tensors, torch.Tensor], tuple[State, Tensors]]


def make_step(
    learner: Learner,
    shared: Tensors,
    optimizer: Optimizer,
    schedule: Schedule,
    instruments: Mapping[str, Instrument],
) -> Step:
    """Bind what belongs to the shape; what comes back is ``(state, batch, settings, progress) -> (state, measures)``.

    Args:
        learner: the module whose code runs; its own tensors are not used.
        shared: tensors that all networks of the population have in common.
        optimizer: the update rule.
        schedule: the learning rate's factor at ``progress`` (0 to 1).
        instruments: what to measure beside the loss.
    """

    def step(state: State, batch: Batch, settings: Tensors, progress: torch.Tensor) -> tuple[State, Tensors]:
        def objective(parameters: Tensors) -> tuple[torch.Tensor, tuple[torch.Tensor, Tensors]]:
            buffers = {name: buffer.clone() for name, buffer in state.buffers.items()}
            losses = functional_call(learner, {**shared, **parameters, **buffers}, tuple(batch))
            loss = losses.mean()
            return loss, (loss.detach(), buffers)

        gradients, (loss, buffers) = grad(objective, has_aux=True)(state.parameters)
        scheduled = {**settings, "learning_rate": settings["learning_rate"] * schedule(progress)}
        parameters, slots = optimizer.update(gradients, state.optimizer, state.parameters, scheduled)
        moment = Moment(gradients, state.parameters, parameters)
        measures = {"training loss": loss, **{name: measure(moment) for name, measure in instruments.items()}}
        return State(parameters, buffers, slots), measures

    return step
