"""Files that belong together take their places together: all of them, or none, whatever moment a process is killed at.

They are written into a stage, a hidden folder beside. Renaming the stage to ``COMMIT`` is the one step that decides:
before it nothing has happened, after it everything has, as whoever comes next finishes what is left (``settle``).
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nastavnik.errors import UserError
from nastavnik.files._files import LEFTOVER, clear_leftovers, held

COMMIT = ".nastavnik-commit"
_ANEW = ".anew"  # in a stage: what an earlier run left is removed before
_STAGE = re.compile(r"\.nastavnik-[0-9a-f]{16}\.part")
_PATIENCE = 10.0  # seconds that a reader waits for another process to end what it has begun
RUN_FILES = (  # everything that a run's folder holds of ours; nothing else is ever removed
    "run.json", "dataset.json", "networks.csv", "filled.csv", "result.json", "report.html", "findings.json",
    "compare.json", "try.json", "try.html",
    "model/model.safetensors", "model/model.json", "model/card.md", "checkpoint/search.json",
)  # fmt: skip
_NUMBERED = (("checkpoint", r"state-\d+\.safetensors"), ("trace", r"part-\d+\.parquet"))


@contextmanager
def together(folder: Path, *, anew: bool = False) -> Iterator[Path]:
    """A stage to write files into; at the end of the block they take their places in ``folder``, all or none.

    With ``anew`` an earlier run's files are removed in the same step.

    Raises:
        UserError: the folder cannot be written, or a folder stands in a file's place.
    """
    stage: Path | None = None
    descriptor = -1
    try:
        folder.mkdir(parents=True, exist_ok=True)
        stage = folder / f".nastavnik-{secrets.token_hex(8)}.part"
        stage.mkdir()
        descriptor = _open_folder(stage)
        held(descriptor)
        yield stage
        if anew:
            (stage / _ANEW).touch()
        _finish(folder)
        _check_places(folder, stage)
        stage.rename(folder / COMMIT)
        _finish(folder)
    except OSError as error:
        raise UserError(f"cannot write {folder}: {error.strerror or error}; free the place") from error
    finally:
        if stage is not None:
            shutil.rmtree(stage, ignore_errors=True)
        if descriptor >= 0:
            os.close(descriptor)


def settle(folder: Path, *, locked: bool = False) -> None:
    """Finish what a killed process had decided, and clear what it had not.

    ``locked`` says that the caller holds the folder. Otherwise, while another process is at work there, only what that
    one is just putting in place is waited for.

    Raises:
        UserError: the folder cannot be written, or another process does not come to an end.
    """
    if not folder.is_dir():
        return
    try:
        pending = _pending(folder)
        if not pending:
            return
        descriptor = -1 if locked else _open_folder(folder)
        try:
            if locked or held(descriptor):
                _finish(folder)
                _clear(folder)
                return
        finally:
            if descriptor >= 0:
                os.close(descriptor)
    except OSError as error:
        raise UserError(
            f"{folder} cannot be looked through for what a killed process left: {error.strerror or error}"
        ) from error
    ends = time.monotonic() + _PATIENCE
    while (folder / COMMIT).exists():
        if time.monotonic() > ends:
            raise UserError(f"another process is at work on {folder}; wait for it")
        time.sleep(0.02)


def remove_run(folder: Path) -> None:
    """Remove a run's files, by the list of what is ours, and the folders that are empty then; the folder itself stays.

    Other people's files stay where they are, and no link is followed.
    """
    for name in RUN_FILES:
        if _real(folder / name, folder):
            (folder / name).unlink(missing_ok=True)
    for name, pattern in _NUMBERED:
        inner = folder / name
        for path in list(inner.iterdir()) if _real(inner / "x", folder) and inner.is_dir() else []:
            if re.fullmatch(pattern, path.name):
                path.unlink(missing_ok=True)
    for inner in _inner(folder)[1:]:
        clear_leftovers(inner)
        if not any(inner.iterdir()):
            inner.rmdir()


def _real(path: Path, folder: Path) -> bool:
    """Whether a path leads to a file or link of this very folder: not through a link, and no folder."""
    inner = path.parent
    if inner != folder and (inner.is_symlink() or not inner.is_dir()):
        return False
    return path.is_symlink() or not path.is_dir()


def _finish(folder: Path) -> None:
    """Put in place what was decided; as often as needed, each step may have been done before."""
    commit = folder / COMMIT
    if not commit.is_dir() or commit.is_symlink():
        return
    if (commit / _ANEW).exists():
        remove_run(folder)
        (commit / _ANEW).unlink()
    _check_places(folder, commit)
    for path in _files(commit):
        place = folder / path.relative_to(commit)
        place.parent.mkdir(exist_ok=True)
        os.replace(path, place)
    shutil.rmtree(commit)


def _check_places(folder: Path, stage: Path) -> None:
    for path in _files(stage):
        place = folder / path.relative_to(stage)
        if place.is_dir() or (place.parent.exists() and not place.parent.is_dir()):
            raise UserError(f"cannot write {place}: something of another kind stands there; move it away")


def _files(stage: Path) -> list[Path]:
    """The files of a stage; the one that says what stands, run.json, comes last."""
    found = [path for path in stage.rglob("*") if path.name != _ANEW and stat.S_ISREG(path.lstat().st_mode)]
    return sorted(found, key=lambda path: (path.name == "run.json", path))


def _pending(folder: Path) -> bool:
    names = [path.name for inner in _inner(folder) for path in inner.iterdir()]
    return any(name == COMMIT or _STAGE.fullmatch(name) or LEFTOVER.fullmatch(name) for name in names)


def _inner(folder: Path) -> list[Path]:
    """The folder and those in it that hold files of ours."""
    below = [folder / name for name in ("model", "checkpoint", "trace")]
    return [folder, *(path for path in below if path.is_dir() and not path.is_symlink())]


def _clear(folder: Path) -> None:
    """Remove stages and half-written files of processes that are no more."""
    for inner in _inner(folder):
        clear_leftovers(inner)
    for path in [p for p in folder.iterdir() if _STAGE.fullmatch(p.name) and p.is_dir() and not p.is_symlink()]:
        descriptor = _open_folder(path)
        try:
            if held(descriptor):
                shutil.rmtree(path)
        finally:
            os.close(descriptor)


def _open_folder(path: Path) -> int:
    """Open, so that it can be held; -1 where folders cannot be opened (Windows)."""
    return -1 if os.name == "nt" else os.open(path, os.O_RDONLY)
