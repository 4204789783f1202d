"""Arguments held against their own annotations, so that what is of a wrong type is told where it was given.

One rule for requests (``fitted_fields``), functions and classes (``checked``): numpy's numbers are numbers, a path or a
device stands for its word, a boolean is no number. What is given comes back in Python's own types.
"""

from __future__ import annotations

import collections.abc as abc
import inspect
import numbers
import os
import sys
import types
import typing
from collections.abc import Callable, Collection, Mapping
from dataclasses import fields
from functools import cache, wraps
from typing import Any, TypeVar, Union

from nastavnik.errors import UserError

F = TypeVar("F", bound=Callable[..., Any])
_WORDS = {bool: "true or false", int: "a whole number", float: "a number", str: "a word", type(None): "None"}
_MOST_SHOWN = 60


class _Unfit(Exception):
    """What was given does not fit what is asked for; its text is what would."""


def checked(*, but: Collection[str] = ()) -> Callable[[F], F]:
    """Hold a function's arguments against its annotations; those named in ``but`` it looks over itself.

    Raises:
        UserError: at the call, an argument of another type, with its name, what it must be and what was given.
    """

    def around(function: F) -> F:
        signature = inspect.signature(function)

        @wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            bound = signature.bind(*args, **kwargs)
            hints = _hints(function)
            for name, value in bound.arguments.items():
                if name in hints and name not in but and _is_plain(signature.parameters[name]):
                    bound.arguments[name] = fitted(name, value, hints[name])
            return function(*bound.args, **bound.kwargs)

        return typing.cast(F, call)

    return around


def fitted_fields(record: Any, option: Callable[[str], str]) -> None:
    """Hold a frozen dataclass's fields against their annotations; ``option`` is what a field is called in errors.

    Raises:
        UserError: a field of another type.
    """
    hints = _hints(record.__class__)
    for field in fields(record):
        value = fitted(option(field.name), getattr(record, field.name), hints[field.name])
        object.__setattr__(record, field.name, value)


def fitted(name: str, value: Any, hint: Any) -> Any:
    """The value in Python's own types, if it is what ``hint`` asks for.

    Raises:
        UserError: it is not, or it is a word that no file could hold.
    """
    try:
        return _fitted(value, hint)
    except _Unfit as wanted:
        raise UserError(f"{name} must be {wanted}, but got {_shown(value)}") from None


def is_text(word: str) -> bool:
    """Whether a word can be written: no halves of characters, which stand for bytes that are no text, and no zeros."""
    return "\0" not in word and not any("\ud800" <= c <= "\udfff" for c in word)


def _fitted(value: Any, hint: Any) -> Any:
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any or isinstance(hint, (TypeVar, str)):
        return value
    if origin in (Union, types.UnionType):
        return _one_of(value, inner)
    if origin is abc.Callable or hint is abc.Callable:
        return _when(callable(value), value, "callable")
    if origin is type:
        return _when(isinstance(value, type), value, "a class")
    if origin in (dict, abc.Mapping):
        return _mapping(value, inner)
    if origin in (tuple, list, abc.Sequence, abc.Iterable, abc.Collection):
        return _several(value, origin, inner)
    return _single(value, origin or hint)


def _one_of(value: Any, options: tuple[Any, ...]) -> Any:
    """The option of exactly this type, or else of a parent of it, or else the first that it fits."""

    def distance(option: Any) -> int:
        return 0 if type(value) is option else 1 if isinstance(option, type) and isinstance(value, option) else 2

    wanted = []
    for option in sorted(options, key=distance):
        try:
            return _fitted(value, option)
        except _Unfit as error:
            wanted.append(str(error))
    own = [w for w in dict.fromkeys(wanted) if w != "None"]
    raise _Unfit(" or ".join(own))


def _single(value: Any, kind: Any) -> Any:
    flag = isinstance(value, bool) or type(value).__name__ in ("bool_", "bool")  # numpy's, without importing it
    if kind is bool:
        return bool(_when(flag, value, _WORDS[bool]))
    if kind is int:
        return int(_when(isinstance(value, numbers.Integral) and not flag, value, _WORDS[int]))
    if kind is float:
        return _number(value, flag)
    if kind is str:
        word = os.fspath(value) if isinstance(value, os.PathLike) else str(value) if _is_device(value) else value
        text = str(_when(isinstance(word, str), word, _WORDS[str]))
        return _when(is_text(text), text, "text (it holds bytes that are none; rename what it names)")
    if kind is type(None):
        return _when(value is None, value, "None")
    if isinstance(value, os.PathLike):
        _when(is_text(os.fsdecode(os.fspath(value))), value, "text (it holds bytes that are none; rename it)")
    if not isinstance(kind, type) or (getattr(kind, "_is_protocol", False) and not _runtime(kind)):
        return value  # nothing that could be asked of an object
    return _when(isinstance(value, kind), value, f"a {kind.__name__}" if kind.__module__ != "pathlib" else "a path")


def _number(value: Any, flag: bool) -> float:
    _when(isinstance(value, numbers.Real) and not flag, value, _WORDS[float])
    try:
        return float(value)
    except OverflowError as error:
        raise _Unfit("a number below 1e308") from error


def _mapping(value: Any, inner: tuple[Any, ...]) -> Any:
    _when(isinstance(value, Mapping), value, "names with values, such as {'epochs': 20}")
    if not inner:
        return value
    pairs = {_inside(k, inner[0], "names"): _inside(v, inner[1], "names with values") for k, v in value.items()}
    return pairs if any(pairs.get(k) is not v for k, v in value.items()) else value


def _several(value: Any, origin: Any, inner: tuple[Any, ...]) -> Any:
    word = isinstance(value, (str, bytes, Mapping)) or not hasattr(value, "__iter__")
    scalar = getattr(value, "ndim", None) == 0
    ordered = hasattr(value, "__getitem__") or origin in (abc.Iterable, abc.Collection)
    _when(not word and not scalar and ordered, value, "a list" + (" of words" if str in inner else ""))
    if origin is tuple and Ellipsis not in inner and inner:
        _when(len(value) == len(inner), value, f"{len(inner)} values")
        return tuple(_inside(v, h, f"{len(inner)} values") for v, h in zip(value, inner, strict=True))
    given = value if hasattr(value, "__len__") else tuple(value)
    if not inner:
        return given
    items = [_inside(v, inner[0], "a list") for v in given]
    if origin is tuple:
        return tuple(items)
    return items if any(a is not b for a, b in zip(items, given, strict=True)) else given


def _inside(value: Any, hint: Any, what: str) -> Any:
    try:
        return _fitted(value, hint)
    except _Unfit as wanted:
        raise _Unfit(f"{what}, each {wanted}") from None


def _when(fits: bool, value: Any, wanted: str) -> Any:
    if not fits:
        raise _Unfit(wanted)
    return value


def _is_device(value: Any) -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.device)


def _runtime(kind: Any) -> bool:
    return bool(getattr(kind, "_is_runtime_protocol", False))


def _is_plain(parameter: inspect.Parameter) -> bool:
    return parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)


@cache
def _hints(thing: Any) -> dict[str, Any]:
    return typing.get_type_hints(thing)


def _shown(value: Any) -> str:
    try:
        text = " ".join(repr(value).split())
    except Exception as error:  # a user's own __repr__
        text = f"a {type(value).__name__} that cannot be shown ({type(error).__name__})"
    return text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}… ({type(value).__name__})"
