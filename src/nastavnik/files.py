"""Writing files so that a reader never sees half of one: written beside, then renamed."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nastavnik.errors import UserError

FORMAT_VERSION = 1


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Let ``write`` fill a file beside ``path``, then put it in place in one step.

    Raises:
        UserError: the folder cannot be written or the disk is full; what stood at ``path`` is kept.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(beside)
        os.replace(beside, path)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise UserError(
            f"cannot write {path}: {error.strerror or error}; free the place or choose another with --out"
        ) from error
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


def write_tensors(path: Path, tensors: dict[str, Any]) -> None:
    """Write a safetensors file, whole or not at all; in sorted order and without metadata, so that bytes repeat."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    ordered = {name: tensors[name] for name in sorted(tensors)}
    try:
        write_atomically(path, lambda part: save_file(ordered, part))
    except SafetensorError as error:
        raise UserError(f"cannot write {path}: {error}; free the place or choose another with --out") from error


def read_tensors(path: Path) -> dict[str, Any]:
    """Read a safetensors file.

    Raises:
        UserError: it is missing, cut short or no safetensors file.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return dict(load_file(path))
    except (OSError, SafetensorError) as error:
        raise UserError(f"{path} cannot be read ({error}); is it cut short, or another program's?") from error


def write_text(path: Path, text: str) -> None:
    """Write text, whole or not at all."""
    write_atomically(path, lambda part: part.write_text(text, encoding="utf-8"))


def write_json(path: Path, record: dict[str, Any]) -> None:
    """Write a JSON file that carries ``format_version``; numbers that are not finite become null."""
    write_text(path, to_json({"format_version": FORMAT_VERSION, **record}) + "\n")


def to_json(record: Any) -> str:
    """Indented strict JSON (no NaN), with numpy's scalars and arrays turned into plain values."""
    return json.dumps(plain(record), indent=1, ensure_ascii=False, allow_nan=False)


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON file of ours.

    Raises:
        UserError: it is missing, is no JSON, or was written by a newer version.
    """
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"there is no {path.name} in {path.parent}; is it the folder of a run?") from error
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} cannot be read: {error}; is it the folder of a run?") from error
    version = record.get("format_version") if isinstance(record, dict) else None
    if version != FORMAT_VERSION:
        raise UserError(f"{path} has format_version {version}, this Nastavnik reads {FORMAT_VERSION}")
    return record


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
