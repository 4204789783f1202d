"""What kind of thing each column holds, found from its cells or given, and reading the cells by it."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from nastavnik.data import Columns, Field, Lost
from nastavnik.errors import UserError, nearest
from nastavnik.kinds._beyond import LARGEST, within
from nastavnik.kinds._cells import Cells, level_word
from nastavnik.kinds._kind import ColumnInfo, Features, Guess, Wishes
from nastavnik.kinds._table import KINDS

_EXAMPLES = 3


def describe_columns(
    frame: pd.DataFrame,
    given: Mapping[str, str] | None = None,
    *,
    decimal: str | None = None,
    date_formats: Sequence[str] = (),
    missing: Sequence[str] = (),
    picture_size: int | None = None,
    keep: dict[str, Cells] | None = None,
) -> list[ColumnInfo]:
    """Each column's kind, found or given.

    Args:
        frame: the raw cells.
        given: the kinds of some columns, by name.
        decimal: the decimal mark of all columns; found where not given.
        date_formats: ``strptime``'s formats, each for all columns or, after "name=", for one.
        missing: what stands for a missing cell, in all columns or, after "name=", in one.
        picture_size: the most pixels of a side that pictures are brought to; 64 where not given.
        keep: takes the cells of columns of words, so that they need not be looked through again.

    Raises:
        UserError: a kind is given for a column that is not there, or is no kind of ours.
    """
    given = dict(given or {})
    for name, kind in given.items():
        if name not in frame.columns:
            raise UserError(f"--kind names a column {name!r} that is not there{nearest(name, frame.columns)}")
        if kind not in KINDS:
            raise UserError(f"--kind {name}={kind}: there is no kind {kind!r}{nearest(kind, KINDS)}")
    names = [str(name) for name in frame.columns]
    told = told_missing(missing, names)
    forms = told_missing(date_formats, names)
    found = []
    for name in names:
        values = frame[name]
        cells = Cells(name, values, told[name])
        asked = given.get(name, "date" if forms[name] and any(f"{name}=" in f for f in date_formats) else None)
        if asked in (None, "number") and decimal != ",":
            cells = cells.as_numbers() or cells
        found.append(_describe(cells, asked, Wishes(decimal, tuple(forms[name]), picture_size)))
        if keep is not None and not pd.api.types.is_numeric_dtype(values):
            keep[name] = cells
    return found


def told_missing(told: Sequence[str], names: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """By column what was told of it: "name=word" for one column, "word" for all."""
    known = sorted(names, key=len, reverse=True)
    found: dict[str, list[str]] = {name: [] for name in names}
    for one in told:
        name = next((n for n in known if one.startswith(f"{n}=")), None)
        for place in names if name is None else [name]:
            found[place].append(one if name is None else one[len(name) + 1 :])
    return {name: tuple(words) for name, words in found.items()}


def _describe(cells: Cells, given: str | None, wishes: Wishes) -> ColumnInfo:
    if given is not None:
        kind, guess = given, KINDS[given].given(cells, wishes)
    else:
        kind, guess = _surest(cells, wishes)
    info = ColumnInfo(
        cells.name, kind, guess.reason, cells.distinct, int(cells.missing.sum()), guess.record, cells.told
    )
    return ColumnInfo(**{**info.__dict__, "examples": _examples(cells, info)})


def _surest(cells: Cells, wishes: Wishes) -> tuple[str, Guess]:
    best: tuple[str, Guess] | None = None
    for name, kind in KINDS.items():
        guess = kind.recognise(cells, wishes)
        if guess is not None and (best is None or guess.confidence > best[1].confidence):
            best = name, guess
            if guess.confidence >= 1:
                break
    return best or ("category", KINDS["category"].given(cells, wishes))


def _examples(cells: Cells, info: ColumnInfo) -> tuple[tuple[str, str], ...]:
    """A few different cells and what was read of each."""
    kind = KINDS[info.kind]
    if kind.left_out or not cells.present:
        return ()
    if cells.typed and info.kind == "number":
        values = pd.unique(cells.numbers[~np.isnan(cells.numbers)][:1000])[:_EXAMPLES]
        return tuple((f"{v:g}", f"{v:g}") for v in values)
    rows = [cells.first_row(i) for i in _spread_out(len(cells.words))]
    few = Cells(cells.name, cells.values.iloc[rows].reset_index(drop=True), cells.told)
    try:
        features = kind.read(few, {**info.reading, "odd": 1.0})
    except UserError:  # these few are odd ones: they are said where all are read
        return ()
    return tuple((level_word(few.values.iloc[i])[:60], kind.show(features, i)) for i in range(len(rows)))


def _spread_out(count: int) -> list[int]:
    return sorted({0, count // 2, count - 1})[:_EXAMPLES] if count else []


def to_columns(frame: pd.DataFrame, infos: Sequence[ColumnInfo], known: Mapping[str, Cells] | None = None) -> Columns:
    """Read the cells of the input columns; what cannot be taken counts as missing, and is said.

    ``known`` are cells of this frame that were looked through before.

    Raises:
        UserError: a column is not there, or most of its cells are not of its kind (the first one's row is named).
    """
    for info in infos:
        if info.name not in frame.columns:
            raise UserError(f"the table lacks the column {info.name!r}{nearest(info.name, frame.columns)}")
    values = {info.name: frame[info.name] for info in infos}
    plain = [i for i in infos if _is_plain(values[i.name], i)]
    quick = {info.name for info in plain}
    block = _block(frame, plain)
    lost: list[Lost] = []
    each: list[tuple[ColumnInfo, Features | int]] = []
    places = itertools.count()
    for info in infos:
        if info.name in quick:
            place = next(places)
            largest = float(info.reading.get("largest", LARGEST))
            column = block[:, place]
            if column.dtype.kind == "f" and len(column) and not (np.nanmax(np.abs(column), initial=0.0) < largest):
                block[:, place] = within(column.astype(np.float64), info.name, largest, lost)
            each.append((info, place))
        else:
            cells = (known or {}).get(info.name)
            features = (
                read_column(values[info.name], info) if cells is None else KINDS[info.kind].read(cells, info.reading)
            )
            lost += features.lost
            each.append((info, features))
    return _joined(len(frame), block, each, lost)


def read_column(values: pd.Series, info: ColumnInfo) -> Features:
    """One column's cells by its description."""
    return KINDS[info.kind].read(Cells(info.name, values, info.missing_words), info.reading)


def _is_plain(values: pd.Series, info: ColumnInfo) -> bool:
    """Whether cells are numbers by their type and nothing is to be done to them: thousands of pixels."""
    several = (
        info.reading.get("form") in ("several", "range") or len(info.reading.get("scale", {}).get("units", ())) > 1
    )
    beside = info.reading.get("words") or several or info.missing_words
    return info.kind == "number" and not beside and pd.api.types.is_numeric_dtype(values)


def _block(frame: pd.DataFrame, infos: Sequence[ColumnInfo]) -> np.ndarray:
    if not infos:
        return np.empty((len(frame), 0))
    own = frame[[i.name for i in infos]]
    bytes_only = all(dtype.itemsize <= 1 for dtype in own.dtypes)  # exact in half the memory
    return own.to_numpy(dtype=np.float32 if bytes_only else np.float64, na_value=np.nan).copy()


def _joined(
    rows: int, block: np.ndarray, each: Sequence[tuple[ColumnInfo, Features | int]], lost: list[Lost]
) -> Columns:
    """All features side by side, in the order of their columns."""
    if all(isinstance(f, int) for _, f in each):
        return Columns(block, np.empty((rows, 0), dtype=object), tuple(i.name for i, _ in each), (), tuple(lost))
    names: list[str] = []
    numbers: list[np.ndarray] = []
    words: dict[str, np.ndarray] = {}
    bags: dict[str, Any] = {}
    fields: dict[str, Field] = {}
    sources: dict[str, str] = {}
    for info, features in each:
        if isinstance(features, int):
            names.append(info.name)
            numbers.append(block[:, features])
            continue
        names += list(features.numbers)
        numbers += [np.asarray(v, dtype=np.float64) for v in features.numbers.values()]
        words |= features.words
        bags |= features.bags
        fields |= features.fields
        own = (*features.numbers, *features.words, *features.bags)
        sources |= {name: info.name for name in own if name != info.name}
    whole = np.empty((rows, len(numbers)), dtype=np.float64)
    for j, values in enumerate(numbers):
        whole[:, j] = values
    cells = np.empty((rows, len(words)), dtype=object)
    for j, column in enumerate(words.values()):
        cells[:, j] = column
    bag_names = tuple(bags)
    return Columns(
        whole, cells, tuple(names), tuple(words), tuple(lost), tuple(bags.values()), bag_names, sources, fields
    )
