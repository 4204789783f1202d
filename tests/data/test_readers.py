"""Files as people have them: each is read as the same small table."""

import bz2
import gzip
import json
import lzma
import sqlite3
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from nastavnik.data import as_frame, read_source
from nastavnik.errors import UserError

FRAME = pd.DataFrame({"a": [1.5, 2.5, 3.5, 4.5], "b": [10, 20, 30, 40], "c": ["x", "y, z", "x", "w"]})
WORDS = [["1.5", "10", "x"], ["2.5", "20", "y, z"], ["3.5", "30", "x"], ["4.5", "40", "w"]]
CSV = 'a,b,c\n1.5,10,x\n2.5,20,"y, z"\n3.5,30,x\n4.5,40,w\n'


def cells(path: Path | str, **options: object) -> tuple[list[str], list[list[str]]]:
    frame = read_source(str(path), **options).frame  # type: ignore[arg-type]
    return [str(c) for c in frame.columns], frame.astype(str).to_numpy().tolist()


def put(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    "text",
    [
        CSV,
        CSV.replace("\n", "\r\n"),
        "sep=,\n" + CSV,
        "# made by hand\n# twice\n" + CSV,
        "A small table\n\n" + CSV,
        CSV.replace("2.5", "\n,,\n2.5"),
        ' a , b , c \n1.5 , 10,x\n2.5,20,"y, z"\n3.5,30,x\n4.5,40,w\n',
        "\n".join(line + "," for line in CSV.splitlines()),
        'a;b;c\n1.5;"10";x\n2.5;"20";"y, z"\n3.5;30;"x"\n"4.5";40;w\n',
        "a\tb\tc\n1.5\t10\tx\n2.5\t20\ty, z\n3.5\t30\tx\n4.5\t40\tw\n",
        "a|b|c\n1.5|10|x\n2.5|20|y, z\n3.5|30|x\n4.5|40|w\n",
        'a b c\n1.5   10 x\n 2.5 20  "y, z"\n3.5 30 x\n4.5 40 w\n',
        '"a;b;c"\n"1.5;10;x"\n"2.5;20;y, z"\n"3.5;30;x"\n"4.5;40;w"\n',
        CSV + "a,b,c\n",
        "# a,b,c\n" + CSV.split("\n", 1)[1],
    ],
)
def test_one_table_however_it_is_written(tmp_path: Path, text: str) -> None:
    assert cells(put(tmp_path / "t.csv", text)) == (["a", "b", "c"], WORDS)


def test_packed_text(tmp_path: Path) -> None:
    for suffix, pack in ((".gz", gzip.compress), (".bz2", bz2.compress), (".xz", lzma.compress)):
        path = tmp_path / f"t.csv{suffix}"
        path.write_bytes(pack(CSV.encode()))
        assert cells(path) == (["a", "b", "c"], WORDS)
        path.write_bytes(path.read_bytes()[:-9])
        with pytest.raises(UserError, match=f"is no whole {suffix} file"):
            read_source(path)
    with zipfile.ZipFile(tmp_path / "t.zip", "w") as archive:
        archive.writestr("inner/t.csv", CSV)
        archive.writestr("readme.md", "words")
    assert cells(tmp_path / "t.zip") == (["a", "b", "c"], WORDS)
    with zipfile.ZipFile(tmp_path / "t.zip", "a") as archive:
        archive.writestr("other.csv", "p,q\n1,2\n")
    with pytest.raises(UserError, match=r"holds 2 tables .*; name one: .*::NAME"):
        read_source(tmp_path / "t.zip")
    assert cells(f"{tmp_path / 't.zip'}::other.csv")[0] == ["p", "q"]


def test_typed_files(tmp_path: Path) -> None:
    FRAME.to_parquet(tmp_path / "t.parquet")
    FRAME.to_feather(tmp_path / "t.feather")
    FRAME.to_json(tmp_path / "t.jsonl", orient="records", lines=True)
    FRAME.to_json(tmp_path / "t.json", orient="records")
    FRAME.to_excel(tmp_path / "t.xlsx", index=False)
    FRAME.to_excel(tmp_path / "t.ods", index=False)
    for suffix in ("parquet", "feather", "jsonl", "json", "xlsx", "ods"):
        found = read_source(tmp_path / f"t.{suffix}").frame
        assert list(found) == ["a", "b", "c"], suffix
        np.testing.assert_array_equal(found["a"].astype(float), FRAME["a"])
        assert found["c"].tolist() == FRAME["c"].tolist()


def test_sheets_and_databases_hold_several_tables(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "t.db") as base:
        FRAME.to_sql("first", base, index=False)
        FRAME.head(2).to_sql("second", base, index=False)
    base.close()
    assert len(read_source(f"{tmp_path / 't.db'}::second").frame) == 2
    with pytest.raises(UserError, match="holds the tables first, second; name one"):
        read_source(tmp_path / "t.db")
    with pd.ExcelWriter(tmp_path / "t.xlsx") as book:
        FRAME.to_excel(book, sheet_name="one", index=False)
        FRAME.head(3).to_excel(book, sheet_name="two", index=False)
    assert len(read_source(f"{tmp_path / 't.xlsx'}::two").frame) == 3
    with pytest.raises(UserError, match="holds 2 sheets"):
        read_source(tmp_path / "t.xlsx")
    with pytest.raises(UserError, match="no sheet 'tow'; did you mean 'two'"):
        read_source(f"{tmp_path / 't.xlsx'}::tow")


def test_damaged_typed_files_are_refused(tmp_path: Path) -> None:
    for suffix in ("parquet", "feather", "xlsx", "ods", "db", "json", "jsonl"):
        path = tmp_path / f"bad.{suffix}"
        path.write_bytes(b"{nonsense" * 30)
        with pytest.raises(UserError, match=f"bad.{suffix}"):
            read_source(path)
    put(tmp_path / "odd.json", json.dumps([1, 2, 3]))
    with pytest.raises(UserError, match="must hold a list of records"):
        read_source(tmp_path / "odd.json")


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("5.1,3.5,setosa\n4.9,3.0,setosa\n6.0,2.2,virginica\n5.5,2.3,setosa\n", False),
        ("5.1,?,1.4\n4.9,3.0,1.4\n6.0,2.2,4.0\n5.5,2.3,4.0\n", False),
        ("5.1,oops,1.4\n4.9,3.0,1.4\n6.0,2.2,4.0\n5.5,2.3,4.0\n", False),
        ("country,1990,1991\nde,40000,41000\nfr,39000,40500\nit,38000,39000\n", True),
        ("name,town\nAnn,Bonn\nBob,Kiel\nCid,Ulm\n", True),
        ("x,y\n1,2\n3,4\n5,6\n", True),
    ],
)
def test_a_header_is_noticed(tmp_path: Path, text: str, named: bool) -> None:
    table = read_source(put(tmp_path / "t.csv", text))
    first = text.split("\n")[0].split(",")
    assert list(table.frame.columns) == (first if named else [str(j) for j in range(len(first))])
    assert len(table.frame) == text.count("\n") - named
    assert named or "has no header line" in table.notes[0]
    assert next(iter(read_source(tmp_path / "t.csv", header=False).frame.columns)) == "0"
    assert next(iter(read_source(tmp_path / "t.csv", header=True).frame.columns)) == first[0]


def test_blank_names_row_names_and_long_fields(tmp_path: Path) -> None:
    frame = read_source(put(tmp_path / "t.csv", ",a,\n1,2,3\n2,3,4\n")).frame
    assert list(frame.columns) == ["unnamed 0", "a", "unnamed 2"]
    frame = read_source(put(tmp_path / "r.csv", "a b\n" + "".join(f"r{i} {i}.0 2\n" for i in range(20)))).frame
    assert list(frame.columns) == ["unnamed 0", "a", "b"]
    long = "word " * 60_000
    assert read_source(put(tmp_path / "l.csv", f'a,b\n1,"{long}"\n2,x\n')).frame["b"][0] == long.strip()


def test_a_broken_byte_does_not_change_the_encoding(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    rows = ["näme,b"] + [f"Köln {i},{i}" for i in range(50)]
    path.write_bytes("\n".join(rows).encode().replace(b"K\xc3\xb6ln 7", b"K\xc3\x28ln 7"))
    table = read_source(path)
    assert list(table.frame.columns) == ["näme", "b"]
    assert table.frame["näme"][0] == "Köln 0"
    assert "1 bytes are no UTF-8 (first in line 9)" in table.notes[0]
    path.write_bytes("näme,b\nKöln,1\n".encode("cp1252"))
    assert "was read as Windows-1252" in read_source(path).notes[0]


def test_tables_in_memory_are_frames() -> None:
    import polars as pl
    import pyarrow as pa

    plain = {"a": [1, 2], "b": ["x", "y"]}
    rows = [{"a": 1, "b": "x"}, {"a": 2, "b": "y"}]
    for table in (plain, rows, pa.table(plain), pl.DataFrame(plain), pd.DataFrame(plain)):
        assert as_frame(table).to_dict("list") == plain
    assert as_frame({"a": 1, "b": "x"}).to_dict("records") == rows[:1]
    assert as_frame(pd.Series({"a": 1, "b": "x"})).to_dict("records") == rows[:1]
    with pytest.raises(UserError, match="must be equally long, but they are a: 2, b: one cell"):
        as_frame({"a": [1, 2], "b": "x"})
    with pytest.raises(UserError, match="rows must be a DataFrame, a dictionary"):
        as_frame(7)


def test_arrow_types(tmp_path: Path) -> None:
    import datetime
    from decimal import Decimal

    import pyarrow as pa
    import pyarrow.parquet as pq

    from nastavnik.kinds import describe_columns

    days = [datetime.date(2020, 1, 1 + i % 28) for i in range(40)]
    table = pa.table(
        {
            "price": pa.array([Decimal(f"{i}.50") for i in range(40)], pa.decimal128(8, 2)),
            "day": pa.array(days, pa.date32()),
            "at": pa.array([datetime.datetime(2020, 1, 1, i % 24, tzinfo=datetime.UTC) for i in range(40)]),
            "word": pa.array([f"w{i % 3}" for i in range(40)]).dictionary_encode(),
        }
    )
    pq.write_table(table, tmp_path / "t.parquet")
    frame = read_source(tmp_path / "t.parquet").frame
    assert [i.kind for i in describe_columns(frame)] == ["number", "date", "date", "category"]
    assert frame["price"].tolist() == [i + 0.5 for i in range(40)]


@pytest.mark.parametrize(
    ("text", "columns", "first"),
    [
        ("name;preis\n" + "".join(f"A{i};{i},5\n" for i in range(60)), ["name", "preis"], ["A0", "0,5"]),
        ("x;y\n" + "".join(f"{i},5;{i},25\n" for i in range(60)), ["x", "y"], ["0,5", "0,25"]),
        ("id;text\n" + "".join(f"{i};hello, dear\n" for i in range(60)), ["id", "text"], ["0", "hello, dear"]),
        (
            "a, b, c\n" + "".join(f'B{i}, "Oslo, NO", {i}\n' for i in range(60)),
            ["a", "b", "c"],
            ["B0", "Oslo, NO", "0"],
        ),
        ("id,t\n" + "".join(f'{i},"he \\"hi, you\\" ok"\n' for i in range(60)), ["id", "t"], ["0", 'he "hi, you" ok']),
        ("a\tb\n" + "".join(f'{i}\t"x\n' if i in (3, 40) else f"{i}\tz\n" for i in range(60)), ["a", "b"], ["0", "z"]),
        (
            "label,0,1,2\n" + "".join(f"{i % 9},{i},{i * 4},{i * 7}\n" for i in range(60)),
            ["label", "0", "1", "2"],
            ["0"] * 4,
        ),
        (
            "".join(f'{i}.0   8   30.5\t"car {i}"\n' for i in range(60)),
            ["0", "1", "2", "3"],
            ["0.0", "8", "30.5", "car 0"],
        ),
        (
            "".join(f"number {i} was very good,{'no' if i % 2 else 'yes'}\n" for i in range(60)),
            ["0", "1"],
            ["number 0 was very good", "yes"],
        ),
        ("# a tool\ntag,n\n" + "".join(f"{['#ai', 'b'][i % 2]},{i}\n" for i in range(60)), ["tag", "n"], ["#ai", "0"]),
        ("# x\nid,t\n" + "".join(f'{i},"one\n# two"\n' for i in range(60)), ["id", "t"], ["0", "one\n# two"]),
        ("Report 2020\n\nregion,n\n" + "".join(f"r{i},{i}\n" for i in range(60)), ["region", "n"], ["r0", "0"]),
    ],
)
def test_what_once_shifted_swallowed_or_lost_rows(
    tmp_path: Path, text: str, columns: list[str], first: list[str]
) -> None:
    found, rows = cells(put(tmp_path / "t.csv", text))
    assert (found, rows[0], len(rows)) == (columns, first, 60)


def test_titles_of_sheets_named_indexes_and_lists(tmp_path: Path) -> None:
    rows = [["Report", None], [None, None], ["code", "share"], *([f"{k:05d}", k / 9] for k in range(40))]
    pd.DataFrame(rows).to_excel(tmp_path / "r.xlsx", header=False, index=False)
    frame = read_source(tmp_path / "r.xlsx").frame
    assert list(frame) == ["code", "share"]
    assert frame["code"][1] == "00001"
    pd.DataFrame({"day": [1, 2], "y": [3, 4]}).set_index("day").to_parquet(tmp_path / "i.parquet")
    assert list(read_source(tmp_path / "i.parquet").frame) == ["day", "y"]
    lists = pd.DataFrame({"v": pd.Series([[1, 250], [3, 400]] * 20)})
    assert read_source(lists).frame["v"][0] == "1|250"
    sparse = pd.DataFrame({"x": pd.Series([0, 0, 1] * 20, dtype="Sparse[int]")})
    assert read_source(sparse).frame["x"].dtype == np.int64
