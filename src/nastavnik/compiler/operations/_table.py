"""How an operation is entered."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from nastavnik.compiler._expressions import Constant, Value
from nastavnik.compiler._lowering import LOWERINGS, cast


def lowers(*names: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Enter a function as what these operations are."""

    def enter(function: Callable[..., Any]) -> Callable[..., Any]:
        LOWERINGS.update(dict.fromkeys(names, function))
        return function

    return enter


def valued(x: Value | float | int | bool, dtype: torch.dtype) -> Value:
    """A number as a value of that type; values as they are."""
    return x if isinstance(x, Value) else Value((), cast(Constant(x, natural(x)), dtype))


def natural(x: float | int | bool) -> torch.dtype:
    return torch.bool if isinstance(x, bool) else torch.int64 if isinstance(x, int) else torch.float64


def suffix(dtype: torch.dtype) -> str:
    """What C's mathematical functions end on for this type."""
    return "f" if dtype == torch.float32 else ""
