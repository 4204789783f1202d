"""The contract of an optimizer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar, Protocol

import torch

from nastavnik.recipe import Value
from nastavnik.space import Choice, Node, Number, Space, around

Tensors = dict[str, torch.Tensor]

RATE = Number(5e-4, 2e-2, log=True, default=3e-3)  # what suits Adam; each optimizer has its scale
DECAY = Number(1e-4, 0.3, log=True, default=1e-2)  # what suits decoupled decay


class Problem(Protocol):
    """What an optimizer may ask of one network at one step, as functions of its parameters.

    All of them see the same rows and the same noise, so that within a step the objective is one fixed function:
    the mean training loss of the rows, penalties included. ``loss_only`` names the parameters that act on the loss and
    not on the outputs, such as a learned noise.
    """

    loss_only: tuple[str, ...]

    def penalty(self, parameters: Tensors) -> torch.Tensor:
        """The part of the objective that is a penalty on each weight by itself, a scalar."""
        ...

    def gradients(self, parameters: Tensors) -> Tensors:
        """The objective's gradient."""
        ...

    def objective(self, parameters: Tensors) -> torch.Tensor:
        """The objective, a scalar."""
        ...

    def row_losses(self, parameters: Tensors) -> torch.Tensor:
        """The training loss of each row [n], without penalties."""
        ...

    def outputs(self, parameters: Tensors) -> torch.Tensor:
        """The network's outputs [n, o]."""
        ...

    def losses_of(self, outputs: torch.Tensor, parameters: Tensors) -> torch.Tensor:
        """The training loss of each row [n] as a function of the outputs [n, o]."""
        ...


class Optimizer(ABC):
    """A rule that moves the parameters of ONE network; a population runs it for K.

    ``settings`` names the numbers it takes, with their defaults; each is a tensor, one value a network.
    ``choices`` are settings that belong to the shape (words, whole numbers, booleans), with their options, the first
    the default. A step is pure: it returns new parameters and a new state and leaves its arguments alone.
    """

    name: ClassVar[str]
    formula: ClassVar[str]
    prefer: ClassVar[str]
    source: ClassVar[str]
    settings: ClassVar[Mapping[str, float]]
    choices: ClassVar[Mapping[str, tuple[Value, ...]]] = {}
    rate_scale: ClassVar[float] = 1.0  # its usual learning rate over Adam's
    decay_scale: ClassVar[float] = 1.0  # its usual weight decay over AdamW's
    searched: ClassVar[Mapping[str, Node]] = {}  # what a search draws beside rate and decay
    noisy: ClassVar[bool] = False  # whether it draws from settings["noise"], the network's own stream

    def __init__(self, options: Mapping[str, Value]) -> None:
        """``options``: the recipe's optimizer section, of which ``choices`` are taken."""
        self.options = {name: options.get(name, values[0]) for name, values in self.choices.items()}

    @classmethod
    def space(cls, rate: Number = RATE, decay: Number = DECAY) -> Space:
        """What hangs below ``optimizer.name``: rate and decay in ranges that suit it, the rest when it is pinned."""
        nodes: dict[str, Node] = {"optimizer.learning_rate": _scaled(rate, cls.rate_scale)}
        if "weight_decay" in cls.settings:
            nodes["optimizer.weight_decay"] = _scaled(decay, cls.decay_scale)
        nodes |= {f"optimizer.{name}": node for name, node in cls.searched.items()}
        optional: dict[str, Node] = {
            f"optimizer.{name}": around(name, value) for name, value in cls.settings.items()
        } | {f"optimizer.{name}": Choice.of(*values, default=values[0]) for name, values in cls.choices.items()}
        return Space(nodes, optional={name: node for name, node in optional.items() if name not in nodes})

    @abstractmethod
    def init(self, parameters: Tensors) -> Tensors:
        """The state before the first step, a flat dict of tensors."""

    @abstractmethod
    def step(self, problem: Problem, state: Tensors, parameters: Tensors, settings: Tensors) -> tuple[Tensors, Tensors]:
        """One step: (new parameters, new state).

        ``settings`` holds scalars, the learning rate already scheduled; "progress" is the share of training done.
        """

    def evaluated(self, state: Tensors, parameters: Tensors, settings: Tensors) -> Tensors:
        """The parameters to be judged and delivered: those in training, unless the method averages."""
        return parameters

    @property
    def averages(self) -> bool:
        """Whether ``evaluated`` differs from the parameters in training."""
        return False

    def bytes(self, parameters: int, rows: int, outputs: int, itemsize: int = 4) -> int:
        """What a step of one network takes beyond its gradient, beside the slots of its state.

        Args:
            parameters: how many the network has.
            rows: of a batch.
            outputs: a row.
            itemsize: bytes of a number.
        """
        return 0


class FirstOrder(Optimizer):
    """An optimizer that needs one gradient a step, as a rule for one parameter at a time.

    Weight decay spares vectors and scalars (biases, normalization scales, a learned noise): only tensors of two or
    more dimensions decay. ``coupled`` decay is added to the gradient, decoupled decay shrinks the weight itself;
    ``None`` leaves it to the rule.

    A setting such as ``learning_rate@bias`` takes the place of ``learning_rate`` for the parameters of one kind
    (weight, bias, scale) or whose name matches a pattern (``learning_rate@*.output.*``).
    """

    slots: ClassVar[tuple[str, ...]] = ()
    coupled: ClassVar[bool | None] = True
    elementwise: ClassVar[bool] = False  # whether the rule treats each number alike, whatever tensor it stands in

    def init(self, parameters: Tensors) -> Tensors:
        """The number of steps, and each parameter's slots."""
        some = next(iter(parameters.values()))
        state = {"steps": torch.zeros((), dtype=some.dtype, device=some.device)}
        for name, p in parameters.items():
            state |= {f"{slot}.{name}": self.start(slot, p) for slot in self.slots}
        return state

    def start(self, slot: str, parameter: torch.Tensor) -> torch.Tensor:
        """A slot before the first step."""
        return torch.zeros_like(parameter)

    def shared(self, steps: torch.Tensor, s: Tensors) -> Tensors:
        """What the step number (from 1) and the settings say to all parameters alike, computed once."""
        return {}

    @abstractmethod
    def rule(
        self, w: torch.Tensor, g: torch.Tensor, slots: Tensors, s: Tensors, common: Tensors
    ) -> tuple[torch.Tensor, Tensors]:
        """(new parameter, new slots) from a parameter, its gradient, its slots, the settings and what is shared."""

    def step(self, problem: Problem, state: Tensors, parameters: Tensors, settings: Tensors) -> tuple[Tensors, Tensors]:
        """See ``Optimizer``."""
        return self.update(problem.gradients(parameters), state, parameters, settings)

    def update(
        self, gradients: Tensors, state: Tensors, parameters: Tensors, settings: Tensors
    ) -> tuple[Tensors, Tensors]:
        """One step of every parameter from its gradient."""
        steps = state["steps"] + 1
        new_parameters: Tensors = {}
        new_state: Tensors = {"steps": steps}
        groups: dict[tuple[str, ...], tuple[Tensors, Tensors]] = {}
        for name, w in parameters.items():
            special = tuple(key for key in settings if "@" in key and concerns(key.split("@")[1], name, w))
            if special not in groups:
                s = {**settings, **{key.split("@")[0]: settings[key] for key in special}}
                groups[special] = s, self.shared(steps, s)
            s, common = groups[special]
            g = gradients[name]
            if decays(w) and self.coupled is not None:
                if self.coupled:
                    g = g + s["weight_decay"] * w
                else:
                    w = w * (1 - s["learning_rate"] * s["weight_decay"])
            own = {slot: state[f"{slot}.{name}"] for slot in self.slots}
            new_parameters[name], own = self.rule(w, g, own, s, common)
            new_state |= {f"{slot}.{name}": t for slot, t in own.items()}
        return new_parameters, new_state


def updated_at_once(
    optimizer: FirstOrder, gradients: Tensors, state: Tensors, parameters: Tensors, settings: Tensors
) -> tuple[Tensors, Tensors]:
    """``optimizer.update`` with all parameters side by side in one row: fewer and longer operations, the same numbers.

    For an elementwise rule run eagerly; parameters that decay, and those that do not, are a row each.
    """
    if any("@" in key for key in settings):
        return optimizer.update(gradients, state, parameters, settings)
    rows: dict[bool, list[str]] = {}
    for name, w in parameters.items():
        rows.setdefault(decays(w), []).append(name)
    steps = state["steps"] + 1
    common, found, new = optimizer.shared(steps, settings), {}, {"steps": steps}
    for decaying, names in rows.items():

        def row(tensors: Sequence[torch.Tensor]) -> torch.Tensor:
            return torch.cat([t.reshape(-1) for t in tensors])

        w, g = row([parameters[n] for n in names]), row([gradients[n] for n in names])
        if decaying and optimizer.coupled:
            g = g + settings["weight_decay"] * w
        elif decaying and optimizer.coupled is not None:
            w = w * (1 - settings["learning_rate"] * settings["weight_decay"])
        own = {slot: row([state[f"{slot}.{n}"] for n in names]) for slot in optimizer.slots}
        w, own = optimizer.rule(w, g, own, settings, common)
        start = 0
        for n in names:
            shape, stop = parameters[n].shape, start + parameters[n].numel()
            found[n] = w[start:stop].view(shape)
            new |= {f"{slot}.{n}": t[start:stop].view(shape) for slot, t in own.items()}
            start = stop
    return {name: found[name] for name in parameters}, {name: new[name] for name in state}


def decays(parameter: torch.Tensor) -> bool:
    """Whether penalties and weight decay touch this parameter: a matrix, not a bias or a scale."""
    return parameter.ndim >= 2


def kind_of(name: str, parameter: torch.Tensor) -> str:
    """weight, bias or scale."""
    if decays(parameter):
        return "weight"
    return "bias" if name.rsplit(".", 1)[-1] == "bias" else "scale"


def concerns(pattern: str, name: str, parameter: torch.Tensor) -> bool:
    """Whether a kind or a pattern of names means this parameter."""
    from fnmatch import fnmatchcase

    return pattern == kind_of(name, parameter) or fnmatchcase(name, pattern)


def _scaled(node: Number, scale: float) -> Number:
    from dataclasses import replace

    default = None if node.default is None else node.default * scale
    return replace(node, low=node.low * scale, high=node.high * scale, default=default)
