"""The fixed pieces of work of ``engine.py``: data, networks and configurations, the same for every arm."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from real_data import DATA

Arrays = tuple[np.ndarray, ...]


@dataclass(frozen=True)
class Case:
    """``data()`` gives training inputs and targets, then validation inputs and targets."""

    name: str
    data: Callable[[], tuple[Arrays, np.ndarray, Arrays, np.ndarray]]
    optimizer: str
    rate: tuple[float, float]
    batch: int
    epochs: int
    regression: bool = False
    dropout: bool = True

    def configurations(self, count: int) -> list[dict[str, float]]:
        """The first so many draws of Optuna's random sampler, seed 0."""
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
        found = []
        for _ in range(count):
            trial = study.ask()
            found.append(self.suggest(trial))
            study.tell(trial, 0.0)
        return found

    def suggest(self, trial: Any) -> dict[str, float]:
        """One configuration."""
        return {
            "lr": trial.suggest_float("lr", *self.rate, log=True),
            "momentum": trial.suggest_float("momentum", 0.0, 0.95),
            "wd": trial.suggest_float("wd", 1e-6, 1e-2, log=True),
            "dropout": trial.suggest_float("dropout", 0.0, 0.5),
        }

    def module(self, rate: float) -> Any:
        """The network in torch."""
        return _modules(self.name, rate if self.dropout else 0.0)


def _modules(name: str, rate: float) -> Any:
    from torch import nn

    if name == "digits":
        return nn.Sequential(
            nn.Linear(64, 64),
            nn.ReLU(),
            nn.Dropout(rate),
            nn.Linear(64, 64),
            nn.ReLU(),
            nn.Dropout(rate),
            nn.Linear(64, 10),
        )
    if name == "mnist":
        return nn.Sequential(nn.Linear(784, 100), nn.ReLU(), nn.Linear(100, 10))
    if name == "cnn":
        return nn.Sequential(
            nn.Conv2d(1, 20, 5), nn.MaxPool2d(2), nn.ReLU(), nn.Conv2d(20, 40, 5), nn.MaxPool2d(2), nn.ReLU(),
            nn.Flatten(), nn.Linear(640, 100), nn.ReLU(), nn.Linear(100, 10),
        )  # fmt: skip

    class Houses(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.zipcode = nn.Embedding(70, 8)
            self.body = nn.Sequential(
                nn.Linear(8 + 17, 128), nn.ReLU(), nn.Dropout(rate), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 1)
            )

        def forward(self, numbers: Any, zipcode: Any) -> Any:
            import torch

            return self.body(torch.cat([numbers, self.zipcode(zipcode)], dim=1))

    return Houses()


@cache
def _digits() -> tuple[Arrays, np.ndarray, Arrays, np.ndarray]:
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    d = load_digits()
    x, y = (d.data / 16).astype(np.float32), d.target.astype(np.int64)
    xt, xv, yt, yv = train_test_split(x, y, test_size=0.2, random_state=0, stratify=y)
    return (xt,), yt, (xv,), yv


@cache
def _mnist() -> tuple[np.ndarray, np.ndarray]:
    if not (DATA / "mnist").is_dir():
        raise SystemExit(f"this case needs MNIST in {DATA / 'mnist'}; set NASTAVNIK_DATA")

    def read(name: str, head: int, count: int) -> np.ndarray:
        with gzip.open(DATA / "mnist" / f"train-{name}-ubyte.gz") as file:
            return np.frombuffer(file.read(head + count), np.uint8, offset=head)

    x = read("images-idx3", 16, 14800 * 784).reshape(-1, 784)
    return (x / 255).astype(np.float32), read("labels-idx1", 8, 14800).astype(np.int64)


def _mnist_flat() -> tuple[Arrays, np.ndarray, Arrays, np.ndarray]:
    x, y = _mnist()
    return (x[:12800],), y[:12800], (x[12800:],), y[12800:]


def _mnist_images() -> tuple[Arrays, np.ndarray, Arrays, np.ndarray]:
    x, y = _mnist()
    x = x.reshape(-1, 1, 28, 28)
    return (x[:1280],), y[:1280], (x[12800:13800],), y[12800:13800]


@cache
def _houses() -> tuple[Arrays, np.ndarray, Arrays, np.ndarray]:
    import pandas as pd

    if not (DATA / "kc_house_data.csv").exists():
        raise SystemExit(f"this case needs kc_house_data.csv in {DATA}; set NASTAVNIK_DATA")
    frame = pd.read_csv(DATA / "kc_house_data.csv")
    price = np.log(frame["price"].to_numpy(dtype=float))
    zipcode = frame["zipcode"].astype("category").cat.codes.to_numpy().astype(np.int64)
    table = frame.drop(columns=["id", "date", "price", "zipcode"]).apply(lambda c: pd.to_numeric(c, errors="coerce"))
    values = np.nan_to_num(table.to_numpy(dtype=float)[:, :17])
    x = ((values - values.mean(0)) / (values.std(0) + 1e-9)).astype(np.float32)
    y = ((price - price.mean()) / price.std()).astype(np.float32)
    order = np.random.default_rng(0).permutation(len(y))
    train, valid = order[:17152], order[17152:]
    return (x[train], zipcode[train]), y[train], (x[valid], zipcode[valid]), y[valid]


CASES = {
    "digits": Case("digits", _digits, "sgd", (1e-3, 0.5), 32, 30),
    "houses": Case("houses", _houses, "adamw", (1e-4, 1e-2), 256, 5, regression=True),
    "mnist": Case("mnist", _mnist_flat, "sgd", (1e-3, 0.1), 64, 2, dropout=False),
    "cnn": Case("cnn", _mnist_images, "sgd", (1e-3, 0.05), 64, 1, dropout=False),
}
