"""The faults that are planted, and a task with a fault in it: a lab, and a recipe."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd
import torch

from mentor_networks import Planted
from mentor_tasks import Task
from nastavnik.data import read_source
from nastavnik.dataset import DatasetOptions, make_dataset
from nastavnik.mentor import Lab
from nastavnik.population import Data
from nastavnik.recipe import Recipe, Value
from nastavnik.selection import Workbench


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
        Fault(
            "rate x30", "the rate thirty times larger", ("rate_too_large", "oscillating"), _rate(30.0), held_out=True
        ),
        Fault("rate /100", "the rate a hundred times smaller", ("rate_too_small",), _rate(0.01)),
        Fault("rate /1000", "the rate a thousand times smaller", ("rate_too_small",), _rate(0.001), held_out=True),
        Fault(
            "momentum",
            "SGD with momentum 0.995",
            ("oscillating", "rate_too_large"),
            lambda t: {
                "optimizer.name": "momentum",
                "optimizer.momentum": 0.995,
                "optimizer.learning_rate": 0.1,
                "optimizer.weight_decay": 1e-4,
                "schedule.name": "constant",
            },
            held_out=True,
        ),
        Fault(
            "zeros",
            "all weights begin at zero",
            ("constant_initialization",),
            lambda t: {"initialization.name": "zeros"},
        ),
        Fault(
            "large start",
            "all weights begin eight times larger",
            ("oversized_initialization",),
            _fault("large"),
            mendable=False,
        ),
        Fault(
            "small start",
            "hidden weights begin fifty times smaller",
            ("undersized_initialization",),
            _fault("small"),
            suits=lambda t: t.recipe["network.normalization"] == "none",
            mendable=False,
            held_out=True,
        ),
        Fault(
            "unit start",
            "normal weights of deviation 1",
            ("oversized_initialization",),
            lambda t: {"initialization.name": "unit_normal"},
            suits=_is_mlp,
        ),
        Fault(
            "raw inputs",
            "inputs of size 100, not scaled",
            ("unscaled_inputs",),
            lambda t: {"preparation.numbers": "identity"},
            frame=_raw(100.0),
        ),
        Fault(
            "tiny inputs",
            "inputs of size 0.001, not scaled",
            ("unscaled_inputs",),
            lambda t: {"preparation.numbers": "identity"},
            frame=_raw(0.001),
            held_out=True,
        ),
        Fault(
            "raw target",
            "a target of mean 1000 and deviation 300",
            ("unscaled_target",),
            data=_large_target,
            suits=lambda t: t.numbers,
            mendable=False,
        ),
        Fault(
            "deep sigmoid",
            "eight layers of sigmoids",
            ("network_paralysis",),
            lambda t: {
                "network.activation": "sigmoid",
                "network.depth": 8,
                "network.normalization": "none",
                "initialization.name": "glorot",
                "network.residual": False,
            },
            suits=_is_mlp,
            held_out=True,
        ),
        Fault(
            "deep tanh",
            "ten layers of tanh with weights of deviation 0.01",
            ("vanishing_gradients", "undersized_initialization"),
            lambda t: {
                "network.activation": "tanh",
                "network.depth": 10,
                "network.normalization": "none",
                "initialization.name": "small_normal",
                "network.residual": False,
            },
            suits=_is_mlp,
        ),
        Fault(
            "saturated",
            "tanh units fed by weights of deviation 1",
            ("saturated_units", "oversized_initialization"),
            lambda t: {
                "network.activation": "tanh",
                "initialization.name": "unit_normal",
                "network.normalization": "none",
                "initialization.gain": 3.0,
            },
            suits=_is_mlp,
            held_out=True,
        ),
        Fault(
            "dead units",
            "biases of nine units in ten begin at −8",
            ("dead_units",),
            lambda t: {"network.activation": "relu", "network.normalization": "none", "network.fault": "dead"},
            mendable=False,
        ),
        Fault(
            "softmax twice",
            "the network ends in a softmax, the loss takes another",
            ("double_softmax", "squashed_outputs"),
            _fault("softmax"),
            suits=lambda t: not t.numbers and not _two(t),
            mendable=False,
        ),
        Fault(
            "rectified output",
            "the network ends in a rectifier",
            ("squashed_outputs",),
            _fault("squashed"),
            mendable=False,
        ),
        Fault(
            "undefined root",
            "the slope of a square root at zero in the forward pass",
            ("undefined_operation", "nonfinite"),
            _fault("undefined"),
            mendable=False,
            held_out=True,
        ),
        Fault(
            "frozen layers", "hidden layers are not trained", ("frozen_parameters",), _fault("frozen"), mendable=False
        ),
        Fault(
            "label noise",
            "four training labels in ten from other rows",
            ("noisy_labels",),
            data=_label_noise(0.4),
            mendable=False,
        ),
        Fault(
            "shuffled labels",
            "all training labels from other rows",
            ("labels_without_signal", "chance_level"),
            lambda t: {"epochs": 2 * int(t.recipe["epochs"])},
            data=_label_noise(1.0),
            mendable=False,
        ),
        Fault(
            "leaked target",
            "a column that is the target, nearly",
            ("leaked_target",),
            frame=_leaked,
            mendable=False,
            constructed=True,
        ),
        Fault(
            "sorted rows", "rows sorted by target, not shuffled", ("not_shuffled",), data=_sorted_rows, mendable=False
        ),
        Fault(
            "batches of 2",
            "batch normalization with two rows a batch",
            ("tiny_batch_norm",),
            lambda t: {"network.normalization": "batch", "batch_size": 2, "epochs": 2},
        ),
        Fault(
            "weight decay",
            "a decay that was not rescaled with the rows",
            ("regularization_too_strong",),
            lambda t: {"optimizer.name": "adamw", "optimizer.learning_rate": 3e-3, "optimizer.weight_decay": 10.0},
        ),
        Fault(
            "l2",
            "an L2 penalty that was not divided by the rows",
            ("regularization_too_strong",),
            lambda t: {"regularization.l2": 0.5},
            held_out=True,
        ),
        Fault("dropout", "dropout of 0.95", ("dropout_too_strong",), lambda t: {"network.dropout": 0.95}),
        Fault(
            "too short",
            "an eighth of the epochs or less",
            ("stopped_too_early", "rate_too_small"),
            lambda t: {"epochs": max(1, int(t.recipe["epochs"]) // 12), "schedule.name": "constant"},
        ),
        Fault("narrow", "hidden layers of two units", ("bottleneck",), lambda t: {"network.width": 2}),
        Fault(
            "overfitting",
            "eighty rows, wide layers, no decay, long",
            ("overfitting", "growing_confidence"),
            lambda t: {"network.width": 128 if t.family == "mlp" else 16, "epochs": 100, "optimizer.weight_decay": 0.0},
            data=_few,
            mendable=False,
        ),
        Fault(
            "no activation",
            "activations that change nothing",
            ("no_nonlinearity",),
            lambda t: {"network.activation": "identity", "network.normalization": "none"},
            held_out=True,
        ),
        Fault(
            "clipped",
            "SGD with gradients clipped to 0.001",
            ("gradients_clipped_away",),
            lambda t: {
                "optimizer.name": "sgd",
                "optimizer.learning_rate": 0.05,
                "optimizer.weight_decay": 0.0,
                "optimizer.clip_norm": 1e-3,
            },
            held_out=True,
        ),
        Fault(
            "smoothing",
            "label smoothing of 0.7",
            ("smoothed_away",),
            lambda t: {"loss.name": "label_smoothing", "loss.label_smoothing": 0.7},
            suits=lambda t: not t.numbers and not _two(t),
        ),
        Fault(
            "shift",
            "validation rows moved by one and a half deviations",
            ("shifted_parts",),
            data=_shifted,
            mendable=False,
            constructed=True,
        ),
        Fault(
            "shared rows",
            "a third of the validation rows is trained on",
            ("shared_rows",),
            data=_shared,
            mendable=False,
            constructed=True,
            held_out=True,
        ),
        Fault(
            "rare class",
            "one class with a twentieth of its rows",
            ("imbalanced_classes",),
            frame=_rare,
            suits=lambda t: not t.numbers,
            mendable=False,
            constructed=True,
        ),
    )
}
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
