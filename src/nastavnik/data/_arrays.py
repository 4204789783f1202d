"""Arrays: pairs in memory, ``.npz`` files, and map-style data sets whose items are pairs."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from nastavnik.data._held import MadeCell
from nastavnik.data._split import PART_WORDS
from nastavnik.errors import UserError

_INPUTS = ("x", "data", "images", "inputs", "features")
_TARGETS = ("y", "labels", "label", "targets", "target")


def as_cells(values: np.ndarray | Sequence[Any]) -> pd.Series:
    """A column that holds one array a row."""
    cells = np.empty(len(values), dtype=object)
    for i, value in enumerate(values):
        cells[i] = MadeCell(value)
    return pd.Series(cells, dtype=object)


def frame_of(x: np.ndarray) -> pd.DataFrame:
    """Inputs [rows, …] as a table: a column a number where there are two dimensions, else one array a row.

    Raises:
        UserError: there are fewer than two.
    """
    if x.ndim < 2:
        raise UserError(f"the inputs must have 2 dimensions (rows, columns) or more, but got shape {x.shape}")
    if x.ndim == 2:
        return pd.DataFrame(x, columns=[f"x{j}" for j in range(x.shape[1])])
    return pd.DataFrame({"x": as_cells(x)})


def read_npz(path: Path) -> tuple[pd.DataFrame, np.ndarray | None, str | None]:
    """A ``.npz`` file of inputs and targets (x, y; also x_train, y_train, x_test …): table, parts, target's name.

    Raises:
        UserError: its arrays have other names, or do not belong together.
    """
    try:
        file = np.load(path, allow_pickle=False)
        if not isinstance(file, np.lib.npyio.NpzFile):
            raise ValueError("it holds a single array")
        with file:
            arrays = {name: file[name] for name in file.files}
    except (ValueError, OSError, EOFError, KeyError, NotImplementedError, zipfile.BadZipFile, zlib.error) as error:
        raise UserError(f"{path} is no .npz file of plain arrays we can read: {error}") from error
    pairs: list[tuple[np.ndarray, np.ndarray | None, str]] = []
    for part in ("", *PART_WORDS):
        x = _named(arrays, _INPUTS, part)
        if x is not None:
            pairs.append((x, _named(arrays, _TARGETS, part), part))
    if not pairs:
        listed = ", ".join(f"{name} {a.shape}" for name, a in list(arrays.items())[:6]) or "none"
        raise UserError(f"{path} must hold arrays x and y (or x_train, y_train, x_test, y_test); it holds {listed}")
    frames = []
    for x, y, part in pairs:
        frame = frame_of(x)
        if y is not None:
            if y.ndim == 0 or y.size != len(x) or len(y) != len(x):
                raise UserError(f"{path}: the targets {y.shape} are not one value for each of {len(x)} rows {part}")
            frame["target"] = y.reshape(len(y))
        frames.append(frame)
    if len({(x.shape[1:], y is None) for x, y, _ in pairs}) > 1:
        raise UserError(f"{path}: its parts differ in shape: {', '.join(str(x.shape) for x, _, _ in pairs)}")
    named = [np.full(len(x), PART_WORDS.get(part, "train"), dtype=object) for x, _, part in pairs]
    parts = np.concatenate(named) if len(pairs) > 1 else None
    return pd.concat(frames, ignore_index=True), parts, "target" if pairs[0][1] is not None else None


def _named(arrays: dict[str, np.ndarray], names: Sequence[str], part: str) -> np.ndarray | None:
    wanted = {f"{n}_{part}" if part else n for n in names} | ({f"{part}_{n}" for n in names} if part else set())
    return next((a for name, a in arrays.items() if name.lower() in wanted), None)


def is_data_set(source: Any) -> bool:
    """Whether it is a map-style data set: ``len``, and items by number; no table, array or list."""
    plain = isinstance(source, (list, tuple, str, bytes, dict, np.ndarray, pd.DataFrame, pd.Series))
    return (
        not plain
        and not hasattr(source, "columns")
        and all(hasattr(type(source), name) for name in ("__len__", "__getitem__"))
        and not hasattr(source, "__array__")
    )


def read_data_set(source: Any) -> pd.DataFrame:
    """A map-style data set of pairs (input, target) as a table; numbers side by side, else one array a row.

    Raises:
        UserError: it is empty, or an item is no pair.
    """
    if not len(source):
        raise UserError("the data set is empty")
    inputs, targets = [], []
    for i in range(len(source)):
        item = source[i]
        if not isinstance(item, (tuple, list)) or len(item) != 2:
            raise UserError(f"item {i} of the data set must be a pair (input, target), but is {type(item).__name__}")
        inputs.append(item[0])
        y = np.asarray(item[1])
        if y.size != 1:
            raise UserError(f"item {i} of the data set must have one target, but has an array of shape {y.shape}")
        targets.append(y.item())
    shapes = {np.shape(v) for v in inputs if not hasattr(v, "getbands")}
    if len(shapes) == 1 and len(next(iter(shapes))) < 2 and len(shapes) == len({type(v) for v in inputs}):
        plain = len(next(iter(shapes))) == 0  # a word or a number each
        frame = pd.DataFrame({"x": inputs}) if plain else frame_of(np.stack([np.asarray(v) for v in inputs]))
    else:
        frame = pd.DataFrame({"x": as_cells(inputs)})
    return frame.assign(target=targets)
