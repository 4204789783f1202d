"""A space written in TOML, and the limits that recipes must keep."""

from __future__ import annotations

import json
import math
import numbers
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from nastavnik.errors import UserError, nearest
from nastavnik.recipe import Value
from nastavnik.space._space import Choice, Node, Number, Space

_MOST = 1e15
_LARGEST = 1_000_000  # bytes
_DEEPEST = 40  # tables and lists in one another
_NUMBER = ("low", "high", "log", "integer", "step", "default")
_CHOICE = ("options", "when", "default")


@dataclass(frozen=True)
class Limits:
    """What a recipe may take at most, checked before it is trained: ``parameters`` of its network, ``seconds`` of its
    training (a forecast), ``megabytes`` of memory."""

    parameters: float = math.inf
    seconds: float = math.inf
    megabytes: float = math.inf

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Limits:
        """From names and numbers.

        Raises:
            UserError: an unknown name, or a number that is not above 0.
        """
        known = [f.name for f in fields(cls)]
        if not isinstance(given, Mapping):
            raise UserError(f"limits must be names with numbers, such as {{'parameters': 10000}}, but got {given!r}")
        for name, value in given.items():
            if name not in known:
                raise UserError(f"there is no limit {name!r}{nearest(name, known)}")
            whole = isinstance(value, numbers.Real) and not isinstance(value, bool)
            if not whole or not 0 < value <= _MOST:
                raise UserError(f"the limit {name} must be a number above 0, but got {repr(value)[:40]}")
        return cls(**{name: float(value) for name, value in given.items()})


def read_space(path: str | Path) -> tuple[Space, Limits]:
    """Read a space: ``name = value`` is given, ``name = [a, b]`` a choice, ``name = {low, high, log, integer, step}``
    a number; ``[name.when.value]`` is what hangs below a value; ``[limits]`` what a recipe may take.

    Raises:
        UserError: the file cannot be read, or something in it means nothing.
    """
    return parse_space(read_space_text(path), str(path))


def read_space_text(path: str | Path) -> str:
    """The text of a space's file.

    Raises:
        UserError: it cannot be read.
    """
    try:
        if Path(path).exists() and not Path(path).is_file():
            raise UserError(f"the space {path} is a folder, a pipe or a device; give a file")
        if Path(path).is_file() and Path(path).stat().st_size > _LARGEST:
            raise UserError(f"the space {path} is larger than {_LARGEST:,} bytes; is it a space?")
        return Path(path).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"the space {path} cannot be read: {getattr(error, 'strerror', None) or error}") from error


def parse_space(text: str, where: str = "the space") -> tuple[Space, Limits]:
    """As ``read_space``, from a text; ``where`` is what it is called in errors.

    Raises:
        UserError: something in it means nothing.
    """
    try:
        record = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"{where} is no TOML: {error}") from error
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, thousands of nested lists
        raise UserError(f"{where} cannot be read: {str(error)[:80]}") from error
    if _is_deeper(record, _DEEPEST):
        raise UserError(f"{where} is nested more than {_DEEPEST} deep; is it a space?")
    limits = record.pop("limits", {})
    if not isinstance(limits, dict):
        raise UserError(f"{where}: limits must be a table, such as limits = {{ parameters = 10000 }}")
    try:
        space = _space(record)
        if not space.nodes and not space.fixed and not limits:
            raise UserError("it is empty")
        return space, Limits.of(limits)
    except UserError as error:
        raise UserError(f"{where}: {error}") from error


def _is_deeper(record: Any, most: int) -> bool:
    """Whether tables and lists lie in one another more than so many times; without recursion."""
    level = [record]
    for _ in range(most + 1):
        level = [v for e in level for v in (e.values() if isinstance(e, dict) else e if isinstance(e, list) else ())]
    return bool(level)


def _space(record: Mapping[str, Any]) -> Space:
    nodes: dict[str, Node] = {}
    fixed: dict[str, Value] = {}
    for name, entry in _entries(record, ""):
        if name in nodes or name in fixed:
            raise UserError(f"{name} is written twice")
        if isinstance(entry, (bool, int, float, str)):
            fixed[name] = entry
        elif isinstance(entry, list):
            nodes[name] = _choice(name, {"options": entry})
        elif "options" in entry or "when" in entry:
            nodes[name] = _choice(name, entry)
        else:
            nodes[name] = _number(name, entry)
    return Space(nodes, fixed)


def _entries(record: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    """Dotted names with what they stand for; a table that is neither number nor choice is a part of the name."""
    for key, entry in record.items():
        name = f"{prefix}{key}"
        if isinstance(entry, dict) and not _is_node(entry):
            if not entry:
                raise UserError(f"{name} is empty")
            yield from _entries(entry, f"{name}.")
        elif isinstance(entry, (bool, int, float, str, list, dict)):
            yield name, entry
        else:
            raise UserError(f"{name} cannot be {entry!r}; write a number, a word, a list or a table")


def _is_node(entry: Mapping[str, Any]) -> bool:
    """Whether a table is a number or a choice, and no part of a name such as ``schedule.low``."""
    return bool(entry.keys() & {"options", "when"}) or {"low", "high"} <= entry.keys()


def _number(name: str, entry: Mapping[str, Any]) -> Number:
    _known(name, entry, _NUMBER)
    for key in ("low", "high", "step", "default"):
        value = entry.get(key, 0.0)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise UserError(f"{name}: {key} must be a number, but got {value!r}")
    for key in ("log", "integer"):
        if not isinstance(entry.get(key, False), bool):
            raise UserError(f"{name}: {key} must be true or false, but got {entry[key]!r}")
    try:
        return Number(**entry)
    except UserError as error:
        raise UserError(f"{name}: {error}") from error


def _choice(name: str, entry: Mapping[str, Any]) -> Choice:
    _known(name, entry, _CHOICE)
    when = entry.get("when", {})
    if not isinstance(when, dict) or not all(isinstance(branch, dict) for branch in when.values()):
        raise UserError(f"{name}.when must hold tables, such as [{name}.when.VALUE]")
    options = entry.get("options", list(when))
    if not isinstance(options, list) or not options:
        raise UserError(f"{name} needs at least one option")
    for option in options:
        if not isinstance(option, (bool, int, float, str)) or option != option:
            raise UserError(f"{name}: an option must be a number, a word, true or false, but got {str(option)[:40]}")
    words = {str(option).lower() if isinstance(option, bool) else str(option): option for option in options}
    if len(words) < len(options) or len(set(options)) < len(options):
        raise UserError(f"{name} names an option twice: {options}")
    for word in when:
        if word not in words:
            raise UserError(f"{name}.when.{word} belongs to no option{nearest(word, words)}")
    branches = {option: _space(when.get(word, {})) for word, option in words.items()}
    default = entry.get("default")
    if default is not None and not any(o == default and type(o) is type(default) for o in options):
        raise UserError(f"{name}: the default {default!r} is none of its options")
    return Choice(branches, default)


def _known(name: str, entry: Mapping[str, Any], keys: tuple[str, ...]) -> None:
    for key in entry:
        if key not in keys:
            raise UserError(f"{name} cannot have {key!r}{nearest(key, keys)}")


def space_in_toml(space: Space, limits: Limits | None = None) -> str:
    """The text that ``parse_space`` reads back: what is given and what may be drawn.

    Raises:
        UserError: a number that is not finite.
    """
    lines = list(_lines(space, ""))
    own = {f.name: getattr(limits, f.name) for f in fields(Limits)} if limits is not None else {}
    own = {name: value for name, value in own.items() if math.isfinite(value)}
    return "\n".join([*lines, *(["[limits]"] if own else []), *(f"{n} = {_value(v)}" for n, v in own.items())]) + "\n"


def _lines(space: Space, table: str) -> Iterator[str]:
    """Plain entries first: what follows a table's header belongs to that table."""
    for name, value in space.fixed.items():
        yield f"{_value(name)} = {_value(value)}"
    grown: list[tuple[str, Choice]] = []
    for name, node in space.nodes.items():
        if isinstance(node, Number):
            yield f"{_value(name)} = {_number_in_toml(node)}"
        elif any(node.branches[v] != Space() for v in node.options):
            grown.append((name, node))
        else:
            yield f"{_value(name)} = {_choice_in_toml(node)}"
    for name, node in grown:
        place = f"{table}{_value(name)}"
        yield f"[{place}]"
        yield f"options = {_options(node)}"
        if node.default is not None:
            yield f"default = {_value(node.default)}"
        for option in node.options:
            if node.branches[option] != Space():
                word = str(option).lower() if isinstance(option, bool) else str(option)
                inner = f"{place}.when.{_value(word)}"
                yield f"[{inner}]"
                yield from _lines(node.branches[option], f"{inner}.")


def _number_in_toml(node: Number) -> str:
    entries = {"low": node.low, "high": node.high, "log": node.log, "integer": node.integer}
    entries |= {n: v for n, v in (("step", node.step), ("default", node.default)) if v is not None}
    return "{ " + ", ".join(f"{n} = {_value(v)}" for n, v in entries.items() if v is not False) + " }"


def _choice_in_toml(node: Choice) -> str:
    if node.default is None:
        return _options(node)
    return f"{{ options = {_options(node)}, default = {_value(node.default)} }}"


def _options(node: Choice) -> str:
    return "[" + ", ".join(map(_value, node.options)) + "]"


def _value(value: Value) -> str:
    """JSON's numbers, words and booleans are TOML's.

    Raises:
        UserError: a number that is not finite.
    """
    if isinstance(value, float) and not math.isfinite(value):
        raise UserError(f"a space cannot hold {value}")
    plain = value.item() if hasattr(value, "item") else value  # numpy's numbers too
    return json.dumps(plain, ensure_ascii=False).replace("\x7f", "\\u007f")
