"""What a command writes to and what reaches a person: streams that lose nothing without a word."""

from __future__ import annotations

import io
import json
import os
import signal
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from nastavnik.errors import UserError

BROKEN_PIPE = 128 + getattr(signal, "SIGPIPE", 13)  # what a shell shows of a command whose reader went away


class _Closed:
    """Stands for a stdout that was closed before the command began: writing is an error, not nothing."""

    encoding, errors = "utf-8", "strict"

    def write(self, text: str) -> int:
        if text:
            raise OSError("it is closed")
        return 0

    def flush(self) -> None:
        """Nothing is kept."""

    def isatty(self) -> bool:
        """It is not."""
        return False


def open_streams() -> None:
    """Stand in for streams that the caller closed, and keep other files from taking their numbers."""
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(number)
    if sys.stdout is None:
        sys.stdout = _Closed()
    elif (sys.stdout.encoding or "utf-8").replace("-", "").lower() != "utf8" and hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")  # a terminal of letters without accents, too
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115


def flush() -> None:
    """Write what is still held back, now that it can be told if it is lost."""
    sys.stdout.flush()


def forget() -> None:
    """Let go what stdout holds back, so that Python's end does not try again to write it."""
    with suppress(OSError, ValueError, AttributeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def print_csv(table: Any, raw: bool) -> None:
    """A table, as a file of it would be, or not at all.

    Raises:
        UserError: stdout's encoding does not hold a word of it.
    """
    from nastavnik.data import write_csv

    buffer = io.StringIO()
    write_csv(table, buffer, raw=raw)
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    try:
        buffer.getvalue().encode(encoding)
    except UnicodeEncodeError as error:
        word = error.object[error.start : error.end]
        raise UserError(f"stdout is in {encoding}, which cannot hold {word!r}; use --out, or --json") from error
    sys.stdout.write(buffer.getvalue())


def print_json(text: str) -> None:
    """JSON as it stands in a file, or in ASCII where stdout holds no more."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        text = json.dumps(json.loads(text), indent=1) + "\n"
    print(text, end="")


@contextmanager
def own_warnings_only() -> Iterator[None]:
    """Warnings of ours become lines on stderr; those of libraries, on which nobody at a terminal can act, are not."""

    def show(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
        if category.__module__.startswith("nastavnik"):
            print(f"nastavnik: {message}", file=sys.stderr)

    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # those that torch prints by itself
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = show
        yield
