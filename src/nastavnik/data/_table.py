"""Reading a source, whatever the user named, into one Table."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from itertools import chain, count
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from nastavnik.arguments import is_text
from nastavnik.data._built_in import BUILT_IN, built_in_frame
from nastavnik.data._files import read_file
from nastavnik.data._frames import as_frame, is_frame_like
from nastavnik.data._idx import idx_files, read_idx_folder
from nastavnik.errors import UserError, complaint, nearest


@dataclass(frozen=True)
class Table:
    """Raw rows with names and where they came from.

    ``frame`` holds strings for text files and typed values otherwise; ``part`` holds "train", "validation" or
    "test" per row where the source divides itself; ``target`` names the target where the source knows it; ``notes`` say
    what was guessed in reading it.
    """

    frame: pd.DataFrame
    name: str
    origin: dict[str, Any] = field(default_factory=dict)
    part: np.ndarray | None = None
    target: str | None = None
    notes: tuple[str, ...] = ()


def read_source(
    source: Any,
    *,
    delimiter: str | None = None,
    encoding: str | None = None,
    header: bool | None = None,
    y: Any = None,
) -> Table:
    """Read a file, a folder of IDX files, a built-in set by name, a table in memory, or a pair of arrays.

    ``file.zip::name``, ``book.xlsx::sheet`` and ``file.db::table`` name one of several tables in a file.

    Raises:
        UserError: nothing there, nothing in it, or nothing we can read.
    """
    if y is not None and isinstance(source, (Table, str, Path)):
        raise UserError("y goes with inputs in memory; name the target of a file, or of a table, with target")
    if isinstance(source, Table):
        return source
    if isinstance(source, (str, Path)):
        return _from_path(str(source), {"delimiter": delimiter, "encoding": encoding, "header": header})
    if y is None and is_frame_like(source):
        return _from_frame(as_frame(source))
    if y is None and isinstance(source, tuple) and len(source) == 2:
        source, y = source
    return _from_arrays(source, y)


def _from_path(source: str, options: dict[str, Any]) -> Table:
    if not is_text(source):
        raise UserError(f"the name of the table {source!r} holds bytes that are no text; rename it")
    try:
        return _from_place(source, options)
    except PermissionError as error:
        raise UserError(f"{source} may not be read; ask for permission, or copy it") from error
    except OSError as error:
        sentence = complaint(error)
        if sentence is None:
            raise
        raise UserError(sentence) from error


def _from_place(source: str, options: dict[str, Any]) -> Table:
    path, inner = Path(source), None
    if "::" in source and not path.exists():
        place, inner = source.rsplit("::", 1)
        path = Path(place)
    if path.is_dir():
        if not idx_files(path):
            raise UserError(f"{path} is a folder without IDX files; name a table, or a folder in MNIST's format")
        frame, part = read_idx_folder(path)
        given = part if len(set(part)) > 1 else None
        return Table(frame, path.resolve().name, _origin(path, "idx", _hash_files(idx_files(path))), given, "label")
    if path.is_file():
        if path.stat().st_size == 0:
            raise UserError(f"{path} is empty; a table needs a header line and rows")
        notes: list[str] = []
        frame, kind = read_file(path, inner, **options, notes=notes)
        if kind != "csv":
            frame = _from_frame(frame).frame
        origin = _origin(path, kind, _hash_files([path]))
        name = inner or path.name.split(".")[0] or path.stem
        return Table(frame, name, origin if inner is None else {**origin, "inner": inner}, notes=tuple(notes))
    if path.exists():  # reading what never ends would never end, and a pipe can be read only once
        raise UserError(f"{path} is a pipe, a socket or a device; save its content as a file first")
    if source in BUILT_IN:
        return _built_in(source)
    hint = nearest(source, BUILT_IN) if "." not in source and "/" not in source else ""
    raise UserError(f"there is no file {source}{hint}")


def with_weights(table: Table, weights: Any) -> tuple[Table, str]:
    """A table with what each row weighs as a further column, and that column's name.

    Raises:
        UserError: there is not one number for each row.
    """
    own = np.ravel(_as_array("sample_weight", weights))
    if len(own) != len(table.frame) or own.dtype.kind not in "iufb":
        raise UserError(f"sample_weight must be {len(table.frame)} numbers, one a row, but got {own.dtype} {own.shape}")
    name = next(n for n in chain(("sample_weight",), (f"sample_weight_{i}" for i in count(2))) if n not in table.frame)
    digest = hashlib.sha256((str(table.origin.get("sha256")) + _hash_frame(pd.DataFrame(own))).encode()).hexdigest()
    return replace(table, frame=table.frame.assign(**{name: own}), origin={**table.origin, "sha256": digest}), name


def _built_in(name: str) -> Table:
    frame = built_in_frame(name)
    return Table(frame, name, {"kind": "built-in", "name": name, "sha256": _hash_frame(frame)}, target="target")


def plain_frame(frame: pd.DataFrame) -> pd.DataFrame:
    """The same table as if read from a file: names are words, names and words have no blanks around them.

    Spans of time become seconds, lists and records words, Arrow's own types those of numpy.

    Raises:
        UserError: two columns of one name, one whose name cannot be written, or complex numbers.
    """
    names = [str(c).strip() for c in frame.columns]
    for name in names:
        if not is_text(name):
            raise UserError(f"the name of the column {name!r} holds bytes that are no text; rename it")
    for name, times in Counter(names).items():
        if times > 1:
            raise UserError(f"the table has {times} columns named {name!r}; give each column a name of its own")
    frame = frame.set_axis(names, axis=1)
    return frame.assign(**{n: c for n in names if (c := _plain_cells(n, frame[n])) is not None})


def _plain_cells(name: str, values: pd.Series) -> pd.Series | None:
    """A column's cells as a file would hold them; None where they are so already."""
    dtype = values.dtype
    if isinstance(dtype, pd.ArrowDtype):
        own = pd.Series(
            values.astype(object).where(values.notna(), None), index=values.index, name=name
        ).infer_objects()
        plain = _plain_cells(name, own)
        return own if plain is None else plain
    if isinstance(dtype, pd.SparseDtype):
        return pd.Series(np.asarray(values), index=values.index, name=name)
    if pd.api.types.is_timedelta64_dtype(dtype):
        return values.dt.total_seconds()
    if pd.api.types.is_complex_dtype(dtype):
        raise UserError(f"column {name!r} holds complex numbers; give their real and imaginary parts as two columns")
    if isinstance(dtype, pd.CategoricalDtype):
        padded = any(isinstance(c, str) and c != c.strip() for c in dtype.categories)
        return _stripped(values.astype(object)) if padded else None
    if isinstance(dtype, pd.StringDtype):
        return values.str.strip()
    if not pd.api.types.is_object_dtype(dtype):
        return None
    if not values.map(pd.api.types.is_hashable).all():
        values = values.map(_as_words)
    return _stripped(values)


def _as_words(cell: Any) -> Any:
    """A list as its members with bars between them, other things by their own words."""
    if isinstance(cell, (list, tuple, set, frozenset, np.ndarray)):
        return "|".join(str(part) for part in (sorted(cell, key=str) if isinstance(cell, (set, frozenset)) else cell))
    return cell if pd.api.types.is_hashable(cell) else str(cell)


def _stripped(values: pd.Series) -> pd.Series:
    cells = [cell.strip() if isinstance(cell, str) else cell for cell in values]
    return pd.Series(cells, index=values.index, name=values.name, dtype=object)


def _from_frame(frame: pd.DataFrame) -> Table:
    frame = plain_frame(frame)
    if frame.empty:
        raise UserError(f"the table is empty: it has {len(frame)} rows and {len(frame.columns)} columns")
    frame = frame.reset_index(drop=True)
    return Table(frame, "frame", {"kind": "frame", "sha256": _hash_frame(frame)})


def _from_arrays(x: Any, y: Any) -> Table:
    if isinstance(x, pd.DataFrame):
        frame = _from_frame(x).frame
    else:
        x = _as_array("inputs", x)
        if x.ndim != 2:
            raise UserError(f"the inputs must have 2 dimensions (rows, columns), but got shape {x.shape}")
        frame = pd.DataFrame(x, columns=[f"x{j}" for j in range(x.shape[1])])
    if y is None:
        return _from_frame(frame)
    y = y.iloc[:, 0] if isinstance(y, pd.DataFrame) and y.shape[1] == 1 else y
    wanted = str(y.name) if isinstance(y, pd.Series) and y.name is not None else "target"
    _check_order(x, y)
    y = _as_array("target", y)
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if y.ndim != 1 or len(y) != len(frame):
        raise UserError(f"the target must have one value a row: {len(frame)} rows, but the target's shape is {y.shape}")
    target = next(n for n in chain((wanted, "target"), (f"target_{i}" for i in count(2))) if n not in frame)
    table = _from_frame(frame.assign(**{target: y}))
    return Table(table.frame, "arrays", {**table.origin, "kind": "arrays"}, target=target)


def _check_order(x: Any, y: Any) -> None:
    """Rows go together by their place; the same labels in another order are a sign that they do not."""
    if not isinstance(x, pd.DataFrame) or not isinstance(y, pd.Series) or len(x) != len(y) or x.index.equals(y.index):
        return
    if x.index.is_unique and y.index.is_unique and not len(x.index.difference(y.index)):
        raise UserError("the inputs and y have the same index in another order; reorder one, or reset both")


def _as_array(what: str, values: Any) -> np.ndarray:
    try:
        return np.asarray(values)
    except (TypeError, ValueError, RuntimeError) as error:  # ragged lists, a tensor that has a gradient
        raise UserError(f"the {what} cannot be read as an array: {error}") from error


def _origin(path: Path, kind: str, digest: str) -> dict[str, Any]:
    return {"kind": kind, "path": str(path), "sha256": digest}


def _hash_files(paths: list[Path]) -> str:
    digest = hashlib.sha256()
    for path in paths:
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _hash_frame(frame: pd.DataFrame) -> str:
    digest = hashlib.sha256(repr(list(frame.columns)).encode())
    try:
        digest.update(np.asarray(pd.util.hash_pandas_object(frame, index=False)).tobytes())
    except UnicodeEncodeError as error:
        wrong = error.object[max(0, error.start - 20) : error.end + 20]
        raise UserError(f"a cell of the table holds bytes that are no text: {wrong!r}; mend it") from error
    return digest.hexdigest()


def row_keys(columns: Iterable[np.ndarray]) -> np.ndarray:
    """A number for each row [n] that rows of equal cells share: columns are numbers, or codes of their words."""
    keys: Any = 0
    for values in columns:
        own = pd.util.hash_array(np.ascontiguousarray(values), categorize=False)
        keys = keys * np.uint64(1_000_003) + own
    return np.asarray(keys, dtype=np.uint64)
