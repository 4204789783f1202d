"""Damaged, half-old and failed runs: nothing that looks valid comes of what was damaged."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file

import nastavnik
from nastavnik.cli import main
from nastavnik.data import read_source
from nastavnik.errors import InterruptedEarly, UserError
from nastavnik.files import write_json
from nastavnik.files.records import SEAL
from nastavnik.schemas import MODEL, RUN

ROOT = Path(__file__).resolve().parents[2]
QUICK: dict[str, Any] = {
    "networks": 3, "folds": 0, "family": "mlp", "threads": 1, "ladder": "off", "settings": {"epochs": 3},
}  # fmt: skip
CHANGES: dict[str, Callable[[Any], Any]] = {
    "model.json": lambda record: record["members"][0].update(temperature=2.0),
    "run.json": lambda record: record["asked"].update(seed=7),
    "result.json": lambda record: record["validation"]["accuracy"].update(value=0.123),
    "search.json": lambda record: record["history"][0].update(score=-9.0),
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("records") / "run"
    nastavnik.fit("iris", out=out, **QUICK)
    return out


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "run"))


def changed(path: Path, change: Callable[[Any], Any]) -> None:
    record = json.loads(path.read_text())
    change(record)
    path.write_text(json.dumps(record))


def without_hash(run: Path) -> Path:
    """The model's tensors, whose hash its record does not know."""
    path = run / "model" / "model.json"
    write_json(path, {**json.loads(path.read_text()), "tensors_sha256": None}, MODEL)
    return run / "model" / "model.safetensors"


@pytest.mark.parametrize("job", ["predict", "check", "compare", "resume", "show"])
@pytest.mark.parametrize("name", list(CHANGES))
def test_no_number_is_believed_that_was_changed(run: Path, name: str, job: str, capsys: Any) -> None:
    read_by = {"model.json": ["predict"], "result.json": ["check", "compare", "resume", "show"]}
    if job not in read_by.get(name, ["check", "compare", "resume"]):
        pytest.skip("this job does not read it")
    (path,) = run.rglob(name)
    changed(path, CHANGES[name])
    jobs: dict[str, Callable[[], Any]] = {
        "predict": lambda: nastavnik.predict(run, "iris"),
        "check": lambda: nastavnik.check(run),
        "compare": lambda: nastavnik.compare(run),
        "resume": lambda: nastavnik.fit(resume=run, networks=5),
    }
    says = f"{name} is damaged: it was changed after it was written"
    if job == "show":
        with pytest.raises(SystemExit):
            main(["fit", "--resume", str(run), "--json"])
        shown = capsys.readouterr()
        assert says in shown.err
        assert shown.out == ""
    else:
        with pytest.raises(UserError, match=says):
            jobs[job]()


def test_new_weights_under_an_old_record_are_refused(run: Path, tmp_path: Path) -> None:
    nastavnik.fit("iris", out=tmp_path / "new", **{**QUICK, "seed": 5})
    shutil.copy(tmp_path / "new" / "model" / "model.safetensors", run / "model")
    with pytest.raises(UserError, match=r"model.safetensors cannot be read .it is damaged or belongs to another run"):
        nastavnik.Model.load(run)


def test_a_checkpoint_under_another_runs_record_is_refused(run: Path, tmp_path: Path) -> None:
    nastavnik.fit("iris", out=tmp_path / "new", **{**QUICK, "seed": 5})
    shutil.copy(tmp_path / "new" / "run.json", run)
    for path in (run / "result.json", run / "networks.csv", run / "report.html"):
        path.unlink()  # as a kill leaves it
    for job in (
        lambda: nastavnik.compare(run, criteria="validation"),
        lambda: nastavnik.check(run),
        lambda: nastavnik.fit(resume=run, networks=5),
    ):
        with pytest.raises(UserError, match="it was written for other rows, or with another seed"):
            job()


def test_what_a_kill_left_between_is_finished_by_the_next_command(run: Path, finished: Path) -> None:
    commit = run / ".nastavnik-commit"
    (commit / "model").mkdir(parents=True)
    for name in ("model/model.json", "result.json"):  # the rest had taken its place
        (run / name).rename(commit / name)
    pd.testing.assert_frame_equal(nastavnik.predict(run, "iris"), nastavnik.predict(finished, "iris"))
    assert not commit.exists()
    assert (run / "result.json").read_bytes() == (finished / "result.json").read_bytes()


def test_a_model_of_before_kinds_is_refused_in_a_sentence(run: Path) -> None:
    changed(run / "model" / "model.json", lambda record: record.update(format_version=2))
    with pytest.raises(UserError, match=r"has format_version 2, of an earlier Nastavnik; this one reads 4: fit again"):
        nastavnik.Model.load(run)


def first_weight(tensors: dict[str, torch.Tensor]) -> str:
    return next(n for n in sorted(tensors) if n.startswith("members.") and tensors[n].ndim == 2)


def damaged_tensors(way: str, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    name = first_weight(tensors)
    weight = tensors.pop(name)
    if way in ("nan", "inf"):
        weight[0, 0] = float(way)
    new = {"shape": weight[None], "type": weight.double(), "transposed": weight.T.contiguous()}.get(way, weight)
    if way == "more":
        tensors["members.0.more"] = torch.ones(1)
    elif way == "stranger":
        tensors["members.9.x"] = torch.ones(1)
    elif way == "preparation":
        tensors["preparation.centre"] = torch.ones(99, dtype=torch.float64)
    return tensors if way == "gone" else {**tensors, f"{name}x" if way == "name" else name: new}


@pytest.mark.parametrize(
    ("way", "says"),
    [
        ("nan", "1 numbers of members.0.* are not finite"),
        ("inf", "1 numbers of members.0.* are not finite"),
        ("shape", r"must be torch.float32 \[.*not torch.float32 \[1, "),
        ("type", "must be torch.float32 .*not torch.float64"),
        ("gone", "is missing"),
        ("name", "is missing"),
        ("more", "members.0.more is none of its network's"),
        ("stranger", "nothing in model.json has the tensor members.9.x"),
        ("preparation", "preparation.centre does not belong to 4 columns"),
    ],
)
def test_tensors_must_match_their_record(run: Path, way: str, says: str) -> None:
    path = without_hash(run)
    save_file(damaged_tensors(way, load_file(path)), path)
    with pytest.raises(UserError, match=f"model.safetensors is damaged: .*{says}"):
        nastavnik.Model.load(run)


def test_newer_records_are_refused(run: Path) -> None:
    changed(run / "model" / "model.json", lambda record: record.update(format_version=5))
    with pytest.raises(UserError, match=r"model.json has format_version 5, this Nastavnik reads up to 4: update it"):
        nastavnik.Model.load(run)


def test_a_model_says_which_value_is_wrong(run: Path) -> None:
    record = json.loads((run / "model" / "model.json").read_text())
    record["members"][0]["temperature"] = "hot"
    write_json(run / "model" / "model.json", record, MODEL)
    with pytest.raises(UserError, match=r"members\[0\].temperature must be a finite number above 0, not 'hot'"):
        nastavnik.Model.load(run)


@pytest.mark.parametrize("way", ["value", "gone"])
def test_a_part_of_the_trace_that_was_changed_is_not_believed(run: Path, way: str) -> None:
    before = sorted(p.name for p in (run / "trace").iterdir())
    part = run / "trace" / "part-00000.parquet"
    table = pd.read_parquet(part)
    table.loc[0, "value"] = 0.5
    table.to_parquet(part, index=False) if way == "value" else part.unlink()
    says = "part-00000.parquet cannot be read .it is damaged" if way == "value" else "there is no part-00000.parquet"
    with pytest.raises(UserError, match=says):
        nastavnik.fit(resume=run, networks=5)
    if way == "value":
        assert sorted(p.name for p in (run / "trace").iterdir()) == before  # a refused resume removes nothing


def test_a_fit_without_a_finite_loss_leaves_what_check_needs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    settings = {"epochs": 3, "optimizer.learning_rate": 1e30}
    with pytest.raises(InterruptedEarly, match=r"none of .* recipes reached a finite loss; 'nastavnik check"):
        nastavnik.fit("iris", out=out, **{**QUICK, "settings": settings})
    assert json.loads((out / "run.json").read_text())["status"] == "failed"
    assert set(pd.read_csv(out / "networks.csv")["status"]) == {"diverged"}
    assert list((out / "trace").glob("part-*.parquet"))
    found = nastavnik.check(out)
    assert found.findings[0].rule == "diverged" or "rate_too_large" in {f.rule for f in found.findings}
    with pytest.raises(UserError, match="there is no model"):
        nastavnik.predict(out, "iris")
    with pytest.raises(UserError, match=r"no network of .* reached a finite loss"):
        nastavnik.compare(out)
    nastavnik.fit("iris", out=out, **QUICK)  # takes its place without force
    assert json.loads((out / "run.json").read_text())["status"] == "finished"
    assert not (out / "findings.json").exists()


@pytest.mark.parametrize("force", [False, True])
def test_a_refused_start_leaves_the_place_as_it_was(
    run: Path, force: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CC", raising=False)
    out = run if force else tmp_path / "runs" / "new"
    before = {str(p): p.read_bytes() for p in out.rglob("*") if p.is_file()}
    with pytest.raises(ValueError, match="no C compiler"):
        nastavnik.fit("iris", out=out, engine="compiled", force=force, **QUICK)
    assert {str(p): p.read_bytes() for p in out.rglob("*") if p.is_file()} == before
    assert out.exists() == force
    assert (tmp_path / "runs").exists() is False


def test_a_look_at_the_test_rows_is_counted_before_it_happens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from nastavnik import model

    def stopped(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(model.Model, "predictive", stopped)
    with pytest.raises(KeyboardInterrupt):
        nastavnik.fit("iris", out=tmp_path / "run", **QUICK)
    monkeypatch.undo()
    assert json.loads((tmp_path / "run" / "run.json").read_text())["test_touches"] == 1
    assert nastavnik.fit(resume=tmp_path / "run").result["test_touches"] == 2


def test_a_comparison_that_was_killed_is_counted(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from nastavnik.jobs import _compare

    def stopped(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(_compare, "_tested", stopped)
    with pytest.raises(KeyboardInterrupt):
        nastavnik.compare(run, criteria="validation")
    assert json.loads((run / "result.json").read_text())["test_touches"] == 2


def test_a_run_that_its_owner_has_changed_is_read_without_its_seal(run: Path) -> None:
    record = json.loads((run / "run.json").read_text())
    del record[SEAL]
    (run / "run.json").write_text(json.dumps(record))
    assert len(read_source("iris").frame) == len(nastavnik.predict(run, "iris"))
    write_json(run / "run.json", {**record, "status": "running"}, RUN)
    with pytest.raises(UserError, match="is no finished run"):
        nastavnik.compare(run)


@pytest.mark.parametrize(
    "words",
    [
        ["mutations.py", "--count", "40", "--processes", "1"],
        pytest.param(["mutations.py", "--count", "2000", "--processes", "2"], marks=pytest.mark.slow),
        pytest.param(["kills.py", "--renamings", "60", "--random", "60"], marks=pytest.mark.slow),
    ],
    ids=lambda words: " ".join(words),
)
def test_damage_and_kills(words: list[str]) -> None:
    script, *options = words
    ended = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / script), *options], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr[-2000:]
