"""Files of a table, by their endings: text, packed text, spreadsheets, JSON, columns on disk, databases."""

from __future__ import annotations

import json
import sqlite3
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from nastavnik.data._csv import read_csv
from nastavnik.data._header import has_header
from nastavnik.errors import UserError, nearest

_PACKED = (".gz", ".bz2", ".xz", ".zip")
_TEXT = (".csv", ".tsv", ".txt", ".data", ".dat", ".tab")
READ = (
    *_TEXT, ".parquet", ".pq", ".feather", ".arrow", ".xlsx", ".xlsm", ".ods", ".json", ".jsonl", ".ndjson",
    ".db", ".sqlite", ".sqlite3",
)  # fmt: skip


def read_file(
    path: Path,
    inner: str | None,
    *,
    delimiter: str | None = None,
    encoding: str | None = None,
    header: bool | None = None,
    notes: list[str],
) -> tuple[pd.DataFrame, str]:
    """A file's table, cells as the file holds them, and what sort of file it is.

    Args:
        path: the file.
        inner: the sheet, the database's table, or the file in an archive, where there are several.
        delimiter: of a text table.
        encoding: of a text table.
        header: whether a text table's first row names its columns.
        notes: takes what is said about how it was read.

    Raises:
        UserError: it is of no kind we read, damaged, or holds several tables.
    """
    suffix, raw = path.suffix.lower(), None
    if suffix in _PACKED:
        raw, name = _unpacked(path, inner)
        suffix = Path(name).suffix.lower() or ".csv"
        inner = None
    if suffix in _TEXT or ((delimiter or encoding) and suffix not in READ):
        wanted = delimiter or ("\t" if suffix == ".tsv" else None)
        options: dict[str, Any] = {"delimiter": wanted, "encoding": encoding, "header": header}
        return read_csv(path, **options, raw=raw, notes=notes), "csv"
    readers: dict[str, tuple[str, Callable[[Any, str | None], pd.DataFrame]]] = {
        ".parquet": ("Parquet", lambda f, _: _arrow_frame(_parquet(f))),
        ".feather": ("Feather", lambda f, _: _arrow_frame(_feather(f))),
        ".xlsx": ("Excel", _sheet),
        ".ods": ("OpenDocument", _sheet),
        ".jsonl": ("JSON lines", lambda f, _: _json_lines(f)),
        ".json": ("JSON", lambda f, _: _json(f)),
        ".db": ("SQLite", _database),
    }
    same = {
        ".pq": ".parquet",
        ".arrow": ".feather",
        ".xlsm": ".xlsx",
        ".ndjson": ".jsonl",
        ".sqlite": ".db",
        ".sqlite3": ".db",
    }
    suffix = same.get(suffix, suffix)
    if suffix not in readers:
        raise UserError(f"{path} is of no kind we read: give {', '.join(READ)}, also packed as {', '.join(_PACKED)}")
    kind, reader = readers[suffix]
    if raw is not None and suffix == ".db":
        raise UserError(f"{path}: unpack the database first")
    import io

    place = path if raw is None else io.BytesIO(raw)
    try:
        frame = reader(place, inner)
    except UserError:
        raise
    except ImportError as error:
        raise UserError(f"{path}: {kind} files need {error.name or error}; pip install 'nastavnik[excel]'") from error
    except (OSError, ValueError, KeyError, NotImplementedError, sqlite3.Error, RecursionError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"{path} is no {kind} file we can read: {reason}") from error
    return frame, kind.lower().split()[0]


def _unpacked(path: Path, inner: str | None) -> tuple[bytes, str]:
    """A packed file's bytes, and the name it had."""
    import bz2
    import gzip
    import lzma
    import zipfile

    name = path.with_suffix("").name
    try:
        if path.suffix.lower() != ".zip":
            opened: Any = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}[path.suffix.lower()]
            with opened(path, "rb") as file:
                return file.read(), name
        with zipfile.ZipFile(path) as archive:
            files = [n for n in archive.namelist() if not n.endswith("/") and not n.startswith("__MACOSX")]
            tables = files if len(files) == 1 else [n for n in files if Path(n).suffix.lower() in READ]
            chosen = inner if inner in files else tables[0] if len(tables) == 1 and inner is None else None
            if chosen is None:
                listed = ", ".join(tables[:6]) or "none"
                raise UserError(f"{path} holds {len(tables)} tables ({listed}); name one: {path}::NAME")
            return archive.read(chosen), Path(chosen).name
    except (OSError, EOFError, ValueError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, RuntimeError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"{path} is no whole {path.suffix.lower()} file: {reason}") from error


def _parquet(file: Any) -> Any:
    import pyarrow.parquet as pq

    return pq.read_table(file)


def _feather(file: Any) -> Any:
    import pyarrow as pa
    import pyarrow.feather as feather

    try:
        return feather.read_table(file)
    except pa.ArrowInvalid:  # a stream has no index at its end
        with pa.OSFile(str(file)) if isinstance(file, Path) else pa.BufferReader(file.getvalue()) as source:
            return pa.ipc.open_stream(source).read_all()


def _arrow_frame(table: Any) -> pd.DataFrame:
    """An Arrow table as pandas': decimals as numbers, days as timestamps."""
    import pyarrow as pa

    for j, field in enumerate(table.schema):
        if pa.types.is_decimal(field.type):
            table = table.set_column(j, field.name, table.column(j).cast(pa.float64()))
    frame = table.to_pandas(date_as_object=False)
    named = [name for name in frame.index.names if name is not None]
    return frame.reset_index(level=named) if named else frame


def _sheet(file: Any, inner: str | None) -> pd.DataFrame:
    with pd.ExcelFile(file) as book:
        if inner is None and len(book.sheet_names) > 1:
            filled = [s for s in book.sheet_names if not pd.read_excel(book, sheet_name=s, nrows=2).empty]
            if len(filled) > 1:
                raise UserError(
                    f"{file} holds {len(filled)} sheets ({', '.join(map(str, filled[:6]))}); name one: {file}::NAME"
                )
            inner = str(filled[0]) if filled else None
        if inner is not None and inner not in book.sheet_names:
            raise UserError(f"{file} has no sheet {inner!r}{nearest(inner, [str(s) for s in book.sheet_names])}")
        cells = pd.read_excel(book, sheet_name=inner if inner is not None else 0, dtype=object, header=None)
    return _with_names(cells.dropna(how="all").dropna(axis=1, how="all"))


def _with_names(cells: pd.DataFrame) -> pd.DataFrame:
    """A sheet's cells as a table: titles left out, names taken from the first row where it is one of names."""
    rows = cells.to_numpy().tolist()
    while len(rows) > 2 and len(rows[0]) > 1 and sum(not pd.isna(cell) for cell in rows[0]) <= 1:
        rows = rows[1:]
    if not rows:
        return pd.DataFrame()
    words = [["" if pd.isna(cell) else str(cell) for cell in row] for row in rows[:200]]
    named = len(rows) == 1 or has_header(words[0], words[1:])
    names = (
        [name or f"unnamed {j}" for j, name in enumerate(words[0])] if named else [str(j) for j in range(len(words[0]))]
    )
    return pd.DataFrame(rows[named:], columns=names, dtype=object).infer_objects()


def _json_lines(file: Any) -> pd.DataFrame:
    text = (file.read_bytes() if isinstance(file, Path) else file.getvalue()).decode("utf-8-sig")
    records = []
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            try:
                records.append(json.loads(line))
            except ValueError as error:
                raise UserError(f"{file} line {number} is no JSON: {error}") from error
    return _of_records(records, str(file))


def _json(file: Any) -> pd.DataFrame:
    content = json.loads((file.read_bytes() if isinstance(file, Path) else file.getvalue()).decode("utf-8-sig"))
    if isinstance(content, dict):
        lists = [v for v in content.values() if isinstance(v, list) and v and isinstance(v[0], dict)]
        if len(lists) == 1:
            content = lists[0]
    return _of_records(content, str(file))


def _of_records(records: Any, name: str) -> pd.DataFrame:
    """Records of a row each, or a record of columns; records inside become columns "outer.inner"."""
    if isinstance(records, dict) and records and all(isinstance(v, (list, dict)) for v in records.values()):
        return pd.DataFrame({k: list(v.values()) if isinstance(v, dict) else v for k, v in records.items()})
    if not isinstance(records, list) or not all(isinstance(r, dict) for r in records):
        raise UserError(f'{name} must hold a list of records, one a row, such as [{{"a": 1}}, …]')
    return pd.json_normalize(records) if records else pd.DataFrame()


def _database(file: Any, inner: str | None) -> pd.DataFrame:
    with sqlite3.connect(f"file:{file}?mode=ro", uri=True) as base:
        query = "select name from sqlite_master where type in ('table', 'view') and name not like 'sqlite_%'"
        tables = [row[0] for row in base.execute(query)]
        chosen = inner or (tables[0] if len(tables) == 1 else None)
        if chosen is None or chosen not in tables:
            listed = ", ".join(tables[:6]) or "none"
            raise UserError(f"{file} holds the tables {listed}; name one: {file}::NAME")
        quoted = chosen.replace('"', '""')
        frame = pd.read_sql_query(f'select * from "{quoted}"', base)
    base.close()
    return frame
