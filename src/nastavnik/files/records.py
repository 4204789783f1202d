"""Whether a JSON record is what it should be: its version, its form, and that nobody changed it since.

A ``Kind`` says what a file of ours holds, in checks that are plain functions: each takes a value and where it stands,
and raises ``Mismatch`` with what was expected and what is there. ``believed`` asks in this order: a newer version is
refused, an older one migrated, then the form is checked, then the seal, a hash of the record's own content.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

SEAL = "content_sha256"
Check = Callable[[Any, str], None]


class Mismatch(ValueError):
    """Where a record is not as it should be: its sentence says the place, what was expected and what is there."""


class OtherVersion(Mismatch):
    """A record of a version that this Nastavnik does not read."""


@dataclass(frozen=True)
class Kind:
    """A sort of record: what it holds by name, its version, and how older versions are brought up to it.

    ``migrations`` has for each older version the function to the next. ``sealed`` records are written with a hash of
    their content; from version ``sealed_since`` on, one without it is not believed.
    """

    name: str
    holds: Check
    version: int = 1
    migrations: Mapping[int, Callable[[dict[str, Any]], dict[str, Any]]] = field(default_factory=dict)
    sealed: bool = False
    sealed_since: int | None = None


def seal(record: Mapping[str, Any]) -> str:
    """The hash of a record's content, however it is laid out in the file."""
    content = {name: value for name, value in record.items() if name != SEAL}
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def believed(record: Any, kind: Kind) -> dict[str, Any]:
    """The record in today's version.

    Raises:
        Mismatch: it is of another version, has another form, or was changed after it was written.
    """
    if not isinstance(record, dict):
        raise Mismatch(f"a record is expected, not {_shown(record)}")
    version = record.get("format_version")
    if isinstance(version, bool) or not isinstance(version, int):
        raise Mismatch(f"format_version must be a whole number, not {_shown(version)}")
    if version > kind.version:
        raise OtherVersion(f"has format_version {version}, this Nastavnik reads up to {kind.version}: update it")
    if version != kind.version and version not in kind.migrations:
        raise OtherVersion(
            f"has format_version {version}, of an earlier Nastavnik; this one reads {kind.version}: fit again"
        )
    _check_seal(record, kind, version)
    while version != kind.version:
        record = kind.migrations[version](record)
        version += 1
    kind.holds(record, "")
    return {**record, "format_version": kind.version}


def _check_seal(record: dict[str, Any], kind: Kind, version: int) -> None:
    if SEAL not in record:
        if kind.sealed_since is not None and version >= kind.sealed_since:
            raise Mismatch(f"{SEAL} is missing, so nobody knows whether its numbers are as they were written")
        return
    try:
        right = seal(record) == record[SEAL]
    except (ValueError, RecursionError):  # a number that is not finite
        right = False
    if not right:
        kind.holds(record, "") if version == kind.version else None  # what is wrong, if its form tells
        raise Mismatch(f"it was changed after it was written ({SEAL} differs)")


# Checks


def anything(value: Any, where: str) -> None:
    """Whatever it is."""


def flag(value: Any, where: str) -> None:
    """True or false."""
    if not isinstance(value, bool):
        raise _differs(where, "true or false", value)


def whole(least: int | None = None) -> Check:
    """A whole number."""

    def check(value: Any, where: str) -> None:
        if isinstance(value, bool) or not isinstance(value, int) or (least is not None and value < least):
            raise _differs(where, f"a whole number{'' if least is None else f' from {least}'}", value)

    return check


def number(least: float = -math.inf, most: float = math.inf, *, above: float = -math.inf) -> Check:
    """A finite number."""
    limits = [f"from {least:g}"] * math.isfinite(least) + [f"above {above:g}"] * math.isfinite(above)
    words = " ".join(["a finite number", *limits, *[f"to {most:g}"] * math.isfinite(most)])

    def check(value: Any, where: str) -> None:
        real = isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < _HUGE
        if not real or not least <= value <= most or value <= above:
            raise _differs(where, words, value)

    return check


def text(value: Any, where: str) -> None:
    """A word or a sentence."""
    if not isinstance(value, str):
        raise _differs(where, "a text", value)


def one_of(*words: str) -> Check:
    """One of these words."""

    def check(value: Any, where: str) -> None:
        if not isinstance(value, str) or value not in words:
            raise _differs(where, f"one of {', '.join(words)}", value)

    return check


def maybe(inner: Check) -> Check:
    """Nothing (null), or the inner."""

    def check(value: Any, where: str) -> None:
        if value is not None:
            inner(value, where)

    return check


def listing(inner: Check, least: int = 0, *, length: int | None = None) -> Check:
    """A list of the inner."""

    def check(value: Any, where: str) -> None:
        if not isinstance(value, (list, tuple)):
            raise _differs(where, "a list", value)
        if len(value) < least or (length is not None and len(value) != length):
            raise _differs(where, f"a list of {length if length is not None else f'{least} or more'}", value)
        for i, item in enumerate(value):
            inner(item, f"{where}[{i}]")

    return check


def row(*inner: Check) -> Check:
    """A list with one place for each of the inner."""

    def check(value: Any, where: str) -> None:
        if not isinstance(value, (list, tuple)) or len(value) != len(inner):
            raise _differs(where, f"a list of {len(inner)}", value)
        for i, (item, own) in enumerate(zip(value, inner, strict=True)):
            own(item, f"{where}[{i}]")

    return check


def mapping(inner: Check) -> Check:
    """Names with the inner under each."""

    def check(value: Any, where: str) -> None:
        if not isinstance(value, dict):
            raise _differs(where, "a record", value)
        for name, item in value.items():
            inner(item, _below(where, name))

    return check


def record(required: Mapping[str, Check], optional: Mapping[str, Check] | None = None) -> Check:
    """A record with these names; others beside them are not looked at."""

    def check(value: Any, where: str) -> None:
        if not isinstance(value, dict):
            raise _differs(where, "a record", value)
        for name, inner in required.items():
            if name not in value:
                raise Mismatch(f"{_below(where, name)} is missing")
            inner(value[name], _below(where, name))
        for name, inner in (optional or {}).items():
            if name in value:
                inner(value[name], _below(where, name))

    return check


def setting(value: Any, where: str) -> None:
    """A value of a recipe: a number, a word, true or false."""
    if isinstance(value, (bool, str)):
        return
    number()(value, where)


def recipe(value: Any, where: str) -> None:
    """A recipe's nested record."""
    if not isinstance(value, dict):
        raise _differs(where, "a recipe's record", value)
    for name, item in value.items():
        (recipe if isinstance(item, dict) else setting)(item, _below(where, name))


_HUGE = 1e308
_LONGEST = 60


def _below(where: str, name: str) -> str:
    return f"{where}.{name}" if where else name


def _differs(where: str, expected: str, value: Any) -> Mismatch:
    return Mismatch(f"{where or 'it'} must be {expected}, not {_shown(value)}")


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return f"a record of {len(value)}"
    if isinstance(value, (list, tuple)):
        return f"a list of {len(value)}"
    words = "nothing" if value is None else repr(value)
    return words if len(words) <= _LONGEST else f"{words[:_LONGEST]}…"
