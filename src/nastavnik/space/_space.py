"""Space: a tree of choices that recipes are drawn from; numbers, and choices with branches below their values."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from nastavnik.errors import UserError, nearest
from nastavnik.recipe import Value, parse_value

_MOST = 1e15  # of a number's size: beyond it whole numbers are no longer exact, and differences overflow
_MOST_STEPS = 1_000_000_000
MOST_WHOLE = 1_000_000  # of a width or a depth


def _plain(value: float) -> str:
    return f"{value:g}" if isinstance(value, float) or abs(value) <= _MOST else "a whole number of many digits"


@dataclass(frozen=True)
class Number:
    """A number from ``low`` to ``high``, both included; whole when ``integer``, even on the log axis when ``log``.

    With ``step`` it is low, low + step, … only.
    """

    low: float
    high: float
    log: bool = False
    integer: bool = False
    default: float | None = None
    below: float = math.inf  # a pinned value must be less than this
    least: float = 0.0  # and at least this
    step: float | None = None

    def __post_init__(self) -> None:
        ends = f"low={_plain(self.low)}, high={_plain(self.high)}"
        if not self.low <= self.high:
            raise UserError(f"low <= high must hold, but got {ends}")
        if not (self.low >= -_MOST and self.high <= _MOST):
            raise UserError(f"a range must lie within ±{_MOST:g}, but got {ends}")
        if self.log and self.low <= 0:
            raise UserError(f"a log axis needs low > 0, but got low={_plain(self.low)}")
        if self.integer and any(v != int(v) for v in (self.low, self.high, self.step or 1)):
            raise UserError(f"a whole number needs whole ends and steps, but got {ends}, step={self.step}")
        if self.step is not None:
            self._check_step()
        if self.default is not None:
            self._check_default(self.default)

    def _check_step(self) -> None:
        assert self.step is not None
        if self.log or not 0 < self.step <= _MOST:
            raise UserError(f"a step must be above 0 and has no log axis, but got step={self.step}, log={self.log}")
        if self.step > self.high - self.low > 0 or (self.high - self.low) / self.step > _MOST_STEPS:
            raise UserError(
                f"a step must fit into the range, at most {_MOST_STEPS:,} times, but got step={self.step} from "
                f"{_plain(self.low)} to {_plain(self.high)}"
            )

    def _check_default(self, default: float) -> None:
        fits = self.low <= default <= self.high
        fits = fits and (not self.integer or default == int(default))
        if fits and self.step is not None:
            steps = (default - self.low) / self.step
            fits = math.isclose(steps, round(steps), abs_tol=1e-6)
        if not fits:
            raise UserError(f"the default {default!r} is no value from {_plain(self.low)} to {_plain(self.high)} here")

    @property
    def count(self) -> int | None:
        """How many values there are; None for a continuum."""
        if self.low == self.high:
            return 1
        if self.step is not None:
            return int((self.high - self.low) / self.step + 1e-9) + 1
        return int(self.high - self.low) + 1 if self.integer else None

    def at(self, place: float) -> Value:
        """The value at a place of the axis, from 0 to 1; whole and stepped values have even shares of it."""
        place = min(max(place, 0.0), 1.0)
        if self.step is not None:
            return self.nth(min(int(place * (self.count or 1)), (self.count or 1) - 1))
        if self.log:
            low, high = self._ends()
            value = math.exp(math.log(low) + place * (math.log(high) - math.log(low)))
        elif self.integer:
            value = self.low + min(math.floor(place * (self.count or 1)), (self.count or 1) - 1)
        else:
            value = self.low + place * (self.high - self.low)
        value = min(max(value, self.low), self.high)
        return min(max(round(value), int(self.low)), int(self.high)) if self.integer else float(value)

    def place(self, value: float) -> float:
        """Where on the axis a value lies, from 0 to 1: what ``at`` takes."""
        if self.low == self.high:
            return 0.5
        if self.step is not None or (self.integer and not self.log):
            found = ((value - self.low) / (self.step or 1) + 0.5) / (self.count or 1)
        else:
            low, high = self._ends()
            axis = math.log if self.log else float
            found = (axis(value) - axis(low)) / (axis(high) - axis(low))
        return min(max(found, 0.0), 1.0)

    def points(self, most: int) -> list[Value]:
        """All values, or so many of them evenly over the axis, both ends included."""
        if self.count is not None and self.count <= most:
            return [self.nth(i) for i in range(self.count)]
        if most == 1:
            return [self.at(0.5)]
        if self.log or not (self.integer or self.step):
            axis = math.log if self.log else float
            low, high = axis(self.low), axis(self.high)
            values = [low + i / (most - 1) * (high - low) for i in range(most)]
            found = [math.exp(v) if self.log else v for v in values]
            found[0], found[-1] = self.low, self.high
            return list(dict.fromkeys(round(v) if self.integer else float(v) for v in found))
        last = (self.count or 1) - 1
        return [self.nth(round(i / (most - 1) * last)) for i in range(most)]

    def nth(self, index: int) -> Value:
        """The value at an index, of those that can be counted."""
        value = self.low + index * (self.step or 1)
        return round(value) if self.integer else float(min(value, self.high))

    def _ends(self) -> tuple[float, float]:
        """Of the continuum that whole numbers on a log axis are rounded from."""
        return (self.low - 0.5, self.high + 0.5) if self.integer and self.low > 0.5 else (self.low, self.high)


@dataclass(frozen=True)
class Choice:
    """One of several values; what hangs below a value exists only where that value is chosen."""

    branches: Mapping[Value, Space]
    default: Value | None = None
    searched: tuple[Value, ...] | None = None  # the values drawn by a search; the others only when pinned

    def __post_init__(self) -> None:
        if not self.options:
            raise UserError("a choice needs at least one value")
        if self.default is not None and self.default not in self.branches:
            raise UserError(f"the default {self.default!r} is none of the options {list(self.branches)}")

    @classmethod
    def of(cls, *values: Value, default: Value | None = None, searched: tuple[Value, ...] | None = None) -> Choice:
        """A plain category without branches."""
        return cls({value: Space() for value in values}, default, searched)

    @property
    def options(self) -> tuple[Value, ...]:
        """The values a search draws from."""
        return tuple(self.branches) if self.searched is None else self.searched


Node = Number | Choice


def default_of(node: Node) -> Value:
    """A node's default answer: declared, or the first option, or the middle of the range."""
    if isinstance(node, Choice):
        return node.options[0] if node.default is None else node.default
    if node.default is not None:
        return node.default
    if node.step is not None:
        return node.at(0.5)
    middle = math.sqrt(node.low * node.high) if node.log else (node.low + node.high) / 2
    return round(middle) if node.integer else middle


Ask = Callable[[str, Node], Value]


@dataclass(frozen=True)
class Space:
    """Named nodes, asked in order; a Choice's chosen branch is asked right after it.

    ``fixed`` values are given, not asked. ``optional`` names are left out of every point unless they are pinned.
    Hyperparameters of a branch live only under that branch.
    """

    nodes: Mapping[str, Node] = field(default_factory=dict)
    fixed: Mapping[str, Value] = field(default_factory=dict)
    optional: Mapping[str, Node] = field(default_factory=dict)

    def draw(self, ask: Ask, path: str = "") -> dict[str, Value]:
        """Draw one point: ``ask(key, node)`` answers each live node.

        The key is the node's name behind the branches that lead to it (``network.family=mlp/network.width``), so that
        one name may have another range under another branch.
        """
        point: dict[str, Value] = dict(self.fixed)
        for name, node in self.nodes.items():
            value = ask(path + name, node)
            point[name] = value
            if isinstance(node, Choice):
                point.update(node.branches[value].draw(ask, f"{path}{name}={value}/"))
        return point

    def default(self) -> dict[str, Value]:
        """The point of every node's default."""
        return self.draw(lambda key, node: default_of(node))

    def names(self, *, live: bool = False) -> Iterator[str]:
        """Every name that stands anywhere in the tree (some more than once); with ``live``, where points can fall."""
        yield from self.fixed
        yield from () if live else self.optional
        for name, node in self.nodes.items():
            yield name
            if isinstance(node, Choice):
                for value in node.options if live else node.branches:
                    yield from node.branches[value].names(live=live)

    def pin(self, values: Mapping[str, Value]) -> Space:
        """The same tree with some names given instead of asked, wherever they stand.

        A word such as ``"1e-4..1e-2"`` narrows a number's range, ``"adamw,lion"`` the options of a choice; both are
        searched then. ``optimizer.learning_rate@bias`` gives a number to the parameters of one kind or name only.

        Raises:
            UserError: a name that stands nowhere or in no branch that can be chosen, a value no branch has, a number
                that is none.
        """
        known = set(self.names())
        for name in values:
            if name.split("@")[0] not in known:
                raise UserError(f"there is no setting '{name}' in a recipe{nearest(name, sorted(known))}")
        special = {n: as_number(n, v, self._number(n)) for n, v in values.items() if "@" in n}
        pinned = self._pinned({n: v for n, v in values.items() if n not in special}).with_fixed(special)
        live = set(pinned.names(live=True))
        for name in values:
            if name.split("@")[0] not in live:
                raise UserError(f"{name} would have no effect: {self.owner_of(name)}")
        return pinned

    def _number(self, name: str) -> Number:
        """The range of what stands before the @ in a name; only an optimizer's numbers can have one."""
        base = name.split("@")[0]
        found = [node for node in self.named(base) if isinstance(node, Number)]
        if not base.startswith("optimizer.") or not found or not name.split("@", 1)[1]:
            raise UserError(
                f"{name}: only an optimizer's numbers can differ by kind, such as optimizer.learning_rate@bias"
            )
        return found[0]

    def named(self, name: str) -> Iterator[Node]:
        """Every node of a name, wherever it stands."""
        for key, node in (*self.nodes.items(), *self.optional.items()):
            if key == name:
                yield node
            if isinstance(node, Choice):
                for branch in node.branches.values():
                    yield from branch.named(name)

    def owner_of(self, name: str) -> str:
        """Which choice a name hangs below."""
        for choice, node in self.nodes.items():
            if isinstance(node, Choice):
                owners = [str(value) for value, branch in node.branches.items() if name in set(branch.names())]
                inner = [b.owner_of(name) for b in node.branches.values() if name in set(b.names())]
                if owners and any(inner):
                    return next(filter(None, inner))
                if owners:
                    return f"it belongs to {choice}={' or '.join(owners)}; pin that too"
        return ""

    def _pinned(self, values: Mapping[str, Value]) -> Space:
        nodes: dict[str, Node] = {}
        fixed = {name: _like(name, values[name], v) if name in values else v for name, v in self.fixed.items()}
        optional = {name: node for name, node in self.optional.items() if name not in values}
        asked = {**self.nodes, **{name: node for name, node in self.optional.items() if name in values}}
        for name, node in asked.items():
            narrowed = _narrowed(name, values[name], node) if name in values else None
            if isinstance(node, Choice) and not isinstance(narrowed, Number):
                drawn = narrowed.options if isinstance(narrowed, Choice) else node.options
                branches = {v: b._pinned(values) if v in drawn else b for v, b in node.branches.items()}
                if isinstance(narrowed, Choice):
                    branches = {**{v: Space() for v in narrowed.branches}, **branches}
                    nodes[name] = Choice(branches, narrowed.default, narrowed.searched)
                elif name in values:
                    value = one_of(name, values[name], list(node.branches))
                    chosen = node.branches[value]._pinned(values) if value in node.branches else Space()
                    fixed.update({name: value, **chosen.fixed})
                    nodes.update(chosen.nodes)
                    optional.update(chosen.optional)
                else:
                    nodes[name] = Choice(branches, node.default, node.searched)
            elif narrowed is not None:
                nodes[name] = narrowed
            elif name in values and isinstance(node, Number):
                fixed[name] = as_number(name, values[name], node)
            else:
                nodes[name] = node
        return Space(nodes, fixed, optional)

    def with_fixed(self, values: Mapping[str, Value]) -> Space:
        """The same tree with further given values at its root."""
        return Space(self.nodes, {**self.fixed, **values}, self.optional)


def _narrowed(name: str, value: Value, node: Node) -> Node | None:
    """A smaller node, where the value is a range or a list; else None."""
    if not isinstance(value, str):
        return None
    if ".." in value and "..." not in value and (isinstance(node, Number) or _all_whole(node)):
        ends = [parse_value(word) for word in value.split("..", 1)]
        if isinstance(node, Choice):
            node = Number(1, 1, integer=True, log=True, least=1)
        low, high = (as_number(name, end, node) for end in ends)
        if float(low) > float(high):
            raise UserError(f"{name}={value}: the range must go from the smaller number to the larger")
        assert not isinstance(low, str)
        assert not isinstance(high, str)
        try:
            return replace(node, low=low, high=high, log=node.log and low > 0, default=None)
        except UserError as error:
            raise UserError(f"{name}={value}: {error}") from error
    if isinstance(node, Choice) and "," in value and value not in node.branches:
        words = [one_of(name, parse_value(word.strip()), list(node.branches)) for word in value.split(",")]
        options = tuple(dict.fromkeys(words))
        default = node.default if node.default in options else options[0]
        return Choice({**{o: Space() for o in options}, **node.branches}, default, options)
    return None


def _all_whole(node: Node) -> bool:
    """Whether a choice is one of whole numbers, so that others are as good."""
    return isinstance(node, Choice) and all(isinstance(v, int) and not isinstance(v, bool) for v in node.branches)


def one_of(name: str, value: Value, options: list[Value]) -> Value:
    """The option that a value is, or another whole number where all options are whole.

    Raises:
        UserError: it is none of them.
    """
    for option in options:
        if option == value and isinstance(option, bool) == isinstance(value, bool):
            return option
    whole = all(isinstance(o, int) and not isinstance(o, bool) for o in options)
    if whole and isinstance(value, int) and not isinstance(value, bool) and value >= 1:
        if value > MOST_WHOLE:
            raise UserError(f"{name} must be at most {MOST_WHOLE:,}, but got a larger number")
        return value  # a width beside the listed ones is as good as they are
    raise UserError(f"{name} cannot be {value!r}{nearest(str(value), [str(o) for o in options])}")


def _like(name: str, value: Value, usual: Value) -> Value:
    """A value in place of a given one, of the same kind."""
    if isinstance(usual, float):
        return as_number(name, value, Number(usual, usual))
    if isinstance(usual, bool) != isinstance(value, bool) or isinstance(usual, str) != isinstance(value, str):
        raise UserError(f"{name} must be like {usual!r}, but got {value!r}")
    return value


def as_number(name: str, value: Value, node: Number) -> Value:
    """A value as a node takes it: its range binds a search only, its nature (``least``, ``below``) always.

    Raises:
        UserError: it is no such number.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not -1e300 < value < 1e300:
        raise UserError(f"{name} must be a number, such as {max(node.low, node.least):g}, but got {value!r}")
    if node.integer:
        if value > _MOST:
            raise UserError(f"{name} must be at most {_MOST:g}, but got a larger number")
        if value != int(value) or value < max(1, node.least):
            raise UserError(f"{name} must be a whole number of at least {max(1, node.least):g}, but got {value!r}")
        return int(value)
    if value < node.least <= 1e-9:
        raise UserError(f"{name} must be {'at least 0' if node.least == 0 else 'above 0'}, but got {value!r}")
    if value < node.least:
        raise UserError(f"{name} must be at least {node.least:g}, but got {value!r}")
    if value >= node.below:
        raise UserError(f"{name} must be less than {node.below:g}, but got {value!r}")
    return float(value)
