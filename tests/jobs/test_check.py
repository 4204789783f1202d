"""check: a finished run looked at again, its advice tried, its faces."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from commands import said

import nastavnik
from nastavnik import UserError
from nastavnik.cli import main
from nastavnik.files import write_json
from nastavnik.schemas import RUN, SEARCH


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "slow"
    settings: dict[str, Any] = {"optimizer.learning_rate": 1e-6, "epochs": 40, "batch_size": 32}
    nastavnik.fit("iris", networks=4, folds=0, family="mlp", out=folder, settings=settings)
    return folder


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "run"))


def test_a_rate_too_small_is_found_tried_and_written_down(run: Path) -> None:
    found = nastavnik.check(run, try_rule="rate_too_small", pairs=3)
    finding = next(f for f in found.findings if f.rule == "rate_too_small")
    assert finding.root is None
    assert finding.trial is not None
    assert finding.trial["verdict"] == "take it"
    assert finding.trial["changes"]["optimizer.learning_rate"] > 1e-5
    assert finding.trial["pairs"] == 3
    record = json.loads((run / "findings.json").read_text())
    assert record["format_version"] == 1
    fields = {
        "rule",
        "severity",
        "title",
        "layer",
        "steps",
        "evidence",
        "explanation",
        "advice",
        "trial",
        "source",
        "root",
    }
    assert all(fields <= set(f) for f in record["findings"])
    assert len(record["others"]) == 3
    page = (run / "report.html").read_text()
    assert page.count('id="mentor"') == 1
    assert "The learning rate is too small" in page
    assert "Tried here" in page
    nastavnik.check(run)  # again: the section is replaced, not repeated
    assert (run / "report.html").read_text().count('id="mentor"') == 1


def test_the_command_line(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = said(capsys, "check", str(run), "--json", "--quiet", "--fail-level", "error")
    assert code == 3
    assert "rate_too_small" in [f["rule"] for f in json.loads(out)["findings"]]
    code, out, _ = said(
        capsys, "check", str(run), "--quiet", "--baseline", str(run / "findings.json"), "--fail-level", "info"
    )
    assert code == 0
    assert "known by the baseline" in out
    _, out, _ = said(capsys, "check", str(run), "--quiet", "--suppress", "rate_too_small,chance_level")
    assert "(rate_too_small" not in out


def test_what_is_known_does_not_fail(run: Path) -> None:
    first = nastavnik.check(run)
    assert first.reaches("error")
    second = nastavnik.check(run, baseline=run / "findings.json")
    assert not second.reaches("info")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["nowhere"], "there is no folder nowhere"),
        (["RUN", "--try", "rate_too_slow"], "there is no rule 'rate_too_slow'; did you mean"),
        (["RUN", "--try", "dead_units"], "dead_units found nothing in this run"),
        (["RUN", "--network", "99"], "there is no network 99"),
        (["RUN", "--pairs", "1"], "--pairs must be 2 or more"),
        (["RUN", "--budget", "0s"], "--budget '0s' is no span of time"),
        (["RUN", "--fail-level", "fatal"], "--fail-level must be one of"),
        (["RUN", "--baseline", "RUN/run.json"], "is no findings.json"),
    ],
)
def test_mistakes_get_a_sentence(
    run: Path, capsys: pytest.CaptureFixture[str], words: list[str], sentence: str
) -> None:
    code, _, err = said(capsys, "check", *(word.replace("RUN", str(run)) for word in words), "--quiet")
    assert code == 2
    assert sentence in err
    assert not (run / "findings.json").exists()


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("run.json", '{"format_version": 1}', "run.json is damaged"),
        ("run.json", '{"format_version": 1, "status": "finished", "asked": 3}', "run.json is damaged"),
        ("result.json", '{"format_version": 1}', "result.json is damaged"),
        ("result.json", '{"format_version": 1, "chosen": {"networks": []}}', "result.json is damaged"),
        ("run.json", "[" * 100_000, "cannot be read"),
    ],
)
def test_damaged_files_get_a_sentence(
    run: Path, name: str, text: str, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (run / name).write_text(text)
    code, _, err = said(capsys, "check", str(run), "--quiet")
    assert code == 2
    assert says in err
    assert not (run / "findings.json").exists()


@pytest.mark.parametrize("findings", ["[1, 2]", '[{"x": 1}]', '["rule"]', "3"])
def test_a_baseline_that_is_none(run: Path, findings: str, capsys: pytest.CaptureFixture[str]) -> None:
    (run / "old.json").write_text(f'{{"format_version": 1, "findings": {findings}}}')
    code, _, err = said(capsys, "check", str(run), "--baseline", str(run / "old.json"))
    assert code == 2
    assert "is no findings.json" in err


@pytest.mark.parametrize(
    "rest",
    [
        "{}",
        '{"values": [1]}',
        '{"facts": {}, "rows": {}, "values": [["a", "", [0], []]]}',
        '{"facts": {"faults": 5}, "rows": {}, "values": []}',
    ],
)
def test_a_damaged_history(tmp_path: Path, rest: str, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "history.json").write_text(json.dumps({"format_version": 1, **json.loads(rest)}))
    code, _, err = said(capsys, "check", str(tmp_path))
    assert code == 2
    assert "history.json is damaged" in err


def test_a_history_keeps_the_mentors_own_faults(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    net = torch.nn.Linear(2, 2)
    mentor = nastavnik.Mentor(net, torch.optim.SGD(net.parameters(), 0.1), lambda o, y: o @ y, every=1)
    with mentor.step(torch.ones(4, 2), torch.ones(3)):
        pass
    mentor.save(tmp_path)
    code, out, _ = said(capsys, "check", str(tmp_path), "--quiet")
    assert code == 0
    assert "nothing was looked at" in out
    assert "the mentor's own fault" in out
    assert json.loads((tmp_path / "findings.json").read_text())["faults"] == mentor.faults


@pytest.mark.parametrize("page", [b"\xff\xfe", b"<!-- mentor --> and no end"])
def test_a_page_that_fit_did_not_write_is_left_alone(
    run: Path, page: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    (run / "report.html").write_bytes(page)
    code, _, err = said(capsys, "check", str(run))
    assert code == 0
    assert "was left alone" in err
    assert (run / "report.html").read_bytes() == page
    assert (run / "findings.json").exists()


def test_what_cannot_be_written_is_refused_before_any_training(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (run / "findings.json").mkdir()
    code, _, err = said(capsys, "check", str(run))
    assert code == 2
    assert "cannot be written" in err


def test_two_checks_write_the_same_bytes(run: Path) -> None:
    nastavnik.check(run)
    first = (run / "findings.json").read_bytes()
    nastavnik.check(run)
    assert (run / "findings.json").read_bytes() == first


def test_without_its_checkpoint_only_the_chosen_network_is_looked_at(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(run / "checkpoint")
    code, _, err = said(capsys, "check", str(run))
    assert code == 0
    assert "checkpoint is gone" in err
    code, _, err = said(capsys, "check", str(run), "--network", "2")
    assert code == 2
    assert "none but the chosen network" in err


def test_a_network_that_the_budget_cut_short_is_an_error(run: Path) -> None:
    path = run / "checkpoint" / "search.json"
    chosen = json.loads((run / "result.json").read_text())["chosen"]["networks"][0]
    record = json.loads(path.read_text())
    for candidate in record["history"]:
        if chosen in candidate["numbers"]:
            candidate.update(status="cut", steps=1)
    write_json(path, record, SEARCH)
    found = nastavnik.check(run, suppress=["rate_too_small"])
    finding = next(f for f in found.findings if f.rule == "cut_short")
    assert finding.severity == "error"
    assert finding.evidence["steps taken"] == 1
    assert found.history.steps("batch loss")[-1] < finding.evidence["of"] / 8  # trained again about as far


def test_a_budget_is_kept_by_fewer_trainings(run: Path) -> None:
    path = run / "checkpoint" / "search.json"
    record = json.loads(path.read_text())
    for candidate in record["history"]:
        candidate.update(seconds=1000.0)
    write_json(path, record, SEARCH)
    found = nastavnik.check(run, budget=300)
    assert found.history.facts["siblings"] == []


def test_an_unfinished_run_is_refused(run: Path) -> None:
    record = json.loads((run / "run.json").read_text())
    write_json(run / "run.json", {**record, "status": "running"}, RUN)
    with pytest.raises(UserError, match="not finished"):
        nastavnik.check(run)


@pytest.fixture(scope="module")
def without_a_finite_loss(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a fit leaves whose only network diverged."""
    folder = tmp_path_factory.mktemp("runs") / "diverged"
    settings: dict[str, Any] = {"optimizer.learning_rate": 1e6, "epochs": 2, "batch_size": 32}
    with pytest.raises(UserError, match="finite loss"):
        nastavnik.fit("diabetes", networks=1, folds=0, family="linear", out=folder, ladder="off", settings=settings)
    return folder


def test_where_no_loss_was_finite_the_cause_is_named(without_a_finite_loss: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(without_a_finite_loss, tmp_path / "run"))
    found = nastavnik.check(run)
    assert found.network == 0
    first = found.findings[0]
    assert (first.rule, first.severity, first.root) == ("rate_too_large", "error", None)
    assert first.advice[0].changes == {"optimizer.learning_rate": 1e5}
    written = json.loads((run / "findings.json").read_text())
    assert written["findings"][0]["rule"] == "rate_too_large"


def test_without_its_checkpoint_such_a_run_gets_a_sentence(
    without_a_finite_loss: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Path(shutil.copytree(without_a_finite_loss, tmp_path / "run"))
    record = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({**record, "status": "failed"}))
    shutil.rmtree(run / "checkpoint")
    code, _, err = said(capsys, "check", str(run), "--quiet")
    assert code == 2
    assert "the checkpoint of" in err
    assert "is gone, so there is no network of it that could be trained again" in err
    assert not (run / "findings.json").exists()


def test_the_test_rows_are_not_touched(run: Path) -> None:
    before = json.loads((run / "result.json").read_text())
    nastavnik.check(run)
    assert json.loads((run / "result.json").read_text()) == before


def test_list_rules(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["list", "rules", "--json"])
    rules = json.loads(capsys.readouterr().out)
    assert {"rate_too_large", "dead_units"} <= {rule["name"] for rule in rules}


def test_fit_may_end_with_a_check(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"optimizer.learning_rate": 1e-6, "epochs": 40, "batch_size": 32}
    nastavnik.fit("iris", networks=3, folds=0, family="mlp", out=tmp_path / "r", settings=settings, advice=0.2)
    record = json.loads((tmp_path / "r" / "findings.json").read_text())
    tried = [f["trial"]["verdict"] for f in record["findings"] if f["trial"]]
    assert "take it" in tried
    assert json.loads((tmp_path / "r" / "run.json").read_text())["asked"]["advice"] == 0.2
    with pytest.raises(UserError, match="--advice must be a share"):
        nastavnik.fit("iris", networks=3, advice=2.0)
    with pytest.raises(UserError, match="--advice trains again from a run's folder"):
        nastavnik.fit("iris", networks=3, advice=0.2)
