"""The runs in a folder: every status, what a damaged one says, and the command."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import nastavnik
from nastavnik.cli import main
from nastavnik.errors import UserError
from nastavnik.runs import RunFolder, runs_in


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run, one whose process is gone, one with a changed number, one without test rows, and other files."""
    place = tmp_path_factory.mktemp("night")
    nastavnik.fit("iris", networks=2, folds=0, settings={"epochs": 2}, out=place / "a-good")
    nastavnik.fit(
        "iris", networks=1, folds=0, test=0.0, family="linear", settings={"epochs": 2}, out=place / "b-untested"
    )
    RunFolder.create(place / "c-killed", {"source": "houses.csv", "target": "price"}).release()
    shutil.copytree(place / "a-good", place / "d-damaged")
    result = place / "d-damaged" / "result.json"
    result.write_text(result.read_text().replace('"networks": 2', '"networks": 3'))
    (place / "notes.txt").write_text("mine")
    (place / "empty").mkdir()
    return place


def test_each_run_is_told_as_it_stands(place: Path) -> None:
    runs = {Path(r["run"]).name: r for r in runs_in(place)}
    assert {name: r["status"] for name, r in runs.items()} == {
        "a-good": "finished", "b-untested": "finished", "c-killed": "killed", "d-damaged": "damaged",
    }  # fmt: skip
    result = json.loads((place / "a-good" / "result.json").read_text())
    good = runs["a-good"]
    assert {k: good[k] for k in ("value", "low", "high")} == result["test"]["accuracy"]
    assert (good["score"], good["part"], good["networks"]) == ("accuracy", "test", 2)
    assert good["best_baseline"] == max(b["test"]["accuracy"]["value"] for b in result["baselines"].values())
    untested = json.loads((place / "b-untested" / "result.json").read_text())
    assert runs["b-untested"]["value"] == untested["validation"]["accuracy"]["value"]
    assert (runs["b-untested"]["part"], runs["b-untested"]["best_baseline"]) == ("validation", None)
    assert (runs["c-killed"]["target"], runs["c-killed"]["value"]) == ("price", None)
    assert "result.json is damaged" in runs["d-damaged"]["problem"]
    assert [r["run"] for r in runs_in(place / "a-good")] == [str(place / "a-good")]


def test_one_at_work_is_running(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path / "now", {"source": "iris"})
    assert [r["status"] for r in runs_in(tmp_path)] == ["running"]
    folder.release()
    assert [r["status"] for r in runs_in(tmp_path)] == ["killed"]


def test_the_command(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def said(*words: str) -> str:
        with pytest.raises(SystemExit) as ended:
            main(["runs", *words])
        assert ended.value.code == 0
        return capsys.readouterr().out

    lines = said(str(place)).splitlines()
    assert [line.split()[0] for line in lines[1:5]] == [r["run"] for r in runs_in(place)]
    assert any("result.json is damaged" in line for line in lines[5:])
    assert json.loads(said(str(place), "--json")) == runs_in(place)
    assert said(str(tmp_path)).strip() == f"there is no run in {tmp_path}"
    with pytest.raises(UserError, match=r"there is no folder .*nowhere; name the one that holds your runs"):
        runs_in(tmp_path / "nowhere")


def test_it_imports_neither_tables_nor_torch(place: Path) -> None:
    code = f"import sys; from nastavnik.runs import runs_in; runs_in({str(place)!r}); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"torch", "pandas", "scipy", "sklearn"} & set(done.stdout.split())
