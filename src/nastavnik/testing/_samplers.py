"""The conformance suite of samplers."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from nastavnik.entry import Entry
from nastavnik.errors import UserError
from nastavnik.selection import Keys, Sampler
from nastavnik.space import Choice, Number, Space, nodes_by_key

_BATCH, _ROUNDS = 8, 10

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
        "share": Number(0.0, 1.0, step=0.25),
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
    first, told = _run(make(space, seed=3, objectives=objectives), objectives)
    for keys in first:
        _check_point(space, keys)
    names = [frozenset(keys.items()) for keys in first]
    assert len(set(names)) == len(names), "a point was drawn twice"
    again, _ = _run(make(space, seed=3, objectives=objectives), objectives)
    assert again == first, "the same seed and values gave other points"
    other, _ = _run(make(space, seed=4, objectives=objectives), objectives)
    assert other != first, "another seed gave the same points"
    resumed = make(space, seed=3, objectives=objectives)
    resumed.tell([keys for keys, _ in told], [values for _, values in told])
    _assert_goes_on(make(space, seed=3, objectives=objectives), resumed, objectives)


def _assert_goes_on(whole: Sampler, resumed: Sampler, objectives: int) -> None:
    _run(whole, objectives)
    assert whole.ask(_BATCH) == resumed.ask(_BATCH), "told the same history, a new sampler goes on otherwise"


def _run(sampler: Sampler, objectives: int) -> tuple[list[Keys], list[tuple[Keys, Any]]]:
    """Rounds of asking and telling; one value in seven is infinite."""
    asked: list[Keys] = []
    told: list[tuple[Keys, Any]] = []
    for _ in range(_ROUNDS):
        batch = sampler.ask(_BATCH)
        values = [_worth(sampler.point(keys), len(asked) + i, objectives) for i, keys in enumerate(batch)]
        sampler.tell(batch, values)
        asked += batch
        told += zip(batch, values, strict=True)
    return asked, told


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
            steps = (value - node.low) / node.step
            assert math.isclose(steps, round(steps), abs_tol=1e-9), f"{key}={value!r} is off the steps"
