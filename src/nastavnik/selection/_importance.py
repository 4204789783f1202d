"""Which columns matter: the loss when one column's values are shuffled among the rows (Breiman 2001)."""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from nastavnik.data import Columns, Field
from nastavnik.predictive import Predictive

_MOST_WORK = 400_000  # rows × columns
_FEWEST = 100  # rows
_REPEATS = 2  # shuffles a column; 1 where there are many
_MANY_COLUMNS = 100


def importance(
    predict: Callable[[Columns, np.ndarray], Predictive],
    columns: Columns,
    y: np.ndarray,
    *,
    seed: int,
    expired: Callable[[], bool] = lambda: False,
    seconds: float = math.inf,
) -> list[dict[str, float | str]]:
    """Rise of the negative log likelihood (nats per example) by column, the largest first.

    What was read from one column is shuffled together. Of many rows and columns, and where the model is slow for the
    time there is, a sample of rows is used. Columns that the time no longer reached, and those that are the same in
    every row, are left out. A column whose meaning another one repeats looks unimportant.

    Args:
        predict: what the model says of columns that stand for these of the held-out rows (their places in ``y``).
        columns: held-out rows.
        y: their targets in own units.
        seed: of the shuffles.
        expired: asked before each column.
        seconds: that it may take, as far as a prediction tells.
    """
    rng = np.random.default_rng(seed)
    width = columns.width + len(columns.bags)
    repeats = _REPEATS if width <= _MANY_COLUMNS else 1
    groups = _groups(columns)
    places = np.arange(len(columns))

    def sample(most: int) -> None:
        nonlocal columns, y, places
        if len(columns) > most:
            chosen = np.sort(rng.choice(len(columns), most, replace=False))
            columns, y, places = columns.take(chosen), y[chosen], places[chosen]

    sample(max(_FEWEST, _MOST_WORK // max(width, 1)))

    def whole() -> float:
        """Seconds that all shuffles will take, by one prediction."""
        began = time.monotonic()
        predict(columns, places)
        return (time.monotonic() - began) * repeats * len(groups)

    usual = predict(columns, places).neg_log_likelihood(y)
    if math.isfinite(seconds) and (expected := whole()) > seconds:  # the prediction before was a cold one
        sample(max(_FEWEST, int(len(columns) * seconds / expected)))
        usual = predict(columns, places).neg_log_likelihood(y)
    found: list[dict[str, float | str]] = []
    for name, group in groups.items():
        if expired():
            break
        if _same_in_every_row(columns, group):
            continue
        shuffles = [_shuffled(columns, group, rng) for _ in range(repeats)]
        rise = np.mean([predict(shuffled, places).neg_log_likelihood(y) - usual for shuffled in shuffles], axis=0)
        error = float(rise.std() / max(len(rise), 1) ** 0.5)
        found.append({"column": name, "rise": float(rise.mean()), "standard_error": error})
    return sorted(found, key=lambda f: -float(f["rise"]))


@dataclass
class _Group:
    """The places of what was read from one column."""

    numbers: list[int] = field(default_factory=list)
    words: list[int] = field(default_factory=list)
    bags: list[int] = field(default_factory=list)
    fields: list[str] = field(default_factory=list)


def _groups(columns: Columns) -> dict[str, _Group]:
    groups: dict[str, _Group] = defaultdict(_Group)
    for j, name in enumerate(columns.number_names):
        groups[columns.source(name)].numbers.append(j)
    for j, name in enumerate(columns.word_names):
        groups[columns.source(name)].words.append(j)
    for j, name in enumerate(columns.bag_names):
        groups[columns.source(name)].bags.append(j)
    for name in columns.fields:
        groups[name].fields.append(name)
    return groups


def _same_in_every_row(columns: Columns, group: _Group) -> bool:
    values = columns.numbers[:, group.numbers]
    same = bool(((values == values[:1]) | (np.isnan(values) & np.isnan(values[:1]))).all())
    told = any(len(columns.bags[j].tokens) for j in group.bags)
    told = told or any(_varies(columns.fields[name]) for name in group.fields)
    return same and not told and all(len(set(columns.words[:, j])) == 1 for j in group.words)


def _varies(own: Field) -> bool:
    return len(own) > 0 and any(bool((piece != own.row(0)).any()) for piece in own.pieces())


def _shuffled(columns: Columns, group: _Group, rng: np.random.Generator) -> Columns:
    order = rng.permutation(len(columns))
    numbers, words = columns.numbers, columns.words
    if group.numbers:
        numbers = numbers.copy()
        numbers[:, group.numbers] = numbers[order][:, group.numbers]
    if group.words:
        words = words.copy()
        words[:, group.words] = words[order][:, group.words]
    bags = tuple(bag.take(order) if j in group.bags else bag for j, bag in enumerate(columns.bags))
    fields = {name: own.take(order) if name in group.fields else own for name, own in columns.fields.items()}
    return replace(columns, numbers=numbers, words=words, bags=bags, fields=fields)
