"""Text tables: delimiter, header and comments found or given, every cell kept as the words it holds."""

from __future__ import annotations

import csv
import io
import re
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from nastavnik.data._encoding import decoded
from nastavnik.data._header import has_header
from nastavnik.errors import UserError

DELIMITERS = ",;\t|"
_BLANKS = " "  # the delimiter of columns by white space
_COMMENTS = ("#", "%", "//")
_PREAMBLE = 20  # lines before the header that are no rows
csv.field_size_limit(min(sys.maxsize, 2**31 - 1))  # a cell may hold a whole document


@dataclass
class _Lines:
    """What is left of a text when lines that are no rows are taken off."""

    text: str
    skipped: int  # lines before the first row
    delimiter: str | None = None
    named: str | None = None  # a comment that may hold the columns' names
    mark: str | None = None  # what comments begin with
    notes: list[str] = field(default_factory=list)


def read_csv(
    path: Path,
    *,
    delimiter: str | None = None,
    encoding: str | None = None,
    header: bool | None = None,
    raw: bytes | None = None,
    notes: list[str] | None = None,
) -> pd.DataFrame:
    """Read a text table; cells stay strings, so that kinds are found by one rule.

    Args:
        path: the file, for messages and, without ``raw``, for its bytes.
        delimiter: one character, " " for any white space; found where not given.
        encoding: found where not given.
        header: whether the first row names the columns; found where not given. Without one they are "0", "1", ….
        raw: the file's bytes, where it was packed.
        notes: takes what is said about how the file was read.

    Raises:
        UserError: empty, not text, a ragged line (its number is named), two columns of one name.
    """
    notes = [] if notes is None else notes
    text = decoded(path.read_bytes() if raw is None else raw, str(path), encoding, notes)
    if not text.strip():
        raise UserError(f"{path} is empty; a table needs a header line and rows")
    if delimiter is not None and len(delimiter) != 1:
        raise UserError(f"--delimiter must be one character, but got {delimiter!r}")
    lines = _without_comments(text)
    delimiter = delimiter or lines.delimiter or _find_delimiter(lines.text)
    rows, numbers = _rows(path, lines, delimiter)
    rows, delimiter = _unwrapped(rows, delimiter)
    return _table(path, rows, numbers, header, _names_in(lines, delimiter), notes)


def _without_comments(text: str) -> _Lines:
    """Take off "sep=;", comment lines, and mark what a comment may tell of the columns."""
    found = _Lines(text, 0)
    head = text.split("\n", 1)[0].strip().strip('"')
    if re.fullmatch(r"sep=.", head, re.I):
        found.delimiter = head[4]
        found.text, found.skipped = text.split("\n", 1)[1] if "\n" in text else "", 1
    if not any(mark in found.text for mark in _COMMENTS):
        return found
    lines = found.text.split("\n")
    first = next((line for line in lines if line.strip()), "").lstrip()
    mark = next((m for m in _COMMENTS if first.startswith(m)), None)
    if mark is None:
        return found
    leading = next((i for i, line in enumerate(lines) if line.strip() and not line.lstrip().startswith(mark)), 0)
    if not leading or leading > 0.5 * len(lines):
        return found
    last = next(line for line in reversed(lines[:leading]) if line.strip())
    found.named, found.mark = last.lstrip().removeprefix(mark).strip(), mark
    found.text = "\n".join([*[""] * leading, *lines[leading:]])  # so that messages name the right line
    return found


def _names_in(lines: _Lines, delimiter: str) -> list[str] | None:
    """The names that stand in the last comment before the rows."""
    if not lines.named:
        return None
    return [name.strip() for name in _split([lines.named], delimiter)[0]]


def _split(lines: Sequence[str], delimiter: str) -> list[list[str]]:
    if delimiter == _BLANKS:
        return [_by_blanks(line) for line in lines]
    return list(csv.reader(lines, delimiter=delimiter, skipinitialspace=True))


def _by_blanks(line: str) -> list[str]:
    """Fields by white space; what stands in quotes may hold some."""
    if '"' in line or "'" in line:
        return [a or b or c for a, b, c in re.findall(r'"([^"]*)"|\'([^\']*)\'|(\S+)', line)]
    return line.split()


def _find_delimiter(text: str) -> str:
    """The character that splits the first lines into the same, largest number of fields; else white space."""
    lines = [line for line in text[:200_000].splitlines() if line.strip()][:100]
    lines = lines[:-1] if len(text) > 200_000 and len(lines) > 1 else lines
    best, best_score = ",", (0.0, 0.0, 0)
    for delimiter in DELIMITERS:
        try:
            widths = [len(row) for row in _split(lines, delimiter) if row]
        except csv.Error:
            continue  # the whole table is read by the delimiter found, and says what is wrong
        score = _evenness(widths, len(lines))
        if score > best_score:
            best, best_score = delimiter, score
    blanks = _evenness([len(_by_blanks(line)) for line in lines], len(lines))
    aligned = best == "\t" and blanks[0] == 1 and blanks[2] > best_score[2]  # a tab is white space, too
    if (best_score[0] < 0.9 and blanks[0] > max(best_score[0], 0.9)) or aligned:
        return _BLANKS
    return best


def _evenness(widths: list[int], lines: int) -> tuple[float, float, int]:
    """How alike the lines are: the share of the commonest width, the same of the first three lines, and that width."""
    if not widths:
        return (0.0, 0.0, 0)
    fields, times = Counter(widths).most_common(1)[0]
    if fields < 2:
        return (0.0, 0.0, fields)
    return (round(times / lines, 3), float(np.mean([w == fields for w in widths[:3]])), fields)


def _rows(path: Path, lines: _Lines, delimiter: str) -> tuple[list[list[str]], list[int]]:
    """All rows that hold something, and the line that each ends in."""
    rows: list[list[str]] = []
    numbers: list[int] = []
    for number, row in _read(path, lines.text, delimiter):
        if lines.mark and row and row[0].startswith(lines.mark) and rows and len(row) != len(rows[-1]):
            continue  # a comment among the rows
        own = list(map(str.strip, row))
        if any(own):
            rows.append(own)
            numbers.append(number + lines.skipped)
    return rows, numbers


def _read(path: Path, text: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    if delimiter == _BLANKS:
        yield from enumerate(map(_by_blanks, text.splitlines()), 1)
        return
    options: Any = {"delimiter": delimiter, "skipinitialspace": delimiter != "\t"}
    if '\\"' in text and _widths(text, options) != 1 == _widths(text, {**options, "escapechar": "\\"}):
        options["escapechar"] = "\\"  # quotes inside quotes are marked, not doubled
    if _quotes_are_words(text, delimiter, options):
        for number, line in enumerate(text.splitlines(), 1):
            yield number, [_unquoted(cell) for cell in line.split(delimiter)]
        return
    reader = csv.reader(io.StringIO(text, newline=""), **options)
    try:
        for row in reader:
            yield reader.line_num, row
    except csv.Error as error:
        raise UserError(f"{path} line {reader.line_num} cannot be read: {error}") from error


def _widths(text: str, options: dict[str, Any]) -> int:
    """How many different widths the rows have; none where they cannot be read."""
    try:
        return len({len(row) for row in csv.reader(io.StringIO(text, newline=""), **options) if row})
    except csv.Error:
        return 0


def _quotes_are_words(text: str, delimiter: str, options: dict[str, Any]) -> bool:
    """Whether quotes are no more than marks in words: line by line the table is even, by quotes lines run together."""
    if '"' not in text:
        return False
    lines = [line for line in text.splitlines() if line.strip()]
    widths = {line.count(delimiter) for line in lines}
    if len(widths) > 1 or 0 in widths:
        return False
    try:
        return sum(1 for row in csv.reader(lines, **options) if row) < len(lines)
    except csv.Error:
        return True


def _unquoted(cell: str) -> str:
    """A cell without the quotes around all of it."""
    cell = cell.strip()
    return cell[1:-1].replace('""', '"') if len(cell) > 1 and cell[0] == cell[-1] == '"' else cell


def _unwrapped(rows: list[list[str]], delimiter: str) -> tuple[list[list[str]], str]:
    """Rows whose whole line stands in quotes, taken out of them."""
    if not rows or any(len(row) != 1 for row in rows[:100]):
        return rows, delimiter
    for inner in DELIMITERS:
        if all(inner in row[0] for row in rows[:100]):
            return [[cell.strip() for cell in next(csv.reader([row[0]], delimiter=inner))] for row in rows], inner
    return rows, delimiter


def _table(
    path: Path,
    rows: list[list[str]],
    numbers: list[int],
    header: bool | None,
    named: list[str] | None,
    notes: list[str],
) -> pd.DataFrame:
    rows, numbers = _without_preamble(rows, numbers, notes)
    _check_widths(path, rows, numbers)
    width = len(rows[-1])
    if len(rows[0]) < width:  # a header without a name for the rows' names, or for a mark at each row's end
        trailing = all(not row[-1] for row in rows[1:])
        rows = [rows[0], *(row[:-1] for row in rows[1:])] if trailing else [["", *rows[0]], *rows[1:]]
        if not trailing:
            notes.append(f"{path}: the header has a name less than the rows have fields; the first is called unnamed 0")
    elif len(rows) > 1 and len(rows[0]) > width:
        rows[0] = rows[0][:width]
    given = header
    if header is None:  # where lines repeat the header, they say nothing of what is below it
        header = has_header(rows[0], [row for row in rows[1:] if row != rows[0]]) if len(rows) > 1 else named is None
    if header:
        names, body = rows[0], rows[1:]
    elif named is not None and len(named) == len(rows[0]) and given is None:
        names, body = named, rows
    else:
        names, body = [str(j) for j in range(len(rows[0]))], rows
        if given is None:
            notes.append(f"{path} has no header line: its columns are called 0 to {len(names) - 1}; --header if it has")
    if not body:
        raise UserError(f"{path} has a header line but no rows")
    repeated = [row for row in body if row == names]
    if repeated and header:
        body = [row for row in body if row != names]
        notes.append(f"{path}: {len(repeated)} lines repeat the header and are left out")
    return _frame(path, names, body)


def _without_preamble(rows: list[list[str]], numbers: list[int], notes: list[str]) -> tuple[list[list[str]], list[int]]:
    """Without a title: lines of one field before a table of three columns or more."""
    usual = Counter(len(row) for row in rows[:200]).most_common(1)[0][0]
    start = 0
    while start < min(_PREAMBLE, len(rows) - 2) and rows[start][0] and not any(rows[start][1:]):
        if usual < 2 or (usual == 2 and len(rows[start]) == 2):
            break
        start += 1
    if start:
        notes.append(f"{start} lines before the header are left out ({' '.join(rows[0])[:60]!r})")
    return rows[start:], numbers[start:]


def _check_widths(path: Path, rows: list[list[str]], numbers: list[int]) -> None:
    """Refuse rows of other widths than the header's; all rows may have one field more, or an empty one at their end."""
    first = len(rows[0])
    usual = len(rows[1]) if len(rows) > 1 else first
    allowed = usual if usual == first + 1 and first > 1 else first
    for i, row in enumerate(rows[1:], 1):
        if len(row) == allowed + 1 and not row[-1]:
            row.pop()
        if len(row) != allowed:
            raise UserError(
                f"{path} line {numbers[i]} has {len(row)} fields, the header has {first}; "
                "mend that line, or name the delimiter with --delimiter"
            )


def _frame(path: Path, names: Sequence[str], body: list[list[str]]) -> pd.DataFrame:
    cells = np.array(body, dtype=object).reshape(len(body), len(names))
    kept = [j for j, name in enumerate(names) if name or (cells[:, j] != "").any()]  # a mark at each line's end
    named = [names[j] or f"unnamed {j}" for j in kept]
    for name, times in Counter(named).items():
        if times > 1:
            raise UserError(f"{path} has {times} columns named {name!r}; give each column a name of its own")
    return pd.DataFrame({name: cells[:, j] for name, j in zip(named, kept, strict=True)}, dtype=object)
