"""A run's folder: made, refused, replaced or resumed; imports nothing heavy, so that it exists at once."""

from __future__ import annotations

import os
import platform
import shutil
import sys
import time
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from nastavnik.errors import UserError
from nastavnik.files import read_json, write_json

_PACKAGES = ("nastavnik", "torch", "numpy", "pandas", "scikit-learn", "optuna", "safetensors")


class RunFolder:
    """The place of one run; without a path nothing is written anywhere."""

    def __init__(
        self, path: Path | None, record: dict[str, Any], *, fresh: bool = False, replaced: Path | None = None
    ) -> None:
        self.path = path
        self.record = record
        self._fresh = fresh
        self._replaced = replaced
        self._lock: int | None = None

    @classmethod
    def create(cls, out: str | Path | None, asked: Mapping[str, Any], *, force: bool = False) -> RunFolder:
        """Make the folder and its ``run.json``.

        Raises:
            UserError: the place is taken or cannot be written; nothing there is touched without ``force``.
        """
        record = {"asked": dict(asked), "status": "running", **_surroundings()}
        if out is None:
            return cls(None, record)
        path = Path(out)
        replaced = _make_room(path, force)
        folder = cls(path, record, fresh=True, replaced=replaced)
        try:
            path.mkdir(parents=True, exist_ok=True)
            folder.claim()
            folder.write()
        except (OSError, UserError) as error:
            folder.release()
            if replaced is not None:
                shutil.rmtree(path, ignore_errors=True)
                replaced.rename(path)
            reason = error.strerror if isinstance(error, OSError) else str(error)
            raise UserError(f"cannot write the folder {path}: {reason}; choose another with --out") from error
        return folder

    @classmethod
    def resume(cls, path: str | Path) -> RunFolder:
        """Open an earlier run's folder; ``claim`` it before anything is written.

        Raises:
            UserError: it is not there or is no run's.
        """
        path = Path(path)
        if not path.is_dir():
            raise UserError(f"there is no folder {path} to resume")
        return cls(path, {k: v for k, v in read_json(path / "run.json").items() if k != "format_version"})

    def claim(self) -> None:
        """Keep other processes off this run until this one ends, however it ends.

        Raises:
            UserError: another process is at work on it.
        """
        if self.path is not None and self._lock is None:
            self._lock = _locked(self.path)

    def release(self) -> None:
        """Let other processes at this run."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    @property
    def status(self) -> str:
        """running, interrupted or finished."""
        return str(self.record["status"])

    def write(self, **changes: Any) -> None:
        """Write ``run.json`` anew, with changes."""
        self.record |= changes
        if self.path is not None:
            write_json(self.path / "run.json", self.record)

    def write_json(self, name: str, record: dict[str, Any]) -> None:
        """Write one of the run's JSON files."""
        if self.path is not None:
            write_json(self.path / name, record)

    def begin(self) -> None:
        """The request has proved sound: the folder stays, and what ``--force`` replaced is let go."""
        self._fresh = False
        if self._replaced is not None:
            shutil.rmtree(self._replaced, ignore_errors=True)
            self._replaced = None

    def abandon(self) -> None:
        """The request was unsound: leave the place as it was found; a resumed run's folder is not touched."""
        self.release()
        if self.path is not None and self._fresh:
            shutil.rmtree(self.path, ignore_errors=True)
            if self._replaced is not None:
                self._replaced.rename(self.path)


def _locked(path: Path) -> int | None:
    """A lock on a run's folder that the system lets go when the process ends; None where there are no such locks."""
    try:
        import fcntl
    except ImportError:  # Windows
        return None
    try:
        file = os.open(path, os.O_RDONLY)
    except OSError as error:
        raise UserError(f"cannot open the folder {path}: {error.strerror}; choose another with --out") from error
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(file)
        raise UserError(
            f"another process is at work on the run in {path}; wait for it, or choose another --out"
        ) from error
    return file


def lasting_source(source: str | Path) -> str:
    """A source's name that still holds when the run is resumed from another folder."""
    return str(Path(source).resolve()) if Path(source).exists() else str(source)


def next_free(name: str, runs: Path = Path("runs")) -> Path:
    """``runs/<name>-<n>`` with the first n that is free."""
    stem = "".join(c if c.isalnum() or c in "-_." else "_" for c in name) or "run"
    n = 1
    while (runs / f"{stem}-{n}").exists():
        n += 1
    return runs / f"{stem}-{n}"


def _make_room(path: Path, force: bool) -> Path | None:
    """Check that the place may be used; with ``force`` move an earlier run aside."""
    if path.is_file():
        raise UserError(f"--out {path} is a file; name a folder")
    if not path.is_dir() or all(p.name.startswith(".") and p.name.endswith(".part") for p in path.iterdir()):
        return None  # nothing there, or what a kill left in the run's first moment
    if not (path / "run.json").exists():
        raise UserError(f"--out {path} holds files that are no run's; choose another folder")
    status = read_json(path / "run.json").get("status")
    if not force:
        if status == "finished":
            raise UserError(f"--out {path} holds a finished run; choose another folder, or replace it with --force")
        raise UserError(
            f"--out {path} holds an unfinished run; go on with 'nastavnik fit --resume {path}', "
            "or start anew with --force"
        )
    lock = _locked(path)
    aside = path.with_name(f".{path.name}.replaced-{os.getpid()}")
    try:
        path.rename(aside)
    except OSError as error:
        raise UserError(f"cannot replace {path}: {error.strerror}; choose another with --out") from error
    finally:
        if lock is not None:
            os.close(lock)
    return aside


def _surroundings() -> dict[str, Any]:
    """When, where and with which versions."""
    versions = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = "unknown"
    return {
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "versions": versions,
        "machine": {"system": platform.platform(), "cpus": os.cpu_count(), "processor": platform.machine()},
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
    }
