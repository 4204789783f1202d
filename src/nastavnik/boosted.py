"""Boosted trees that a model holds beside its networks: scikit-learn's, LightGBM's and CatBoost's, as plain arrays.

The process that fits them packs each (``selection/_baseline_worker``); here they are unpacked and asked. Nothing is
pickled: scikit-learn's trees are arrays of nodes that are walked here, the others are their libraries' own files.
"""

from __future__ import annotations

import functools
import importlib
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nastavnik.data import Columns, Preparation
from nastavnik.errors import UserError
from nastavnik.matrices import tree_matrix
from nastavnik.predictive import ClassPredictive, Moved, Predictive

_PARTS = ("value", "feature", "threshold", "missing_left", "left", "right", "leaf")
_LEAST = 1e-12


@dataclass(frozen=True, eq=False)
class Boosted:
    """A fitted ensemble of trees: its baseline's name, "classification", "count" or "regression", the numbers of the
    classes it saw, its arrays, how columns become its matrix, and a temperature of its probabilities.
    """

    name: str
    task: str
    classes: tuple[int, ...]
    arrays: Mapping[str, np.ndarray]
    preparation: Preparation
    temperature: float = 1.0

    def answers(self, rows: np.ndarray) -> np.ndarray:
        """Probabilities [n, classes] or values [n] of rows of the matrix that it was fitted on.

        Raises:
            UserError: its library is not installed.
        """
        if self.name == "gradient_boosting":
            return _linked(_walked(self.arrays, rows), self.task)
        said = self._library
        return said(rows)

    @functools.cached_property
    def _library(self) -> Any:
        """What asks the library."""
        try:
            return _lightgbm(self) if self.name == "lightgbm" else _catboost(self)
        except ImportError as error:
            raise UserError(
                f"the model holds trees of {self.name}, which is not installed here; pip install nastavnik[boosting]"
            ) from error

    def beside(self, networks: Predictive, columns: Columns) -> Predictive:
        """What it says of rows, in the form of what networks say of them."""
        return as_networks_say(self, self.answers(tree_matrix(columns, self.preparation)), networks)

    def to_record(self) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
        """Plain JSON and tensors."""
        preparation, tensors = self.preparation.to_record()
        record = {
            "preparation": preparation,
            "name": self.name,
            "task": self.task,
            "classes": list(self.classes),
            "temperature": self.temperature,
            "arrays": list(self.arrays),
        }
        own = {f"arrays.{name}": torch.from_numpy(np.array(a)) for name, a in self.arrays.items()}
        return record, {**own, **{f"preparation.{name}": t.clone() for name, t in tensors.items()}}

    @classmethod
    def from_record(cls, record: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> Boosted:
        """Read what ``to_record`` wrote."""
        arrays = {name: tensors[f"arrays.{name}"].numpy() for name in record["arrays"]}
        start = "preparation."
        prepared = {n.removeprefix(start): t for n, t in tensors.items() if n.startswith(start)}
        preparation = Preparation.from_record(record["preparation"], prepared)
        classes = tuple(record["classes"])
        return cls(record["name"], record["task"], classes, arrays, preparation, record["temperature"])


def as_networks_say(boosted: Boosted, answers: np.ndarray, networks: Predictive) -> Predictive:
    """Answers as a distribution of the sort that networks give for the same rows.

    Probabilities are taken as they are, at its temperature. A number is taken as the centre: it says nothing of how
    wide a distribution is, so that the networks' own is moved there.
    """
    if isinstance(networks, ClassPredictive):
        every = np.full((len(answers), networks.probabilities.shape[1]), _LEAST)
        every[:, list(boosted.classes)] = np.clip(answers, _LEAST, 1) ** (1 / boosted.temperature)
        return ClassPredictive(every / every.sum(1, keepdims=True), networks.grades)
    assert isinstance(networks, Moved)
    return networks.moved(answers)


def _walked(arrays: Mapping[str, np.ndarray], rows: np.ndarray) -> np.ndarray:
    """The sums [n, outputs] of what trees of nodes say; trees stand one after the other, ``first`` is each one's root
    and ``output`` what it adds to."""
    value, feature, threshold, missing_left, left, right, leaf = (arrays[name] for name in _PARTS)
    total = np.tile(arrays["start"], (len(rows), 1))
    every = np.arange(len(rows))
    for root, output in zip(arrays["first"].tolist(), arrays["output"].tolist(), strict=True):
        place = np.full(len(rows), root)
        walking = every
        while len(walking):
            walking = walking[~leaf[place[walking]]]
            own = place[walking]
            x = rows[walking, feature[own]]
            goes_left = np.where(np.isnan(x), missing_left[own], x <= threshold[own])
            place[walking] = root + np.where(goes_left, left[own], right[own])
        total[:, output] += value[place]
    return total


def _linked(raw: np.ndarray, task: str) -> np.ndarray:
    """Raw sums as probabilities or values."""
    if task == "regression":
        return raw[:, 0]
    if task == "count":
        return np.exp(raw[:, 0])
    if raw.shape[1] == 1:
        chance = 1 / (1 + np.exp(-raw[:, 0]))
        return np.stack([1 - chance, chance], axis=1)
    powers = np.exp(raw - raw.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


def _lightgbm(boosted: Boosted) -> Any:
    import lightgbm

    booster = lightgbm.Booster(model_str=boosted.arrays["file"].tobytes().decode())

    def said(rows: np.ndarray) -> np.ndarray:
        found = np.asarray(booster.predict(rows))
        two = boosted.task == "classification" and found.ndim == 1
        return np.stack([1 - found, found], axis=1) if two else found

    return said


def _catboost(boosted: Boosted) -> Any:
    catboost = importlib.import_module("catboost")
    known = catboost.CatBoostClassifier if boosted.task == "classification" else catboost.CatBoostRegressor
    model = known()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trees.cbm"
        path.write_bytes(boosted.arrays["file"].tobytes())
        model.load_model(str(path))
    places = boosted.arrays["categories"].tolist()

    def said(rows: np.ndarray) -> np.ndarray:
        from nastavnik.selection._baseline_worker import framed

        table = framed(rows, places)
        return np.asarray(model.predict_proba(table) if boosted.task == "classification" else model.predict(table))

    return said
