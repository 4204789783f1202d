"""check: a finished run looked at again, its advice tried, its faces."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

import nastavnik
from nastavnik import UserError
from nastavnik.cli import main


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "slow"
    settings: dict[str, Any] = {"optimizer.learning_rate": 1e-6, "epochs": 60}
    nastavnik.fit("iris", networks=4, folds=0, family="mlp", out=folder, settings=settings)
    return folder


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "run"))


def said(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        main(["check", *words])
    streams = capsys.readouterr()
    return int(ended.value.code or 0), streams.out, streams.err


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
    code, out, _ = said(capsys, str(run), "--json", "--quiet", "--fail-level", "error")
    assert code == 3
    assert "rate_too_small" in [f["rule"] for f in json.loads(out)["findings"]]
    code, out, _ = said(capsys, str(run), "--quiet", "--baseline", str(run / "findings.json"), "--fail-level", "info")
    assert code == 0
    assert "known by the baseline" in out
    _, out, _ = said(capsys, str(run), "--quiet", "--suppress", "rate_too_small,chance_level")
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
        (["RUN", "--fail-level", "fatal"], "--fail-level must be one of"),
        (["RUN", "--baseline", "RUN/run.json"], "is no findings.json"),
    ],
)
def test_mistakes_get_a_sentence(
    run: Path, capsys: pytest.CaptureFixture[str], words: list[str], sentence: str
) -> None:
    code, _, err = said(capsys, *(word.replace("RUN", str(run)) for word in words), "--quiet")
    assert code == 2
    assert sentence in err
    assert not (run / "findings.json").exists()


def test_an_unfinished_run_is_refused(run: Path) -> None:
    record = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({**record, "status": "running"}))
    with pytest.raises(UserError, match="not finished"):
        nastavnik.check(run)


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
    settings: dict[str, Any] = {"optimizer.learning_rate": 1e-6, "epochs": 60}
    nastavnik.fit("iris", networks=3, folds=0, family="mlp", out=tmp_path / "r", settings=settings, advice=0.2)
    record = json.loads((tmp_path / "r" / "findings.json").read_text())
    tried = [f["trial"]["verdict"] for f in record["findings"] if f["trial"]]
    assert "take it" in tried
    assert json.loads((tmp_path / "r" / "run.json").read_text())["asked"]["advice"] == 0.2
    with pytest.raises(UserError, match="--advice must be a share"):
        nastavnik.fit("iris", networks=3, advice=2.0)
    with pytest.raises(UserError, match="--advice trains again from a run's folder"):
        nastavnik.fit("iris", networks=3, advice=0.2)
