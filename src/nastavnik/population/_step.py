"""The step: what training does to ONE network, as a pure function."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.func import functional_call, grad

from nastavnik.instruments import Instrument, Moment, plain_grad
from nastavnik.nets import PROGRESS, Function, is_activation
from nastavnik.noise import Noise, stream_of
from nastavnik.population._learner import Learner
from nastavnik.training import NOISE, Method
from nastavnik.training.optimizers import FirstOrder, Tensors, updated_at_once
from nastavnik.training.regularizers import Batch, Context, Loss, Regularizer
from nastavnik.training.schedules import Time

_NETWORK = "network."  # what the network's tensors are called inside a learner


class State(NamedTuple):
    """Everything of one network that a step changes."""

    parameters: Tensors
    buffers: Tensors
    optimizer: Tensors


Step = Callable[[State, Batch, Tensors, Time], tuple[State, Tensors]]
Objective = Callable[[Tensors], tuple[torch.Tensor, Any]]


def make_step(
    learner: Learner,
    shared: Tensors,
    method: Method,
    instruments: Mapping[str, Instrument],
    *,
    alone: bool = False,
    eager: bool = False,
) -> Step:
    """Bind what belongs to the shape; what comes back is ``(state, batch, settings, time) -> (state, measures)``.

    Args:
        learner: the module whose code runs; its own tensors are not used.
        shared: tensors that all networks of the population have in common.
        method: optimizer, schedule and regularizers.
        instruments: what to measure beside the loss.
        alone: the step is run outside of transforms such as vmap, by autograd's own tape.
        eager: it is run as it stands, not traced.
    """
    watched: list[torch.Tensor] = []
    if any(regularizer.watches for regularizer in method.regularizers):
        learner = _watching(learner, watched)
    losses = (_Direct if alone else _Functional)(learner, shared)
    differentiate = plain_grad if alone else grad
    optimizer = method.optimizer
    at_once = eager and isinstance(optimizer, FirstOrder) and optimizer.elementwise
    timed = [name for name in tensors_named(learner) if name.endswith(PROGRESS)]

    def step(state: State, batch: Batch, settings: Tensors, time: Time) -> tuple[State, Tensors]:
        now = method.at(settings, time)
        buffers = {**state.buffers, **{name: time.progress.to(state.buffers[name].dtype) for name in timed}}
        noise = Noise(settings[NOISE] if NOISE in settings else time.step.to(torch.int32), time.step)
        if learner.draws:
            losses.learner.moment = stream_of(int(noise.stream), f"step {int(noise.step)}")
        context = Context(now.regularization, noise, watched)
        problem = _Problem(losses, method.regularizers, context, buffers, batch, differentiate)
        if at_once and isinstance(optimizer, FirstOrder):
            gradients = problem.gradients(state.parameters)
            parameters, slots = updated_at_once(optimizer, gradients, state.optimizer, state.parameters, now.optimizer)
        else:
            parameters, slots = optimizer.step(problem, state.optimizer, state.parameters, now.optimizer)
        parameters = method.after(parameters, state.parameters, now)
        gradients, loss, buffers = problem.seen(state.parameters)
        moment = Moment(gradients, state.parameters, parameters)
        measures = {"training loss": loss, **{name: measure(moment) for name, measure in instruments.items()}}
        return State(parameters, buffers, slots), measures

    return step


class _Problem:
    """One network's objective on the rows of one step; see ``training.optimizers.Problem``."""

    def __init__(
        self,
        losses: _Functional | _Direct,
        regularizers: tuple[Regularizer, ...],
        context: Context,
        buffers: Tensors,
        batch: Batch,
        differentiate: Callable[..., Any],
    ) -> None:
        self._losses, self._regularizers, self._context = losses, regularizers, context
        self._buffers, self._batch, self._differentiate = buffers, batch, differentiate
        self._seen: tuple[Tensors, torch.Tensor, Tensors] | None = None
        self.loss_only = losses.loss_only

    def seen(self, parameters: Tensors) -> tuple[Tensors, torch.Tensor, Tensors]:
        """The first gradient taken, the training loss then (penalties left out), and the buffers it changed."""
        if self._seen is None:
            self.gradients(parameters)
        assert self._seen is not None
        return self._seen

    def gradients(self, parameters: Tensors) -> Tensors:
        """The objective's gradient."""
        gradients, (loss, buffers) = self._differentiate(self._objective, has_aux=True)(parameters)
        gradients = {name: g.to_dense() if g.is_sparse else g for name, g in gradients.items()}
        if self._seen is None:
            self._seen = gradients, loss, buffers
        return gradients

    def objective(self, parameters: Tensors) -> torch.Tensor:
        """The mean training loss, penalties included."""
        return self._objective(parameters)[0]

    def penalty(self, parameters: Tensors) -> torch.Tensor:
        """Penalties on weights alone."""
        return weight_penalty(self._regularizers, self._context, parameters, self._batch)

    def row_losses(self, parameters: Tensors) -> torch.Tensor:
        """Losses [n], without penalties."""
        return self._losses({**parameters, **self._fresh()}, self._batch)

    def outputs(self, parameters: Tensors) -> torch.Tensor:
        """Outputs [n, o]."""
        return self._losses.outputs({**parameters, **self._fresh()}, self._batch)

    def losses_of(self, outputs: torch.Tensor, parameters: Tensors) -> torch.Tensor:
        """Losses [n] of outputs [n, o]."""
        return self._losses.of_outputs({**parameters, **self._fresh()}, outputs, self._batch.targets)

    def _fresh(self) -> Tensors:
        return {name: buffer.clone() for name, buffer in self._buffers.items()}

    def _objective(self, parameters: Tensors) -> tuple[torch.Tensor, tuple[torch.Tensor, Tensors]]:
        first: list[tuple[torch.Tensor, Tensors]] = []  # some regularizers ask for the loss more than once

        def loss(parameters: Tensors, batch: Batch) -> torch.Tensor:
            self._context.activations.clear()
            given = {**parameters, **self._fresh()}
            value = self._losses(given, batch).mean()
            first.append((value.detach(), {name: _alone(given[name]) for name in self._buffers}))
            return value

        whole: Loss = loss
        for regularizer in self._regularizers:
            whole = regularizer.around(whole, self._context)
        return whole(parameters, self._batch), first[0]


def _alone(t: torch.Tensor) -> torch.Tensor:
    """The value, without what it was computed from, that the next step starts from."""
    return t.detach() if t.requires_grad else t


def weight_penalty(
    regularizers: tuple[Regularizer, ...], context: Context, parameters: Tensors, batch: Batch
) -> torch.Tensor:
    """The sum of those penalties that are of one weight each."""
    nothing = next(iter(parameters.values())).sum() * 0
    whole: Loss = lambda parameters, batch: nothing  # noqa: E731
    for regularizer in regularizers:
        whole = regularizer.around(whole, context) if regularizer.by_weight else whole
    return whole(parameters, batch)


def _watching(learner: Learner, seen: list[torch.Tensor]) -> Learner:
    """A copy whose activations write down what they say."""
    learner = copy.deepcopy(learner)
    inside = {id(part) for m in learner.modules() if is_activation(m) for part in m.modules() if part is not m}
    for module in learner.modules():
        if is_activation(module) and id(module) not in inside:  # the ends of a blend speak through it
            module.register_forward_hook(lambda module, inputs, output: seen.append(output))
    return learner


def tensors_named(module: nn.Module) -> list[str]:
    """Names of all buffers."""
    return [name for name, _ in module.named_buffers()]


class _Functional:
    """The learner's losses with given tensors; a buffer that the module assigns anew is anew in them."""

    def __init__(self, learner: Learner, shared: Tensors) -> None:
        self.learner, self.shared, self.function = learner, shared, Function(learner)
        self.head = _head(learner)
        self.loss_only = tuple(n for n, _ in learner.named_parameters() if not n.startswith(_NETWORK))

    def __call__(self, tensors: Tensors, batch: Batch) -> torch.Tensor:
        return self._call(tensors, batch.inputs, _kept(batch))

    def outputs(self, tensors: Tensors, batch: Batch) -> torch.Tensor:
        """Outputs [n, o]."""
        return self._call(tensors, batch.inputs, {})

    def of_outputs(self, tensors: Tensors, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Losses [n] of outputs [n, o]."""
        own = {n: t for n, t in {**self.shared, **tensors}.items() if not n.startswith(_NETWORK)}
        return functional_call(self.head, own, (outputs,), {"targets": targets})

    def _call(self, tensors: Tensors, inputs: tuple[torch.Tensor, ...], options: Tensors) -> torch.Tensor:
        if not self.shared:
            return self.function(tensors, inputs, options)
        given = {**self.shared, **tensors}
        losses = self.function(given, inputs, options)
        tensors.update({name: given[name] for name in tensors})
        return losses


class _Direct:
    """The same, the tensors put straight into a copy of the module, which costs a tenth of a millisecond less."""

    def __init__(self, learner: Learner, shared: Tensors) -> None:
        self.learner = copy.deepcopy(learner)
        self.head = _head(self.learner)
        self.loss_only = tuple(n for n, _ in learner.named_parameters() if not n.startswith(_NETWORK))
        names = {id(t): name for name, t in (*self.learner.named_parameters(), *self.learner.named_buffers())}
        places = [
            (names[id(t)], module, key)
            for module in self.learner.modules()
            for key, t in (*module.named_parameters(recurse=False), *module.named_buffers(recurse=False))
        ]
        for name, module, key in places:
            if key not in dict(module.named_buffers(recurse=False)):
                delattr(module, key)  # a registered parameter would refuse a plain tensor
            setattr(module, key, shared.get(name))
        self.places = [place for place in places if place[0] not in shared]
        self.buffers = [place for place in self.places if place[2] in place[1]._buffers]

    def __call__(self, tensors: Tensors, batch: Batch) -> torch.Tensor:
        self._put(tensors)
        losses = self.learner(*batch.inputs, **_kept(batch))
        for name, module, key in self.buffers:
            tensors[name] = getattr(module, key)
        return losses

    def outputs(self, tensors: Tensors, batch: Batch) -> torch.Tensor:
        """Outputs [n, o]."""
        self._put(tensors)
        return self.learner(*batch.inputs)

    def of_outputs(self, tensors: Tensors, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Losses [n] of outputs [n, o]."""
        self._put(tensors)
        return self.head(outputs, targets=targets)

    def _put(self, tensors: Tensors) -> None:
        for name, module, key in self.places:
            setattr(module, key, tensors[name])


def _head(learner: Learner) -> Learner:
    """The same likelihood and loss, for outputs that are already there."""
    return Learner(nn.Identity(), learner.likelihood, learner.loss)


def _kept(batch: Batch) -> Tensors:
    """Targets and partners, as far as there are any."""
    named = {"targets": batch.targets, "partners": batch.partners, "share": batch.share}
    return {name: t for name, t in named.items() if t is not None}
