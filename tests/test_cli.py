import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

from nastavnik.cli import main

COMMAND = [sys.executable, "-m", "nastavnik"]


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from nastavnik.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'pandas', 'numpy', 'sklearn', 'optuna', 'plotly'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "fit" in done.stdout


def test_fit_then_predict(
    houses_csv: Path, houses: pd.DataFrame, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    with pytest.raises(SystemExit) as stop:
        main(["fit", str(houses_csv), "--target", "town", "--networks", "2", "--out", str(run), "--json"])
    assert stop.value.code == 0
    shown = capsys.readouterr()
    assert json.loads(shown.out)["task"]["target"] == "town"
    assert "nastavnik predict" in shown.err
    houses.loc[3, "garden"] = ""
    houses.drop(columns="town").to_csv(tmp_path / "new.csv", index=False)
    with pytest.raises(SystemExit) as stop:
        main(["predict", str(run), str(tmp_path / "new.csv"), "--out", str(tmp_path / "p.csv")])
    assert stop.value.code == 0
    table = pd.read_csv(tmp_path / "p.csv")
    assert list(table.columns) == ["prediction", "p_Bonn", "p_Kiel", "p_Ulm"]
    assert len(table) == len(houses)
    assert "garden: missing cells" in capsys.readouterr().err


def test_an_unseen_category_is_a_warning(
    houses_csv: Path, houses: pd.DataFrame, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(
            [
                "fit",
                str(houses_csv),
                "--target",
                "price",
                "--networks",
                "1",
                "--folds",
                "0",
                "--out",
                str(tmp_path / "r"),
                "--quiet",
            ]
        )
    houses.loc[0, "town"] = "Atlantis"
    houses.to_csv(tmp_path / "new.csv", index=False)
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        main(["predict", str(tmp_path / "r"), str(tmp_path / "new.csv")])
    assert stop.value.code == 0
    shown = capsys.readouterr()
    assert "town: 1 rows hold a category that training never saw" in shown.err
    assert shown.out.startswith("prediction,low,high")


def test_resuming_a_finished_run_does_nothing(
    houses_csv: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = str(tmp_path / "r")
    with pytest.raises(SystemExit):
        main(["fit", str(houses_csv), "--target", "price", "--networks", "1", "--folds", "0", "--out", run, "--quiet"])
    before = {p: p.stat().st_mtime_ns for p in Path(run).rglob("*")}
    with pytest.raises(SystemExit) as stop:
        main(["fit", "--resume", run])
    assert stop.value.code == 0
    assert "is finished" in capsys.readouterr().err
    assert {p: p.stat().st_mtime_ns for p in Path(run).rglob("*")} == before


def start(*words: str, cwd: Path) -> subprocess.Popen[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen([*COMMAND, *words], cwd=cwd, env=environment, stderr=subprocess.PIPE, text=True)


def test_ctrl_c_finishes_with_the_best_so_far(tmp_path: Path) -> None:
    process = start("fit", "breast_cancer", "--budget", "10m", "--out", "r", "--folds", "0", cwd=tmp_path)
    assert process.stderr is not None
    for line in process.stderr:
        if "40%" in line:
            process.send_signal(signal.SIGINT)
            break
    rest = process.stderr.read()
    process.stderr.close()
    assert process.wait(timeout=120) == 0, rest
    result = json.loads((tmp_path / "r" / "result.json").read_text())
    assert result["test"]["accuracy"]["value"] > 0.8
    assert json.loads((tmp_path / "r" / "run.json").read_text())["status"] == "interrupted"


def test_a_killed_run_is_resumed_from_its_checkpoint(tmp_path: Path) -> None:
    few = ["--folds", "0", "--set", "epochs=5"]
    process = start("fit", "iris", "--networks", "40", "--out", "r", *few, cwd=tmp_path)
    deadline = time.monotonic() + 120
    while not (tmp_path / "r" / "checkpoint" / "search.json").exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.kill()
    process.wait()
    assert process.stderr is not None
    process.stderr.close()
    assert json.loads((tmp_path / "r" / "run.json").read_text())["status"] == "running"
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    for words in (
        ["fit", "--resume", "r", "--quiet"],
        ["fit", "iris", "--networks", "40", "--out", "whole", *few, "--quiet"],
    ):
        subprocess.run([*COMMAND, *words], cwd=tmp_path, env=environment, check=True)
    first, second = ((tmp_path / n / "model" / "model.safetensors").read_bytes() for n in ("r", "whole"))
    assert first == second


def test_the_folder_exists_before_anything_heavy_is_imported(tmp_path: Path) -> None:
    code = (
        "import sys, builtins\n"
        "real = builtins.__import__\n"
        "def watched(name, *rest, **named):\n"
        "    if name.split('.')[0] in ('torch', 'pandas', 'sklearn'):\n"
        "        import pathlib; sys.exit(0 if pathlib.Path('r/run.json').exists() else f'{name} came before run.json')\n"
        "    return real(name, *rest, **named)\n"
        "builtins.__import__ = watched\n"
        "from nastavnik.cli import main\n"
        "main(['fit', 'iris', '--networks', '1', '--out', 'r'])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
