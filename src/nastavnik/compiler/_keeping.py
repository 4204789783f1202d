"""Files that are run as code: kept in folders where nobody else may write, and held against their hash when read."""

from __future__ import annotations

import atexit
import functools
import hashlib
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_SEAL = hashlib.sha256().digest_size  # bytes before the content
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
_ROOM = "room-"  # what fresh folders are called
_FORGOTTEN = 86_400  # seconds after which a fresh folder belongs to a process that was killed


class Unsafe(OSError):
    """Others might change what lies in a folder; the message says where."""


def private_folder(folder: Path) -> Path:
    """A folder of mode 0700 that is ours, under parents in which nobody else may put another in its place.

    Raises:
        Unsafe: it belongs to another, or one of its parents may be written by others.
        OSError: it cannot be made or searched.
    """
    if not hasattr(os, "geteuid"):
        raise Unsafe("this system does not tell whose a folder is")
    for place in reversed((folder, *folder.parents)):
        if not place.exists():
            place.mkdir(mode=0o700, exist_ok=True)
    real = Path(os.path.realpath(folder))
    _check_place(real)
    found = real.lstat()
    if not stat.S_ISDIR(found.st_mode):
        raise NotADirectoryError(20, "it is no folder", str(folder))
    if found.st_uid != os.geteuid():
        raise Unsafe(f"{real} belongs to another user")
    if stat.S_IMODE(found.st_mode) != 0o700:
        real.chmod(0o700)
    return real


def _check_place(folder: Path) -> None:
    """``folder`` is without links; the last is looked at for its owner alone, as its mode is set."""
    for place in (folder, *folder.parents):
        found = place.lstat()
        if found.st_uid not in (0, os.geteuid()):
            raise Unsafe(f"{place} belongs to another user")
        if place != folder and found.st_mode & _OTHERS_WRITE and not found.st_mode & stat.S_ISVTX:
            raise Unsafe(f"others may write in {place}")


@functools.cache
def room_of_process(process: int) -> Path:
    """A folder for this process alone, removed when it ends.

    Raises:
        OSError: temporary folders are no safe place here, or there are none.
    """
    room = private_folder(Path(tempfile.mkdtemp(prefix="nastavnik-")))

    def remove() -> None:
        if os.getpid() == process:  # and not in a fork of it
            shutil.rmtree(room, ignore_errors=True)

    atexit.register(remove)
    return room


@contextmanager
def fresh_folder(folder: Path) -> Iterator[Path]:
    """A new folder of an unpredictable name, in ``folder`` or, where that cannot be written, the process's own."""
    try:
        room = tempfile.mkdtemp(prefix=_ROOM, dir=folder)
    except OSError:
        room = tempfile.mkdtemp(prefix=_ROOM, dir=room_of_process(os.getpid()))
    try:
        yield Path(room)
    finally:
        shutil.rmtree(room, ignore_errors=True)


def sweep(folder: Path) -> None:
    """Remove the fresh folders that killed processes left."""
    for left in folder.glob(f"{_ROOM}*"):
        with suppress(FileNotFoundError):  # another process sweeps, too
            if time.time() - left.lstat().st_mtime > _FORGOTTEN:
                shutil.rmtree(left, ignore_errors=True)


def keep(place: Path, key: str, content: bytes) -> None:
    """Put content in place in one step, sealed; where that cannot be, it is made again next time."""
    with suppress(OSError), fresh_folder(place.parent) as room:
        (room / "whole").write_bytes(_seal(key, content) + content)
        (room / "whole").chmod(0o600)
        os.replace(room / "whole", place)


def kept(place: Path, key: str) -> bytes | None:
    """What ``keep`` put there, whole; None for anything else: a link, another's file, one that others may write."""
    try:
        handle = os.open(place, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return None
    with open(handle, "rb") as file:
        found = os.fstat(handle)
        if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & _OTHERS_WRITE:
            return None
        whole = file.read()
    return whole[_SEAL:] if whole[:_SEAL] == _seal(key, whole[_SEAL:]) else None


def _seal(key: str, content: bytes) -> bytes:
    """The hash of content under its name, so that a file under another's name is none."""
    return hashlib.sha256(key.encode() + b"\n" + content).digest()
