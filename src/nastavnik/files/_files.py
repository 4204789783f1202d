"""Reading and writing single files so that nobody sees half of one: written beside under a name of its own, then
renamed; believed only if it is a file, has the form it should have, and the content it was written with.

Files that belong together are put in place together by ``together``.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import secrets
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from nastavnik.errors import UserError
from nastavnik.files.records import SEAL, Kind, Mismatch, OtherVersion, anything, believed, record, seal

FORMAT_VERSION = 1
ANY = Kind("a record", record({"format_version": anything}), FORMAT_VERSION)
LEFTOVER = re.compile(r"\.(?P<name>.+)\.(?:[0-9a-f]{16}|\d+)\.part", re.DOTALL)  # what write_atomically writes beside
_LONGEST_NAME = 40


def temporary_name(name: str) -> str:
    """A hidden name that nobody can guess, with the beginning of the name it stands for."""
    return f".{name[:_LONGEST_NAME]}.{secrets.token_hex(8)}.part"


def held(descriptor: int) -> bool:
    """Lock an open file or folder until it is closed, by the end of the process at the latest.

    False if another process holds it. Where the system has no such locks (Windows), True.
    """
    try:
        import fcntl
    except ImportError:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


@contextmanager
def _beside(path: Path) -> Iterator[Path]:
    """A new empty file beside a path, held as long as it is used and gone afterwards.

    It is made exclusively and through no link, so that nobody's file or link is written to.
    """
    while True:
        part = path.with_name(temporary_name(path.name))
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0), 0o666)
        if held(descriptor) and os.fstat(descriptor).st_nlink:
            break
        os.close(descriptor)  # another process took it for a leftover before it was held
    try:
        yield part
    finally:
        with suppress(FileNotFoundError):
            part.unlink()
        os.close(descriptor)


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Let ``write`` fill a file beside ``path``, then put it in place in one step.

    What a killed process left beside this very path is cleared.

    Raises:
        UserError: the folder cannot be written or the disk is full; what stood at ``path`` is kept.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        clear_leftovers(path.parent, path.name)
        with _beside(path) as part:
            write(part)
            os.replace(part, path)
    except OSError as error:
        raise UserError(
            f"cannot write {path}: {error.strerror or error}; free the place or choose another with --out"
        ) from error


def clear_leftovers(folder: Path, name: str | None = None) -> None:
    """Remove the half-written files of processes that are no more: of one name, or of all in the folder."""
    with os.scandir(folder) as entries:
        found = [entry.name for entry in entries if LEFTOVER.fullmatch(entry.name)]
    for leftover in found:
        match = LEFTOVER.fullmatch(leftover)
        if name is not None and (match is None or match["name"] not in (name, name[:_LONGEST_NAME])):
            continue
        try:
            descriptor = os.open(folder / leftover, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0))
        except OSError:  # gone meanwhile, a link, or not ours to open
            continue
        try:
            if stat.S_ISREG(os.fstat(descriptor).st_mode) and held(descriptor):
                (folder / leftover).unlink(missing_ok=True)
        finally:
            os.close(descriptor)


def write_tensors(path: Path, tensors: dict[str, Any]) -> None:
    """Write a safetensors file, whole or not at all; in sorted order and without metadata, so that bytes repeat."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    ordered = {name: tensors[name] for name in sorted(tensors)}
    try:
        write_atomically(path, lambda part: save_file(ordered, part))
    except SafetensorError as error:
        raise UserError(f"cannot write {path}: {error}; free the place or choose another with --out") from error


def read_tensors(path: Path, sha256: str | None = None) -> dict[str, Any]:
    """Read a safetensors file; with ``sha256``, only if that is its content's hash.

    Raises:
        UserError: it is missing, cut short, no safetensors file, or not the file that is asked for.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    content = read_bytes(path, sha256)
    try:
        return dict(load(content))
    except (SafetensorError, ValueError, KeyError) as error:
        raise UserError(f"{path} cannot be read ({error}); is it cut short, or another program's?") from error


def read_bytes(path: Path, sha256: str | None = None) -> bytes:
    """A file's content, if it is a file, and with ``sha256`` only if that is its hash.

    Raises:
        UserError: it is missing, a folder, a device or a pipe, or has another content.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))  # a pipe without a writer would hang
        with os.fdopen(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise UserError(f"{path} cannot be read: it is no file")
            content = file.read()
    except FileNotFoundError as error:
        raise UserError(f"there is no {path.name} in {path.parent}; is it the folder of a run?") from error
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}; is it the folder of a run?") from error
    if sha256 is not None and hashlib.sha256(content).hexdigest() != sha256:
        raise UserError(
            f"{path} cannot be read (it is damaged or belongs to another run: its content is not what was written); "
            "is it cut short?"
        )
    return content


def file_hash(path: Path) -> str:
    """The sha256 of a file that was just written."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_text(path: Path, text: str) -> None:
    """Write text, whole or not at all."""
    write_atomically(path, lambda part: part.write_text(text, encoding="utf-8"))


def write_json(path: Path, record: dict[str, Any], kind: Kind = ANY) -> None:
    """Write a JSON file with ``format_version``, sealed if its kind is; numbers that are not finite become null."""
    own = {name: value for name, value in record.items() if name not in ("format_version", SEAL)}
    content = plain({"format_version": kind.version, **own})
    if kind.sealed:
        content[SEAL] = seal(content)
    write_text(path, json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def to_json(record: Any) -> str:
    """Indented strict JSON (no NaN), with numpy's scalars and arrays turned into plain values."""
    return json.dumps(plain(record), indent=1, ensure_ascii=False, allow_nan=False)


def read_json(path: Path, kind: Kind = ANY, sha256: str | None = None) -> dict[str, Any]:
    """Read a JSON file of ours; with ``sha256``, only if that is its content's hash.

    Raises:
        UserError: it is missing, is no JSON, was written by a newer version, or is not what was written.
    """
    content = read_bytes(path)
    try:
        found = json.loads(content.decode("utf-8"), parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} cannot be read: {error}; is it the folder of a run?") from error
    try:
        found = believed(found, kind)
        if sha256 is not None and hashlib.sha256(content).hexdigest() != sha256:
            raise Mismatch("it was changed after it was written (run.json has another hash of it)")
    except Mismatch as error:
        word = "" if isinstance(error, OtherVersion) else "is damaged: "
        raise UserError(f"{path} {word}{error}") from error
    return found


def _no_constant(word: str) -> float:
    raise ValueError(f"{word} is no number of JSON's")


def plain(value: Any) -> Any:
    """The same value in JSON's own types: floats that are not finite become None."""
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    if hasattr(value, "tolist"):  # numpy's and torch's scalars and arrays
        return plain(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, (str, int, bool)):
        return value
    return str(value)
