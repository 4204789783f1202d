"""The built-in sets: scikit-learn's files, read without the seconds that importing its loaders takes."""

from __future__ import annotations

import csv
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

BUILT_IN = ("digits", "iris", "wine", "breast_cancer", "diabetes")
_MEASURES = (
    "radius", "texture", "perimeter", "area", "smoothness", "compactness", "concavity", "concave points", "symmetry",
    "fractal dimension",
)  # fmt: skip
# file and columns; the first line of a file holds rows, columns and the classes' names
_FILES: dict[str, tuple[str, tuple[str, ...]]] = {
    "iris": ("iris.csv", ("sepal length (cm)", "sepal width (cm)", "petal length (cm)", "petal width (cm)")),
    "wine": (
        "wine_data.csv",
        (
            "alcohol", "malic_acid", "ash", "alcalinity_of_ash", "magnesium", "total_phenols", "flavanoids",
            "nonflavanoid_phenols", "proanthocyanins", "color_intensity", "hue", "od280/od315_of_diluted_wines",
            "proline",
        ),
    ),
    "breast_cancer": (
        "breast_cancer.csv",
        (*(f"mean {m}" for m in _MEASURES), *(f"{m} error" for m in _MEASURES), *(f"worst {m}" for m in _MEASURES)),
    ),
}  # fmt: skip


def built_in_frame(name: str) -> pd.DataFrame:
    """The set as scikit-learn's loader gives it, classes by their names."""
    path = _place(name)
    return _loaded(name) if path is None else _read(path, _FILES[name][1])


def _place(name: str) -> Path | None:
    """Where the installed scikit-learn keeps the set's file, if it is one of those read here."""
    spec = find_spec("sklearn") if name in _FILES else None
    places = [] if spec is None else list(spec.submodule_search_locations or ())
    path = Path(places[0], "datasets", "data", _FILES[name][0]) if places else None
    return path if path is not None and path.is_file() else None


def _read(path: Path, columns: tuple[str, ...]) -> pd.DataFrame:
    with path.open(encoding="utf-8", newline="") as file:
        first, *rows = csv.reader(file)
    cells = np.array(rows, dtype=np.float64)
    classes = first[2:]
    frame = pd.DataFrame(cells[:, :-1], columns=list(columns))
    frame["target"] = pd.Series([classes[int(i)] for i in cells[:, -1]])
    return frame


def _loaded(name: str) -> pd.DataFrame:
    from sklearn import datasets

    bunch: Any = getattr(datasets, f"load_{name}")(as_frame=True)
    frame = bunch.frame.copy()
    if name != "diabetes":
        frame["target"] = frame["target"].map(lambda i: str(bunch.target_names[i]))
    return frame
