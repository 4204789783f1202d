"""A run's folder: made, refused, replaced or resumed; imports nothing heavy, so that it exists at once."""

from __future__ import annotations

import itertools
import os
import platform
import re
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib import metadata
from pathlib import Path
from typing import Any

from nastavnik.errors import InterruptedEarly, UserError
from nastavnik.files import file_hash, held, read_json, remove_run, settle, together, write_json
from nastavnik.files.records import SEAL, Kind
from nastavnik.schemas import RESULT, RUN

_PACKAGES = ("nastavnik", "torch", "numpy", "pandas", "scikit-learn", "optuna", "safetensors")
_LONGEST_NAME = 100


class RunFolder:
    """The place of one run; without a path nothing is written anywhere.

    Where it takes the place of an earlier run (``force``), nothing is written until ``begin``: then the new run's files
    come and the old one's go in one step, and until then the old run stands untouched.
    """

    def __init__(
        self,
        path: Path | None,
        record: dict[str, Any],
        *,
        made: tuple[Path, ...] = (),
        fresh: bool = False,
    ) -> None:
        self.path = path
        self.record = record
        self.replaces = False
        self._fresh = fresh
        self._made = made  # the folders that were made for it, the outermost first
        self._waiting: dict[str, dict[str, Any]] = {}
        self._lock: int | None = None

    @classmethod
    def create(
        cls, out: str | Path | None, asked: Mapping[str, Any], *, force: bool = False, name: str | None = None
    ) -> RunFolder:
        """Make the folder and its ``run.json``; with ``name`` and no ``out`` it is ``runs/<name>-<n>``.

        A failed run, which has no model, is replaced without ``force``.

        Raises:
            UserError: the place is taken or cannot be written; nothing there is touched.
        """
        record = {"asked": dict(asked), "status": "running", **_surroundings()}
        if out is None and name is None:
            return cls(None, record)
        path, made = next_free(name or "run") if out is None else _made(Path(out))
        folder = cls(path, record, made=made, fresh=True)
        try:
            folder.claim()
            folder._take(force)
            if not folder.replaces:
                folder.write()
        except (OSError, UserError) as error:
            folder._fresh = False
            folder.abandon()
            if isinstance(error, OSError):
                raise _unwritable(path, error) from error
            raise
        return folder

    @classmethod
    def resume(cls, path: str | Path) -> RunFolder:
        """Open an earlier run's folder; ``claim`` it before anything is written.

        Raises:
            UserError: it is not there or is no run's.
        """
        path = Path(path)
        try:
            _restore_replaced(path)
            there = path.is_dir()
        except OSError as error:
            raise UserError(f"there is no folder to resume at {path}: {error.strerror}") from error
        if not there:
            raise UserError(f"there is no folder {path} to resume")
        settle(path)
        return cls(path, _read(path))

    def claim(self) -> None:
        """Keep other processes off this run until this one ends, however it ends; what a killed one left is settled.

        Raises:
            UserError: another process is at work on it.
        """
        if self.path is None or self._lock is not None:
            return
        self._lock = _locked(self.path)
        try:
            settle(self.path, locked=True)
            if not self._fresh:
                self.record = _read(self.path)  # as it is now that nobody else writes it
        except BaseException:
            self.release()
            raise

    def release(self) -> None:
        """Let other processes at this run."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    @property
    def status(self) -> str:
        """running, interrupted, failed (no recipe reached a finite loss) or finished."""
        return str(self.record["status"])

    def write(self, **changes: Any) -> None:
        """Write ``run.json`` anew, with changes."""
        self.record |= changes
        if self.path is not None and not self.replaces:
            write_json(self.path / "run.json", self.record, RUN)

    def write_json(self, name: str, record: dict[str, Any]) -> None:
        """Write one of the run's JSON files."""
        if self.path is None:
            return
        if self.replaces:
            self._waiting[name] = record
        else:
            write_json(self.path / name, record)

    def read(self, name: str, kind: Kind) -> dict[str, Any]:
        """Read one of the run's JSON files, if it is the one that ``run.json`` knows of.

        Raises:
            UserError: it is missing or damaged.
        """
        assert self.path is not None
        return read_json(self.path / name, kind, self.record.get("files", {}).get(name))

    @contextmanager
    def publish(self, **changes: Any) -> Iterator[Path | None]:
        """A stage for files of this run that belong together; they take their places together with ``run.json``.

        ``run.json`` gets the changes, and the hash of every JSON file that is put in place.
        """
        if self.path is None:
            yield None
            self.record |= changes
            return
        self.begin()
        with together(self.path) as stage:
            yield stage
            hashes = {path.name: file_hash(path) for path in stage.glob("*.json")}
            self.record |= {**changes, "files": {**self.record.get("files", {}), **hashes}}
            write_json(stage / "run.json", self.record, RUN)

    def touches(self) -> int:
        """How often the test rows were looked at.

        Raises:
            UserError: ``result.json`` is damaged.
        """
        counts = [self.record.get("test_touches", 0)]
        if self.path is not None and not self.replaces and os.path.lexists(self.path / "result.json"):
            counts.append(self.read("result.json", RESULT)["test_touches"])
        return max(counts)

    def touch(self) -> int:
        """Count a look at the test rows before it happens, so that a kill does not hide it; how many there are now."""
        self.begin()
        count = self.touches() + 1
        if self.path is None or not (self.path / "result.json").exists():
            self.write(test_touches=count)
            return count
        result = {**self.read("result.json", RESULT), "test_touches": count}
        with self.publish(test_touches=count) as stage:
            assert stage is not None
            write_json(stage / "result.json", result, RESULT)
        return count

    def begin(self) -> None:
        """Something was measured: the run stands, and an earlier one that it replaces is let go."""
        if self.path is not None and self.replaces:
            with together(self.path, anew=True) as stage:
                write_json(stage / "run.json", self.record, RUN)
                for name, record in self._waiting.items():
                    write_json(stage / name, record)
            self.replaces, self._waiting = False, {}
        self._fresh, self._made = False, ()

    @contextmanager
    def kept_once_measured(self) -> Iterator[None]:
        """Leave the place as it was found if a mistake of the caller's shows before anything was measured."""
        try:
            yield
        except InterruptedEarly:
            raise
        except UserError:
            if self._fresh:
                self.abandon()
            raise

    def abandon(self) -> None:
        """Nothing came of it: leave the place as it was found; a run that was there is not touched."""
        if self.path is not None and self._fresh and not self.replaces:
            remove_run(self.path)
        if self._fresh or self._lock is not None:
            for folder in reversed(self._made):
                with suppress(OSError):  # somebody else put something there
                    folder.rmdir()
        self._fresh, self._made = False, ()
        self.release()

    def _take(self, force: bool) -> None:
        """Refuse a place that is taken, or remember that an earlier run is to be replaced."""
        assert self.path is not None
        path = self.path
        if not any(path.iterdir()):
            return
        if not (path / "run.json").exists():
            raise UserError(f"--out {path} holds files that are no run's; choose another folder")
        status = None if force else _read(path)["status"]
        if status == "finished":
            raise UserError(f"--out {path} holds a finished run; choose another folder, or replace it with --force")
        if status in ("running", "interrupted"):
            raise UserError(
                f"--out {path} holds an unfinished run; go on with 'nastavnik fit --resume {path}', "
                "or start anew with --force"
            )
        self.replaces = True


def _read(path: Path) -> dict[str, Any]:
    """``run.json`` without what belongs to the file."""
    return {k: v for k, v in read_json(path / "run.json", RUN).items() if k not in ("format_version", SEAL)}


def _unwritable(path: Path, error: OSError) -> UserError:
    return UserError(f"cannot write the folder {path}: {error.strerror}; choose another with --out")


def _made(path: Path) -> tuple[Path, tuple[Path, ...]]:
    """A folder, and which of the folders on the way to it were made here."""
    made: list[Path] = []
    try:
        if path.exists() and not path.is_dir():
            raise UserError(f"--out {path} is a file; name a folder")
        _restore_replaced(path)
        missing = [p for p in (path, *path.parents) if not p.exists()]
        for folder in reversed(missing):
            try:
                folder.mkdir()
                made.append(folder)
            except FileExistsError:  # another process was quicker
                continue
    except OSError as error:
        for folder in reversed(made):
            folder.rmdir()
        raise _unwritable(path, error) from error
    return path, tuple(made)


def _restore_replaced(path: Path) -> None:
    """What an earlier version moved aside (``.NAME.replaced-PID``) and a kill left there.

    It comes back if it is the only run; otherwise its files go, and others' files in it come back.
    """
    if not path.name or not path.parent.is_dir():
        return
    pattern = re.compile(rf"\.{re.escape(path.name)}\.replaced-\d+")
    try:
        aside = sorted(p for p in path.parent.iterdir() if pattern.fullmatch(p.name) and (p / "run.json").is_file())
        for old in aside:
            if not path.exists():
                old.rename(path)
                continue
            if not (path / "run.json").exists() and not any(path.iterdir()):
                path.rmdir()
                old.rename(path)
                continue
            remove_run(old)
            for other in old.iterdir():
                if not (path / other.name).exists():
                    other.rename(path / other.name)
            if not any(old.iterdir()):
                old.rmdir()
    except OSError as error:
        raise _unwritable(path, error) from error


def _locked(path: Path) -> int | None:
    """A lock on a run's folder that the system lets go when the process ends; None where there are no such locks."""
    if os.name == "nt":
        return None
    try:
        file = os.open(path, os.O_RDONLY)
    except OSError as error:
        raise UserError(f"cannot open the folder {path}: {error.strerror}; choose another with --out") from error
    if not held(file):
        os.close(file)
        raise UserError(f"another process is at work on the run in {path}; wait for it, or take another folder")
    return file


def lasting_source(source: str | Path) -> str:
    """A source's name that still holds when the run is resumed from another folder."""
    return str(Path(source).resolve()) if Path(source).exists() else str(source)


def next_free(name: str, runs: Path = Path("runs")) -> tuple[Path, tuple[Path, ...]]:
    """``runs/<name>-<n>`` with the first n that is free, made at once so that nobody else takes it; what was made."""
    stem = "".join(c if c.isalnum() or c in "-_." else "_" for c in name)[:_LONGEST_NAME] or "run"
    _, made = _made(runs)
    for n in itertools.count(1):
        path = runs / f"{stem}-{n}"
        try:
            path.mkdir()
        except FileExistsError:
            continue
        except OSError as error:
            raise _unwritable(path, error) from error
        return path, (*made, path)
    raise AssertionError("numbers do not end")


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
