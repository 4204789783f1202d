"""The tasks of the fault bench, and the faults that are planted in them.

A task is a table, a family of networks and a recipe that trains it well; a fault changes one of them. Tasks differ in
what they are trained on, in architecture, activation, normalization and optimizer; everything is embedded or drawn.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import torch
from sklearn import datasets
from torch import nn

from nastavnik.data import read_source
from nastavnik.dataset import DatasetOptions, make_dataset
from nastavnik.mentor import Lab
from nastavnik.nets import Dropout, Mlp, Signature, initialize, make_activation
from nastavnik.population import Data, Learner
from nastavnik.recipe import Recipe, Value
from nastavnik.selection import Workbench

ROWS = 1600


# Networks


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
        self.layers = nn.ModuleList(nn.Conv1d(a, b, 5, padding=2) for a, b in zip(channels, channels[1:], strict=False))
        normal = str(settings["normalization"])
        kind = {"batch": nn.BatchNorm1d, "layer": lambda n: nn.GroupNorm(1, n)}.get(normal, lambda n: nn.Identity())
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
    small: ClassVar[Mapping[str, Value]] = {}

    def __init__(self, kind: str) -> None:
        self.name = self.kind = kind

    def space(self, rows: int, inputs: int) -> Any:
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
            initialize_now = [m for m in network.modules() if isinstance(m, (nn.Linear, nn.Conv1d, nn.Conv2d))]
            network = FAULTY[fault](network, initialize_now)
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


def _frozen(network: nn.Module, layers: list[nn.Module]) -> nn.Module:
    for layer in layers[:-1]:
        for p in layer.parameters():
            p.requires_grad_(False)
    return network


def _dead(network: nn.Module, layers: list[nn.Module]) -> nn.Module:
    for layer in layers[:-1]:
        assert isinstance(layer.bias, torch.Tensor) or layer.bias is None
        with torch.no_grad():
            if layer.bias is not None:
                layer.bias[: round(0.9 * len(layer.bias))] -= 8.0
    return network


def _scaled(factor: float) -> Callable[[nn.Module, list[nn.Module]], nn.Module]:
    def scale(network: nn.Module, layers: list[nn.Module]) -> nn.Module:
        with torch.no_grad():
            for layer in layers[:-1] if factor < 1 else layers:
                layer.weight *= factor
        return network

    return scale


FAULTY: dict[str, Callable[[nn.Module, list[nn.Module]], nn.Module]] = {
    "softmax": lambda network, layers: Ending(network, nn.Softmax(dim=1)),
    "squashed": lambda network, layers: Ending(network, nn.ReLU()),
    "undefined": lambda network, layers: Ending(network, Undefined()),
    "frozen": _frozen,
    "dead": _dead,
    "large": _scaled(8.0),
    "small": _scaled(0.02),
}


# Tasks


@dataclass(frozen=True)
class Task:
    """``frame(rng)`` is the table, its target ``y``; ``recipe`` what trains it well."""

    name: str
    words: str
    frame: Callable[[np.random.Generator], pd.DataFrame]
    family: str
    recipe: Mapping[str, Value]
    held_out: bool = False

    @property
    def numbers(self) -> bool:
        """Whether the target is a number."""
        return "likelihood.noise" in self.recipe


def _frame(x: np.ndarray, y: np.ndarray) -> pd.DataFrame:
    frame = pd.DataFrame(np.asarray(x, dtype=np.float64), columns=[f"x{j}" for j in range(x.shape[1])])
    return frame.assign(y=y)


def _digits(rng: np.random.Generator) -> pd.DataFrame:
    return _frame(*datasets.load_digits(return_X_y=True))


def _friedman(which: int, noise: float) -> Callable[[np.random.Generator], pd.DataFrame]:
    make = {1: datasets.make_friedman1, 2: datasets.make_friedman2, 3: datasets.make_friedman3}[which]

    def draw(rng: np.random.Generator) -> pd.DataFrame:
        x, y = make(n_samples=ROWS, noise=noise, random_state=which)
        return _frame(x, y)

    return draw


def _rings(rng: np.random.Generator) -> pd.DataFrame:
    return _frame(*datasets.make_gaussian_quantiles(n_samples=ROWS, n_features=6, n_classes=3, random_state=3))


def _waveform(rng: np.random.Generator) -> pd.DataFrame:
    """Breiman's three waveforms (CART 1984): random mixtures of two of three triangles, with noise."""
    grid = np.arange(21)
    base = np.stack([np.maximum(6 - np.abs(grid - c), 0) for c in (6, 14, 10)])
    y = rng.integers(0, 3, ROWS)
    share = rng.random((ROWS, 1))
    first, second = base[np.array([0, 0, 1])[y]], base[np.array([1, 2, 2])[y]]
    return _frame(share * first + (1 - share) * second + rng.normal(size=(ROWS, 21)), y)


def _signals(rng: np.random.Generator) -> pd.DataFrame:
    """Sine, square, triangle and saw, of random phase and frequency, with noise."""
    t = np.linspace(0, 1, 32)
    y = rng.integers(0, 4, ROWS)
    phase = (rng.random((ROWS, 1)) + (1.5 + 2.5 * rng.random((ROWS, 1))) * t) % 1
    shapes = np.stack([np.sin(2 * np.pi * phase), np.sign(phase - 0.5), 4 * np.abs(phase - 0.5) - 1, 2 * phase - 1])
    return _frame(shapes[y, np.arange(ROWS)] + 0.25 * rng.normal(size=(ROWS, 32)), y)


def _clusters(rng: np.random.Generator) -> pd.DataFrame:
    return _frame(
        *datasets.make_classification(
            n_samples=ROWS, n_features=20, n_informative=8, n_classes=2, n_clusters_per_class=3, class_sep=1.2,
            random_state=5,
        )
    )  # fmt: skip


def _tumours(rng: np.random.Generator) -> pd.DataFrame:
    return _frame(*datasets.load_breast_cancer(return_X_y=True))


def _moons(rng: np.random.Generator) -> pd.DataFrame:
    x, y = datasets.make_moons(n_samples=ROWS, noise=0.25, random_state=6)
    turned = np.column_stack([x, rng.normal(size=(ROWS, 3))]) @ np.linalg.qr(rng.normal(size=(5, 5)))[0]
    return _frame(turned, y)


def _tones(rng: np.random.Generator) -> pd.DataFrame:
    """One of four frequencies, at a random phase and loudness, in noise."""
    t, y = np.linspace(0, 1, 40), rng.integers(0, 4, ROWS)
    pitch = np.array([2.0, 3.5, 5.0, 7.0])[y][:, None]
    wave = np.sin(2 * np.pi * (pitch * t + rng.random((ROWS, 1)))) * rng.uniform(0.7, 1.3, (ROWS, 1))
    return _frame(wave + 0.8 * rng.normal(size=(ROWS, 40)), y)


def _recipe(**own: Value) -> dict[str, Value]:
    named = {key.replace("__", "."): value for key, value in own.items()}
    base: dict[str, Value] = {
        "network.width": 32, "network.depth": 2, "network.activation": "relu", "network.normalization": "none",
        "network.residual": False, "network.dropout": 0.0, "initialization.name": "matched", "optimizer.name": "adamw",
        "optimizer.learning_rate": 3e-3, "optimizer.weight_decay": 1e-3, "schedule.name": "cosine", "batch_size": 32,
        "epochs": 15, "loss.name": "likelihood", "preparation.numbers": "standard", "seed": 0,
    }  # fmt: skip
    recipe = {**base, **named}
    if recipe["initialization.name"] == "own":
        del recipe["initialization.name"]
    return recipe


TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        Task("digits", "8×8 digits as rows, rectifiers, AdamW", _digits, "mlp", _recipe(network__width=48)),
        Task(
            "friedman1", "Friedman's first surface, tanh, AdamW", _friedman(1, 1.0), "mlp",
            _recipe(network__activation="tanh", network__width=32, likelihood__noise="learned", epochs=25),
        ),
        Task(
            "rings", "three nested shells, four layers with batch normalization, AdamW", _rings, "mlp",
            _recipe(network__normalization="batch", network__depth=4, epochs=20),
        ),
        Task(
            "waveform", "Breiman's waveforms, SiLU, SGD with momentum", _waveform, "mlp",
            _recipe(network__activation="silu", optimizer__name="momentum", optimizer__learning_rate=0.02,
                    optimizer__momentum=0.9, optimizer__weight_decay=1e-4, epochs=15),
        ),
        Task(
            "pictures", "8×8 digits as pictures, convolutions with batch normalization, AdamW", _digits, "picture",
            _recipe(network__width=8, network__normalization="batch", epochs=8), held_out=False,
        ),
        Task(
            "friedman3", "Friedman's third surface, ELU, Nesterov", _friedman(3, 0.05), "mlp",
            _recipe(network__activation="elu", optimizer__name="nesterov", optimizer__learning_rate=0.01,
                    optimizer__momentum=0.9, optimizer__weight_decay=1e-4, likelihood__noise="learned", epochs=40),
            held_out=False,
        ),
        Task(
            "signals", "four wave forms, three one-dimensional convolutions, GELU, Adam", _signals, "wave",
            _recipe(network__activation="gelu", network__width=16, network__depth=3, optimizer__name="adam",
                    optimizer__learning_rate=5e-3, optimizer__weight_decay=0.0, epochs=12), held_out=False,
        ),
        Task(
            "clusters", "six clusters in twenty columns, five layers with layer normalization, RMSProp", _clusters, "mlp",
            _recipe(network__depth=5, network__width=24, network__normalization="layer", optimizer__name="rmsprop",
                    optimizer__learning_rate=1e-3, optimizer__weight_decay=0.0, epochs=10), held_out=False,
        ),
        Task(
            "breast_cancer", "569 real tumours, SELU, Nesterov", _tumours, "mlp",
            _recipe(network__activation="selu", network__width=24, optimizer__name="nesterov",
                    optimizer__learning_rate=0.01, optimizer__momentum=0.9, optimizer__weight_decay=1e-3, epochs=20),
            held_out=True,
        ),
        Task(
            "moons", "two moons turned into five columns, four layers with bypasses, Adam", _moons, "mlp",
            _recipe(network__depth=4, network__residual=True, optimizer__name="adam", optimizer__weight_decay=0.0,
                    epochs=12), held_out=True,
        ),
        Task(
            "friedman2", "Friedman's second surface, SiLU with layer normalization, AdamW", _friedman(2, 60.0), "mlp",
            _recipe(network__activation="silu", network__normalization="layer", optimizer__learning_rate=2e-3,
                    likelihood__noise="learned", epochs=25), held_out=True,
        ),
        Task(
            "tones", "which of four tones is in the noise, convolutions with batch normalization, momentum", _tones, "wave",
            _recipe(network__normalization="batch", network__width=12, network__depth=2, optimizer__name="momentum",
                    optimizer__learning_rate=0.02, optimizer__momentum=0.9, optimizer__weight_decay=1e-4, epochs=12),
            held_out=True,
        ),
    )
}  # fmt: skip


# Faults


@dataclass(frozen=True)
class Fault:
    """What is changed, and the rules that name it.

    ``recipe(task)`` changes settings, ``frame`` the table, ``data`` the prepared rows; ``suits`` says for which tasks
    it is a fault at all. ``mendable``: a change of recipe can undo it. ``constructed``: it is a fault whatever the
    score says. ``held_out``: not used for setting thresholds. ``live``: of a hand-written loop.
    """

    name: str
    words: str
    named_by: tuple[str, ...]
    recipe: Callable[[Task], Mapping[str, Value]] = lambda task: {}
    frame: Callable[[pd.DataFrame, np.random.Generator], pd.DataFrame] | None = None
    data: Callable[[Data, np.random.Generator, Task], Data] | None = None
    suits: Callable[[Task], bool] = lambda task: True
    mendable: bool = True
    constructed: bool = False
    held_out: bool = False


def _rate(factor: float) -> Callable[[Task], Mapping[str, Value]]:
    return lambda task: {"optimizer.learning_rate": float(task.recipe["optimizer.learning_rate"]) * factor}


def _fault(name: str) -> Callable[[Task], Mapping[str, Value]]:
    return lambda task: {"network.fault": name}


def _two(task: Task) -> bool:
    """Whether there are two classes only, and so one logit."""
    return task.name in ("clusters", "breast_cancer", "moons")


def _is_mlp(task: Task) -> bool:
    return task.family == "mlp"


def _with_targets(data: Data, targets: torch.Tensor) -> Data:
    return replace(data, targets=targets)


def _label_noise(share: float) -> Callable[[Data, np.random.Generator, Task], Data]:
    def spoil(data: Data, rng: np.random.Generator, task: Task) -> Data:
        targets = data.targets.clone()
        rows = data.train[0].numpy()
        wrong = rows[rng.random(len(rows)) < share]
        targets[0, torch.from_numpy(wrong)] = targets[0, torch.from_numpy(rng.permutation(rows)[: len(wrong)])]
        return _with_targets(data, targets)

    return spoil


def _sorted_rows(data: Data, rng: np.random.Generator, task: Task) -> Data:
    rows = data.train[0]
    order = torch.argsort(data.targets[0, rows].double().reshape(len(rows), -1)[:, 0], stable=True)
    return replace(data, train=(rows[order],), shuffled=False)


def _leaked(frame: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    y = frame["y"].to_numpy(dtype=float)
    return frame.assign(x0=(y - y.mean()) / y.std() + 0.05 * rng.normal(size=len(y)))


def _shifted(data: Data, rng: np.random.Generator, task: Task) -> Data:
    inputs = data.inputs[0].clone()
    inputs[0, data.validation[0], : max(1, inputs.shape[2] // 4)] += 1.5
    return replace(data, inputs=(inputs, *data.inputs[1:]))


def _shared(data: Data, rng: np.random.Generator, task: Task) -> Data:
    some = data.validation[0][: len(data.validation[0]) // 3]
    return replace(data, train=(torch.cat([data.train[0], some]),))


def _rare(frame: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    rare = frame["y"].to_numpy() == frame["y"].min()
    return frame[~rare | (rng.random(len(frame)) < 0.05)].reset_index(drop=True)


def _large_target(data: Data, rng: np.random.Generator, task: Task) -> Data:
    return _with_targets(data, data.targets * 300 + 1000)


def _few(data: Data, rng: np.random.Generator, task: Task) -> Data:
    return replace(data, train=(data.train[0][torch.from_numpy(rng.permutation(len(data.train[0]))[:80])],))


def _raw(factor: float) -> Callable[[pd.DataFrame, np.random.Generator], pd.DataFrame]:
    def scale(frame: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
        columns = [c for c in frame.columns if c != "y"]
        return frame.assign(**{c: frame[c] * factor + factor for c in columns})

    return scale


FAULTS: dict[str, Fault] = {
    fault.name: fault
    for fault in (
        Fault("rate x1000", "the rate a thousand times larger", ("rate_too_large",), _rate(1000.0)),
        Fault("rate x100", "the rate a hundred times larger", ("rate_too_large",), _rate(100.0)),
        Fault("rate x30", "the rate thirty times larger", ("rate_too_large", "oscillating"), _rate(30.0), held_out=True),
        Fault("rate /100", "the rate a hundred times smaller", ("rate_too_small",), _rate(0.01)),
        Fault("rate /1000", "the rate a thousand times smaller", ("rate_too_small",), _rate(0.001), held_out=True),
        Fault("momentum", "SGD with momentum 0.995", ("oscillating", "rate_too_large"), lambda t: {
            "optimizer.name": "momentum", "optimizer.momentum": 0.995, "optimizer.learning_rate": 0.1,
            "optimizer.weight_decay": 1e-4, "schedule.name": "constant"}, held_out=True),
        Fault("zeros", "all weights begin at zero", ("constant_initialization",),
              lambda t: {"initialization.name": "zeros"}),
        Fault("large start", "all weights begin eight times larger", ("oversized_initialization",), _fault("large"),
              mendable=False),
        Fault("small start", "hidden weights begin fifty times smaller", ("undersized_initialization",), _fault("small"),
              suits=lambda t: t.recipe["network.normalization"] == "none", mendable=False, held_out=True),
        Fault("unit start", "normal weights of deviation 1", ("oversized_initialization",),
              lambda t: {"initialization.name": "unit_normal"}, suits=_is_mlp),
        Fault("raw inputs", "inputs of size 100, not scaled", ("unscaled_inputs",),
              lambda t: {"preparation.numbers": "identity"}, frame=_raw(100.0)),
        Fault("tiny inputs", "inputs of size 0.001, not scaled", ("unscaled_inputs",),
              lambda t: {"preparation.numbers": "identity"}, frame=_raw(0.001), held_out=True),
        Fault("raw target", "a target of mean 1000 and deviation 300", ("unscaled_target",), data=_large_target,
              suits=lambda t: t.numbers, mendable=False),
        Fault("deep sigmoid", "eight layers of sigmoids", ("network_paralysis",), lambda t: {
            "network.activation": "sigmoid", "network.depth": 8, "network.normalization": "none",
            "initialization.name": "glorot", "network.residual": False}, suits=_is_mlp, held_out=True),
        Fault("deep tanh", "ten layers of tanh with weights of deviation 0.01", ("vanishing_gradients",
              "undersized_initialization"), lambda t: {"network.activation": "tanh", "network.depth": 10,
              "network.normalization": "none", "initialization.name": "small_normal", "network.residual": False},
              suits=_is_mlp),
        Fault("saturated", "tanh units fed by weights of deviation 1", ("saturated_units", "oversized_initialization"),
              lambda t: {"network.activation": "tanh", "initialization.name": "unit_normal",
                         "network.normalization": "none", "initialization.gain": 3.0}, suits=_is_mlp, held_out=True),
        Fault("dead units", "biases of nine units in ten begin at −8", ("dead_units",), lambda t: {
            "network.activation": "relu", "network.normalization": "none", "network.fault": "dead"}, mendable=False),
        Fault("softmax twice", "the network ends in a softmax, the loss takes another", ("double_softmax",
              "squashed_outputs"), _fault("softmax"), suits=lambda t: not t.numbers and not _two(t),
              mendable=False),
        Fault("rectified output", "the network ends in a rectifier", ("squashed_outputs",), _fault("squashed"),
              mendable=False),
        Fault("undefined root", "the slope of a square root at zero in the forward pass", ("undefined_operation",
              "nonfinite"), _fault("undefined"), mendable=False, held_out=True),
        Fault("frozen layers", "hidden layers are not trained", ("frozen_parameters",), _fault("frozen"), mendable=False),
        Fault("label noise", "four training labels in ten from other rows", ("noisy_labels",), data=_label_noise(0.4),
              mendable=False),
        Fault("shuffled labels", "all training labels from other rows", ("labels_without_signal", "chance_level"),
              lambda t: {"epochs": 2 * int(t.recipe["epochs"])}, data=_label_noise(1.0), mendable=False),
        Fault("leaked target", "a column that is the target, nearly", ("leaked_target",), frame=_leaked, mendable=False,
              constructed=True),
        Fault("sorted rows", "rows sorted by target, not shuffled", ("not_shuffled",), data=_sorted_rows, mendable=False),
        Fault("batches of 2", "batch normalization with two rows a batch", ("tiny_batch_norm",), lambda t: {
            "network.normalization": "batch", "batch_size": 2, "epochs": 2}),
        Fault("weight decay", "a decay that was not rescaled with the rows", ("regularization_too_strong",), lambda t: {
            "optimizer.name": "adamw", "optimizer.learning_rate": 3e-3, "optimizer.weight_decay": 10.0}),
        Fault("l2", "an L2 penalty that was not divided by the rows", ("regularization_too_strong",), lambda t: {
            "regularization.l2": 0.5}, held_out=True),
        Fault("dropout", "dropout of 0.95", ("dropout_too_strong",), lambda t: {"network.dropout": 0.95}),
        Fault("too short", "an eighth of the epochs or less", ("stopped_too_early", "rate_too_small"), lambda t: {
            "epochs": max(1, int(t.recipe["epochs"]) // 12), "schedule.name": "constant"}),
        Fault("narrow", "hidden layers of two units", ("bottleneck",), lambda t: {"network.width": 2}),
        Fault("overfitting", "eighty rows, wide layers, no decay, long", ("overfitting", "growing_confidence"), lambda t: {
            "network.width": 128 if t.family == "mlp" else 16, "epochs": 100, "optimizer.weight_decay": 0.0},
            data=_few),
        Fault("no activation", "activations that change nothing", ("no_nonlinearity",), lambda t: {
            "network.activation": "identity", "network.normalization": "none"}, held_out=True),
        Fault("clipped", "SGD with gradients clipped to 0.001", ("gradients_clipped_away",), lambda t: {
            "optimizer.name": "sgd", "optimizer.learning_rate": 0.05, "optimizer.weight_decay": 0.0,
            "optimizer.clip_norm": 1e-3}, held_out=True),
        Fault("smoothing", "label smoothing of 0.7", ("smoothed_away",), lambda t: {
            "loss.name": "label_smoothing", "loss.label_smoothing": 0.7},
            suits=lambda t: not t.numbers and not _two(t)),
        Fault("shift", "validation rows moved by one and a half deviations", ("shifted_parts",), data=_shifted,
              mendable=False, constructed=True),
        Fault("shared rows", "a third of the validation rows is trained on", ("shared_rows",), data=_shared,
              mendable=False, constructed=True, held_out=True),
        Fault("rare class", "one class with a twentieth of its rows", ("imbalanced_classes",), frame=_rare,
              suits=lambda t: not t.numbers, mendable=False, constructed=True),
    )
}  # fmt: skip
HEALTHY = Fault("healthy", "nothing is wrong", ())


class BenchLab(Lab):
    """A lab whose rows may be spoiled after they were prepared."""

    def __init__(self, bench: Workbench, spoil: Callable[[Data], Data]) -> None:
        super().__init__(bench, best=False, engine="batched")
        self._spoil = spoil

    def data(self, recipe: Recipe) -> Data:
        """The rows, spoiled."""
        return self._spoil(super().data(recipe))


@dataclass
class Case:
    """A task with a fault planted: a lab, and the recipe."""

    task: Task
    fault: Fault
    lab: BenchLab = field(init=False)
    recipe: Recipe = field(init=False)

    def __post_init__(self) -> None:
        frame = self.task.frame(np.random.default_rng(11))
        if self.fault.frame is not None:
            frame = self.fault.frame(frame, np.random.default_rng(12))
        values = {"network.family": self.task.family, **self.task.recipe, **self.fault.recipe(self.task)}
        if values.get("optimizer.name") in ("sgd", "adamw", "adam", "rmsprop"):
            values = {n: v for n, v in values.items() if n != "optimizer.momentum"}
        if "network.fault" in values:  # which would be initialized away
            values = {n: v for n, v in values.items() if n != "initialization.name"}
        self.recipe = Recipe(values)
        self.lab = BenchLab(_workbench(self.task, frame), self._spoiled)

    def _spoiled(self, data: Data) -> Data:
        return data if self.fault.data is None else self.fault.data(data, np.random.default_rng(13), self.task)


def _workbench(task: Task, frame: pd.DataFrame) -> Workbench:
    wanted = "regression" if task.numbers else "classification"
    dataset = make_dataset(read_source(frame), DatasetOptions(target="y", folds=0, task=wanted))
    settings = {name: value for name, value in task.recipe.items() if name.startswith("likelihood.")}
    family = Planted(task.family)
    return Workbench(dataset.columns, dataset.task, dataset.split, families=[family], settings=settings, seed=0)


def healthy_recipes(case: Case, count: int, seed: int) -> list[Recipe]:
    """Healthy trainings differ: the rate by a factor of up to two, decay and dropout, the seed."""
    rng = np.random.default_rng(seed)
    found = []
    for i in range(count):
        rate = case.recipe.number("optimizer.learning_rate") * float(2 ** rng.uniform(-1, 1))
        own: dict[str, Value] = {
            "optimizer.learning_rate": rate,
            "network.dropout": float(rng.uniform(0, 0.2)),
            "seed": 100 + i,
        }
        found.append(case.recipe.replace(own))
    return found


__all__ = ["FAULTS", "HEALTHY", "TASKS", "Case", "Learner", "healthy_recipes"]
