"""Every mistake of the caller: one clear sentence, exit code 2, nothing half written."""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from nastavnik.cli import main


def run(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str]:
    with pytest.raises(SystemExit) as stop:
        main([str(w) for w in words])
    lines = [x for x in capsys.readouterr().err.splitlines() if x.startswith("nastavnik: ")]
    assert isinstance(stop.value.code, int)
    return stop.value.code, "\n".join(lines)


def refused(capsys: pytest.CaptureFixture[str], sentence: str, *words: object) -> None:
    code, said = run(capsys, *words)
    assert code == 2
    assert sentence in said
    assert said.count("\n") == 0


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def table(**columns: object) -> Path:
    pd.DataFrame(columns).to_csv("t.csv", index=False)
    return Path("t.csv")


GOOD = {"a": np.arange(60) % 7 + 0.5, "b": ["x", "y", "z"] * 20}


@pytest.mark.parametrize(
    ("columns", "words", "sentence"),
    [
        ({**GOOD, "price": 1.0}, ["--target", "price"], "the target 'price' has 1 class, '1', in every row"),
        ({**GOOD, "price": np.nan}, ["--target", "price"], "every cell of the target 'price' is missing"),
        ({**GOOD, "p": [*np.arange(10.0), *[np.nan] * 50]}, ["--target", "p"], "10 rows have a target 'p'; at least 20 are needed"),
        ({**GOOD, "price": 1.0}, ["--target", "prise"], "no column 'prise'; did you mean 'price'?"),
        (GOOD, [], "which column is to be predicted? Name it with --target"),
        ({"a": np.arange(19) / 2, "b": np.arange(19) % 3}, ["--target", "b"], "19 rows; at least 20 are needed"),
        ({**GOOD, "t": [f"free words {i} here" for i in range(60)]}, ["--target", "t"], "is free text (60 distinct values"),
        ({"b": ["x", "y", "z"] * 20, "id": [f"{i:07x}" for i in range(60)]}, ["--target", "b"], "no column is left to predict 'b' from"),
        ({"a": range(60), "b": ["x", "y"] * 30}, ["--target", "b", "--picture-size", "8"], "--picture-size is for pictures"),
        (GOOD, ["--target", "b", "--kind", "a=nmber"], "no kind 'nmber'; did you mean 'number'?"),
        (GOOD, ["--target", "b", "--kind", "a"], "--kind 'a' is no COLUMN=KIND"),
        (GOOD, ["--target", "b", "--drop", "aa"], "--drop names a column 'aa' that is not there; did you mean 'a'?"),
        (GOOD, ["--target", "b", "--group", "c"], "--group names a column 'c' that is not there"),
        (GOOD, ["--target", "b", "--time", "b"], "--time b: it holds no dates or numbers"),
        ({**GOOD, "s": "x"}, ["--target", "b", "--split-column", "s"], "says 'x' in row 1; it must say train, validation or test"),
        (GOOD, ["--target", "b", "--group", "a", "--time", "a"], "exclude each other; give one"),
        (GOOD, ["--target", "b", "--task", "regression"], "--task regression needs numbers, but the target 'b' is a category"),
        (GOOD, ["--target", "a", "--task", "count"], "--task count needs whole numbers"),
        (GOOD, ["--target", "b", "--task", "magic"], "--task must be one of"),
        (GOOD, ["--target", "b", "--set", "optimizer.learning_rat=1"], "no setting 'optimizer.learning_rat' in a recipe; did you mean 'optimizer.learning_rate'?"),
        (GOOD, ["--target", "b", "--set", "optimizer.name=adamww"], "optimizer.name cannot be 'adamww'; did you mean 'adamw'?"),
        (GOOD, ["--target", "b", "--set", "optimizer.learning_rate=fast"], "optimizer.learning_rate must be a number"),
        (GOOD, ["--target", "b", "--set", "epochs=1.5"], "epochs must be a whole number"),
        (GOOD, ["--target", "b", "--set", "network.dropout=1.5"], "network.dropout must be less than 1"),
        (GOOD, ["--target", "b", "--set", "epochs"], "is no NAME=VALUE"),
        (GOOD, ["--target", "b", "--set", "network.width=-5"], "network.width cannot be -5"),
        (GOOD, ["--target", "b", "--set", "batch_size=1"], "batch_size must be a whole number of at least 2"),
        (GOOD, ["--target", "b", "--set", "optimizer.beta1=abc"], "optimizer.beta1 must be a number"),
        (GOOD, ["--target", "b", "--seed", "123456789012"], "--seed must be less than 2147483648"),
        ({**GOOD, "p": np.arange(60.0) - 5}, ["--target", "p", "--set", "preparation.target=log"], "needs values above 0"),
        ({**GOOD, "d": np.arange(60.0)}, ["--target", "b", "--time", "d", "--folds", "3"], "with --time a hold-out is used"),
        (GOOD, ["--target", "b", "--kind", "b=boolean"], "the column holds 3 different values, not two"),
        (GOOD, ["--target", "b", "--family", "mpl"], "no family 'mpl'; did you mean 'mlp'?"),
        (GOOD, ["--target", "b", "--budget", "soon"], "--budget 'soon' is no span of time; write 40s, 2m or 1h"),
        (GOOD, ["--target", "b", "--budget", "0s"], "is no span of time"),
        (GOOD, ["--target", "b", "--networks", "0"], "--networks must be a whole number of at least 1"),
        (GOOD, ["--target", "b", "--seed", "-1"], "--seed must be a whole number of at least 0"),
        (GOOD, ["--target", "b", "--criterion", "guess"], "--criterion cannot be 'guess'; there is validation"),
        (GOOD, ["--target", "b", "--deliver", "singel"], "--deliver cannot be 'singel'; did you mean 'single'?"),
        (GOOD, ["--target", "b", "--device", "gpu"], "there is no device 'gpu'"),
        (GOOD, ["--target", "b", "--folds", "1"], "--folds must be 0"),
        (GOOD, ["--target", "b", "--tets", "1"], "no such option: --tets"),
    ],
)  # fmt: skip
def test_mistakes_in_a_fit(
    columns: dict[str, object], words: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = table(**columns)
    refused(capsys, sentence, "fit", path, "--networks", 2, *words)
    assert sorted(p.name for p in Path().iterdir() if p.name != "runs") == ["t.csv"]
    assert not Path("runs").exists() or not any(Path("runs").iterdir())


@pytest.mark.parametrize(
    ("text", "words", "sentence"),
    [
        (b"", [], "t.csv is empty"),
        (b"a,b\n1,2\n1\n", [], "t.csv line 3 has 1 fields, the header has 2"),
        (b"a,b,a\n1,2,3\n", [], "t.csv has 2 columns named 'a'"),
        (b"a,b\n\x81\x00,1\n", [], "t.csv is in no encoding we can find"),
        (b"a,b\n\xff,1\n", ["--encoding", "utf-8"], "t.csv is not utf-8"),
    ],
)
def test_mistakes_in_a_file(text: bytes, words: list[str], sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("t.csv").write_bytes(text)
    refused(capsys, sentence, "fit", "t.csv", "--target", "b", *words)
    assert not Path("runs").exists() or not any(Path("runs").iterdir())


def test_a_missing_file(capsys: pytest.CaptureFixture[str]) -> None:
    refused(capsys, "there is no file none.csv", "fit", "none.csv")
    refused(capsys, "did you mean 'digits'?", "fit", "digts")
    refused(capsys, "name a table to fit", "fit")


def test_places_that_cannot_be_used(capsys: pytest.CaptureFixture[str]) -> None:
    path = table(**GOOD)
    words = ["fit", path, "--target", "b", "--networks", 1, "--folds", 0]
    Path("mine").mkdir()
    Path("mine/precious.txt").write_text("keep")
    refused(capsys, "holds files that are no run's", *words, "--out", "mine")
    refused(capsys, "holds files that are no run's", *words, "--out", "mine", "--force")
    assert Path("mine/precious.txt").read_text() == "keep"
    refused(capsys, "t.csv is a file; name a folder", *words, "--out", "t.csv")
    assert run(capsys, *words, "--out", "done", "--quiet")[0] == 0
    before = Path("done/model/model.safetensors").read_bytes()
    refused(capsys, "holds a finished run; choose another folder, or replace it with --force", *words, "--out", "done")
    refused(capsys, "no column 'c'", "fit", path, "--target", "c", "--out", "done", "--force")
    assert Path("done/model/model.safetensors").read_bytes() == before
    assert [p.name for p in Path().iterdir() if "replaced" in p.name] == []
    assert run(capsys, *words, "--out", "done", "--force", "--quiet", "--seed", 5)[0] == 0
    assert Path("done/model/model.safetensors").read_bytes() != before


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_an_unwritable_place(capsys: pytest.CaptureFixture[str]) -> None:
    path = table(**GOOD)
    Path("locked").mkdir(mode=0o500)
    refused(capsys, "cannot write the folder locked/run", "fit", path, "--target", "b", "--out", "locked/run")


def test_a_place_below_a_file_cannot_be_written(capsys: pytest.CaptureFixture[str]) -> None:
    path = table(**GOOD)
    refused(capsys, "cannot write the folder t.csv/run", "fit", path, "--target", "b", "--out", "t.csv/run")


def test_an_unfinished_run_names_resume_and_force(capsys: pytest.CaptureFixture[str]) -> None:
    path = table(**GOOD)
    Path("half").mkdir()
    Path("half/run.json").write_text('{"format_version": 1, "asked": {}, "status": "running"}')
    refused(
        capsys, "go on with 'nastavnik fit --resume half', or start anew with --force", "fit", path, "--out", "half"
    )
    refused(capsys, "there is no model in half; give the folder of a finished run", "predict", "half", path)


def test_mistakes_in_predictions(capsys: pytest.CaptureFixture[str]) -> None:
    path = table(**GOOD)
    assert run(capsys, "fit", path, "--target", "b", "--networks", 1, "--folds", 0, "--out", "r", "--quiet")[0] == 0
    pd.DataFrame({"aa": [1.5]}).to_csv("lacking.csv", index=False)
    refused(capsys, "lacks the column 'a'; did you mean 'aa'?", "predict", "r", "lacking.csv", "--out", "p.csv")
    pd.DataFrame({"a": ["1.5", "much"]}).to_csv("words.csv", index=False)
    refused(capsys, "column 'a' holds numbers, but row 2 says 'much'", "predict", "r", "words.csv", "--out", "p.csv")
    refused(capsys, "there is no file none.csv", "predict", "r", "none.csv")
    refused(capsys, "must end in .csv or .parquet", "predict", "r", path, "--out", "p.xls")
    refused(capsys, "there is no model in none", "predict", "none", path)
    assert not Path("p.csv").exists()
    Path("p.csv").write_text("precious")
    refused(
        capsys,
        "p.csv is already there; choose another, or replace it with --force",
        "predict",
        "r",
        path,
        "--out",
        "p.csv",
    )
    assert Path("p.csv").read_text() == "precious"
    refused(
        capsys,
        "only --budget or --networks may be given beside it, not --deliver",
        "fit",
        "--resume",
        "r",
        "--deliver",
        "single",
    )
    Path("r/model/model.safetensors").write_bytes(b"cut")
    refused(capsys, "model.safetensors cannot be read", "predict", "r", path)
