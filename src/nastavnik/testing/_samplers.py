"""The conformance suite of samplers."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from nastavnik.entry import Entry
from nastavnik.errors import UserError
from nastavnik.selection import Keys, Sampler
from nastavnik.space import Choice, Number, Space, nodes_by_key

Batch = tuple[list[Keys], list[Any]]
_BATCH, _ROUNDS, _SEEDS = 8, 7, (3, 4, 5)

NUMBERS = Space(
    {"a": Number(-2.0, 3.0), "b": Number(1e-4, 1.0, log=True), "c": Number(1, 40, integer=True), "d": Number(0, 1)}
)
MIXED = Space(
    {
        "kind": Choice(
            {
                "small": Space({"width": Number(1, 64, integer=True, log=True)}),
                "large": Space({"width": Number(64, 512, integer=True), "shape": Choice.of("flat", "deep", "wide")}),
            }
        ),
        "rate": Number(1e-4, 1.0, log=True),
        "share": Number(0.1, 0.7, step=0.1),
    },
    {"given": 7},
)


def check_sampler(make: Callable[..., Sampler]) -> None:
    """Points in bounds, branches only where live, batches and batches after them distinct, and the same seed the same.

    Args:
        make: the class: ``make(space, seed=, objectives=)``. One that refuses a space or a number of objectives by
            ``UserError`` is tried on the others; it must take at least one.
    """
    if isinstance(make, type):
        assert isinstance(make, Entry), f"{make.__name__} does not describe itself as a vocabulary entry"
    taken = 0
    for space in (NUMBERS, MIXED):
        for objectives in (1, 2):
            try:
                make(space, seed=0, objectives=objectives)
            except UserError:
                continue
            taken += 1
            _check_on(make, space, objectives)
    assert taken, "it takes none of the spaces"


def _check_on(make: Callable[..., Sampler], space: Space, objectives: int) -> None:
    for seed in _SEEDS:
        first = _run(make(space, seed=seed, objectives=objectives), objectives)
        points = [keys for batch, _ in first for keys in batch]
        for keys in points:
            _check_point(space, keys)
        assert len({frozenset(keys.items()) for keys in points}) == len(points), "a point was drawn twice"
        again = _run(make(space, seed=seed, objectives=objectives), objectives)
        assert again == first, "the same seed and values gave other points"
        _check_goes_on(make, space, objectives, seed, first)
    other = _run(make(space, seed=_SEEDS[-1] + 1, objectives=objectives), objectives)
    assert other != first, "another seed gave the same points"


def _check_goes_on(
    make: Callable[..., Sampler], space: Space, objectives: int, seed: int, batches: list[Batch]
) -> None:
    """Told the first batches, a new sampler must draw the next one."""
    for place in range(1, len(batches)):
        resumed = make(space, seed=seed, objectives=objectives)
        for keys, values in batches[:place]:
            resumed.tell(keys, values)
        assert resumed.ask(_BATCH) == batches[place][0], "told the same history, a new sampler goes on otherwise"


def _run(sampler: Sampler, objectives: int) -> list[Batch]:
    """Rounds of asking and telling; one value in seven is infinite."""
    batches: list[Batch] = []
    for r in range(_ROUNDS):
        keys = sampler.ask(_BATCH)
        values = [_worth(sampler.point(k), _BATCH * r + i, objectives) for i, k in enumerate(keys)]
        sampler.tell(keys, values)
        batches.append((keys, values))
    return batches


def _worth(point: dict[str, Any], place: int, objectives: int) -> tuple[float, ...]:
    numbers = [float(v) for v in point.values() if not isinstance(v, str)]
    value = math.inf if place % 7 == 6 else sum(math.sin(v) for v in numbers)
    return (value, -numbers[0])[:objectives]


def _check_point(space: Space, keys: Keys) -> None:
    nodes = nodes_by_key(space)
    live: Keys = {}

    def answer(key: str, node: Any) -> Any:
        assert key in keys, f"{key} is live but was not drawn"
        live[key] = keys[key]
        return keys[key]

    space.draw(answer)
    assert live == keys, f"drawn in a dead branch: {sorted(set(keys) - set(live))}"
    for key, value in keys.items():
        node = nodes[key]
        if isinstance(node, Choice):
            assert value in node.options, f"{key}={value!r} is no option"
            continue
        assert isinstance(value, int if node.integer else float), f"{key}={value!r} is of the wrong type"
        assert node.low <= value <= node.high, f"{key}={value!r} is out of bounds"
        if node.step is not None:
            steps = [node.nth(i) for i in range(node.count or 0)]
            assert value in steps, f"{key}={value!r} is none of the steps {steps}"
