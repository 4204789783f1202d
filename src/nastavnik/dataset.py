"""Dataset: inputs and target with names and kinds, the audit, and the split."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from nastavnik.data import PART_WORDS, Columns, Split, Table, split_rows, with_columns
from nastavnik.errors import UserError, nearest
from nastavnik.kinds import (
    KINDS,
    Cells,
    ColumnInfo,
    audit,
    copies_across,
    describe_columns,
    is_missing,
    keys_of,
    level_word,
    read_column,
    to_columns,
    told_missing,
)
from nastavnik.runs import DatasetOptions as DatasetOptions
from nastavnik.runs import check_target, target_names
from nastavnik.targets import TARGETS, are_one, find_target, kinds_wanted
from nastavnik.task import Task

FEWEST_ROWS = 20
FOLDS = 5
_DEAR = ("image", "text", "array")  # kinds whose networks take too long to be trained once a fold
FEW_ROWS = 2000  # below this a tenth is too little to stop, choose and calibrate on
_MOST_COPIES = 0.5  # share of rows that repeat others: with more, rows are alike because few things can differ
_OF_CLASSES = ("built-in", "idx", "folder", "zip", "npz", "data set", "pictures")  # whose whole numbers are names


@dataclass(frozen=True)
class Dataset:
    """A table read for one task. ``infos`` are the input columns, ``roles`` what every column is used for."""

    name: str
    infos: tuple[ColumnInfo, ...]
    roles: Mapping[str, str]
    columns: Columns
    task: Task
    split: Split
    audit: list[dict[str, Any]]
    notes: list[str]
    labelled: np.ndarray  # rows of the table that have a target, which are the data set's
    unlabelled: np.ndarray  # rows of the table that have none

    def to_json(self) -> dict[str, Any]:
        """The record kept in ``dataset.json``."""
        return {
            "name": self.name,
            "rows": len(self.columns),
            "rows_without_target": self.unlabelled.tolist(),
            "task": {**self.task.to_json(), "why": self.task.why},
            "targets": list(self.task.target.columns),
            "columns": [{**info.to_json(), "role": self.roles[info.name]} for info in self.infos],
            "not_used": {name: role for name, role in self.roles.items() if role not in ("input", "target")},
            "split": self.split.of_rows(self.labelled).to_json(),
            "audit": self.audit,
            "notes": self.notes,
        }


def make_dataset(
    table: Table,
    options: DatasetOptions,
    *,
    audited: bool = True,
    fewest_rows: int = FEWEST_ROWS,
    fold_below: int = FEW_ROWS,
) -> Dataset:
    """Find kinds, roles and task; read the columns; audit (unless a run's earlier audit is on record) and split them.

    With fewer than ``fold_below`` rows besides the test part there is cross-validation by default.

    Raises:
        UserError: an option names what is not there or suits no column, the target will not do, or rows are too few.
    """
    frame = table.frame
    if len(frame) < fewest_rows:
        raise UserError(f"the table has {len(frame)} rows; at least {fewest_rows} are needed")
    options = _with_plain_names(options)
    targets = _targets(table, options)
    told_names = ", ".join(map(repr, targets))
    wanted = kinds_wanted(options.task, targets)
    for option, name in (
        ("--group", options.group),
        ("--time", options.time),
        ("--split-column", options.split),
        ("--weights", options.weights),
    ):
        if name is not None and name not in frame.columns:
            raise UserError(f"{option} names a column {name!r} that is not there{nearest(name, frame.columns)}")
    if options.weights in targets:
        raise UserError(f"the target {options.weights!r} cannot weigh its own rows; name another column with --weights")
    for name in options.drop:
        if name not in frame.columns:
            raise UserError(f"--drop names a column {name!r} that is not there{nearest(name, frame.columns)}")
    frame, labelled, unlabelled = _with_targets(frame, targets, wanted, options)
    frame, labelled = _with_weight(frame, labelled, options.weights)
    if len(frame) < fewest_rows:
        raise UserError(f"{len(frame)} rows have a target {told_names}; at least {fewest_rows} are needed")
    known: dict[str, Cells] = {}
    infos = _describe(frame, options, known)
    by_name = {info.name: info for info in infos}
    target, values, why = find_target(
        {name: frame[name] for name in targets},
        by_name,
        wanted,
        told=table.origin.get("kind") in _OF_CLASSES,
        shares=_shares(options, targets, wanted),
    )
    task = Task(target, values, why)
    if options.class_weights != "none":
        if not any(part.strata(np.zeros(0)) is not None for part in target.parts):
            raise UserError(f"--class-weights is for classes, but {task.name!r} is a {task.kind} target")
        task = replace(task, class_weights=options.class_weights)
    if options.weights is not None:
        weights = frame[options.weights].astype(np.float64).to_numpy()
        task = replace(task, weights=weights / weights.mean())
    roles, notes = _roles(infos, targets, options)
    notes += table.notes
    if len(unlabelled):
        notes.append(
            f"{len(unlabelled)} of {len(unlabelled) + len(frame)} rows have no {' or '.join(targets)} and are left out "
            f"(first: row {unlabelled[0] + 1}); fit --fill predicts them"
        )
    singles = task.singles()
    if len(singles) > 1 and not functools.reduce(np.intersect1d, [rows for _, rows in singles]).size:
        notes.append(f"no row has all of {', '.join(targets)}: each is learned from rows of its own")
    inputs = _inputs(infos, roles, targets, options)
    columns = to_columns(frame, inputs, known)
    others = [i for i in infos if i.name not in targets]
    keys = keys_of(frame[[i.name for i in others]], known, columns.fields)
    found = _audit(frame[[i.name for i in others]], others, columns, task, keys) if audited else []
    part = None if table.part is None else table.part[labelled]
    split = _split(frame, keys, part, task, by_name, roles, options, fold_below, notes)
    if audited and columns.fields:
        found += copies_across(
            keys, columns, (("training", split.train), ("validation", split.validation), ("test", split.test))
        )
    return Dataset(table.name, inputs, roles, columns, task, split, found, notes, labelled, unlabelled)


def _inputs(
    infos: Sequence[ColumnInfo], roles: dict[str, str], targets: Sequence[str], options: DatasetOptions
) -> tuple[ColumnInfo, ...]:
    """What is predicted from.

    Raises:
        UserError: nothing is left, or an option is for a kind of column that is not there.
    """
    inputs = tuple(info for info in infos if roles[info.name] == "input")
    if not inputs:
        told = ", ".join(map(repr, targets))
        raise UserError(f"no column is left to predict {told} from: {_listed(roles, targets)}")
    if options.picture_size is not None and not any(info.kind == "image" for info in inputs):
        raise UserError(
            "--picture-size is for pictures, but no input column holds any; leave it out, or name such a column with "
            "--kind COLUMN=image"
        )
    return inputs


def _describe(frame: pd.DataFrame, options: DatasetOptions, known: dict[str, Cells]) -> list[ColumnInfo]:
    return describe_columns(
        frame,
        options.kinds,
        decimal=options.decimal,
        date_formats=options.date_formats,
        missing=options.missing,
        picture_size=options.picture_size,
        keep=known,
    )


def _with_targets(
    frame: pd.DataFrame, targets: Sequence[str], wanted: Mapping[str, str], options: DatasetOptions
) -> tuple[pd.DataFrame, np.ndarray, np.ndarray]:
    """The rows of which a target is known, which they are, and which are not: empty cells, and those that are no number
    where nearly all are. Of several targets, those that are not known are left empty.

    Raises:
        UserError: one is known nowhere, or votes are known in part.
    """
    told = told_missing(options.missing, [str(n) for n in frame.columns])
    gone: np.ndarray = np.empty((len(frame), len(targets)), dtype=bool)
    for j, target in enumerate(targets):
        gone[:, j] = is_missing(frame[target], told[target])
        if gone[:, j].all():
            raise UserError(f"every cell of the target {target!r} is missing; choose another with --target")
        if target not in wanted or not TARGETS[wanted[target]].of_words:
            gone[:, j] |= _unread(frame[target], gone[:, j], target, options)
    out: np.ndarray = np.any(gone, axis=1) if are_one(wanted) else np.all(gone, axis=1)
    if len(targets) > 1 and (gone & ~out[:, None]).any():
        frame = with_columns(frame, {n: frame[n].mask(gone[:, j]) for j, n in enumerate(targets) if gone[:, j].any()})
    if not out.any():
        return frame, np.arange(len(frame)), np.arange(0)
    return frame[~out].reset_index(drop=True), np.flatnonzero(~out), np.flatnonzero(out)


def _unread(values: pd.Series, gone: np.ndarray, target: str, options: DatasetOptions) -> np.ndarray:
    """Which cells of a target of numbers are none, such as a word for what is missing."""
    present = values[~gone].reset_index(drop=True)
    infinite = pd.api.types.is_float_dtype(values) and bool(np.isinf(values.to_numpy(dtype=np.float64)).any())
    if infinite:  # that is told, by the task
        return np.zeros(len(values), dtype=bool)
    (info,) = _describe(present.to_frame(target), replace(options, kinds=_own(options, target)), {})
    numbers = read_column(present, info).numbers.get(target) if info.kind in ("number", "duration") else None
    found = np.zeros(len(values), dtype=bool)
    if numbers is not None and not info.reading.get("words"):
        found[np.flatnonzero(~gone)] = np.isnan(numbers)
    return found


def _own(options: DatasetOptions, name: str) -> dict[str, str]:
    return {name: options.kinds[name]} if name in options.kinds else {}


def _with_weight(frame: pd.DataFrame, labelled: np.ndarray, name: str | None) -> tuple[pd.DataFrame, np.ndarray]:
    """The rows that weigh something, their weights as numbers.

    Raises:
        UserError: a weight is missing, negative, or no number.
    """
    if name is None:
        return frame, labelled
    weights = pd.to_numeric(frame[name], errors="coerce").to_numpy(dtype=np.float64)
    wrong = ~(np.isfinite(weights) & (weights >= 0))
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        cell = level_word(frame[name].iloc[row])
        raise UserError(f"--weights {name}: row {labelled[row] + 1} says {cell}; weights are numbers from 0 up")
    if not weights.any():
        raise UserError(f"--weights {name}: every row weighs nothing")
    frame = with_columns(frame, {name: weights})
    keep = weights > 0
    return (frame, labelled) if keep.all() else (frame[keep].reset_index(drop=True), labelled[keep])


def _with_plain_names(options: DatasetOptions) -> DatasetOptions:
    """Columns have no blanks around their names, however they were written; so have the names that options give."""

    def plain(name: str | None) -> str | None:
        return None if name is None else str(name).strip()

    one: dict[str, Any] = {name: plain(getattr(options, name)) for name in ("group", "time", "split", "weights")}
    kinds = {str(name).strip(): kind for name, kind in options.kinds.items()}
    shares = {str(name).strip(): share for name, share in options.target_weights.items()}
    drop = tuple(str(name).strip() for name in options.drop)
    return replace(options, drop=drop, kinds=kinds, target_weights=shares, **one)


def _targets(table: Table, options: DatasetOptions) -> tuple[str, ...]:
    """The columns to be predicted.

    Raises:
        UserError: none is named, one is not there, or named twice, or another option has a use for it.
    """
    names = list(table.frame.columns)
    given = options.target if options.target is not None else table.target
    if given is None:
        raise UserError(f"which column is to be predicted? Name it with --target{nearest('', names)}")
    targets = target_names(given, names)
    for target in targets:
        if target not in names:
            raise UserError(f"there is no column {target!r}{nearest(target, names)}")
    check_target(targets, options.drop, options.group, options.split)
    return targets


def _shares(options: DatasetOptions, targets: Sequence[str], wanted: Mapping[str, str]) -> Mapping[str, float]:
    """What each of several targets counts.

    Raises:
        UserError: a name is none of theirs, or there is one target only.
    """
    shares = options.target_weights
    if shares and (len(targets) < 2 or are_one(wanted)):
        raise UserError("--target-weight says what each of several targets counts, but there is one")
    for name in shares:
        if name not in targets:
            raise UserError(f"--target-weight names {name!r}, which is no target{nearest(name, targets)}")
    return shares


def _audit(
    frame: pd.DataFrame, infos: list[ColumnInfo], columns: Columns, task: Task, keys: np.ndarray
) -> list[dict[str, Any]]:
    """What is odd about the columns, and about each target."""
    singles = task.singles()
    if len(singles) == 1 and task.values.ndim == 1:
        return audit(frame, infos, columns, task.values, classes=task.strata is not None, keys=keys)
    together = pd.DataFrame(task.values.reshape(len(keys), -1))
    rows_alike = together.groupby(list(together), dropna=False, sort=False).ngroup().to_numpy()
    others = [
        (one.name, rows, one.values[rows], one.strata is not None) for one, rows in singles if one.values.ndim == 1
    ]  # labels and votes: column by column they say little
    return audit(frame, infos, columns, rows_alike, classes=False, keys=keys, others=others)


def _roles(
    infos: list[ColumnInfo], targets: Sequence[str], options: DatasetOptions
) -> tuple[dict[str, str], list[str]]:
    """What each column is used for, and what the run says about it."""
    roles = {}
    notes: list[str] = []
    for info in infos:
        if info.name in targets:
            roles[info.name] = "target"
        elif info.name in options.drop:
            roles[info.name] = "dropped"
        elif info.name == options.split:
            roles[info.name] = "split"
        elif info.name == options.group:
            roles[info.name] = "group"
        elif info.name == options.weights:
            roles[info.name] = "weights"
        elif KINDS[info.kind].left_out:
            roles[info.name] = info.kind
        else:
            roles[info.name] = "input"
    return roles, notes


def _listed(roles: Mapping[str, str], targets: Sequence[str]) -> str:
    return ", ".join(f"{name} ({role})" for name, role in roles.items() if name not in targets) or "there is no other"


def _split(
    frame: pd.DataFrame,
    keys: np.ndarray,
    given: np.ndarray | None,
    task: Task,
    infos: Mapping[str, ColumnInfo],
    roles: Mapping[str, str],
    options: DatasetOptions,
    fold_below: int,
    notes: list[str],
) -> Split:
    n = len(frame)
    groups = times = copies = None
    if options.split is not None:
        given = _given_parts(frame[options.split], options.split)
    if options.group is not None:
        groups = _group_names(frame[options.group])
    elif options.time is not None:
        times = _times(frame[options.time], infos[options.time])
    elif given is None:
        groups = _shared_identifier(frame, infos, roles, notes)
        copies = None if groups is not None else _copies(keys, task, notes)
    classes = task.strata
    rest = n - round(options.test * n) if given is None else int((given != "test").sum())
    folds = options.folds
    if folds is None:
        enough = options.networks is None or options.networks >= 2 * FOLDS * options.repeats + 1
        ready = given is not None and bool((given == "validation").any())
        plain = not any(info.kind in _DEAR for info in infos.values())
        few = rest < (fold_below if plain else FEW_ROWS)
        folds = FOLDS if few and enough and times is None and not ready else 0
        if folds:
            notes.append(
                f"{rest} rows besides the test part: networks are chosen by {folds}-fold cross-validation; a final one "
                "is trained on all of them for the chosen number of steps, of several those of all folds are taken"
            )
    return split_rows(
        n,
        seed=options.seed,
        classes=classes,
        groups=groups,
        times=times,
        copies=copies,
        given=given,
        folds=folds or None,
        repeats=options.repeats,
        test=options.test,
    )


def _copies(keys: np.ndarray, task: Task, notes: list[str]) -> np.ndarray | None:
    """The first of the rows that each row repeats; None where no row does, or where few columns make rows alike."""
    whole = keys.copy()
    for j, own in enumerate(task.values.reshape(len(keys), -1).T):
        whole ^= pd.util.hash_array(np.ascontiguousarray(own)) * np.uint64(2 * j + 3)
    firsts, codes = np.unique(whole, return_index=True, return_inverse=True)[1:]
    repeated = len(keys) - len(firsts)
    if not repeated or repeated > _MOST_COPIES * len(keys):
        return None
    notes.append(f"{repeated} rows repeat an earlier row: copies stay together in one part of the split")
    return firsts[codes]


def _given_parts(values: pd.Series, name: str) -> np.ndarray:
    words = values.astype(str).str.strip().str.lower().map(PART_WORDS)
    if words.isna().any():
        row = int(np.flatnonzero(words.isna())[0])
        raise UserError(
            f"the split column {name!r} says {values.iloc[row]!r} in row {row + 1}; "
            "it must say train, validation or test"
        )
    return words.to_numpy(dtype=object)


def _times(values: pd.Series, info: ColumnInfo) -> np.ndarray:
    if info.kind not in ("date", "number", "duration"):
        raise UserError(f"--time {info.name}: it holds no dates or numbers to order rows by")
    times = to_columns(values.to_frame(), [info]).numbers[:, 0]
    if np.isnan(times).any():
        row = int(np.flatnonzero(np.isnan(times))[0]) + 1
        raise UserError(f"--time {info.name}: row {row} has no time; mend or leave out that row")
    return times


def _shared_identifier(
    frame: pd.DataFrame, infos: Mapping[str, ColumnInfo], roles: Mapping[str, str], notes: list[str]
) -> np.ndarray | None:
    """Rows that share an identifier are one thing seen twice: they must not straddle the split."""
    for name, role in roles.items():
        repeated = len(frame) - infos[name].missing - infos[name].distinct
        if role == "identifier" and repeated > 0:
            notes.append(f"{name} identifies rows but {repeated} rows repeat one: rows of one {name} stay together")
            return _group_names(frame[name])
    return None


def _group_names(values: pd.Series) -> np.ndarray:
    """Each row's group; a missing cell is a group of its own."""
    alone = [f"(row {i} alone)" for i in range(len(values))]
    return np.where(is_missing(values), alone, values.astype(str).to_numpy(dtype=str))
