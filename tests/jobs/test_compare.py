"""compare and --criterion: every criterion's ranking, and what it says where it does not apply."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_diabetes, load_wine

import nastavnik
from nastavnik.cli import main
from nastavnik.files import read_json
from nastavnik.jobs._compare import rank_correlation
from nastavnik.selection import CRITERIA
from nastavnik.space import Choice, Space

QUICK = "validation,bic,laplace_kfac,laplace_last_layer,description_length"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of ten networks."""
    out = tmp_path_factory.mktemp("compare") / "run"
    frame = tmp_path_factory.mktemp("table") / "diabetes.csv"
    load_diabetes(as_frame=True).frame.to_csv(frame, index=False)
    nastavnik.fit(frame, target="target", networks=10, folds=0, out=out, test=0.2)
    return out


def test_each_criterion_ranks_the_networks(run: Path) -> None:
    before = read_json(run / "result.json")["test_touches"]
    found = nastavnik.compare(run, criteria=QUICK)
    assert [r["criterion"] for r in found.criteria] == QUICK.split(",")
    assert found.test_touches == before + 1 == read_json(run / "result.json")["test_touches"]
    for record in found.criteria:
        name = record["criterion"]
        values = {n["candidate"]: n["answers"][name]["value"] for n in found.networks}
        assert record["chooses"] == max(values, key=lambda c: values[c])
        ranks = sorted(n["answers"][name]["rank"] for n in found.networks)
        assert ranks == list(range(1, len(ranks) + 1))
        assert -1 <= record["low"] <= record["correlation"] <= record["high"] <= 1
        assert record["seconds"] > 0
    saved = read_json(run / "compare.json")
    assert saved["criteria"] == json.loads(json.dumps(found.to_json()["criteria"]))


def test_the_validation_criterion_is_the_validation_loss(run: Path) -> None:
    found = nastavnik.compare(run, criteria="validation")
    answers = [n["answers"]["validation"] for n in found.networks]
    assert all(a["value"] is not None and a["error"] > 0 for a in answers)


def test_the_command_prints_a_table_and_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"  # of one network: chains for each take their time
    nastavnik.fit("diabetes", target="target", networks=1, folds=0, out=run, settings={"epochs": 5})
    capsys.readouterr()
    with pytest.raises(SystemExit) as done:
        main(["compare", str(run), "--criteria", "bic,langevin", "--quiet"])
    assert done.value.code == 0
    text = capsys.readouterr().out
    assert "bic" in text
    assert "rank correlation with the test score" in text
    with pytest.raises(SystemExit):
        main(["compare", str(run), "--criteria", "bic", "--json", "--quiet"])
    assert json.loads(capsys.readouterr().out)["criteria"][0]["criterion"] == "bic"


@pytest.mark.parametrize(
    "arguments,words",
    [
        (["nowhere"], "there is no folder"),
        (["RUN", "--criteria", "evidense"], "cannot name 'evidense'"),
        (["RUN", "--criteria", ","], "names nothing"),
    ],
)
def test_mistakes_are_sentences(
    arguments: list[str], words: str, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as done:
        main(["compare", *(str(run) if a == "RUN" else a for a in arguments)])
    assert done.value.code == 2
    assert words in capsys.readouterr().err


def test_rank_correlations_know_how_few_networks_there_are() -> None:
    few = rank_correlation(np.arange(5.0), np.arange(5.0))
    assert few["correlation"] == pytest.approx(1)
    assert few["low"] < 0
    many = rank_correlation(np.arange(50.0), -np.arange(50.0))
    assert many["high"] < -0.9
    flat = rank_correlation(np.zeros(5), np.arange(5.0))
    assert (flat["low"], flat["high"]) == (-1.0, 1.0)


@pytest.mark.parametrize("criterion", ["evidence", "description_length"])
def test_a_fit_chooses_by_the_criterion(criterion: str) -> None:
    frame = load_diabetes(as_frame=True).frame
    run = nastavnik.fit(frame, target="target", networks=8, folds=0, criterion=criterion)
    assert run.result["criterion"] == criterion
    assert run.result["chosen"]["recipe"].get("loss.name", "likelihood") == "likelihood"


@pytest.mark.parametrize(
    "options,words",
    [
        ({"criterion": "evidence", "deliver": "ensemble"}, "chooses one network"),
        ({"criterion": "evidence", "deliver": "best"}, "chooses one network"),
        ({"criterion": "evidence", "settings": {"likelihood.name": "laplace"}}, "needs curvature"),
        ({"criterion": "description_length", "settings": {"loss.name": "huber"}}, "density's negative log"),
        ({"criterion": "evidense"}, "did you mean 'evidence'"),
    ],
)
def test_what_a_criterion_needs_is_said_beforehand(options: dict[str, object], words: str, tmp_path: Path) -> None:
    frame = load_diabetes(as_frame=True).frame
    with pytest.raises(nastavnik.UserError, match=words):
        nastavnik.fit(frame, target="target", networks=8, out=tmp_path / "run", **options)  # type: ignore[arg-type]
    assert not (tmp_path / "run").exists()


def test_every_criterion_has_a_place_in_the_docs() -> None:
    text = (Path(__file__).parents[2] / "docs" / "evidence.md").read_text()
    assert [name for name in CRITERIA if f"`{name}`" not in text] == []


@pytest.mark.parametrize(("seed", "numbers"), [(0, "quantile"), (1, "standard")])  # each is the best of one seed
def test_each_network_is_tested_on_inputs_prepared_as_its_recipe_says(seed: int, numbers: str, tmp_path: Path) -> None:
    space = Space({"preparation.numbers": Choice.of("standard", "quantile")}, {"epochs": 5, "network.family": "mlp"})
    frame = load_wine(as_frame=True).frame
    frame.to_csv(tmp_path / "wine.csv", index=False)
    options: dict[str, Any] = {"folds": 0, "deliver": "ensemble", "test": 0.3, "seed": seed}
    run = nastavnik.fit(
        tmp_path / "wine.csv", target="target", networks=24, out=tmp_path / "run", space=space, **options
    )
    rows = run.dataset.split.test
    truth = frame["target"].to_numpy()[rows]
    alone = {}
    for member in run.model.members:
        model = dataclasses.replace(run.model, members=(dataclasses.replace(member, temperature=1.0),))
        p = model.predict(frame.iloc[rows])[[f"p_{c}" for c in range(3)]].to_numpy()
        alone[member.recipe.in_words()] = -np.log(p[np.arange(len(rows)), truth]).mean()
    assert {m.recipe["preparation.numbers"] for m in run.model.members} == {numbers}
    found = nastavnik.compare(tmp_path / "run", criteria="validation")
    told = {n["words"]: n["test_nll"] for n in found.networks}
    for words, nll in alone.items():
        assert told[words] == pytest.approx(nll, rel=1e-4)
