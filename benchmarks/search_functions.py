"""What samplers are measured on: two functions of the literature, a conditional mixed space, a table of networks."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from nastavnik.recipe import Value
from nastavnik.space import Choice, Number, Space

TABLE = Path(__file__).parent / "results" / "search-table.csv"
Point = Mapping[str, Value]


class Problem(NamedTuple):
    """A space and the value of its points, to be small; ``calls`` is how often a sampler may ask."""

    space: Space
    value: Callable[[Point], float]
    calls: int


def branin(p: Point) -> float:
    """Dixon & Szegö 1978; three minima of 0.397887."""
    x, y = float(p["x"]), float(p["y"])
    first = (y - 5.1 / (4 * math.pi**2) * x * x + 5 / math.pi * x - 6) ** 2
    return first + 10 * (1 - 1 / (8 * math.pi)) * math.cos(x) + 10


_A = np.array(
    [[10, 3, 17, 3.5, 1.7, 8], [0.05, 10, 17, 0.1, 8, 14], [3, 3.5, 1.7, 10, 17, 8], [17, 8, 0.05, 10, 0.1, 14]]
)
_P = 1e-4 * np.array(
    [
        [1312, 1696, 5569, 124, 8283, 5886],
        [2329, 4135, 8307, 3736, 1004, 9991],
        [2348, 1451, 3522, 2883, 3047, 6650],
        [4047, 8828, 8732, 5743, 1091, 381],
    ]
)


def hartmann6(p: Point) -> float:
    """Dixon & Szegö 1978; its minimum is -3.32237."""
    x = np.array([float(p[f"x{i}"]) for i in range(6)])
    return -float(np.array([1, 1.2, 3, 3.2]) @ np.exp(-(_A * (x - _P) ** 2).sum(1)))


def conditional(p: Point) -> float:
    """Three branches with numbers, whole numbers and categories of their own; the minimum is 0, in the branch c."""
    shared = (math.log10(float(p["rate"])) + 3) ** 2 / 4
    if p["kind"] == "a":
        return shared + 0.5 + abs(float(p["u"]) - 0.3)
    if p["kind"] == "b":
        return shared + 0.25 + (int(p["n"]) - 11) ** 2 / 50 + {"x": 0.0, "y": 0.2, "z": 0.6}[str(p["how"])]
    return shared + (float(p["v"]) - 0.7) ** 2 * 4 + (int(p["m"]) - 3) ** 2 / 10


def problems() -> dict[str, Problem]:
    """All four, by name."""
    plane = Space({"x": Number(-5.0, 10.0), "y": Number(0.0, 15.0)})
    cube = Space({f"x{i}": Number(0.0, 1.0) for i in range(6)})
    tree = Space(
        {
            "kind": Choice(
                {
                    "a": Space({"u": Number(0.0, 1.0)}),
                    "b": Space({"n": Number(1, 30, integer=True), "how": Choice.of("x", "y", "z")}),
                    "c": Space({"v": Number(0.0, 1.0), "m": Number(1, 12, integer=True, log=True)}),
                }
            ),
            "rate": Number(1e-6, 1.0, log=True),
        }
    )
    return {
        "Branin": Problem(plane, branin, 150),
        "Hartmann6": Problem(cube, hartmann6, 150),
        "conditional mixed": Problem(tree, conditional, 150),
        "1,000 networks": Problem(TABLE_SPACE, _logged(), 100),
    }


RATES = [10.0 ** (-4 + 0.5 * i) for i in range(10)]
WIDTHS, BATCHES, ACTIVATIONS = (8, 16, 32, 64, 128), (8, 16, 32, 64, 128), ("relu", "tanh", "sigmoid", "gelu")
TABLE_SPACE = Space(
    {
        "rate": Number(0, 9, integer=True),  # the place in RATES
        "width": Number(0, 4, integer=True),
        "batch": Number(0, 4, integer=True),
        "activation": Choice.of(*ACTIVATIONS),
    }
)


def _logged() -> Callable[[Point], float]:
    with TABLE.open(newline="") as file:
        rows = {
            (float(r["rate"]), int(r["width"]), int(r["batch"]), r["activation"]): float(r["nll"])
            for r in csv.DictReader(file)
        }

    def value(p: Point) -> float:
        numbers = RATES[int(p["rate"])], WIDTHS[int(p["width"])], BATCHES[int(p["batch"])]
        return rows[(*numbers, str(p["activation"]))]

    return value
