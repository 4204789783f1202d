"""Running a program that may have to be ended: with everything it started, at any moment."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
from collections.abc import Callable, Sequence

from nastavnik.runs import beside

_LOOK_EVERY = 0.05  # seconds


class Ended(Exception):
    """The program was ended before it was done."""


def run_unless(ended: Callable[[], bool], command: Sequence[str]) -> tuple[int, str]:
    """Run a command to its end, its exit code and what it said on stderr; kill it and its children once ``ended``.

    Raises:
        Ended: it was killed.
        OSError: it cannot be started.
    """
    with tempfile.TemporaryFile() as said, beside():
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=said, start_new_session=True
        )
        try:
            while True:
                try:
                    process.wait(_LOOK_EVERY)
                    break
                except subprocess.TimeoutExpired:
                    if ended():
                        raise Ended from None
        finally:
            if process.poll() is None:
                _kill(process)
        said.seek(0)
        return process.returncode, said.read().decode(errors="replace")


def _kill(process: subprocess.Popen[bytes]) -> None:
    """With its children: the compiler proper is a child of the program that is called."""
    if hasattr(os, "killpg"):
        os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()
    process.wait()
