"""From a file's bytes to its text: which encoding, and what is done about bytes that are none."""

from __future__ import annotations

import codecs
from contextlib import suppress

from nastavnik.errors import UserError

_NO_TEXT = ("punycode", "idna", "undefined", "unicode-escape", "raw-unicode-escape")


def decoded(raw: bytes, name: str, encoding: str | None, notes: list[str]) -> str:
    """The text of a file called ``name``; what had to be guessed or mended is said in ``notes``.

    Raises:
        UserError: it is not in the encoding given, or in none that can be found.
    """
    if encoding is not None:
        _check_encoding(encoding)
        try:
            return raw.decode(encoding)
        except UnicodeError as error:
            where = f"byte {error.start} cannot be read" if isinstance(error, UnicodeDecodeError) else str(error)
            raise UserError(f"{name} is not {encoding}: {where}; name another with --encoding") from error
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        guesses = ["utf-16"]
    elif b"\x00" in raw[:100_000]:
        head = raw[:2000]
        odd, even = head[1::2].count(0), head[::2].count(0)
        guesses = (
            ["utf-16-le"] if odd > 0.4 * len(head) / 2 > even else ["utf-16-be"] if even > 0.4 * len(head) / 2 else []
        )
    else:
        guesses = ["utf-8-sig"]
    for guess in guesses:
        with suppress(UnicodeDecodeError):
            return raw.decode(guess)
    if guesses == ["utf-8-sig"]:
        return _nearly_utf8(raw, name, notes)
    raise _unknown(name)


def _nearly_utf8(raw: bytes, name: str, notes: list[str]) -> str:
    """A file with bytes that are no UTF-8: UTF-8 all the same where most special characters are, else Windows-1252."""
    mended = raw.decode("utf-8-sig", "replace")
    broken = mended.count("�")
    if sum(c > "\x7f" for c in mended[:1_000_000]) > 2 * broken:
        line = mended[: mended.index("�")].count("\n") + 1
        notes.append(f"{name}: {broken} bytes are no UTF-8 (first in line {line}), each read as �")
        return mended
    try:
        text = raw.decode("cp1252")
    except UnicodeDecodeError as error:
        raise _unknown(name) from error
    notes.append(f"{name} is no UTF-8 and was read as Windows-1252; if that is wrong, say --encoding")
    return text


def _unknown(name: str) -> UserError:
    return UserError(
        f"{name} is in no encoding we can find (tried UTF-8, UTF-16, Windows-1252); "
        "name it with --encoding, or save the table as UTF-8"
    )


def _check_encoding(encoding: str) -> None:
    """Refuse what is no encoding of a text file: codecs that turn words into words, or write code for characters."""
    try:
        known = codecs.lookup(encoding).name
        with suppress(UnicodeError):  # one byte may be no text; what counts is that bytes become text
            b"a".decode(encoding)
    except (LookupError, ValueError) as error:  # ValueError: what could be no name
        raise UserError(f"there is no encoding {encoding!r} of text; try utf-8, cp1252 or utf-16") from error
    if known.replace("_", "-") in _NO_TEXT:
        raise UserError(f"{encoding!r} is no encoding of text files; try utf-8, cp1252 or utf-16")
