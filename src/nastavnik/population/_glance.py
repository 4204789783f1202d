"""One look at all networks of a population before their next step: what a function of ONE network sees of it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.func import functional_call, vmap
from torch.utils._pytree import tree_flatten, tree_map, tree_unflatten

from nastavnik.instruments import Subject
from nastavnik.nets import Function
from nastavnik.population._learner import Learner
from nastavnik.population._stacking import some
from nastavnik.population._step import State
from nastavnik.population._ways import Stretch, Training
from nastavnik.training.losses import NegLogLikelihood
from nastavnik.training.optimizers import Tensors
from nastavnik.training.regularizers import Batch

Look = Callable[..., Any]  # (state before, state after, batch, *own) -> a tree of tensors
_NETWORK = "network."


def subject_of(learner: Learner, shared: Tensors, *, alone: bool = False) -> Subject:
    """A learner as instruments see it: trained by its loss, evaluated by its likelihood's own negative log."""
    modes = []
    for training in (True, False):
        module = copy.deepcopy(learner).train(training)
        loss = module.loss if training else NegLogLikelihood()
        modes.append((module, Learner(nn.Identity(), module.likelihood, loss).train(training)))

    def call(mode: int) -> Callable[..., tuple[torch.Tensor, torch.Tensor]]:
        module, head = modes[mode]
        function = Function(module)

        def run(
            tensors: Tensors, inputs: tuple[torch.Tensor, ...], targets: torch.Tensor
        ) -> tuple[torch.Tensor, torch.Tensor]:
            every = {**shared, **tensors}
            outputs = function(every, inputs)
            known = dict(head.named_parameters()) | dict(head.named_buffers())
            own = {name: t for name, t in every.items() if name in known}
            return outputs, functional_call(head, own, (outputs,), {"targets": targets})

        return run

    return Subject(modes[0][0].network, call(0), call(1), _NETWORK, alone)


def glance(
    training: Training, state: State, stretch: Stretch, measure: Look, own: tuple[Any, ...], alone: bool, count: int
) -> Any:
    """``measure(before, after, batch, *own)`` of the first ``count`` networks; the state is left as it is.

    Block by block under vmap, or one by one where vmap has no rule for what a module does.
    """
    step = training.step(False, alone=alone)
    time = next(stretch.moments())

    def one(mine: State, settings: Tensors, inputs: Any, targets: torch.Tensor, extra: tuple[Any, ...]) -> Any:
        after, _ = step(_copied(mine), Batch(inputs, targets), settings, time)
        return measure(mine, after, Batch(inputs, targets), settings, *extra)

    found = []
    block = 1 if alone else training.block
    for start in range(0, count, block):
        which = slice(start, min(start + block, count))
        part, rows = stretch.part[which], stretch.rows[0, which if stretch.own else stretch.part[which]]
        batch = tuple(t[part[:, None], rows] for t in training.data.inputs), training.data.targets[part[:, None], rows]
        settings = {name: t[which] for name, t in stretch.settings.items()}
        mine = (some(state, which), settings, *batch, _rows(own, which))
        with torch.no_grad(), training.threads(stretch, 1 if alone else block):
            if alone:
                single = one(*tree_map(lambda t: t[0], mine))
                found.append(tree_map(lambda t: t[None], single))
            else:
                found.append(vmap(one)(*mine))
    leaves = [tree_flatten(tree)[0] for tree in found]
    return tree_unflatten([torch.cat(parts) for parts in zip(*leaves, strict=True)], tree_flatten(found[0])[1])


def _rows(tree: Any, which: slice) -> Any:
    return tree_map(lambda t: t[which], tree)


def _copied(state: State) -> State:
    """A step may write into what it is given."""
    return State(*({name: t.clone() for name, t in part.items()} for part in state))
