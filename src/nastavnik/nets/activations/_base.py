"""The contract of an activation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import nn

from nastavnik.recipe import Value
from nastavnik.space import Choice, Node, Number, Space

_INFINITE = float("inf")


class Activation(nn.Module):
    """A function of one number, applied to every element.

    ``range`` is the interval its values lie in; ``zero_centred`` whether they are of both signs; ``largest_derivative``
    the steepest slope (at the default numbers); ``initialization`` the initializer that keeps its variance.
    ``settings`` become buffers that may differ from network to network, or parameters where ``learned`` names them.
    ``expansion`` is how many inputs one output takes. ``surrogate`` says that its gradient is declared, not derived.
    """

    name: ClassVar[str]
    formula: ClassVar[str]
    prefer: ClassVar[str]
    source: ClassVar[str]
    settings: ClassVar[Mapping[str, float]] = {}
    choices: ClassVar[Mapping[str, tuple[Value, ...]]] = {}
    learned: ClassVar[tuple[str, ...]] = ()
    range: ClassVar[tuple[float, float]] = (-_INFINITE, _INFINITE)
    zero_centred: ClassVar[bool]
    largest_derivative: ClassVar[float]
    initialization: ClassVar[str]
    surrogate: ClassVar[bool] = False

    def __init__(self, values: Mapping[str, Any] | None = None) -> None:
        super().__init__()
        values = values or {}
        for name, default in self.settings.items():
            value = torch.tensor(float(values.get(name, default)))
            if name in self.learned:
                setattr(self, name, nn.Parameter(value))
            else:
                self.register_buffer(name, value)
        self.options = {name: values.get(name, options[0]) for name, options in self.choices.items()}

    @property
    def expansion(self) -> int:
        """Inputs for one output."""
        return 1


def activation_nodes(kind: type[Activation]) -> Space:
    """What hangs below an activation in a space: its numbers, when they are pinned."""
    optional: dict[str, Node] = {}
    for name, value in kind.settings.items():
        optional[f"network.{name}"] = Number(value / 10, value * 10, log=True, default=value, least=-_INFINITE)
    for name, options in kind.choices.items():
        optional[f"network.{name}"] = Choice.of(*options, default=options[0])
    return Space(optional=optional)


_TORCH = (
    nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.ELU, nn.SELU, nn.CELU, nn.GELU, nn.SiLU, nn.Mish, nn.Softplus,
    nn.Sigmoid, nn.Hardsigmoid, nn.Hardswish, nn.Tanh, nn.Hardtanh, nn.Softsign, nn.Tanhshrink, nn.LogSigmoid,
)  # fmt: skip


def is_activation(module: nn.Module) -> bool:
    """Whether a module is an activation, ours or one of PyTorch's."""
    return isinstance(module, (Activation, *_TORCH))
