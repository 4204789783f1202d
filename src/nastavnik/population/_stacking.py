"""K networks side by side: their tensors stacked, cut and joined."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from nastavnik.population._learner import Learner
from nastavnik.population._step import State
from nastavnik.training.optimizers import Tensors


def stack(learners: Sequence[Learner], device: torch.device) -> tuple[Tensors, Tensors, Tensors]:
    """What all learners share, their trained parameters [K, …], and their buffers [K, …].

    A module's ``constants`` (buffers it never changes, such as bin edges) are shared when all learners agree on them.
    """
    constants = {
        f"{name}.{constant}" for name, m in learners[0].named_modules() for constant in getattr(m, "constants", ())
    }
    trained = {name for name, p in learners[0].named_parameters() if p.requires_grad}
    own = [dict(learner.named_parameters()) | dict(learner.named_buffers()) for learner in learners]
    shared: Tensors = {}
    parameters: Tensors = {}
    buffers: Tensors = {}
    for name, first in own[0].items():
        tensors = [tensors[name].detach().to(device) for tensors in own]
        if name in constants and all(torch.equal(first.to(device), t) for t in tensors[1:]):
            shared[name] = tensors[0]
        elif name in trained:
            parameters[name] = torch.stack(tensors)
        else:
            buffers[name] = torch.stack(tensors)
    return shared, parameters, buffers


def tensors_of(module: nn.Module) -> Tensors:
    """All parameters and buffers by name, each once however many modules share it, passing ones included."""
    return dict(module.named_parameters()) | dict(module.named_buffers())


def some(state: State, which: slice | torch.Tensor | int) -> State:
    """The state of some of the networks; of one, without its leading dimension, for a number."""
    return State(*({name: t[which] for name, t in part.items()} for part in state))


def joined(parts: Sequence[Tensors]) -> Tensors:
    """Blocks of networks one after the other."""
    return parts[0] if len(parts) == 1 else {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def joined_states(states: Sequence[State]) -> State:
    """Blocks of networks one after the other."""
    return State(*(joined([state[i] for state in states]) for i in range(3)))
