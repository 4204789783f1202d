"""The contract of a wrapper: something put round a first-order optimizer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch

from nastavnik.errors import UserError
from nastavnik.recipe import Value
from nastavnik.training.optimizers._base import FirstOrder, Optimizer, Problem, Tensors


class Wrapper(Optimizer):
    """Changes what a first-order optimizer gets or gives.

    A recipe that names the wrapper's first setting (``optimizer.clip_norm``) puts it round its optimizer; a population
    of networks with and without it does not exist, but a value may switch it off for some (see each wrapper). Its own
    state stands under its name with a slash. ``around`` are the optimizer's settings without which it is refused.
    """

    around: ClassVar[Mapping[str, Value]] = {}
    by_parameter: ClassVar[tuple[str, ...]] = ()  # settings that some parameters may have of their own

    def __init__(self, inner: FirstOrder | Wrapper, options: Mapping[str, Value]) -> None:
        super().__init__(options)
        self.inner = inner

    def init(self, parameters: Tensors) -> Tensors:
        """The inner optimizer's state and its own."""
        own = {f"{self.name}/{name}": t for name, t in self.slots_of(parameters).items()}
        return {**self.inner.init(parameters), **own}

    def slots_of(self, parameters: Tensors) -> Tensors:
        """Its own state before the first step."""
        return {}

    def step(self, problem: Problem, state: Tensors, parameters: Tensors, settings: Tensors) -> tuple[Tensors, Tensors]:
        """See ``Optimizer``."""
        return self.update(problem.gradients(parameters), state, parameters, settings)

    def update(
        self, gradients: Tensors, state: Tensors, parameters: Tensors, settings: Tensors
    ) -> tuple[Tensors, Tensors]:
        """One step from the gradient: the inner one, unless the wrapper does more."""
        return self.inner.update(gradients, state, parameters, settings)

    def own(self, state: Tensors) -> Tensors:
        """Its own part of the state, without its name."""
        start = f"{self.name}/"
        return {name.removeprefix(start): t for name, t in state.items() if name.startswith(start)}

    def joined(self, inner: Tensors, own: Tensors) -> Tensors:
        """The inner state and its own together."""
        return {**inner, **{f"{self.name}/{name}": t for name, t in own.items()}}

    @property
    def averages(self) -> bool:
        """Whether it or what it wraps averages."""
        return self.inner.averages

    def evaluated(self, state: Tensors, parameters: Tensors, settings: Tensors) -> Tensors:
        """What the inner optimizer evaluates."""
        return self.inner.evaluated(state, parameters, settings)


def wrapped(optimizer: Optimizer, options: Mapping[str, Value], wrappers: Mapping[str, type[Wrapper]]) -> Optimizer:
    """The optimizer inside every wrapper that the recipe names, in the order of the table, the last outermost.

    Raises:
        UserError: a wrapper round a second-order optimizer.
    """
    for name, wrapper in wrappers.items():
        if name in options:
            if not isinstance(optimizer, (FirstOrder, Wrapper)):
                raise UserError(f"optimizer.{name} goes round first-order optimizers only, not {optimizer.name}")
            optimizer = wrapper(optimizer, options)
    return optimizer


def length(tensors: Tensors) -> torch.Tensor:
    """Euclidean length of all tensors together."""
    return torch.stack([t.square().sum() for t in tensors.values()]).sum().sqrt()
