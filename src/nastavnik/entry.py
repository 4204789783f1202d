"""What every entry of the vocabulary says of itself, so that one page and one command can show them all."""

from __future__ import annotations

import ast
import inspect
import sys
import textwrap
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, ClassVar, Protocol, runtime_checkable


@runtime_checkable
class Entry(Protocol):
    """A class of the vocabulary: an activation, an initializer, an optimizer …

    The first sentence of its docstring says what it is for. ``formula`` is written in plain text, ``prefer`` says when
    to take it, ``source`` names the paper first and the notes second, and ``settings`` are the numbers it takes with
    their defaults: each may differ from network to network of one population.
    """

    name: ClassVar[str]
    formula: ClassVar[str]
    prefer: ClassVar[str]
    source: ClassVar[str]
    settings: ClassVar[Mapping[str, float]]


def describe(entry: type[Entry]) -> dict[str, Any]:
    """The record of one entry, for people and programs."""
    return {
        "name": entry.name,
        "purpose": purpose(entry),
        "formula": entry.formula,
        "settings": dict(entry.settings),
        "prefer": entry.prefer,
        "source": entry.source,
    }


def purpose(entry: type) -> str:
    """The first paragraph of a class's docstring, on one line."""
    text = doc_of(entry).split("\n\n")[0].replace("``", "")
    return " ".join(text.split())


def doc_of(thing: Any) -> str:
    """The docstring of a class or function, also where ``python -OO`` has left it out: then as it is written."""
    if sys.flags.optimize >= 2:
        with suppress(OSError, TypeError, SyntaxError, IndexError):  # what was typed at a prompt has no source
            written = ast.parse(textwrap.dedent(inspect.getsource(thing))).body[0]
            if isinstance(written, (ast.ClassDef, ast.FunctionDef)):
                return ast.get_docstring(written) or ""
    return inspect.getdoc(thing) or ""
