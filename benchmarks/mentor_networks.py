"""The networks of the fault bench, and what can be wrong with a network itself."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Mapping
from typing import Any, ClassVar

import torch
from torch import nn

from nastavnik.nets import Dropout, Mlp, Signature, initialize, make_activation
from nastavnik.recipe import Value

_KINDS: dict[str, Callable[[int], nn.Module]] = {"batch": nn.BatchNorm1d, "layer": lambda n: nn.GroupNorm(1, n)}


class Picture(nn.Module):
    """Two convolutions on an 8×8 picture, pooling, one hidden layer."""

    def __init__(self, settings: Mapping[str, Value], outputs: int) -> None:
        super().__init__()
        width = int(settings["width"])
        normal = str(settings["normalization"])
        self.first = nn.Conv2d(1, width, 3, padding=1)
        self.norm_1 = (
            nn.BatchNorm2d(width)
            if normal == "batch"
            else nn.GroupNorm(1, width)
            if normal == "layer"
            else nn.Identity()
        )
        self.act_1 = make_activation(settings)
        self.second = nn.Conv2d(width, 2 * width, 3, padding=1)
        self.norm_2 = (
            nn.BatchNorm2d(2 * width)
            if normal == "batch"
            else nn.GroupNorm(1, 2 * width)
            if normal == "layer"
            else nn.Identity()
        )
        self.act_2 = make_activation(settings)
        self.pool = nn.MaxPool2d(2)
        self.drop = Dropout(float(settings["dropout"]))
        self.output = nn.Linear(2 * width * 16, outputs)
        initialize(self, {}, None)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.act_1(self.norm_1(self.first(x.reshape(-1, 1, 8, 8))))
        x = self.pool(self.act_2(self.norm_2(self.second(x))))
        return self.output(self.drop(x.flatten(1)))


class Wave(nn.Module):
    """Three one-dimensional convolutions, the mean over time, and a linear layer."""

    def __init__(self, settings: Mapping[str, Value], outputs: int) -> None:
        super().__init__()
        width = int(settings["width"])
        channels = [1, *[width] * int(settings["depth"])]
        self.layers = nn.ModuleList(nn.Conv1d(a, b, 5, padding=2) for a, b in itertools.pairwise(channels))
        normal = str(settings["normalization"])
        kind: Callable[[int], nn.Module] = _KINDS.get(normal, lambda n: nn.Identity())
        self.norms = nn.ModuleList(kind(width) for _ in self.layers)
        self.acts = nn.ModuleList(make_activation(settings) for _ in self.layers)
        self.drop = Dropout(float(settings["dropout"]))
        self.output = nn.Linear(width, outputs)
        initialize(self, {}, None)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x[:, None, :]
        for layer, norm, act in zip(self.layers, self.norms, self.acts, strict=True):
            x = act(norm(layer(x)))
        return self.output(self.drop(x.mean(-1)))


class Numbers(nn.Module):
    """Feeds a module the number inputs alone."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, numbers: torch.Tensor, categories: torch.Tensor) -> torch.Tensor:
        return self.inner(numbers)


class Planted:
    """A family that builds a task's network, with the fault that ``network.fault`` names."""

    linear = False
    needs = ""
    small: ClassVar[Mapping[str, Value]] = {}

    def __init__(self, kind: str) -> None:
        self.name = self.kind = kind

    def space(self, rows: int, inputs: int, sorts: Collection[str] = ()) -> Any:
        """Nothing is searched here."""
        raise NotImplementedError

    def build(self, settings: Mapping[str, Value], signature: Signature) -> nn.Module:
        """The network, and what is wrong with it."""
        if self.kind == "mlp":
            network: nn.Module = Mlp().build({"embedding": "none", "bins": 0, **settings}, signature)
        else:
            network = Numbers({"picture": Picture, "wave": Wave}[self.kind](settings, signature.outputs))
        fault = str(settings.get("fault", ""))
        if fault:
            layers: list[Any] = [m for m in network.modules() if isinstance(m, (nn.Linear, nn.Conv1d, nn.Conv2d))]
            network = FAULTY[fault](network, layers)
        return network


class Ending(nn.Module):
    """A network with something behind it."""

    def __init__(self, network: nn.Module, last: nn.Module) -> None:
        super().__init__()
        self.network, self.last = network, last

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        return self.last(self.network(*inputs))


class Undefined(nn.Module):
    """Adds nothing, by way of a square root whose slope at zero is infinite."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + 0 * torch.sqrt((x - x.amax(0)).abs())


def _frozen(network: nn.Module, layers: list[Any]) -> nn.Module:
    for layer in layers[:-1]:
        for p in layer.parameters():
            p.requires_grad_(False)
    return network


def _dead(network: nn.Module, layers: list[Any]) -> nn.Module:
    for layer in layers[:-1]:
        assert isinstance(layer.bias, torch.Tensor) or layer.bias is None
        with torch.no_grad():
            if layer.bias is not None:
                layer.bias[: round(0.9 * len(layer.bias))] -= 8.0
    return network


def _scaled(factor: float) -> Callable[[nn.Module, list[Any]], nn.Module]:
    def scale(network: nn.Module, layers: list[Any]) -> nn.Module:
        with torch.no_grad():
            for layer in layers[:-1] if factor < 1 else layers:
                layer.weight *= factor
        return network

    return scale


FAULTY: dict[str, Callable[[nn.Module, list[Any]], nn.Module]] = {
    "softmax": lambda network, layers: Ending(network, nn.Softmax(dim=1)),
    "squashed": lambda network, layers: Ending(network, nn.ReLU()),
    "undefined": lambda network, layers: Ending(network, Undefined()),
    "frozen": _frozen,
    "dead": _dead,
    "large": _scaled(8.0),
    "small": _scaled(0.02),
}
