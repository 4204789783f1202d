"""What a family of networks is: a branch of the space, and a module for each point of it."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from keyword import iskeyword
from typing import Any, Protocol

import torch
from torch import nn

from nastavnik.errors import UserError
from nastavnik.fields import Entry
from nastavnik.nets._conduct import Conduct, observed
from nastavnik.nets._embedding import Bins, Span, quantile_bins, target_bins
from nastavnik.nets._standard import Standard
from nastavnik.nets.initializers import INITIALIZERS, OUTPUTS
from nastavnik.recipe import Value
from nastavnik.space import Choice, Node, Number, Space
from nastavnik.training.optimizers import DECAY, OPTIMIZERS, RATE

_DTYPES = {"picture": torch.uint8, "tokens": torch.int32, "array": torch.float32}


@dataclass(frozen=True)
class Signature:
    """What a network takes in and gives out.

    ``numbers`` float inputs, ``cardinalities`` of the category inputs, ``outputs`` the likelihood asks for;
    ``distinct`` is how many distinct values each number input has, which bounds its embedding; ``bags`` are those
    ranges of the number inputs, at their end, that hold the weighed words of a text each;
    ``examples`` are training rows for data-dependent parts, what ``forward`` takes (numbers [n, numbers],
    categories [n, c] and the fields), None when weights are loaded anyway. ``entries`` are the fields: pictures, texts
    as tokens, arrays. ``answers`` [n, m] are the examples' targets as numbers, or an indicator for each class.
    Signatures are equal where networks of the one can be built for the other.
    """

    numbers: int
    cardinalities: tuple[int, ...]
    outputs: int
    distinct: tuple[int, ...]
    examples: tuple[torch.Tensor, ...] | None = field(default=None, compare=False)
    bags: tuple[tuple[int, int], ...] = ()
    entries: tuple[Entry, ...] = ()
    answers: torch.Tensor | None = field(default=None, compare=False)
    _bins: dict[tuple[int, str], Bins] = field(default_factory=dict, init=False, repr=False, compare=False)

    def bins(self, most: int, edges: str) -> Bins | None:
        """Bins of the plain number inputs, by "quantile" or "target"; fitted once for all networks of the rows."""
        if self.examples is None:
            return None
        if (most, edges) not in self._bins:
            numbers, distinct = self.examples[0][:, : self.plain], self.distinct[: self.plain]
            if edges == "target" and self.answers is not None:
                self._bins[most, edges] = target_bins(most, distinct, numbers, self.answers)
            else:
                self._bins[most, edges] = quantile_bins(most, distinct, numbers)
        return self._bins[most, edges]

    @cached_property
    def span(self) -> Span | None:
        """The least and the greatest of each plain number input."""
        if self.examples is None:
            return None
        numbers = self.examples[0][:, : self.plain]
        return numbers.amin(0), numbers.amax(0)

    @property
    def plain(self) -> int:
        """How many of the number inputs, from the first, are no words of texts."""
        return self.bags[0][0] if self.bags else self.numbers


class Family(Protocol):
    """A kind of network.

    ``space(rows, inputs, sorts)`` is its branch: what hangs below ``network.family``, and the ranges of training
    settings that suit it. ``build`` makes one module with ``forward(numbers, categories, *fields) -> outputs`` from the
    recipe's network section; its initial weights come from torch's current random state, which the engine seeds.
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
    def needs(self) -> str:
        """The sort of field that it is for ("picture", "tokens"), or "" for any table."""
        ...

    @property
    def linear(self) -> bool:
        """Whether its networks are linear models, which are preferred where nothing else is shown to be better."""
        ...

    def space(self, rows: int, inputs: int, sorts: Collection[str] = ()) -> Space:
        """The family's branch for a table of so many training rows and inputs, and what sorts of fields it has."""
        ...

    def build(self, settings: Mapping[str, Value], signature: Signature) -> nn.Module:
        """One network."""
        ...


class _Given(nn.Module):
    """Feeds a user's module: one float tensor of a plain table, or each input by its name.

    Numbers and one-hot categories are one tensor, ``numbers``. Pictures come as float32 [rows, channels, height,
    width], by channel of mean 0 and deviation 1 over training rows, arrays likewise, texts as int64 tokens (0 fills
    up). What is the only input is given without a name.
    """

    def __init__(self, module: nn.Module, signature: Signature) -> None:
        super().__init__()
        self.module = module
        self.cardinalities = signature.cardinalities
        self.names = tuple(_python_name(entry.name) for entry in signature.entries)
        self.numbers = signature.numbers + sum(signature.cardinalities) > 0
        examples = signature.examples
        self.fields = nn.ModuleList(
            nn.Identity() if e.sort == "tokens" else Standard(e, None if examples is None else examples[2 + i])
            for i, e in enumerate(signature.entries)
        )
        self.conduct = Conduct()  # so that in evaluation the same rows have the same answer

    def forward(self, numbers: torch.Tensor, categories: torch.Tensor, *fields: torch.Tensor) -> torch.Tensor:
        parts = [numbers]
        for j, size in enumerate(self.cardinalities):
            # comparing is one-hot that vmap can batch
            parts.append((categories[:, j, None] == torch.arange(size, device=numbers.device)).to(numbers.dtype))
        given = [torch.cat(parts, dim=1)] if self.numbers or not self.names else []
        for layer, x in zip(self.fields, fields, strict=True):
            given.append(layer(x) if isinstance(layer, Standard) else x.long())
        names = (*(("numbers",) if self.numbers else ()), *self.names)
        module = self.module if len(given) == 1 else _Named(self.module, names)
        out = self.conduct.answer(module, tuple(given), None if self.training else 0)
        if not isinstance(out, torch.Tensor):
            raise UserError(f"the module must give a tensor of outputs, but gave {type(out).__name__}")
        return out if out.ndim == 2 else out.reshape(len(numbers), -1)


class _Named(nn.Module):
    """A module that is given its inputs by name."""

    def __init__(self, module: nn.Module, names: tuple[str, ...]) -> None:
        super().__init__()
        self.module, self.names = module, names
        self.training = module.training

    def forward(self, *given: torch.Tensor) -> torch.Tensor:
        return self.module(**dict(zip(self.names, given, strict=True)))


def _python_name(name: str) -> str:
    """A column's name as an argument's."""
    plain = re.sub(r"\W", "_", name)
    return plain if plain.isidentifier() and not iskeyword(plain) else f"_{plain}"


def _widths(signature: Signature) -> Any:
    """What a factory is told of the inputs: their number, one field's shape, or both by name.

    A picture's shape is (channels, height, width), that of tokens (length, how many words there are).
    """
    width = signature.numbers + sum(signature.cardinalities)
    if not signature.entries:
        return width
    shapes: dict[str, Any] = {"numbers": width} if width else {}
    for e in signature.entries:
        shape = (e.shape[2], *e.shape[:2]) if e.sort == "picture" else e.shape
        shapes[_python_name(e.name)] = (*shape, e.levels) if e.sort == "tokens" else shape
    return next(iter(shapes.values())) if len(shapes) == 1 else shapes


@dataclass(frozen=True)
class Factory:
    """A user's own module factory ``make(inputs, outputs) -> nn.Module`` as a family.

    Of a plain table ``inputs`` is a number: the module takes one float tensor [rows, inputs], categories one-hot at its
    end, and gives [rows, outputs] (logits for classes). Of a table of one picture (or array) a row it is its shape; of
    several inputs a dictionary of them, and the module's ``forward`` is given each by its column's name.
    """

    make: Callable[[Any, int], nn.Module]
    name: str = "factory"
    linear: bool = False
    needs: str = ""
    small: Mapping[str, Value] = field(default_factory=dict)

    def space(self, rows: int, inputs: int, sorts: Collection[str] = ()) -> Space:
        """A user's module brings its own settings; only its training is searched."""
        return Space({"optimizer.name": optimizer_choice()}, optional=initialization_nodes())

    def build(self, settings: Mapping[str, Value], signature: Signature) -> nn.Module:
        """Call the factory.

        Raises:
            UserError: what comes back is no module, or gives the wrong number of outputs.
        """
        width = _widths(signature)
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
        network = _Given(module, signature)
        self._try(network, signature)
        return network

    def _try(self, network: _Given, signature: Signature) -> None:
        was = network.training
        network.eval()
        numbers = torch.zeros(2, signature.numbers)
        categories = torch.zeros(2, len(signature.cardinalities), dtype=torch.long)
        fields = [torch.zeros(2, *e.shape, dtype=_DTYPES[e.sort]) for e in signature.entries]
        others = [(x + 1).to(x.dtype) for x in fields]
        try:
            with torch.no_grad():
                shape = tuple(network(numbers, categories, *fields).shape)
                _, conduct = observed(network, (numbers, categories, *fields), (numbers + 1, categories, *others))
        except UserError:
            raise
        except Exception as error:
            name, width = type(network.module).__name__, _widths(signature)
            what = f"{width} numbers" if isinstance(width, int) else f"inputs {width}"
            raise UserError(f"the module {name} fails on 2 rows of {what}: {error}") from error
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
