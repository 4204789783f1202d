"""A room's names, each imported when it is first used: what a command does not need costs it nothing."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def lazily(room: str, homes: Mapping[str, str]) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """The ``__getattr__`` and ``__dir__`` of a room's ``__init__`` (PEP 562).

    Args:
        room: its ``__name__``.
        homes: of every name the module that holds it; of a module, itself.
    """

    def find(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {room!r} has no attribute {name!r}")
        state = random.getstate()
        home = import_module(homes[name])
        random.setstate(state)  # some libraries draw from it while they are imported: a user's seed stays the user's
        found = home if homes[name].rpartition(".")[2] == name else getattr(home, name)
        setattr(sys.modules[room], name, found)
        return found

    return find, lambda: sorted({*vars(sys.modules[room]), *homes})


def homes_of(room: str, names: Mapping[str, str]) -> dict[str, str]:
    """``{"_fit": "Run fit"}`` as ``{"Run": "room._fit", "fit": "room._fit"}``."""
    return {name: f"{room}.{module}" for module, own in names.items() for name in own.split()}
