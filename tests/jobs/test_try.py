"""try: choices of a finished run held against each other, pair by pair; the file, the page and the refusals."""

from __future__ import annotations

import json
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import said
from scipy import stats

import nastavnik
from nastavnik import UserError


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "iris"
    settings: dict[str, Any] = {"optimizer.learning_rate": 0.01, "epochs": 20, "batch_size": 32, "network.width": 8}
    nastavnik.fit("iris", networks=3, folds=0, family="mlp", out=folder, settings=settings)
    return folder


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "run"))


def test_a_rate_that_learns_is_better_than_one_that_does_not(run: Path) -> None:
    rate = "optimizer.learning_rate"
    found = nastavnik.try_settings(run, {rate: 0.02}, against=[{rate: 1e-7}, f"{rate}=1e-6"], pairs=4)
    assert [r["verdict"] for r in found.rivals] == ["better", "better"]
    assert [r["words"] for r in found.rivals] == [f"{rate}=1e-07", f"{rate}=1e-06"]
    for rival in found.rivals:
        gaps = np.array(found.arm["scores"]) - np.array(rival["scores"])
        assert rival["level"] == 0.975  # two rivals share the 5 %
        wanted = stats.t.interval(0.975, 3, gaps.mean(), stats.sem(gaps))
        np.testing.assert_allclose([rival["low"], rival["high"]], wanted, rtol=1e-9)
        assert rival["difference"] == pytest.approx(gaps.mean())
    turned = nastavnik.try_settings(run, {rate: 1e-7}, against=[{rate: 0.02}], pairs=4)
    assert turned.rivals[0]["verdict"] == "worse"
    assert turned.rivals[0]["scores"] == found.arm["scores"]  # the same seeds, the same bytes
    record = json.loads((run / "try.json").read_text())
    assert record["rivals"][0]["difference"] == turned.rivals[0]["difference"]


def test_what_hangs_below_a_changed_choice_takes_its_usual_values(run: Path) -> None:
    found = nastavnik.try_settings(
        run, "optimizer.name=sgd", against=["adam", "lion,optimizer.learning_rate=0.003"], pairs=2
    )
    sgd, adam, lion = found.arm, *found.rivals
    assert sgd["settings"]["optimizer.name"] == "sgd"
    assert sgd["settings"]["optimizer.learning_rate"] != 0.01
    assert adam["words"] == "optimizer.name=adam"
    assert lion["settings"]["optimizer.learning_rate"] == 0.003
    assert all(not name.startswith("network.") for arm in (sgd, adam, lion) for name in arm["settings"])
    assert len({arm["parameters"] for arm in (sgd, adam, lion)}) == 1


def test_another_family_and_the_recipe_as_it_was(run: Path) -> None:
    found = nastavnik.try_settings(run, "network.width=32", pairs=2)
    assert found.rivals[0]["words"] == "as it was"
    assert found.rivals[0]["settings"] == {}
    assert found.arm["settings"] == {"network.width": 32}
    assert found.arm["parameters"] > found.rivals[0]["parameters"]
    other = nastavnik.try_settings(run, "network.family=linear", pairs=2)  # the run was of perceptrons only
    assert other.arm["parameters"] == 4 * 3 + 3
    assert "network.width" not in other.arm["settings"]


def changed(run: Path, settings: str) -> dict[str, Any]:
    """The settings in which the recipe of an arm differs from the run's."""
    return dict(nastavnik.try_settings(run, settings, pairs=2).arm["settings"])


def test_settings_that_were_asked_for_stay_while_their_choice_does(tmp_path: Path) -> None:
    settings: dict[str, Any] = {
        "schedule.name": "one_cycle", "schedule.up": 0.2, "schedule.warmup": 0.1, "optimizer.name": "sgd",
        "optimizer.momentum": 0.5, "optimizer.momentum@bias": 0.3, "optimizer.learning_rate": 0.01, "epochs": 3,
        "loss.name": "focal", "loss.focal_gamma": 3.0,
    }  # fmt: skip
    run = tmp_path / "run"
    nastavnik.fit("iris", networks=1, folds=0, family="mlp", out=run, settings=settings)
    assert changed(run, "network.dropout=0.31") == {"network.dropout": 0.31}
    assert changed(run, "optimizer.momentum=0.7") == {"optimizer.momentum": 0.7}
    assert changed(run, "schedule.up=0.4") == {"schedule.up": 0.4}
    assert changed(run, "loss.focal_gamma=1.5") == {"loss.focal_gamma": 1.5}
    assert changed(run, "schedule.name=cosine") == {"schedule.name": "cosine"}
    assert changed(run, "loss.name=likelihood") == {"loss.name": "likelihood"}
    other = changed(run, "optimizer.name=adamw")
    assert other["optimizer.name"] == "adamw"
    assert not any(name.startswith(("schedule.", "loss.")) for name in other)
    kept = json.loads((run / "result.json").read_text())["chosen"]["recipe"]
    assert kept["optimizer"]["momentum@bias"] == 0.3  # the run's own is untouched


def test_a_linear_model_has_no_settings_of_a_network(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    nastavnik.fit("iris", networks=1, folds=0, family="mlp,linear", out=run, settings={"epochs": 3})
    nastavnik.try_settings(run, "network.family=linear", against=["mlp,epochs=4"], pairs=2)
    linear = tmp_path / "linear"
    nastavnik.fit("iris", networks=1, folds=0, family="linear", out=linear, settings={"epochs": 3})
    for words in ("network.activation=relu", "network.dropout=0.2,epochs=4", "network.width=32,epochs=4"):
        code, out, err = said(capsys, "try", str(linear), words, "--quiet")
        assert (code, out) == (2, "")
        assert words.split("=")[0] in err
        assert len(err.strip().splitlines()) == 1


def test_the_command_and_its_page(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own = tmp_path / "calm.toml"
    own.write_text('"network.dropout" = 0.4\n"optimizer.learning_rate" = 0.005\n')
    code, out, _ = said(
        capsys, "try", str(run), "network.dropout=0.0", "--against", str(own), "--pairs", "3", "--quiet"
    )
    assert code == 0
    assert f"against {own}" in out
    assert "3 pairs" in out
    assert str(run / "try.html") in out
    page = (run / "try.html").read_text()
    assert "<script" not in page
    assert "http" not in page
    assert page.count("<circle") == 3
    parser = HTMLParser()
    parser.feed(page)
    code, out, _ = said(capsys, "try", str(run), "network.dropout=0.3", "--pairs", "2", "--quiet", "--json")
    assert json.loads(out)["rivals"][0]["words"] == "as it was"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["network.widht=3"], "network.width"),
        (["network.width"], "NAME=VALUE"),
        (["network.family=lineer"], "'linear'"),
        (["network.family=cnn"], "needs a column of pictures"),
        (["optimizer.name=adamm"], "adam"),
        (["optimizer.learning_rate=0.01"], "the same recipe"),
        (["network.dropout=0.1", "--against", "0.1"], "the same recipe"),
        (["optimizer.learning_rate=1e-4..1e-2"], "one value"),
        (["likelihood.name=student_t"], "likelihood.name"),
        (["seed=3"], "seed"),
        (["network.dropout=0.1,network.dropout=0.2"], "twice"),
        (["optimizer.learning_rate=1e30", "--against", "1e31", "--pairs", "2"], "every network diverged"),
        (["optimizer.momentum=0.9"], "optimizer.momentum"),
        (["network.dropout=0.1", "--pairs", "1"], "--pairs"),
        (["network.dropout=0.1", "--network", "99"], "there is no network 99"),
        (["missing.toml"], "missing.toml"),
    ],
)
def test_what_cannot_be_tried_is_told_in_one_sentence(
    run: Path, capsys: pytest.CaptureFixture[str], words: list[str], told: str
) -> None:
    code, out, err = said(capsys, "try", str(run), *words, "--quiet")
    assert (code, out) == (2, "")
    assert told in err
    assert len(err.strip().splitlines()) == 1
    assert not (run / "try.json").exists()


def test_a_toml_of_ranges_and_a_run_that_is_none_are_refused(run: Path, tmp_path: Path) -> None:
    ranges = tmp_path / "ranges.toml"
    ranges.write_text('"network.dropout" = [0.1, 0.2]\n')
    limited = tmp_path / "limited.toml"
    limited.write_text('"network.dropout" = 0.1\n[limits]\nparameters = 3\n')
    for own in (ranges, limited):
        with pytest.raises(UserError, match="one value each"):
            nastavnik.try_settings(run, str(own))
    with pytest.raises(UserError, match="there is no folder"):
        nastavnik.try_settings(tmp_path / "nothing", "network.dropout=0.1")
