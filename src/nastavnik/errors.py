"""The caller's mistakes: one clear sentence each (what, where, how to mend it)."""

from __future__ import annotations

import difflib
import errno
from collections.abc import Iterable


class UserError(ValueError):
    """Something the caller can mend. The command line prints its sentence, one line, and exits with code 2."""

    def __init__(self, sentence: str) -> None:
        super().__init__(" ".join(sentence.splitlines()))


class InterruptedEarly(UserError):
    """The fit was interrupted before any network had been scored, so there is nothing to deliver."""


# what stands in the way of a file and is no fault of the program
_IN_THE_WAY = (
    "EACCES EPERM ENOENT EEXIST ENOTDIR EISDIR ENOTEMPTY ENAMETOOLONG ELOOP ENOSPC EDQUOT EFBIG EROFS EIO ENXIO ENODEV "
    "EMFILE ENFILE ETXTBSY EBUSY ESTALE"
)


def complaint(error: OSError) -> str | None:
    """The sentence of a system's error on a file that somebody named; None for any other."""
    theirs = {getattr(errno, name) for name in _IN_THE_WAY.split() if hasattr(errno, name)}
    if error.filename is None or error.errno not in theirs:
        return None
    name = str(error.filename)
    shown = name if len(name) <= 200 else f"{name[:100]}…{name[-60:]}"
    return f"{shown!r}: {(error.strerror or str(error)).lower()}; mend that, or name another place"


def nearest(word: str, known: Iterable[str]) -> str:
    """Words that say what was probably meant: ``"; did you mean 'price'?"``, or the list of what there is."""
    choices = [str(k) for k in known]
    close = difflib.get_close_matches(str(word), choices, n=1, cutoff=0.6) or [
        c for c in choices if c.lower() == str(word).lower()
    ]
    if close:
        return f"; did you mean '{close[0]}'?"
    shown = ", ".join(choices[:12]) + (", …" if len(choices) > 12 else "")
    return f"; there is {shown}" if choices else ""
