"""Odd places, words and streams: a sentence, or the way it goes on; never a traceback, a hang or a silent loss."""

import os
import random
import subprocess
import sys
import warnings
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import nastavnik
from nastavnik import UserError
from nastavnik.cli import main
from nastavnik.data import read_source, write_csv
from nastavnik.runs import FitRequest
from nastavnik.space import parse_space, read_space_text

COMMAND = [sys.executable, "-m", "nastavnik"]
FRAME = pd.DataFrame({"a": np.arange(60) % 7 + 0.5, "b": ["x", "y", "z"] * 20})


# Columns


def test_y_joins_a_frame_under_a_free_name() -> None:
    values = np.arange(60.0)
    for y, given, name in [
        (values, FRAME, "target"), (pd.Series(values, name="price"), FRAME, "price"),
        (pd.Series(values, name="a"), FRAME, "target"), (pd.DataFrame({"price": values}), FRAME, "price"),
        (values, FRAME.assign(target=1, target_=2), "target_2"), (values, FRAME.assign(target=1, target_2=3), "target_3"),
    ]:  # fmt: skip
        table = read_source(given, y=y)
        assert table.target == name
        assert list(table.frame.columns) == [*given.columns, name]
        np.testing.assert_array_equal(table.frame[name], values)
        pd.testing.assert_frame_equal(table.frame[list(given.columns)], given)


def test_y_where_it_cannot_be_is_refused() -> None:
    with pytest.raises(UserError, match="same index in another order"):
        read_source(FRAME, y=pd.Series(range(60), index=range(59, -1, -1)))
    with pytest.raises(UserError, match="y goes with inputs in memory"):
        read_source("iris", y=range(150))
    with pytest.raises(UserError, match="y is the target, so that 'a' cannot be"):
        nastavnik.fit(FRAME, np.arange(60), target="a", networks=1)


@pytest.mark.parametrize("asked,sentence", [
    ({"target": "y", "drop": ("y",)}, "the target 'y' is named by --drop too"),
    ({"target": "y", "group": "y"}, "the target 'y' is named by --group too"),
    ({"target": "y", "split": "y"}, "the target 'y' is named by --split-column too"),
    ({"time": "t", "drop": ("t",)}, "--time and --drop name the same column 't'"),
    ({"group": "t", "drop": ("t",)}, "--group and --drop name the same column 't'"),
    ({"split": "t", "drop": ("t",)}, "--split-column and --drop name the same column 't'"),
    ({"drop": ("t",), "kinds": {"t": "number"}}, "--kind says what 't' holds, but --drop takes it"),
    ({"group": "t", "kinds": {"t": "number"}}, "--kind says what 't' holds, but --group takes it"),
])  # fmt: skip
def test_no_column_has_two_roles(asked: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        FitRequest(**asked)


def test_the_target_a_source_names_itself_is_not_dropped_either() -> None:
    with pytest.raises(UserError, match="the target 'target' is named by --drop too"):
        nastavnik.fit("iris", drop=["target"], networks=1)


def test_names_that_are_no_text_are_told() -> None:
    with pytest.raises(UserError, match=r"the name of the column .* holds bytes that are no text"):
        read_source(FRAME.set_axis(pd.Index(["caf\udce9", "b"], dtype=object), axis=1))
    with pytest.raises(UserError, match="a cell of the table holds bytes that are no text"):
        read_source(FRAME.assign(b=pd.Series(["caf\udce9"] * 60, dtype=object)))


# Cells


def test_cells_that_a_spreadsheet_would_run_are_words() -> None:
    risky = ["=SUM(A1)", "+x", "-x", "@x", "\tx", "\rx", " =x"]
    frame = pd.DataFrame({"=name": risky, "number": [-1.5, 2, -3, 4, 5, 6, 7], "kind": pd.Categorical(risky)})
    written = StringIO()
    write_csv(frame, written)
    found = pd.read_csv(StringIO(written.getvalue()), dtype={"kind": str})
    assert list(found.columns) == ["'=name", "number", "kind"]
    assert found["'=name"].tolist() == found["kind"].tolist() == [f"'{cell}".replace("\r", "\n") for cell in risky]
    assert found["number"].tolist() == frame["number"].tolist()
    assert frame["=name"].tolist() == risky  # the caller's frame is left alone
    raw = StringIO()
    write_csv(frame, raw, raw=True)
    assert raw.getvalue() == frame.to_csv(index=False)


@pytest.mark.parametrize("word", ["-1", "+1.5e3", "-0,5", "x=1", "", "'=x"])
def test_words_that_run_nothing_are_left_alone(word: str) -> None:
    written = StringIO()
    write_csv(pd.DataFrame({"a": [word, "b"]}), written)
    assert written.getvalue() == pd.DataFrame({"a": [word, "b"]}).to_csv(index=False)


# Places


@pytest.fixture
def odd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    FRAME.to_csv("t.csv", index=False)
    os.mkfifo("pipe.csv")
    return tmp_path


@pytest.mark.parametrize("words,sentence", [
    (["fit", "x" * 300], "file name too long"), (["fit", "t.csv", "--target", "b", "--out", "x" * 300], "file name too long"),
    (["predict", "x" * 300, "t.csv"], "file name too long"), (["check", "x" * 300], "file name too long"),
    (["compare", "x" * 300], "file name too long"), (["fit", "--resume", "x" * 300], "file name too long"),
    (["fit", "t.csv", "--space", "x" * 300], "file name too long"), (["fit", "pipe.csv"], "is a pipe, a socket or a device"),
    (["fit", "/dev/zero", "--delimiter", ","], "is a pipe, a socket or a device"),
    (["fit", "t.csv", "--space", "/dev/zero"], "is a folder, a pipe or a device"),
    (["fit", "t.csv", "--space", "pipe.csv"], "is a folder, a pipe or a device"),
    (["check", ".", "--baseline", "/dev/zero"], "no findings.json"), (["fit", "caf\udce9.csv"], "holds bytes that are no text"),
    *((["fit", "t.csv", "--target", "b", "--encoding", e], "no encoding") for e in
      ("punycode", "rot13", "idna", "undefined", "base64", "unicode_escape", "", "nonsense")),
    (["fit", "t.csv", "--target", "b", "--threads", "100000"], "--threads must be at most"),
    (["fit", "t.csv", "--target", "b", "--device", "cpu:7"], "there is no device 'cpu:7'"),
    (["fit", "t.csv", "--target", "b", "--device", "cuda:x"], "there is no device 'cuda:x'"),
])  # fmt: skip
def test_odd_places_are_told(words: list[str], sentence: str, odd: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(words)
    assert stop.value.code == 2
    said = [x for x in capsys.readouterr().err.splitlines() if x.startswith("nastavnik: ")]
    assert len(said) == 1
    assert sentence in said[0].lower() or sentence in said[0]
    assert not Path("runs").exists() or not any(Path("runs").iterdir())


@pytest.mark.parametrize(
    "text",
    [
        "[" + ".".join(["a"] * 5000) + "]\nx=1",
        "a=" + "[" * 5000 + "]" * 5000,
        ".".join(["a"] * 900) + "=1",
        "a=" + "9" * 5000,
    ],
)
def test_deep_spaces_are_told(text: str) -> None:
    with pytest.raises(UserError, match=r"nested more than 40 deep|cannot be read"):
        parse_space(text)


def test_huge_spaces_are_told(tmp_path: Path) -> None:
    (tmp_path / "s.toml").write_text("a = 1\n" * 300_000)
    with pytest.raises(UserError, match="larger than 1,000,000 bytes"):
        read_space_text(tmp_path / "s.toml")


# Streams


def shell(line: str, **environment: str) -> subprocess.CompletedProcess[str]:
    words = " ".join(COMMAND)
    return subprocess.run(
        ["bash", "-c", line.replace("nastavnik", words)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environment},
    )


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("line", ["nastavnik --help > /dev/full", "nastavnik --version >&-"])
def test_output_that_is_lost_is_no_success(line: str) -> None:
    done = shell(line)
    assert done.returncode == 2
    assert "what was to be printed is lost" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_reader_that_goes_away_ends_it_as_pipes_do() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "wb") as nobody:
        done = subprocess.run([*COMMAND, "list"], stdout=nobody, stderr=subprocess.PIPE, check=False)
    assert done.returncode == 141
    assert done.stderr == b""


def test_a_terminal_of_ascii_and_python_without_docstrings() -> None:
    plain = shell("nastavnik fit --help")
    assert shell("nastavnik fit --help", PYTHONIOENCODING="ascii").returncode == 0
    assert shell("nastavnik fit --help", PYTHONOPTIMIZE="2").stdout == plain.stdout
    assert "Train a population of networks" in plain.stdout


def test_vocabulary_and_rules_without_docstrings() -> None:
    for words in ("nastavnik list --json", "nastavnik list rules --json"):
        assert shell(words, PYTHONOPTIMIZE="2").stdout == shell(words).stdout != ""


def test_a_fit_leaves_the_callers_states_alone() -> None:
    def states() -> list[Any]:
        return [
            random.getstate(), str(np.random.get_state()), torch.get_rng_state().tolist(), torch.get_default_dtype(),
            torch.get_num_threads(), torch.are_deterministic_algorithms_enabled(), torch.is_grad_enabled(),
            list(warnings.filters), np.geterr(),
        ]  # fmt: skip

    before = states()
    first = nastavnik.fit(FRAME, target="b", networks=1, folds=0, threads=1, settings={"epochs": 1})
    assert states() == before
    torch.set_default_dtype(torch.float64)
    try:
        with torch.no_grad():
            torch.manual_seed(5)
            second = nastavnik.fit(FRAME, target="b", networks=1, folds=0, threads=1, settings={"epochs": 1})
            assert torch.get_default_dtype() == torch.float64
            assert not torch.is_grad_enabled()
    finally:
        torch.set_default_dtype(torch.float32)
    pd.testing.assert_frame_equal(first.model.predict(FRAME), second.model.predict(FRAME))
