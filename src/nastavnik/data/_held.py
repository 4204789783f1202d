"""Cells that hold no word or number but a file's bytes, pixels or an array: each is read when somebody asks for it."""

from __future__ import annotations

import functools
import hashlib
import os
import re
import threading
import zipfile
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

import numpy as np

from nastavnik.errors import UserError

_MOST_BYTES = 2**30  # of one member of an archive
_RATIO = 200  # how many times an archive may grow when it is unpacked, where it grows large
_LARGE = 2**28
_READERS = min(8, os.cpu_count() or 1)  # threads that read and decode
_AT_ONCE = 32  # cells that a thread takes at a time
_T = TypeVar("_T")


class Held(ABC):
    """One such cell; ``str`` is its name for people. There may be hundreds of thousands: they are kept small."""

    __slots__ = ()
    name: str

    def __str__(self) -> str:
        return self.name

    @abstractmethod
    def load(self) -> Any:
        """Bytes, an array, or whatever was given (a PIL image).

        Raises:
            UserError: it is not there or may not be read.
        """

    @property
    def there(self) -> bool:
        """Whether there is something of its name."""
        return True

    @property
    def digest(self) -> str:
        """A word that cells of other content do not have."""
        content = self.load()
        raw = content if isinstance(content, bytes) else np.ascontiguousarray(content)
        shape = b"" if isinstance(raw, bytes) else f"{raw.dtype}{raw.shape}".encode()
        return hashlib.sha256(shape + (raw if isinstance(raw, bytes) else raw.tobytes())).hexdigest()


class FileCell(Held):
    """A file below a folder."""

    __slots__ = ("name", "root")

    def __init__(self, root: Path, name: str) -> None:
        self.root, self.name = root, name

    @property
    def there(self) -> bool:
        """Whether there is such a file."""
        return os.path.exists(self.root / self.name)  # False of names that no file can have

    def load(self) -> bytes:
        """Its bytes."""
        path = self.root / self.name
        try:
            inside = path.resolve().is_relative_to(self.root.resolve())
            if inside:
                return path.read_bytes()
        except FileNotFoundError as error:
            raise UserError(f"there is no file {self.name} in {self.root}") from error
        except (OSError, ValueError) as error:
            raise UserError(f"{self.name} cannot be read ({getattr(error, 'strerror', None) or error})") from error
        raise UserError(f"{self.name} lies outside the folder {self.root}; copy it into it")


class Archive:
    """A zip file whose members are read in place.

    Raises:
        UserError: it is no zip file, a member's name leads out of it, or it would unpack to far more than it is.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        try:
            self._zip = zipfile.ZipFile(path)
        except (zipfile.BadZipFile, OSError, ValueError) as error:
            raise UserError(f"{path} is no whole .zip file: {error}") from error
        members = [m for m in self._zip.infolist() if not m.is_dir()]
        for member in members:
            parts = PurePosixPath(member.filename.replace("\\", "/"))
            if ".." in parts.parts or parts.is_absolute() or re.match(r"[A-Za-z]:", member.filename):
                raise UserError(f"{path} holds {member.filename!r}, which leads out of it; pack it again without")
        packed, whole = (sum(getattr(m, n) for m in members) for n in ("compress_size", "file_size"))
        if whole > _LARGE and whole > _RATIO * max(packed, 1):
            raise UserError(f"{path} would unpack to {whole / 2**20:.0f} MB, {whole // max(packed, 1)} times its size")
        self.names = {m.filename for m in members if _is_ours(m.filename)}

    def read(self, name: str) -> bytes:
        """One member's bytes.

        Raises:
            UserError: it is not there, or damaged.
        """
        try:
            with self._lock:
                member = self._zip.getinfo(name)
            if member.file_size > _MOST_BYTES:
                raise UserError(f"{name} in {self.path} has {member.file_size / 2**20:.0f} MB; that is too large")
            return self._zip.read(member)
        except KeyError as error:
            raise UserError(f"there is no file {name} in {self.path}") from error
        except (zipfile.BadZipFile, zlib.error, OSError, EOFError, RuntimeError, NotImplementedError) as error:
            raise UserError(f"{name} in {self.path} cannot be unpacked ({error})") from error


class MemberCell(Held):
    """A member of an archive."""

    __slots__ = ("archive", "name")

    def __init__(self, archive: Archive, name: str) -> None:
        self.archive, self.name = archive, name

    @property
    def there(self) -> bool:
        """Whether there is such a member."""
        return self.name in self.archive.names

    def load(self) -> bytes:
        """Its bytes."""
        return self.archive.read(self.name)


class MadeCell(Held):
    """What is in memory: an array, a PIL image."""

    def __init__(self, content: Any) -> None:
        self._content = content

    @functools.cached_property
    def name(self) -> str:  # type: ignore[override]
        """By its content, so that equal cells have one name."""
        return f"array {self.digest[:16]}"

    def load(self) -> Any:
        """The content."""
        return self._content


def _is_ours(name: str) -> bool:
    """Whether a member is the user's own: none that a system packs beside it."""
    parts = PurePosixPath(name).parts
    return bool(parts) and "__MACOSX" not in parts and not parts[-1].startswith(".") and parts[-1] != "Thumbs.db"


def each_read(function: Callable[[int], _T], count: int) -> list[_T]:
    """``function(0)`` … ``function(count - 1)``, by several threads; the first error in order is raised."""
    if count < 2 * _AT_ONCE:
        return [function(i) for i in range(count)]

    def some(start: int) -> list[_T]:
        return [function(i) for i in range(start, min(start + _AT_ONCE, count))]

    with ThreadPoolExecutor(_READERS) as pool:
        return [found for each in pool.map(some, range(0, count, _AT_ONCE)) for found in each]


def digest_of(column: str, cells: Sequence[Any]) -> str:
    """One word for the content of all held cells of a column.

    Raises:
        UserError: one is not to be had; its row is named.
    """
    held = [(row, cell) for row, cell in enumerate(cells) if isinstance(cell, Held)]

    def one(i: int) -> str:
        row, cell = held[i]
        try:
            return cell.digest
        except UserError as error:
            raise UserError(f"{column}: row {row + 1}, {error}; mend or leave out that row") from error

    return hashlib.sha256("".join(each_read(one, len(held))).encode()).hexdigest()
