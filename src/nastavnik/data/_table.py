"""Reading a source, whatever the user named, into one Table."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, count
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from nastavnik.arguments import is_text
from nastavnik.data._arrays import as_cells, frame_of, is_data_set, read_data_set, read_npz
from nastavnik.data._built_in import BUILT_IN, built_in_frame
from nastavnik.data._files import READ, read_file
from nastavnik.data._folders import PICTURES, Place, place_of, read_classes, with_files
from nastavnik.data._frames import as_frame, is_frame_like, with_columns
from nastavnik.data._held import FileCell, Held, MadeCell, digest_of
from nastavnik.data._idx import idx_files, read_idx_folder
from nastavnik.errors import UserError, complaint, nearest

_PIECE = 2**24  # bytes of a file at a time
_FEW = 64  # rows whose words are taken one by one


@dataclass(frozen=True)
class Table:
    """Raw rows with names and where they came from.

    ``frame`` holds strings for text files and typed values otherwise; ``part`` holds "train", "validation" or
    "test" per row where the source divides itself; ``target`` names the target, or several, where the source knows
    them; ``notes`` say what was guessed in reading it.
    """

    frame: pd.DataFrame
    name: str
    origin: dict[str, Any] = field(default_factory=dict)
    part: np.ndarray | None = None
    target: str | Sequence[str] | None = None
    notes: tuple[str, ...] = ()


def read_source(
    source: Any,
    *,
    delimiter: str | None = None,
    encoding: str | None = None,
    header: bool | None = None,
    y: Any = None,
) -> Table:
    """Read a file, a folder, a built-in set by name, a table in memory, a pair of arrays, or a map-style data set.

    A folder (or a ``.zip``) holds IDX files, a folder for each class, or a table with a column of paths into it.

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
    if y is None and is_data_set(source):
        table = _from_frame(read_data_set(source))
        return replace(table, name="data set", target="target", origin={**table.origin, "kind": "data set"})
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
        return _from_folder(path, options)
    if path.is_file():
        if path.stat().st_size == 0:
            raise UserError(f"{path} is empty; a table needs a header line and rows")
        if path.suffix.lower() == ".npz":
            frame, part, target = read_npz(path)
            return Table(frame, path.stem, _origin(path, "npz", _hash_files([path])), part, target)
        if path.suffix.lower() == ".zip" and inner is None:
            packed = place_of(path)
            if len(_tables_in(packed)) != 1 and any(name.lower().endswith(PICTURES) for name in packed.names):
                return _of_classes(packed, _origin(path, "zip", _hash_files([path])), path.stem)
        notes: list[str] = []
        frame, kind = read_file(path, inner, **options, notes=notes)
        if kind != "csv":
            frame = _from_frame(frame).frame
        origin = _origin(path, kind, _hash_files([path]))
        name = inner or path.name.split(".")[0] or path.stem
        table = Table(frame, name, origin if inner is None else {**origin, "inner": inner}, notes=tuple(notes))
        return _with_files(table, path, inner)
    if path.exists():  # reading what never ends would never end, and a pipe can be read only once
        raise UserError(f"{path} is a pipe, a socket or a device; save its content as a file first")
    if source in BUILT_IN:
        return _built_in(source)
    hint = nearest(source, BUILT_IN) if "." not in source and "/" not in source else ""
    raise UserError(f"there is no file {source}{hint}")


def _from_folder(path: Path, options: dict[str, Any]) -> Table:
    """A folder: of IDX files, of one table whose column of paths leads into it, or of a folder for each class."""
    name = path.resolve().name
    if idx_files(path):
        frame, part = read_idx_folder(path)
        given = part if len(set(part)) > 1 else None
        return Table(frame, name, _origin(path, "idx", _hash_files(idx_files(path))), given, "label")
    place = place_of(path)
    tables = _tables_in(place)
    if len(tables) == 1 and "/" not in tables[0]:
        table = _from_place(str(path / tables[0]), options)
        return replace(table, name=name)
    return _of_classes(place, _origin(path, "folder", ""), name)


def _tables_in(place: Place) -> list[str]:
    """The tables that stand beside pictures, not the text files of which each is a row."""
    return [n for n in place.names if Path(n).suffix.lower() in READ and not n.lower().endswith(".txt")]


def _of_classes(place: Place, origin: dict[str, Any], name: str) -> Table:
    notes: list[str] = []
    frame, part = read_classes(place, notes)
    if not origin["sha256"]:
        origin = {**origin, "sha256": _digest(frame)}
    return Table(frame, name, origin, part, "class" if "class" in frame else None, tuple(notes))


def _with_files(table: Table, path: Path, inner: str | None) -> Table:
    """A table whose column of paths leads to pictures beside it, in its folder or in its archive."""
    notes: list[str] = []
    if path.suffix.lower() == ".zip":
        place = place_of(path)
        chosen = inner if inner is not None else next(iter(_tables_in(place)), "")
        above = chosen.rpartition("/")[0]

        def cell(name: str) -> Held:
            return place.cell(f"{above}/{name}" if above else name)

        frame = with_files(table.frame, cell, notes)
        return replace(table, frame=frame, notes=(*table.notes, *notes))
    folder = path.parent
    frame = with_files(table.frame, lambda name: FileCell(folder, name), notes)
    table = replace(table, notes=(*table.notes, *notes))
    if frame is table.frame:
        return table
    return replace(table, frame=frame, origin={**table.origin, "sha256": _digest(frame, table.origin["sha256"])})


def _digest(frame: pd.DataFrame, before: str = "") -> str:
    """A table's hash, with the content of the files that its cells name."""
    held = "".join(digest_of(str(name), frame[name].tolist()) for name in frame.columns if frame[name].dtype == object)
    return hashlib.sha256((before + _hash_frame(frame) + held).encode()).hexdigest()


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
    return replace(table, frame=with_columns(table.frame, {name: own}), origin={**table.origin, "sha256": digest}), name


def _built_in(name: str) -> Table:
    frame = built_in_frame(name)
    return Table(frame, name, {"kind": "built-in", "name": name, "sha256": _hash_frame(frame)}, target="target")


def plain_frame(frame: pd.DataFrame, *, in_haste: bool = False) -> pd.DataFrame:
    """The same table as if read from a file: names are words, names and words have no blanks around them.

    Spans of time become seconds, lists and records words, Arrow's own types those of numpy. ``in_haste``, as where a
    row is to be predicted, the words of few rows become plain objects: pandas' own type costs them much.

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
    by_cell = in_haste and len(frame) <= _FEW
    changed = {n: c for n in names if (c := _plain_cells(n, frame[n], by_cell)) is not None}
    return with_columns(frame, changed)


def _plain_cells(name: str, values: pd.Series, by_cell: bool = False) -> pd.Series | None:
    """A column's cells as a file would hold them; None where they are so already."""
    dtype = values.dtype
    if isinstance(dtype, pd.ArrowDtype):
        own = pd.Series(
            values.astype(object).where(values.notna(), None), index=values.index, name=name
        ).infer_objects()
        plain = _plain_cells(name, own, by_cell)
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
        if not by_cell:
            return values.str.strip()
        cells = [v.strip() if isinstance(v, str) else np.nan for v in values]
        return pd.Series(cells, index=values.index, name=name, dtype=object)
    if not pd.api.types.is_object_dtype(dtype):
        return None
    if any(_is_array(cell) for cell in values):
        return pd.Series(
            [MadeCell(c) if _is_array(c) else c for c in values], index=values.index, name=name, dtype=object
        )
    if not values.map(pd.api.types.is_hashable).all():
        values = values.map(_as_words)
    return _stripped(values)


def _is_array(cell: Any) -> bool:
    """Whether a cell is an array of two dimensions or more, or a PIL image."""
    return getattr(cell, "ndim", 0) >= 2 or (hasattr(cell, "getbands") and hasattr(cell, "tobytes"))


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
        images = isinstance(x, list) and bool(x) and _is_array(x[0])
        frame = pd.DataFrame({"x": as_cells(x)}) if images else frame_of(_as_array("inputs", x))
    if y is None:
        return _from_frame(frame)
    _check_order(x, y)
    targets = _targets(y, len(frame))
    names: list[str] = []
    for wanted, _ in targets:
        free = chain((wanted, "target"), (f"target_{i}" for i in count(2)))
        names.append(next(n for n in free if n not in frame and n not in names))
    table = _from_frame(with_columns(frame, dict(zip(names, (values for _, values in targets), strict=True))))
    held = any(isinstance(frame[name].iloc[0], Held) for name in frame.columns)
    kind = "pictures" if held else "arrays"
    return Table(table.frame, "arrays", {**table.origin, "kind": kind}, target=names[0] if len(names) == 1 else names)


def _targets(y: Any, rows: int) -> list[tuple[str, Any]]:
    """The targets by name: one, or a column each.

    Raises:
        UserError: they are not of so many rows.
    """
    if isinstance(y, pd.DataFrame):
        found = [(str(name), y[name].to_numpy()) for name in y.columns]
    else:
        own = _as_array("target", y)
        if own.ndim == 2 and own.shape[1] > 1:
            found = [(f"target_{j}", own[:, j]) for j in range(own.shape[1])]
        else:
            name = str(y.name) if isinstance(y, pd.Series) and y.name is not None else "target"
            found = [(name, own[:, 0] if own.ndim == 2 and own.shape[1] == 1 else own)]
    for _, values in found:
        if values.ndim != 1 or len(values) != rows:
            raise UserError(f"the target must have a value for each of {rows} rows, but its shape is {np.shape(y)}")
    return found


def _check_order(x: Any, y: Any) -> None:
    """Rows go together by their place; the same labels in another order are a sign that they do not."""
    if (
        not isinstance(x, pd.DataFrame)
        or not isinstance(y, (pd.Series, pd.DataFrame))
        or len(x) != len(y)
        or x.index.equals(y.index)
    ):
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
        with path.open("rb") as file:
            while piece := file.read(_PIECE):
                digest.update(piece)
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
