"""Folders and archives of files: a folder for each class, or a table with a column of paths."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pandas as pd

from nastavnik.data._frames import with_columns
from nastavnik.data._held import Archive, FileCell, Held, MemberCell, each_read
from nastavnik.data._split import PART_WORDS
from nastavnik.errors import UserError

PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
_TEXTS = (".txt",)
_MOSTLY = 0.9  # of a column's words that end as pictures do, for it to be one of paths


@dataclass(frozen=True)
class Place:
    """Where files are: their names, "/" between folders, and a cell for each; ``empty`` are folders without any."""

    title: str
    names: Sequence[str]
    cell: Callable[[str], Held]
    empty: Sequence[str] = ()


def place_of(path: Path) -> Place:
    """A folder or a zip file as a place.

    Raises:
        UserError: it or a folder in it cannot be read, or is an archive that leads out of itself.
    """
    if path.is_dir():
        names, folders = _below(path)
        above = {name.rpartition("/")[0] for name in names}
        above |= {str(parent) for folder in above for parent in PurePosixPath(folder).parents}
        empty = [f for f in folders if f not in above]
        return Place(str(path), names, lambda name: FileCell(path, name), empty)
    archive = Archive(path)
    return Place(str(path), sorted(archive.names), lambda name: MemberCell(archive, name))


def _below(path: Path) -> tuple[list[str], list[str]]:
    """Files and folders below one, in the order of their parts; strings, as there may be hundreds of thousands."""
    names, folders = [], []
    for top, inside, files in os.walk(path, onerror=_unreadable):
        inside[:] = [name for name in inside if not _hidden(name)]
        above = Path(top).relative_to(path).as_posix()
        before = "" if above == "." else f"{above}/"
        folders += [before + name for name in inside]
        names += [before + n for n in files if not _hidden(n) and os.path.isfile(os.path.join(top, n))]
    return sorted(names, key=_parts), sorted(folders, key=_parts)


def _unreadable(error: OSError) -> None:
    raise UserError(f"the folder {error.filename} cannot be read ({error.strerror}); mend its rights or move it away")


def _parts(name: str) -> list[str]:
    return name.split("/")


def _hidden(part: str) -> bool:
    return part.startswith(".") or part in ("__MACOSX", "Thumbs.db")


def _ends(name: str, endings: tuple[str, ...]) -> bool:
    """Whether a file's name ends so; one that is nothing but the ending is a hidden file."""
    if not name.lower().endswith(endings):
        return False
    return PurePosixPath(name).suffix.lower() in endings


def read_classes(place: Place, notes: list[str]) -> tuple[pd.DataFrame, np.ndarray | None]:
    """A place with a folder for each class, below folders of parts or not, as a table: image (or text), class.

    Files that stand in no folder have no class. What each row's part is comes beside it, None where none is said.

    Raises:
        UserError: there are no pictures or texts, a folder is empty, or files stand at different depths.
    """
    endings = PICTURES if any(_ends(name, PICTURES) for name in place.names) else _TEXTS
    names = [name for name in place.names if _ends(name, endings)]
    if not names:
        raise UserError(f"{place.title} holds no table, no pictures ({', '.join(PICTURES)}) and no texts (.txt)")
    if place.empty:
        raise UserError(f"the folder {place.empty[0]} in {place.title} holds no picture; fill it or remove it")
    others = len(place.names) - len(names)
    if others:
        notes.append(f"{others} files of {place.title} are none of {', '.join(endings)} and are left out")
    paths = [PurePosixPath(name).parts for name in names]
    while all(len(p) > 1 for p in paths) and len({p[0] for p in paths}) == 1 and len(max(paths, key=len)) > 2:
        paths = [p[1:] for p in paths]  # everything lies in one folder
    parts = None
    if all(len(p) > 1 and p[0].lower() in PART_WORDS for p in paths) and len({p[0] for p in paths}) > 1:
        parts = np.array([PART_WORDS[p[0].lower()] for p in paths], dtype=object)
        paths = [p[1:] for p in paths]
    named = {p[0] for p in paths if p[0].lower() in PART_WORDS}
    if len(named) > 1 and any(len(p) > 2 for p in paths):
        stranger = next(p[0] for p in paths if p[0] not in named)
        raise UserError(
            f"{place.title} holds the parts {', '.join(sorted(named))} and beside them {stranger}, which is none; "
            "move it away"
        )
    depths = Counter(min(len(p), 2) for p in paths)
    if len(depths) > 1:
        loose = names[[len(p) for p in paths].index(1)]
        raise UserError(f"{loose} in {place.title} stands in no class's folder, while others do; move it into one")
    cells: list[Any] = [place.cell(name) for name in names]
    if endings == _TEXTS:
        cells = each_read(lambda i: _text(cells[i]), len(cells))
    kept: dict[str, Any] = {"image" if endings == PICTURES else "text": pd.Series(cells, dtype=object)}
    if 2 in depths:
        kept["class"] = pd.Series([p[0] for p in paths], dtype=object)
    return pd.DataFrame(kept), parts


def _text(cell: Held) -> str:
    raw = cell.load()
    for encoding in ("utf-8-sig", "cp1252"):
        try:
            return str(raw.decode(encoding))
        except UnicodeDecodeError:
            continue
    return str(raw.decode("latin-1"))


def with_files(frame: pd.DataFrame, cell: Callable[[str], Held], notes: list[str]) -> pd.DataFrame:
    """A table whose columns of paths to pictures hold the files in place of their names.

    Names of which not one is there are words, and it is said.
    """
    found = {}
    for name in frame.columns:
        values = frame[name]
        if values.dtype != object and not isinstance(values.dtype, pd.StringDtype):
            continue
        words = [v for v in values.iloc[:: max(1, len(values) // 200)] if isinstance(v, str) and v.strip()]
        if words and np.mean([_ends(w, PICTURES) and "://" not in w for w in words]) >= _MOSTLY:
            if not any(cell(w.strip()).there for w in words):
                notes.append(f"{name} holds names of pictures, none of which is there ({words[0]} …): taken as words")
                continue
            own = [cell(v.strip()) if isinstance(v, str) and _ends(v.strip(), PICTURES) else v for v in values]
            found[name] = pd.Series(own, index=values.index, dtype=object)
    return with_columns(frame, found)
