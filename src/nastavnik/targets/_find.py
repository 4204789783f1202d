"""Which kind of target a column is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from nastavnik.errors import UserError, nearest
from nastavnik.kinds import ColumnInfo, level_word, read_column
from nastavnik.targets._base import Column, Found, Target
from nastavnik.targets._several import Several
from nastavnik.targets._table import TARGETS
from nastavnik.targets._votes import Votes

_NO_TARGETS = {"date": "dates", "image": "pictures", "array": "an array in a cell"}
_FEW = 5  # rows a word of a target of words


def find_target(
    values: Mapping[str, pd.Series],
    infos: Mapping[str, ColumnInfo],
    wanted: Mapping[str, str] | None = None,
    *,
    told: bool = False,
    shares: Mapping[str, float] | None = None,
) -> Found:
    """The target that columns are, found from their cells or as wanted.

    Args:
        values: by column its cells; of one column all hold something, of several a missing one is not known.
        infos: how they are read.
        wanted: by column one of ``TARGETS`` (``kinds_wanted``); votes are read from all columns together.
        told: whether the source says that whole numbers are names of classes.
        shares: what each of several targets counts, by name.

    Raises:
        UserError: a target of one value, of dates or free text, or not of the wanted kind.
    """
    wanted = wanted or {}
    columns = [_column(own, infos[name], told) for name, own in values.items()]
    if are_one(wanted) and len(columns) > 1:
        return Found(*Votes.read_together(columns), "as asked")
    if len(columns) == 1:
        return _find(columns[0], wanted.get(columns[0].info.name))
    found = []
    for column in columns:
        known = column.values.notna().to_numpy()
        own = _find(_some(column, known, told), wanted.get(column.info.name))
        found.append((own, _spread(own.values, known)))
    target, together = Several.of([(own.target, v) for own, v in found], shares or {})
    return Found(target, together, "; ".join(f"{own.target.name}: {own.target.kind}, {own.why}" for own, _ in found))


def kinds_wanted(task: str | None, targets: Sequence[str]) -> dict[str, str]:
    """By target the kind that it is to be: ``regression`` for all, or ``price=regression,sold=classification``.

    Raises:
        UserError: a kind or a target that there is not, or votes beside another kind.
    """
    if task is None:
        return {}
    pairs = [word.rpartition("=") for word in task.split(",")] if "=" in task else [(t, "=", task) for t in targets]
    wanted: dict[str, str] = {}
    for name, equals, kind in pairs:
        if not equals:
            raise UserError(f"--task {task}: {kind!r} is no NAME=KIND, such as {targets[0]}=regression")
        if name.strip() in wanted:
            raise UserError(f"--task {task} says twice what {name.strip()!r} is; say it once")
        wanted[name.strip()] = kind.strip()
    for name, kind in wanted.items():
        if kind not in TARGETS:
            raise UserError(f"--task must be one of {', '.join(TARGETS)}, but got {kind!r}")
        if name not in targets:
            raise UserError(f"--task {task}: {name!r} is no target{nearest(name, targets)}")
    if Votes.kind in wanted.values() and (len(wanted) < len(targets) or set(wanted.values()) != {Votes.kind}):
        raise UserError("--task votes reads all targets together, a class each; it cannot stand beside another kind")
    return wanted


def are_one(wanted: Mapping[str, str]) -> bool:
    """Whether the columns named are together one target, such as votes."""
    return any(TARGETS[kind].together for kind in wanted.values())


def target_of(record: Mapping[str, Any]) -> Target:
    """Read what a target's ``to_json`` wrote.

    Raises:
        UserError: it is of a kind that is not in the table.
    """
    if record["kind"] == Several.kind:
        each = tuple(target_of(one) for one in record["targets"])
        return Several(record["target"], (), each, tuple(record["widths"]), tuple(record["shares"]))
    if record["kind"] not in TARGETS:
        raise UserError(
            f"the target {record['target']!r} is of the kind {record['kind']!r}, which is not ours; import it, and "
            "put it into nastavnik.targets.TARGETS first"
        )
    return TARGETS[record["kind"]].from_json(record)


def _find(column: Column, wanted: str | None) -> Found:
    info, values = column.info, column.values
    if info.kind in _NO_TARGETS:
        what = _NO_TARGETS[info.kind]
        raise UserError(f"the target {info.name!r} holds {what}; name a number or category with --target")
    if info.distinct < 2:
        raise UserError(
            f"the target {info.name!r} has 1 class, {level_word(values.iloc[0])!r}, in every row; "
            "there is nothing to learn"
        )
    if column.numbers is None and info.kind in ("text", "identifier") and _FEW * info.distinct > len(values):
        raise UserError(
            f"the target {info.name!r} is free text ({info.distinct} distinct values in {len(values)} rows); "
            "name a number or category with --target"
        )
    if column.numbers is not None and info.kind != "boolean" and wanted is None:
        column.wants_numbers("regression")
    if wanted is not None:
        return Found(*TARGETS[wanted].read(column), "as asked")
    for kind in TARGETS.values():
        why = kind.suits(column)
        if why is not None:
            return Found(*kind.read(column), why)
    raise UserError(f"the target {info.name!r} is of no kind that can be predicted: {', '.join(TARGETS)}")


def _column(values: pd.Series, info: ColumnInfo, told: bool) -> Column:
    return Column(values, info, None, told) if values.isna().any() else _read(values, info, told)


def _read(values: pd.Series, info: ColumnInfo, told: bool) -> Column:
    return Column(values, info, _as_numbers(values, info), told)


def _some(column: Column, known: np.ndarray, told: bool) -> Column:
    return _read(column.values[known].reset_index(drop=True), column.info, told)


def _spread(values: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Values of the known rows among all rows, NaN for the others."""
    found = np.full((len(known), *values.shape[1:]), np.nan)
    found[known] = values
    return found


def _as_numbers(values: pd.Series, info: ColumnInfo) -> np.ndarray | None:
    """The target as numbers, where its kind gives one for each row."""
    if info.kind in ("number", "duration"):
        found = read_column(values, info).numbers.get(info.name)
        return None if found is None or info.reading.get("words") else found
    typed = pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values)
    return values.to_numpy(dtype=np.float64, na_value=np.nan) if typed and info.kind != "category" else None
