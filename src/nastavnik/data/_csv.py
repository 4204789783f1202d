"""Text tables: encoding, delimiter and quoting found or given, every cell kept as the words it holds."""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections import Counter
from contextlib import suppress
from pathlib import Path

import numpy as np
import pandas as pd

from nastavnik.errors import UserError

DELIMITERS = ",;\t|"
_NO_TEXT = ("punycode", "idna", "undefined", "unicode-escape", "raw-unicode-escape")


def read_csv(path: Path, *, delimiter: str | None = None, encoding: str | None = None) -> pd.DataFrame:
    """Read a text table with a header line; cells stay strings, so that kinds are found by one rule.

    Raises:
        UserError: empty, not text, a ragged line (its number is named), two columns of one name.
    """
    text = _decode(path, encoding)
    if not text.strip():
        raise UserError(f"{path} is empty; a table needs a header line and rows")
    delimiter = delimiter or _find_delimiter(text)
    if len(delimiter) != 1:
        raise UserError(f"--delimiter must be one character, but got {delimiter!r}")
    header, rows = _parse(path, text, delimiter)
    _check_names(path, header)
    cells = np.array(rows, dtype=object).reshape(len(rows), len(header))
    return pd.DataFrame({name: cells[:, j] for j, name in enumerate(header)}, dtype=object)


def _decode(path: Path, encoding: str | None) -> str:
    raw = path.read_bytes()
    if encoding is not None:
        _check_encoding(encoding)
        try:
            return raw.decode(encoding)
        except UnicodeError as error:
            where = f"byte {error.start} cannot be read" if isinstance(error, UnicodeDecodeError) else str(error)
            raise UserError(f"{path} is not {encoding}: {where}; name another with --encoding") from error
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        guesses = ["utf-16"]
    elif b"\x00" in raw[:100_000]:
        guesses = []
    else:
        guesses = ["utf-8-sig", "cp1252"]
    for guess in guesses:
        try:
            return raw.decode(guess)
        except UnicodeDecodeError:
            continue
    raise UserError(
        f"{path} is in no encoding we can find (tried UTF-8, UTF-16 with a mark, Windows-1252); "
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


def _find_delimiter(text: str) -> str:
    """The character that splits the first lines into the same, largest number of fields."""
    lines = [line for line in text[:200_000].splitlines() if line.strip()][:50]
    best, best_score = ",", (0.0, 0)
    for delimiter in DELIMITERS:
        try:
            counts = Counter(len(row) for row in csv.reader(lines, delimiter=delimiter) if row)
        except csv.Error:
            continue  # the whole table is read by the delimiter found, and says what is wrong
        fields, times = counts.most_common(1)[0]
        score = (times / len(lines) if fields > 1 else 0.0, fields)
        if score > best_score:
            best, best_score = delimiter, score
    return best


def _parse(path: Path, text: str, delimiter: str) -> tuple[list[str], list[list[str]]]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    header: list[str] = []
    rows: list[list[str]] = []
    try:
        for row in reader:
            if not row or (len(row) == 1 and not row[0].strip() and len(header) > 1):
                continue  # a blank line
            if not header:
                header = [name.strip() for name in row]
            elif len(row) != len(header):
                raise UserError(
                    f"{path} line {reader.line_num} has {len(row)} fields, the header has {len(header)}; "
                    "mend that line, or name the delimiter with --delimiter"
                )
            else:
                rows.append([cell.strip() for cell in row])
    except csv.Error as error:
        raise UserError(f"{path} line {reader.line_num} cannot be read: {error}") from error
    if not rows:
        raise UserError(f"{path} has a header line but no rows")
    return header, rows


def _check_names(path: Path, header: list[str]) -> None:
    if all(re.fullmatch(r"[+-]?\d+([.,]\d+)?([eE][+-]?\d+)?", name) for name in header):
        raise UserError(f"the first line of {path} holds only numbers; a table needs a header line with column names")
    for name, times in Counter(header).items():
        if times > 1:
            raise UserError(f"{path} has {times} columns named {name!r}; give each column a name of its own")
