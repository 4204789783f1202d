"""What a resumed run needs, written every so many seconds while training goes on."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any

from nastavnik.errors import UserError
from nastavnik.files import file_hash, read_json, read_tensors, write_json, write_tensors
from nastavnik.runs import RunFolder
from nastavnik.schemas import SEARCH
from nastavnik.selection import Search
from nastavnik.trace import Trace


class Checkpoints:
    """Writes ``checkpoint/`` of a run: the state is copied at once, the files are written beside the training.

    Trace and tensors come first, then the small file ``search.json`` that names them with their hashes: whatever moment
    a kill comes, it names files that are whole. What cannot be written is told at the next call, as ``UserError``.
    """

    def __init__(self, search: Search, folder: RunFolder, every: float) -> None:
        self.search, self.folder, self.every = search, folder, every
        self._last = time.monotonic()
        self._writer = ThreadPoolExecutor(1)
        self._pending: Future[None] | None = None
        self._serial = 0
        if folder.path is not None:
            existing = [p.stem.removeprefix("state-") for p in (folder.path / "checkpoint").glob("state-*.safetensors")]
            self._serial = max((int(name) + 1 for name in existing if name.isdigit()), default=0)

    def __enter__(self) -> Checkpoints:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.shutdown(wait=True)

    def when_due(self) -> None:
        """Save if the last time is long enough ago, or if a stop was asked for."""
        stopping = self.search.deadline.clock.stop_requested
        if stopping or time.monotonic() - self._last >= self.every:
            self.save()
            if stopping:
                self.wait()

    def save(self) -> None:
        """Save now."""
        if self.folder.path is None:
            return
        self.wait()
        self.folder.begin()
        record, tensors = self.search.to_record()
        fresh = self.search.trace.take()
        place, trace, serial = self.folder.path / "checkpoint", self.folder.path / "trace", self._serial
        self._serial += 1
        self._last = time.monotonic()

        def write() -> None:
            self.search.trace.append(fresh, trace)
            name = f"state-{serial}.safetensors"
            write_tensors(place / name, tensors)
            named = {"trace_parts": self.search.trace.parts, "tensors": name, "tensors_sha256": file_hash(place / name)}
            write_json(place / "search.json", {**record, **named}, SEARCH)
            _remove_others(place, name)

        self._pending = self._writer.submit(write)

    def wait(self) -> None:
        """Until what is being written is written.

        Raises:
            UserError: it could not be.
        """
        if self._pending is not None:
            pending, self._pending = self._pending, None
            pending.result()


def _remove_others(place: Path, name: str) -> None:
    for old in place.glob("state-*.safetensors"):
        if old.name != name:
            old.unlink(missing_ok=True)


def read_checkpoint(folder: RunFolder) -> dict[str, Any] | None:
    """What the last checkpoint says; None where there is none.

    Raises:
        UserError: it is damaged.
    """
    path = None if folder.path is None else folder.path / "checkpoint" / "search.json"
    return None if path is None or not os.path.lexists(path) else read_json(path, SEARCH)


def read_trace(folder: RunFolder, record: Mapping[str, Any] | None) -> Trace:
    """Empty, or what the checkpoint knows of."""
    if folder.path is None or record is None:
        return Trace()
    return Trace.read(folder.path / "trace", [(name, sha256) for name, sha256 in record["trace_parts"]])


def restore(search: Search, folder: RunFolder, record: Mapping[str, Any]) -> None:
    """Take up the search where the last checkpoint was written.

    Raises:
        UserError: the checkpoint cannot be read, or is another run's.
    """
    assert folder.path is not None
    place = folder.path / "checkpoint"
    tensors = read_tensors(place / Path(record["tensors"]).name, record["tensors_sha256"])
    try:
        search.restore(record, tensors)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise UserError(
            f"the checkpoint in {place} is not this run's ({type(error).__name__}: {error}); start anew with --force"
        ) from error
