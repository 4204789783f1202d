"""Room for what a data set holds in large: in memory, or beyond a limit in a file that is read as it is needed.

The file has no name any more when it is used, and is given back when nobody holds the array.
"""

from __future__ import annotations

import ctypes
import functools
import math
import mmap
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from weakref import WeakSet

import numpy as np

from nastavnik.errors import UserError

_MOST_TOUCHED = 2**24  # bytes that are looked at before they are let go
_LEAST = 2**20  # bytes below which an array is no matter
_PASS = 2**19  # bytes of rows that go through a network together: its maps are many times as large
_FEWEST, _MOST = 16, 4096  # rows
_TRIMMED = 1.0  # seconds between two times that free memory is given back


class Allowance:
    """How many bytes arrays may take in memory, all together."""

    def __init__(self, memory: int) -> None:
        self.memory, self.used = memory, 0

    def takes(self, size: int) -> bool:
        """Whether so many fit too; they count then."""
        fits = size < _LEAST or self.used + size <= self.memory
        self.used += size if fits else 0
        return fits


_allowance: ContextVar[Allowance | None] = ContextVar("allowance", default=None)
_mapped: WeakSet[mmap.mmap] = WeakSet()
_lock = threading.Lock()
_touched = 0
_trimmed = 0.0


@contextmanager
def limited(memory: float | None) -> Iterator[None]:
    """Arrays that ``room_for`` gives meanwhile take no more than so many bytes of memory; None for no limit."""
    before = _allowance.set(None if memory is None else Allowance(int(memory)))
    try:
        yield
    finally:
        _allowance.reset(before)


def allowed() -> int | None:
    """How many bytes may be taken in all; None without a limit."""
    allowance = _allowance.get()
    return None if allowance is None else allowance.memory


def room_for(shape: tuple[int, ...], dtype: type[np.generic]) -> np.ndarray:
    """An array of zeros, in memory or beyond the limit in a file.

    Raises:
        UserError: there is no room for the file.
    """
    size = math.prod(shape) * np.dtype(dtype).itemsize
    allowance = _allowance.get()
    if allowance is None or allowance.takes(size):
        return np.zeros(shape, dtype=dtype)
    try:
        with tempfile.TemporaryFile(prefix="nastavnik-") as file:
            file.truncate(size)
            mapped = mmap.mmap(file.fileno(), size)
    except OSError as error:
        raise UserError(
            f"{size / 2**30:.1f} GB do not fit into {tempfile.gettempdir()} ({error.strerror}); name a roomier folder "
            "in the environment variable TMPDIR, or give --memory more"
        ) from error
    if hasattr(mmap, "MADV_RANDOM"):
        mapped.madvise(mmap.MADV_RANDOM)
    _mapped.add(mapped)
    return np.frombuffer(mapped, dtype=dtype).reshape(shape)


def rows_at_once(row: int) -> int:
    """How many rows of so many bytes (0 for those of a table) go through a network together."""
    return _MOST if not row else min(_MOST, max(_FEWEST, _PASS // row))


def touched(size: int) -> None:
    """Say that so many bytes of such arrays were looked at: now and then their pages are let go, and what was freed is
    given back to the system, which the C library would keep for itself.
    """
    global _touched, _trimmed
    if not _mapped:
        return
    with _lock:
        _touched += size
        if _touched < _MOST_TOUCHED:
            return
        _touched = 0
        trims = time.monotonic() > _trimmed + _TRIMMED
        _trimmed = time.monotonic() if trims else _trimmed
    if trims:
        _trim()(0)
    if hasattr(mmap, "MADV_DONTNEED"):
        for mapped in list(_mapped):
            mapped.madvise(mmap.MADV_DONTNEED)


@functools.cache
def _trim() -> Callable[[int], int]:
    """The C library's own way of giving back what is free; where it has none, nothing is done."""
    try:
        found: Callable[[int], int] = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):  # no glibc
        return lambda size: size
    return found
