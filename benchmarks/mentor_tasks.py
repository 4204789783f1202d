"""The tasks of the fault bench: a table, a family of networks and a recipe that trains it well.

Tasks differ in what they are trained on, in architecture, activation, normalization and optimizer; everything is
embedded or drawn. Thresholds are set on those that are not held out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from sklearn import datasets

from nastavnik.recipe import Value

ROWS = 1600


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
            n_samples=ROWS,
            n_features=20,
            n_informative=8,
            n_classes=2,
            n_clusters_per_class=3,
            class_sep=1.2,
            random_state=5,
        )
    )


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
        "network.width": 32,
        "network.depth": 2,
        "network.activation": "relu",
        "network.normalization": "none",
        "network.residual": False,
        "network.dropout": 0.0,
        "initialization.name": "matched",
        "optimizer.name": "adamw",
        "optimizer.learning_rate": 3e-3,
        "optimizer.weight_decay": 1e-3,
        "schedule.name": "cosine",
        "batch_size": 32,
        "epochs": 15,
        "loss.name": "likelihood",
        "preparation.numbers": "standard",
        "seed": 0,
    }
    recipe = {**base, **named}
    if recipe["initialization.name"] == "own":
        del recipe["initialization.name"]
    return recipe


TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        Task("digits", "8×8 digits as rows, rectifiers, AdamW", _digits, "mlp", _recipe(network__width=48)),
        Task(
            "friedman1",
            "Friedman's first surface, tanh, AdamW",
            _friedman(1, 1.0),
            "mlp",
            _recipe(network__activation="tanh", network__width=32, likelihood__noise="learned", epochs=25),
        ),
        Task(
            "rings",
            "three nested shells, four layers with batch normalization, AdamW",
            _rings,
            "mlp",
            _recipe(network__normalization="batch", network__depth=4, epochs=20),
        ),
        Task(
            "waveform",
            "Breiman's waveforms, SiLU, SGD with momentum",
            _waveform,
            "mlp",
            _recipe(
                network__activation="silu",
                optimizer__name="momentum",
                optimizer__learning_rate=0.02,
                optimizer__momentum=0.9,
                optimizer__weight_decay=1e-4,
                epochs=15,
            ),
        ),
        Task(
            "pictures",
            "8×8 digits as pictures, convolutions with batch normalization, AdamW",
            _digits,
            "picture",
            _recipe(network__width=8, network__normalization="batch", epochs=8),
            held_out=False,
        ),
        Task(
            "friedman3",
            "Friedman's third surface, ELU, Nesterov",
            _friedman(3, 0.05),
            "mlp",
            _recipe(
                network__activation="elu",
                optimizer__name="nesterov",
                optimizer__learning_rate=0.01,
                optimizer__momentum=0.9,
                optimizer__weight_decay=1e-4,
                likelihood__noise="learned",
                epochs=40,
            ),
            held_out=False,
        ),
        Task(
            "signals",
            "four wave forms, three one-dimensional convolutions, GELU, Adam",
            _signals,
            "wave",
            _recipe(
                network__activation="gelu",
                network__width=16,
                network__depth=3,
                optimizer__name="adam",
                optimizer__learning_rate=5e-3,
                optimizer__weight_decay=0.0,
                epochs=12,
            ),
            held_out=False,
        ),
        Task(
            "clusters",
            "six clusters in twenty columns, five layers with layer normalization, RMSProp",
            _clusters,
            "mlp",
            _recipe(
                network__depth=5,
                network__width=24,
                network__normalization="layer",
                optimizer__name="rmsprop",
                optimizer__learning_rate=1e-3,
                optimizer__weight_decay=0.0,
                epochs=10,
            ),
            held_out=False,
        ),
        Task(
            "breast_cancer",
            "569 real tumours, SELU, Nesterov",
            _tumours,
            "mlp",
            _recipe(
                network__activation="selu",
                network__width=24,
                optimizer__name="nesterov",
                optimizer__learning_rate=0.01,
                optimizer__momentum=0.9,
                optimizer__weight_decay=1e-3,
                epochs=20,
            ),
            held_out=True,
        ),
        Task(
            "moons",
            "two moons turned into five columns, four layers with bypasses, Adam",
            _moons,
            "mlp",
            _recipe(
                network__depth=4, network__residual=True, optimizer__name="adam", optimizer__weight_decay=0.0, epochs=12
            ),
            held_out=True,
        ),
        Task(
            "friedman2",
            "Friedman's second surface, SiLU with layer normalization, AdamW",
            _friedman(2, 60.0),
            "mlp",
            _recipe(
                network__activation="silu",
                network__normalization="layer",
                optimizer__learning_rate=2e-3,
                likelihood__noise="learned",
                epochs=25,
            ),
            held_out=True,
        ),
        Task(
            "tones",
            "which of four tones is in the noise, convolutions with batch normalization, momentum",
            _tones,
            "wave",
            _recipe(
                network__normalization="batch",
                network__width=12,
                network__depth=2,
                optimizer__name="momentum",
                optimizer__learning_rate=0.02,
                optimizer__momentum=0.9,
                optimizer__weight_decay=1e-4,
                epochs=12,
            ),
            held_out=True,
        ),
    )
}
