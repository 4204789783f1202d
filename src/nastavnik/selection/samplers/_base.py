"""The contract of a sampler, and how a point is drawn along a tree."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar

import numpy as np

from nastavnik.recipe import Value
from nastavnik.space import Choice, Node, Number, Space, default_of, is_finite, size

Keys = dict[str, Value]
Draw = Callable[[str, Node], Value]
SIBLINGS = 8  # points in a row that share a shape: a block of eight costs hardly more than one of three
_TRIES = 30  # for a point not drawn before
_LISTED = 100_000  # points of a finite space that are counted through when draws keep repeating


class Sampler(ABC):
    """Draws points of a space and hears what they were worth, lower being better.

    A search calls ``ask`` for a batch, trains it, and tells each point's values by ``tell``. A point is the *keys* that
    were asked along the tree (``Space.draw``), so only live branches appear; ``point`` gives all its values. What a
    sampler draws is a function of its seed, of what it was told, in order, and of what is pending: telling a new
    sampler the same history, batch by batch, goes on as if the old one had never stopped. No point is drawn twice while
    others are left.

    ``siblings`` points in a row may be asked to share what decides tensor shapes (``given``), so that they train as
    one population; a sampler that keeps to an order of its own has 1.
    """

    name: ClassVar[str]
    formula: ClassVar[str]
    prefer: ClassVar[str]
    source: ClassVar[str]
    settings: ClassVar[Mapping[str, float]] = {}
    siblings: ClassVar[int] = 1
    startup: ClassVar[int] = 0  # points drawn at random before anything is made of what was told
    several: ClassVar[bool] = False  # whether it may be told several values a point
    tries: ClassVar[int] = 200  # draws in a row that a search may refuse before it gives up
    size: int | None = None  # how many points it draws in all, if it counts them

    def __init__(self, space: Space, *, seed: int, objectives: int = 1) -> None:
        self.space, self.seed, self.objectives = space, seed, objectives
        self.told = 0
        self.refused = 0
        self.pending: dict[frozenset[tuple[str, Value]], Keys] = {}
        self._seen: set[frozenset[tuple[str, Value]]] = set()
        self._finite = is_finite(space)
        self._left: list[Keys] | None = None

    @abstractmethod
    def propose(self, rng: np.random.Generator, given: Mapping[str, Value]) -> Keys | None:
        """One point; None when there is none left. ``given`` keys are to be kept where they are live."""

    @abstractmethod
    def hear(self, keys: Keys, values: tuple[float, ...]) -> None:
        """Learn from a point's values, which may be infinite."""

    def ask(self, count: int, given: Mapping[str, Value] | None = None) -> list[Keys]:
        """So many new points, different from each other and from all before; fewer when no more are left."""
        found: list[Keys] = []
        while len(found) < count:
            keys = self._new(dict(given or {}))
            if keys is None:
                break
            self.adopt(keys)
            found.append(keys)
        return found

    def adopt(self, keys: Keys) -> None:
        """A point that others draw: it is pending, and will not be drawn again."""
        name = frozenset(keys.items())
        self.pending[name] = keys
        self._seen.add(name)

    def knows(self, keys: Keys) -> bool:
        """Whether a point was told of, or refused."""
        name = frozenset(keys.items())
        return name in self._seen and name not in self.pending

    def refuse(self, keys: Keys) -> None:
        """A point that will not be trained, and is not to be drawn again."""
        self.adopt(keys)
        del self.pending[frozenset(keys.items())]
        self.refused += 1

    def withdraw(self, keys: Keys) -> None:
        """A pending point that nobody will tell of: it may be drawn again."""
        name = frozenset(keys.items())
        if self.pending.pop(name, None) is not None:
            self._seen.discard(name)

    def tell(self, points: Sequence[Keys], values: Sequence[float | tuple[float, ...]]) -> None:
        """What a batch was worth: a value a point, or one for each objective; also of points drawn by others."""
        for keys in points:
            self.adopt(keys)
        for keys, value in zip(points, values, strict=True):
            del self.pending[frozenset(keys.items())]
            each = value if isinstance(value, tuple) else (value,)
            self.hear(dict(keys), tuple(v if v == v else float("inf") for v in each))
            self.told += 1

    def point(self, keys: Mapping[str, Value]) -> dict[str, Value]:
        """All values of a point, given ones included."""
        return self.space.draw(lambda key, node: keys[key])

    def rng(self, *more: int) -> np.random.Generator:
        """A stream for this moment: by seed, points told, and points pending or refused."""
        return np.random.default_rng([self.seed, self.told, len(self.pending) + self.refused, *more])

    def _new(self, given: Mapping[str, Value]) -> Keys | None:
        for attempt in range(_TRIES):
            rng = self.rng(attempt)
            # what is learned may know no other point, then what is given may leave no other
            kept = given if attempt < 2 * _TRIES // 3 else {}
            learned = attempt < _TRIES // 3
            keys = self.propose(rng, kept) if learned else random_keys(self.space, rng, kept)
            if keys is None or frozenset(keys.items()) not in self._seen:
                return keys
        return self._one_left() if self._finite else keys

    def _one_left(self) -> Keys | None:
        """A point not yet drawn of a finite space."""
        if self._left is None:
            from nastavnik.space import decode

            count = size(self.space, None)
            if count > _LISTED:
                return random_keys(self.space, self.rng(_TRIES), {})
            order = np.random.default_rng(self.seed).permutation(count)
            self._left = [decode(self.space, int(i), None) for i in order]
        self._left = [keys for keys in self._left if frozenset(keys.items()) not in self._seen]
        return self._left[0] if self._left else None


def random_value(node: Node, rng: np.random.Generator) -> Value:
    """Even over the options or the axis."""
    if isinstance(node, Choice):
        return node.options[int(rng.integers(len(node.options)))]
    return node.at(float(rng.random()))


def random_keys(space: Space, rng: np.random.Generator, given: Mapping[str, Value]) -> Keys:
    """A random point that keeps what is given."""
    return keys_of(space, lambda key, node: given[key] if key in given else random_value(node, rng))


def centred_keys(
    space: Space, rng: np.random.Generator, given: Mapping[str, Value], *, width: float, usual: float
) -> Keys:
    """A random point about the default: numbers by N(0, width²) of their axis, the usual option by this chance."""

    def answer(key: str, node: Node) -> Value:
        if key in given:
            return given[key]
        default = default_of(node)
        if isinstance(node, Choice):
            return default if rng.random() < usual else random_value(node, rng)
        assert not isinstance(default, str)
        return node.at(_reflected(node.place(default) + float(rng.normal(0.0, width))))

    return keys_of(space, answer)


def _reflected(place: float) -> float:
    """A place of an axis from 0 to 1, reflected at the ends."""
    place = abs(place) % 2
    return 2 - place if place > 1 else place


def keys_of(space: Space, answer: Draw) -> Keys:
    """The keys of the point that ``answer`` draws."""
    keys: Keys = {}

    def ask(key: str, node: Node) -> Value:
        keys[key] = answer(key, node)
        return keys[key]

    space.draw(ask)
    return keys


def mutated(
    space: Space, parent: Mapping[str, Value], rng: np.random.Generator, width: float, given: Mapping[str, Value]
) -> Keys:
    """A neighbour: each key changes with probability 1 / √n, at least one does.

    Numbers move by N(0, width²) of their axis, whole ones at least by one; categories become another of their options,
    and what lives below the new option is drawn anew.
    """
    free = [key for key in parent if key not in given]
    if not free:
        return random_keys(space, rng, given)
    chosen = {key for key in free if rng.random() < len(free) ** -0.5} or {free[int(rng.integers(len(free)))]}

    def answer(key: str, node: Node) -> Value:
        if key in given:
            return given[key]
        if key not in parent:
            return random_value(node, rng)
        return _moved(node, parent[key], rng, width) if key in chosen else parent[key]

    return keys_of(space, answer)


def _moved(node: Node, value: Value, rng: np.random.Generator, width: float) -> Value:
    if isinstance(node, Choice):
        others = [option for option in node.options if option != value]
        return others[int(rng.integers(len(others)))] if others else value
    assert not isinstance(value, str)
    shift = float(rng.normal(0.0, width))
    place = node.place(value) + shift
    place = abs(place) if place < 0 else place  # reflected at the ends
    place = 2 - place if place > 1 else place
    moved = node.at(place)
    if moved == value and node.count is not None and node.count > 1:
        return _next(node, value, up=shift > 0)
    return moved


def _next(node: Number, value: Value, *, up: bool) -> Value:
    """The neighbouring whole or stepped value; the other way at an end."""
    assert not isinstance(value, str)
    count = node.count or 1
    index = round((value - node.low) / (node.step or 1))
    return node.nth(index + 1 if (up and index + 1 < count) or index == 0 else index - 1)


def crossed(space: Space, mother: Mapping[str, Value], father: Mapping[str, Value], rng: np.random.Generator) -> Keys:
    """A child: numbers are one parent's, the other's, or between them; categories one of the two."""

    def answer(key: str, node: Node) -> Value:
        both = [parent[key] for parent in (mother, father) if key in parent]
        if not both:
            return random_value(node, rng)
        value = both[int(rng.integers(len(both)))]
        if isinstance(node, Number) and len(both) == 2 and rng.random() < 0.5:
            share = rng.random()
            first, second = (node.place(v) for v in both if not isinstance(v, str))
            return node.at(share * first + (1 - share) * second)
        return value

    return keys_of(space, answer)
