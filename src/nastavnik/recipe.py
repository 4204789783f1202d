"""Recipe: everything that matters in one training, and nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from nastavnik.arguments import fitted
from nastavnik.errors import UserError

Value = bool | int | float | str
_PLAIN = (bool, int, float, str)  # what needs no second look: recipes are made by the thousand


def varies(name: str, value: Value) -> bool:
    """Whether a value may differ from network to network of one population.

    Fractions (``float``) and the seed do, as tensors of size K. Whole numbers, words and booleans decide tensor shapes
    and code: they belong to the shape.
    """
    return name == "seed" or isinstance(value, float)


class Recipe(Mapping[str, Value]):
    """An immutable, serializable description of one training: dotted names to plain values.

    ``recipe["optimizer.learning_rate"]`` reads one value, ``recipe.section("optimizer")`` a whole part,
    ``recipe.to_json()`` gives the nested record that ``Recipe.from_json`` reads back. Two recipes of one
    ``shape`` train in one population.

    Example:
        >>> recipe = Recipe({"network.family": "mlp", "network.dropout": 0.1, "seed": 0})
        >>> recipe.replace({"network.dropout": 0.5}).shape == recipe.shape
        True
    """

    __slots__ = ("_values",)

    def __init__(self, values: Mapping[str, Value]) -> None:
        if type(values) is not dict or not all(type(n) is str and type(v) in _PLAIN for n, v in values.items()):
            values = fitted("a recipe", values, Mapping[str, Value])
        self._values: dict[str, Value] = {name: values[name] for name in sorted(values)}

    def __getitem__(self, name: str) -> Value:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __hash__(self) -> int:
        return hash(tuple(self._values.items()))

    def __repr__(self) -> str:
        return f"Recipe({self._values})"

    def section(self, prefix: str) -> dict[str, Value]:
        """The values under one part, without its prefix."""
        start = prefix + "."
        return {name[len(start) :]: v for name, v in self._values.items() if name.startswith(start)}

    def number(self, name: str, default: float = 0.0) -> float:
        """One value as a float; ``default`` where the recipe does not have it."""
        return float(self._values.get(name, default))

    def whole(self, name: str) -> int:
        """One value as an int."""
        return int(self._values[name])

    def replace(self, values: Mapping[str, Value]) -> Recipe:
        """The same recipe with some values changed or added."""
        return Recipe({**self._values, **values})

    @property
    def shape(self) -> tuple[tuple[str, Value], ...]:
        """What recipes must share to train as one program: their names, and every value that does not vary."""
        return tuple((name, "varies" if varies(name, v) else v) for name, v in self._values.items())

    def to_json(self) -> dict[str, Any]:
        """The nested record: ``{"network": {"family": "mlp", …}, "seed": 0}``."""
        nested: dict[str, Any] = {}
        for name, value in self._values.items():
            *parts, last = name.split(".")
            place = nested
            for part in parts:
                place = place.setdefault(part, {})
            place[last] = value
        return nested

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Recipe:
        """Read what ``to_json`` wrote."""
        return cls(dict(_flat(record, "")))

    def in_words(self) -> str:
        """One sentence a person can read."""
        network = self.section("network")
        family = network.pop("family", "network")
        settings = ", ".join(f"{name.replace('_', ' ')} {_short(v)}" for name, v in network.items())
        rest = ", ".join(
            f"{name.split('.')[-1].replace('_', ' ')} {_short(v)}"
            for name, v in self._values.items()
            if not name.startswith(("network.", "optimizer.name", "schedule.name", "likelihood.name"))
        )
        return (
            f"{family}{f' ({settings})' if settings else ''} with {self.get('optimizer.name', 'its optimizer')}, "
            f"{self.get('schedule.name', 'constant')} schedule: {rest}"
        )


def _flat(record: Mapping[str, Any], prefix: str) -> Iterable[tuple[str, Value]]:
    for name, value in record.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _short(value: Value) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def parse_settings(texts: Iterable[str]) -> dict[str, Value]:
    """Read ``--set name=value`` texts: numbers become numbers, true/false booleans, the rest words.

    Raises:
        UserError: a text without ``=`` or with an empty side.
    """
    settings: dict[str, Value] = {}
    for text in texts:
        name, equals, word = text.partition("=")
        if not equals or not name.strip() or not word.strip():
            raise UserError(f"--set {text!r} is no NAME=VALUE, such as --set optimizer.learning_rate=0.1")
        settings[name.strip()] = parse_value(word.strip())
    return settings


def parse_value(word: str) -> Value:
    """The plain value a word stands for."""
    if word.lower() in ("true", "false"):
        return word.lower() == "true"
    for kind in (int, float):
        try:
            return kind(word)
        except ValueError:
            continue
    return word
