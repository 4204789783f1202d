import csv
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nastavnik.data._csv import read_csv
from nastavnik.errors import UserError

# Printable text without the characters that a cell is stripped of at its ends, or that make a line blank.
_CELL = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs", "Zs", "Zl", "Zp")), min_size=1, max_size=8)


def write(path: Path, text: str, encoding: str = "utf-8") -> Path:
    path.write_bytes(text.encode(encoding))
    return path


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(
    rows=st.lists(st.lists(_CELL, min_size=3, max_size=3), min_size=3, max_size=8),
    delimiter=st.sampled_from([",", ";", "\t", "|"]),
)
def test_a_written_table_is_read_back(tmp_path: Path, rows: list[list[str]], delimiter: str) -> None:
    path = tmp_path / "t.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, delimiter=delimiter, quoting=csv.QUOTE_ALL)
        writer.writerow(["a", "b", "c"])
        writer.writerows(rows)
    frame = read_csv(path, delimiter=delimiter, header=True)
    assert list(frame.columns) == ["a", "b", "c"]
    assert frame.to_numpy().tolist() == rows


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_the_delimiter_is_found(tmp_path: Path, delimiter: str) -> None:
    lines = ["x", "1,5"] if delimiter != "," else ["x", "1.5"]
    text = "\n".join([delimiter.join(["a", "b", "c"])] + [delimiter.join([str(i), lines[1], "w"]) for i in range(5)])
    frame = read_csv(write(tmp_path / "t.csv", text))
    assert list(frame.columns) == ["a", "b", "c"]
    assert frame["b"].tolist() == [lines[1]] * 5


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_the_encoding_is_found(tmp_path: Path, encoding: str) -> None:
    frame = read_csv(write(tmp_path / "t.csv", "näme,b\nKöln,1\nÜlm,2\n", encoding))
    assert list(frame.columns) == ["näme", "b"]
    assert frame["näme"].tolist() == ["Köln", "Ülm"]


def test_quotes_hold_delimiters_and_line_ends(tmp_path: Path) -> None:
    frame = read_csv(write(tmp_path / "t.csv", 'a,b\n"x, y","two\nlines"\n"say ""hi""",2\n'))
    assert frame.to_numpy().tolist() == [["x, y", "two\nlines"], ['say "hi"', "2"]]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "is empty"),
        ("   \n \n", "is empty"),
        ("a,b\n", "no rows"),
        ("a,b\n1,2\n3\n", "line 3 has 1 fields, the header has 2"),
        ("a,b\n1,2\n3,4,5\n", "line 3 has 3 fields"),
        ("a,b,a\n1,2,3\n", "2 columns named 'a'"),
    ],
)
def test_bad_tables_are_refused_in_one_sentence(tmp_path: Path, text: str, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        read_csv(write(tmp_path / "t.csv", text))


def test_an_unreadable_encoding_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(b"a,b\n\x81\x8d,\x00\n")
    with pytest.raises(UserError, match="no encoding we can find"):
        read_csv(path)
    with pytest.raises(UserError, match="is not ascii: byte 4"):
        read_csv(path, encoding="ascii")
    with pytest.raises(UserError, match="there is no encoding 'klingon'"):
        read_csv(path, encoding="klingon")
