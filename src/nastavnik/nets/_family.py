"""What a family of networks is: a branch of the space, and a module for each point of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import nn

from nastavnik.errors import UserError
from nastavnik.nets._conduct import Conduct, observed
from nastavnik.nets.initializers import INITIALIZERS, OUTPUTS
from nastavnik.recipe import Value
from nastavnik.space import Choice, Node, Number, Space
from nastavnik.training.optimizers import DECAY, OPTIMIZERS, RATE


@dataclass(frozen=True)
class Signature:
    """What a network takes in and gives out.

    ``numbers`` float inputs, ``cardinalities`` of the category inputs, ``outputs`` the likelihood asks for;
    ``distinct`` is how many distinct values each number input has, which bounds its embedding; ``bags`` are those
    ranges of the number inputs, at their end, that hold the weighed words of a text each;
    ``examples`` are training rows for data-dependent parts, what ``forward`` takes (numbers [n, numbers] and
    categories [n, c]), None when weights are loaded anyway.
    """

    numbers: int
    cardinalities: tuple[int, ...]
    outputs: int
    distinct: tuple[int, ...]
    examples: tuple[torch.Tensor, ...] | None = None
    bags: tuple[tuple[int, int], ...] = ()

    @property
    def plain(self) -> int:
        """How many of the number inputs, from the first, are no words of texts."""
        return self.bags[0][0] if self.bags else self.numbers


class Family(Protocol):
    """A kind of network.

    ``space(rows, inputs)`` is its branch: what hangs below ``network.family``, and the ranges of training settings
    that suit it. ``build`` makes one module with ``forward(numbers, categories) -> outputs`` from the recipe's
    network section; its initial weights come from torch's current random state, which the engine seeds.
    """

    @property
    def small(self) -> Mapping[str, Value]:
        """The settings of a network small enough for second-order optimizers."""
        ...

    @property
    def name(self) -> str:
        """What the recipe calls it."""
        ...

    @property
    def linear(self) -> bool:
        """Whether its networks are linear models, which are preferred where nothing else is shown to be better."""
        ...

    def space(self, rows: int, inputs: int) -> Space:
        """The family's branch for a table of so many training rows and inputs."""
        ...

    def build(self, settings: Mapping[str, Value], signature: Signature) -> nn.Module:
        """One network."""
        ...


class _OneTensor(nn.Module):
    """Feeds a module that takes one float tensor: numbers, then categories one-hot."""

    def __init__(self, module: nn.Module, cardinalities: tuple[int, ...]) -> None:
        super().__init__()
        self.module = module
        self.cardinalities = cardinalities
        self.conduct = Conduct()  # so that in evaluation the same rows have the same answer

    def forward(self, numbers: torch.Tensor, categories: torch.Tensor) -> torch.Tensor:
        parts = [numbers]
        for j, size in enumerate(self.cardinalities):
            # comparing is one-hot that vmap can batch
            parts.append((categories[:, j, None] == torch.arange(size, device=numbers.device)).to(numbers.dtype))
        out = self.conduct.answer(self.module, (torch.cat(parts, dim=1),), None if self.training else 0)
        if not isinstance(out, torch.Tensor):
            raise UserError(f"the module must give a tensor of outputs, but gave {type(out).__name__}")
        return out if out.ndim == 2 else out.reshape(len(numbers), -1)


@dataclass(frozen=True)
class Factory:
    """A user's own module factory ``make(inputs, outputs) -> nn.Module`` as a family.

    The module takes one float tensor [rows, inputs], categories one-hot at its end, and gives [rows, outputs]
    (logits for classes).
    """

    make: Callable[[int, int], nn.Module]
    name: str = "factory"
    linear: bool = False
    small: Mapping[str, Value] = field(default_factory=dict)

    def space(self, rows: int, inputs: int) -> Space:
        """A user's module brings its own settings; only its training is searched."""
        return Space({"optimizer.name": optimizer_choice()}, optional=initialization_nodes())

    def build(self, settings: Mapping[str, Value], signature: Signature) -> nn.Module:
        """Call the factory.

        Raises:
            UserError: what comes back is no module, or gives the wrong number of outputs.
        """
        width = signature.numbers + sum(signature.cardinalities)
        try:
            module = self.make(width, signature.outputs)
        except UserError:
            raise
        except Exception as error:
            raise UserError(
                f"the module factory fails for {width} inputs and {signature.outputs} outputs: {error}"
            ) from error
        if not isinstance(module, nn.Module):
            raise UserError(f"the module factory must return a torch.nn.Module, but gave {type(module).__name__}")
        network = _OneTensor(module, signature.cardinalities)
        self._try(network, signature)
        return network

    def _try(self, network: _OneTensor, signature: Signature) -> None:
        was = network.training
        network.eval()
        numbers = torch.zeros(2, signature.numbers)
        categories = torch.zeros(2, len(signature.cardinalities), dtype=torch.long)
        try:
            with torch.no_grad():
                shape = tuple(network(numbers, categories).shape)
                _, conduct = observed(network, (numbers, categories), (numbers + 1, categories))
        except UserError:
            raise
        except Exception as error:
            name, width = type(network.module).__name__, signature.numbers + sum(signature.cardinalities)
            raise UserError(f"the module {name} fails on 2 rows of {width} numbers: {error}") from error
        network.conduct = conduct
        network.train(was)
        if shape != (2, signature.outputs):
            raise UserError(
                f"the module must give {signature.outputs} outputs a row, shape (2, {signature.outputs}) for 2 rows, "
                f"but gave {shape}"
            )


def optimizer_choice(rate: Number = RATE, decay: Number = DECAY) -> Choice:
    """Which optimizer, with ranges of rate and decay scaled to suit it; a search draws AdamW unless told."""
    branches: dict[Value, Space] = {name: optimizer.space(rate, decay) for name, optimizer in OPTIMIZERS.items()}
    return Choice(branches, default="adamw", searched=("adamw",))


def initialization_nodes() -> dict[str, Node]:
    """What may be pinned of a family's initialization; its own is left alone unless something is."""
    return {
        "initialization.name": Choice.of(*INITIALIZERS, default="matched"),
        "initialization.gain": Number(0.25, 4.0, log=True, default=1.0),
        "initialization.output": Choice.of(*OUTPUTS, default="small"),
    }
