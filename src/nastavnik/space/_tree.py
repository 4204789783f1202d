"""What a tree of choices holds: its nodes by key, how many combinations, the n-th of them, and how it is drawn."""

from __future__ import annotations

import math
from collections.abc import Iterator

from nastavnik.recipe import Value
from nastavnik.space._space import Choice, Node, Number, Space

POINTS = 5  # of a continuum, where combinations are counted


def nodes_by_key(space: Space) -> dict[str, Node]:
    """Every node a draw may ask for, by the key it is asked under."""
    return dict(_keyed(space, ""))


def _keyed(space: Space, path: str) -> Iterator[tuple[str, Node]]:
    for name, node in space.nodes.items():
        yield path + name, node
        if isinstance(node, Choice):
            for value in node.options:
                yield from _keyed(node.branches[value], f"{path}{name}={value}/")


def is_finite(space: Space) -> bool:
    """Whether every node has finitely many values."""
    return all(isinstance(node, Choice) or node.count is not None for node in nodes_by_key(space).values())


def size(space: Space, points: int | None = POINTS) -> int:
    """Combinations of the tree, a continuum counted as so many points; None counts every value of a finite space."""
    return math.prod(_node_size(node, points) for node in space.nodes.values())


def _node_size(node: Node, points: int | None) -> int:
    if isinstance(node, Choice):
        return sum(size(node.branches[value], points) for value in node.options)
    return len(_values(node, points))


def _values(node: Number, points: int | None) -> list[Value] | range:
    if points is None:
        return range(node.count or 0)
    return node.points(points)


def flat_size(space: Space, points: int = POINTS) -> int:
    """Combinations if every name were asked always, whatever branch it belongs to."""
    counts = [
        len(node.options) if isinstance(node, Choice) else len(node.points(points))
        for node in nodes_by_key(space).values()
    ]
    return math.prod(counts)


def decode(space: Space, index: int, points: int | None = POINTS, path: str = "") -> dict[str, Value]:
    """The keys of one combination, from 0 to ``size`` - 1: mixed radix, a choice's branches one after the other."""
    keys: dict[str, Value] = {}
    for name, node in space.nodes.items():
        index, place = divmod(index, _node_size(node, points))
        if isinstance(node, Choice):
            for value in node.options:
                inner = size(node.branches[value], points)
                if place < inner:
                    keys[path + name] = value
                    keys |= decode(node.branches[value], place, points, f"{path}{name}={value}/")
                    break
                place -= inner
        else:
            keys[path + name] = node.nth(place) if points is None else node.points(points)[place]
    return keys


def tree_in_words(space: Space) -> str:
    """The tree drawn line by line, with how many combinations it holds and how many a flat list would."""
    lines = [f"{name} = {value}" for name, value in space.fixed.items()]
    lines += list(_drawn(space, ""))
    tree, flat = size(space), flat_size(space)
    lines.append(f"{in_digits(tree)} combinations at {POINTS} points a number")
    if flat > tree:
        lines[-1] += f"; as a flat list they would be {in_digits(flat)}, {in_digits(flat // tree)} times as many"
    return "\n".join(lines)


def _drawn(space: Space, indent: str) -> Iterator[str]:
    names = list(space.nodes)
    for i, (name, node) in enumerate(space.nodes.items()):
        last = i == len(names) - 1
        yield f"{indent}{'└─ ' if last else '├─ '}{name}  {_node_in_words(node)}"
        if isinstance(node, Choice):
            below = indent + ("   " if last else "│  ")
            grown = [v for v in node.options if node.branches[v].nodes or node.branches[v].fixed]
            for j, value in enumerate(grown):
                end = j == len(grown) - 1
                branch = node.branches[value]
                given = ", ".join(f"{n} = {v}" for n, v in branch.fixed.items())
                yield f"{below}{'└─ ' if end else '├─ '}{value}{f'  ({given})' if given else ''}"
                yield from _drawn(branch, below + ("   " if end else "│  "))


def _node_in_words(node: Node) -> str:
    if isinstance(node, Choice):
        return " | ".join(str(value) for value in node.options)
    words = f"{node.low:g} … {node.high:g}"
    words += ", whole" if node.integer else ""
    words += f", step {node.step:g}" if node.step is not None else ""
    return words + (", log" if node.log else "")


def in_digits(number: int) -> str:
    """A count: all its digits, or about how many."""
    return f"{number:,}" if number < 10**9 else f"about 10^{len(str(number)) - 1}"
