"""The audit: what is odd about a table, in plain words, before anything is trained on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from nastavnik.data import Columns, Field, row_keys
from nastavnik.kinds._cells import Cells, is_missing
from nastavnik.kinds._identifier import is_id_name
from nastavnik.kinds._kind import ColumnInfo
from nastavnik.kinds._pixels import near_keys
from nastavnik.kinds._table import KINDS

_LEAK = 0.995  # how much of the target one column may explain before it looks like the answer itself
_MANY_ROWS = 20_000
_MOST_NEAR = 0.05  # of a part's pictures that are like others


def audit(
    frame: pd.DataFrame,
    infos: Sequence[ColumnInfo],
    columns: Columns,
    target: np.ndarray,
    *,
    classes: bool,
    keys: np.ndarray | None = None,
    others: Sequence[tuple[str, np.ndarray, np.ndarray, bool]] | None = None,
) -> list[dict[str, Any]]:
    """Findings about the data, each ``{"check", "severity", "columns", "message"}``.

    Args:
        frame: the raw cells of the inputs.
        infos: how each input column was read.
        columns: the same cells, read.
        target: one value a row: class numbers, or real values; of several targets a number for what they are together.
        classes: whether the target is a class.
        keys: ``keys_of`` the frame, where they are known.
        others: of several targets each: its name, the rows in which it is known, its values there, whether it is a
            class.
    """
    found = [
        *_missing_cells(frame, infos),
        *_lost(columns),
        *_by_kind(infos, columns),
        *_constant(infos, len(frame)),
        *_duplicate_columns(columns),
        *_duplicate_rows(keys_of(frame) if keys is None else keys, target),
        *_left_out(infos),
        *_shared_names(infos, len(frame)),
    ]
    for name, rows, values, named in others or ():
        found += [*(_imbalance(values, f" of {name}") if named else [])]
        found += _leaks(columns.take(rows), values, named, f" {name}")
    if others is not None:
        return found
    if classes:
        found += _imbalance(target)
    return found + _leaks(columns, target, classes)


def keys_of(
    frame: pd.DataFrame, known: Mapping[str, Cells] | None = None, fields: Mapping[str, Field] | None = None
) -> np.ndarray:
    """A number for each row [n] that equal rows share.

    ``known`` are cells that were looked through before; pictures and arrays among ``fields`` are equal by what they
    hold, whatever their names.
    """

    def column(name: str) -> np.ndarray:
        own = (fields or {}).get(name)
        if own is not None and own.sort != "tokens":
            return own.keys
        cells = (known or {}).get(name) or Cells(name, frame[name])
        return cells.numbers if cells.typed else cells.codes

    return row_keys(column(str(name)) for name in frame.columns)


def copies_across(keys: np.ndarray, columns: Columns, parts: Sequence[tuple[str, np.ndarray]]) -> list[dict[str, Any]]:
    """Rows of one part of the split that stand in another as well, exactly or, of pictures, nearly."""
    found = []
    looks = [("rows", keys, 0)]
    looks += [(name, near_keys(own.pieces()), 1) for name, own in columns.fields.items() if own.sort == "picture"]
    trained = parts[0][1]
    exact = np.isin(keys, keys[trained])
    for name, own, near in looks:
        seen = np.unique(own[trained])
        for part, rows in parts[1:]:
            again = np.isin(own[rows], seen[seen != 0])
            again = again & ~exact[rows] if near else again
            if not again.any():
                continue
            how = (
                f"{name}: {int(again.sum())} pictures look like" if near else f"{int(again.sum())} rows are the same as"
            )
            text = (
                f"{how} one of the training part but stand in the {part} part (first: row {rows[np.argmax(again)] + 1})"
            )
            if not near or again.mean() < _MOST_NEAR:  # of drawings that are all alike nothing can be said
                found.append(_finding("near copies" if near else "copies", "warning", [name] if near else [], text))
    return found


def _finding(check: str, severity: str, names: Sequence[str], message: str) -> dict[str, Any]:
    return {"check": check, "severity": severity, "columns": list(names), "message": message}


def _named(names: Sequence[str], most: int = 6) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _missing_cells(frame: pd.DataFrame, infos: Sequence[ColumnInfo]) -> list[dict[str, Any]]:
    found = []
    for info in infos:
        if info.missing:
            share = info.missing / max(len(frame), 1)
            severity = "warning" if share > 0.5 else "info"
            text = f"{info.name}: {info.missing} of {len(frame)} cells are missing ({share:.1%}){_written(frame, info)}"
            found.append(_finding("missing", severity, [info.name], text))
    return found


def _written(frame: pd.DataFrame, info: ColumnInfo) -> str:
    """The words that stand for missing in a column of numbers."""
    if info.kind != "number" or pd.api.types.is_numeric_dtype(frame[info.name]):
        return ""
    cells = frame[info.name].astype(object)
    strange = [w for w in sorted(map(str, set(cells[is_missing(cells, info.missing_words)].dropna()))) if w]
    return f", some written {_named([repr(w) for w in strange])}" if strange else ""


def _by_kind(infos: Sequence[ColumnInfo], columns: Columns) -> list[dict[str, Any]]:
    """What each column's kind finds odd."""
    numbers: dict[str, dict[str, np.ndarray]] = {}
    for j, name in enumerate(columns.number_names):
        numbers.setdefault(columns.source(name), {})[name] = columns.numbers[:, j]
    return [
        _finding(check, severity, [info.name], text)
        for info in infos
        if info.name in numbers
        for check, severity, text in KINDS[info.kind].audit(numbers[info.name], info)
    ] + [
        _finding(check, severity, [name], text)
        for name, own in columns.fields.items()
        for check, severity, text in own.said
    ]


def _lost(columns: Columns) -> list[dict[str, Any]]:
    return [_finding("infinite", "warning", [lost.name], str(lost)) for lost in columns.lost]


def _constant(infos: Sequence[ColumnInfo], rows: int) -> list[dict[str, Any]]:
    names = [i.name for i in infos if i.distinct <= 1 and i.missing in (0, rows)]
    if not names:
        return []
    text = f"{_named(names)}: the same in every row, so no help to any model"
    return [_finding("constant", "info", names, text)]


def _duplicate_columns(columns: Columns) -> list[dict[str, Any]]:
    seen: dict[int, str] = {}
    pairs = []
    for j, name in enumerate(columns.number_names):
        values = columns.numbers[:, j]
        if np.nanmin(values, initial=np.inf) == np.nanmax(values, initial=-np.inf):
            continue  # constant columns are all alike
        key = hash(values.tobytes())
        if key in seen:
            pairs.append((seen[key], name))
        seen.setdefault(key, name)
    if not pairs:
        return []
    text = _named([f"{b} repeats {a}" for a, b in pairs])
    return [_finding("duplicate columns", "info", [b for _, b in pairs], text)]


def _duplicate_rows(keys: np.ndarray, target: np.ndarray) -> list[dict[str, Any]]:
    same_inputs = pd.Series(keys).duplicated(keep=False).to_numpy()
    if not same_inputs.any():
        return []
    whole = pd.DataFrame({"key": keys, "target": target}).duplicated().sum()
    disagree = pd.DataFrame({"key": keys, "target": target})[same_inputs].groupby("key")["target"].nunique()
    text = f"{int(whole)} rows repeat an earlier row; copies may stand on both sides of a split"
    if (disagree > 1).any():
        text += f"; {int((disagree > 1).sum())} groups of equal inputs have different targets"
    return [_finding("duplicate rows", "warning" if whole else "info", [], text)]


def _left_out(infos: Sequence[ColumnInfo]) -> list[dict[str, Any]]:
    return [
        _finding(
            "left out",
            "info",
            [i.name],
            f"{i.name}: an identifier ({i.reason}), left out; --kind {i.name}=text keeps it",
        )
        for i in infos
        if i.kind == "identifier"
    ]


def _shared_names(infos: Sequence[ColumnInfo], rows: int) -> list[dict[str, Any]]:
    found = []
    for info in infos:
        if info.kind in ("number", "category", "text") and is_id_name(info.name) and 10 < info.distinct < 0.5 * rows:
            text = (
                f"{info.name} looks like the name of something that {rows / info.distinct:.1f} rows share: if rows of "
                f"one must not straddle the split, say --group {info.name}; for a code, --kind {info.name}=category"
            )
            found.append(_finding("shared identifier", "warning", [info.name], text))
    return found


def _imbalance(target: np.ndarray, which: str = "") -> list[dict[str, Any]]:
    counts = np.bincount(target.astype(int))
    counts = counts[counts > 0]
    if counts.min() * 10 >= counts.max():
        return []
    text = (
        f"the classes{which} are unbalanced: the rarest has {counts.min()} rows, the commonest {counts.max()}; "
        "read balanced accuracy, and think of --class-weights balanced"
    )
    return [_finding("imbalance", "warning", [], text)]


def _leaks(columns: Columns, target: np.ndarray, classes: bool, which: str = "") -> list[dict[str, Any]]:
    """Columns that all but give the target away, by how well each alone predicts held-out rows."""
    rows = np.random.default_rng(0).permutation(len(target))[:_MANY_ROWS]
    y = target[rows]
    if len(rows) < 20 or (classes and np.bincount(y.astype(int)).max() == len(y)):
        return []
    found = []
    for name, values in _suspects(columns.take(rows), y, classes):
        told = _told(_by_neighbours(values, y, classes), y, classes)
        if told > _LEAK:
            text = (
                f"{name} alone tells the target{which} ({told:.1%} of it): if it is known only afterwards, "
                f"leave it out with --drop {name}"
            )
            found.append(_finding("leak", "warning", [name], text))
    return found


def _told(guess: np.ndarray, y: np.ndarray, classes: bool) -> float:
    """How much of the target a guess of it explains: 1 all, 0 no more than its mean or its commonest class."""
    if classes:
        return 1 - float(np.mean(guess != y) / max(1 - np.bincount(y.astype(int)).max() / len(y), 1e-12))
    return 1 - float(np.mean((guess - y) ** 2) / max(np.var(y), 1e-300))


def _by_neighbours(values: np.ndarray, y: np.ndarray, classes: bool) -> np.ndarray:
    """The target in each half of the rows by the rows of the other half that lie next to it."""
    guess, half = np.empty(len(y)), len(y) // 2
    for mine, others in ((slice(half), slice(half, None)), (slice(half, None), slice(half))):
        seen, place = np.unique(values[others], return_inverse=True)
        if classes:
            numbers, labels = np.unique(y[others], return_inverse=True)
            commonest = np.bincount(place * len(numbers) + labels, minlength=len(seen) * len(numbers))
            nearest = np.interp(values[mine], seen, np.arange(len(seen))).round().astype(int)
            guess[mine] = numbers[commonest.reshape(len(seen), -1).argmax(1)][nearest]
        else:
            guess[mine] = np.interp(values[mine], seen, np.bincount(place, y[others]) / np.bincount(place))
    return guess


def _suspects(columns: Columns, y: np.ndarray, classes: bool) -> list[tuple[str, np.ndarray]]:
    """The columns worth a closer look: a cheap screen by rank correlation, or by variance between classes."""
    numbers = np.nan_to_num(columns.numbers.astype(np.float64))
    codes = [np.unique(columns.words[:, j].astype(str), return_inverse=True)[1] for j in range(columns.words.shape[1])]
    words = [(n, c.astype(np.float64)) for n, c in zip(columns.word_names, codes, strict=True)]
    ranks = numbers.argsort(0).argsort(0).astype(np.float64)
    ranks -= ranks.mean(0)
    total = np.maximum((ranks**2).sum(0), 1e-12)
    if classes:
        perfect = np.sort(y).argsort(kind="stable").argsort().astype(np.float64)[:, None]
        attainable = _between(perfect - perfect.mean(), np.sort(y))[0]  # by a column that sorts the classes exactly
        strength = _between(ranks, y) / attainable
    else:
        order = y.argsort().argsort() - (len(y) - 1) / 2
        strength = np.abs(order @ ranks) / np.sqrt(total * (order**2).sum() + 1e-12)
    strong = np.flatnonzero(strength > 0.6)
    strong = strong[np.argsort(-strength[strong])][:20]
    return [(columns.number_names[j], numbers[:, j]) for j in strong] + words


def _between(ranks: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The sum of squares of ranks that lies between the classes, by column."""
    return np.sum([np.sum(y == label) * ranks[y == label].mean(0) ** 2 for label in np.unique(y)], axis=0)
