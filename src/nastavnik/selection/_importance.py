"""Which columns matter: the loss when one column's values are shuffled among the rows (Breiman 2001)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from nastavnik.data import Columns
from nastavnik.predictive import Predictive

_MOST_WORK = 400_000  # rows × columns
_REPEATS = 2  # shuffles a column; 1 where there are many
_MANY_COLUMNS = 100


def importance(
    predict: Callable[[Columns, np.ndarray], Predictive],
    columns: Columns,
    y: np.ndarray,
    *,
    seed: int,
    expired: Callable[[], bool] = lambda: False,
) -> list[dict[str, float | str]]:
    """Rise of the negative log likelihood (nats per example) by column, the largest first.

    A date's parts are shuffled together. Of many rows and columns a sample of rows is used. Columns that the time no
    longer reached, and those that are the same in every row, are left out. A column whose meaning another one repeats
    looks unimportant.

    Args:
        predict: what the model says of columns that stand for these of the held-out rows (their places in ``y``).
        columns: held-out rows.
        y: their targets in own units.
        seed: of the shuffles.
        expired: asked before each column.
    """
    rng = np.random.default_rng(seed)
    width = columns.numbers.shape[1] + columns.words.shape[1]
    most = max(100, _MOST_WORK // max(width, 1))
    places = np.arange(len(columns))
    if len(columns) > most:
        places = np.sort(rng.choice(len(columns), most, replace=False))
        columns, y = columns.take(places), y[places]
    usual = predict(columns, places).neg_log_likelihood(y)
    found: list[dict[str, float | str]] = []
    for name, numbers, words in _groups(columns):
        if expired():
            break
        if _same_in_every_row(columns, numbers, words):
            continue
        repeats = _REPEATS if width <= _MANY_COLUMNS else 1
        shuffles = [_shuffled(columns, numbers, words, rng) for _ in range(repeats)]
        rise = np.mean([predict(shuffled, places).neg_log_likelihood(y) - usual for shuffled in shuffles], axis=0)
        error = float(rise.std() / max(len(rise), 1) ** 0.5)
        found.append({"column": name, "rise": float(rise.mean()), "standard_error": error})
    return sorted(found, key=lambda f: -float(f["rise"]))


def _same_in_every_row(columns: Columns, numbers: list[int], words: list[int]) -> bool:
    values = columns.numbers[:, numbers]
    same = bool(((values == values[:1]) | (np.isnan(values) & np.isnan(values[:1]))).all())
    return same and all(len(set(columns.words[:, j])) == 1 for j in words)


def _groups(columns: Columns) -> list[tuple[str, list[int], list[int]]]:
    groups: dict[str, list[int]] = {}
    dates = {n.rsplit(".", 1)[0] for n in columns.number_names if n.endswith(".days")}
    for j, name in enumerate(columns.number_names):
        stem = name.rsplit(".", 1)[0]
        groups.setdefault(stem if stem in dates else name, []).append(j)
    found: list[tuple[str, list[int], list[int]]] = [(name, indices, []) for name, indices in groups.items()]
    return found + [(name, [], [j]) for j, name in enumerate(columns.word_names)]


def _shuffled(columns: Columns, numbers: list[int], words: list[int], rng: np.random.Generator) -> Columns:
    order = rng.permutation(len(columns))
    new_numbers, new_words = columns.numbers, columns.words
    if numbers:
        new_numbers = columns.numbers.copy()
        new_numbers[:, numbers] = columns.numbers[order][:, numbers]
    if words:
        new_words = columns.words.copy()
        new_words[:, words] = columns.words[order][:, words]
    return Columns(new_numbers, new_words, columns.number_names, columns.word_names)
