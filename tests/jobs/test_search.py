"""A fit with a space, a sampler, limits, a front, repeats and a ladder of its own."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from jsonschema import validate

import nastavnik
from nastavnik.errors import UserError
from nastavnik.runs import HALVINGS, OBJECTIVES, SAMPLERS, Watcher
from nastavnik.selection import HALVINGS as HALVING_TABLE
from nastavnik.selection import OBJECTIVES as OBJECTIVE_TABLE
from nastavnik.selection import SAMPLERS as SAMPLER_TABLE
from nastavnik.space import Choice, Number, Space

SMALL = Space(
    {
        "network.family": Choice({"mlp": Space({"network.width": Choice.of(4, 8), "network.depth": Choice.of(1)})}),
        "optimizer.learning_rate": Number(1e-3, 0.1, log=True),
    },
    {"epochs": 5, "network.embedding": "none"},
)


class Listening(Watcher):
    """Keeps the notes."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


def fit(source: Any = "wine", **asked: Any) -> nastavnik.Run:
    return nastavnik.fit(source, **{"networks": 12, "folds": 0, "space": SMALL, "engine": "batched", **asked})


def refused(sentence: str, **asked: Any) -> None:
    with pytest.raises(UserError, match=sentence):
        fit(**asked)


def test_words_of_the_request_are_those_of_the_tables() -> None:
    assert set(SAMPLERS) == set(SAMPLER_TABLE)
    assert set(HALVINGS) == set(HALVING_TABLE)
    assert set(OBJECTIVES) == set(OBJECTIVE_TABLE)


def test_a_space_decides_what_is_drawn() -> None:
    run = fit()
    recipes = [c for _, c in run.networks.iterrows()]
    assert {r["network.family"] for r in recipes} == {"mlp"}
    assert {r["network.width"] for r in recipes} <= {4, 8}
    assert all(1e-3 <= r["optimizer.learning_rate"] <= 0.1 for r in recipes)
    assert {r["epochs"] for r in recipes} == {5}
    assert len({r["network"] for r in recipes}) == 12


@pytest.mark.parametrize("sampler", ["random", "quasi_random", "hill_climbing", "annealing", "genetic", "grid"])
def test_every_sampler_searches_and_says_so(sampler: str) -> None:
    run = fit(sampler=sampler, settings={"optimizer.name": "adamw"})
    assert run.result["search"]["sampler"] == sampler
    assert run.result["cost"]["networks"] == 12


def test_a_grid_that_is_done_ends_the_search_and_tells_its_cost(tmp_path: Path) -> None:
    space = Space({"network.width": Choice.of(4, 8), "optimizer.learning_rate": Choice.of(0.01, 0.1)}, {"epochs": 3})
    pins = {"network.family": "mlp", "network.depth": 1, "network.activation": "relu", "network.dropout": 0.0,
            "network.embedding": "none", "network.normalization": "none", "network.residual": False,
            "optimizer.weight_decay": 0.0, "loss.name": "likelihood"}  # fmt: skip
    heard = Listening()
    run = fit(space=space, settings=pins, sampler="grid", networks=50, watcher=heard)
    assert run.result["cost"]["networks"] == 4
    assert run.result["search"]["ended"] == "every point of the space that keeps the limits has been tried"
    assert any(n.startswith("a grid of 4 points, about") for n in heard.notes)
    short = Listening()
    fit(space=space, settings=pins, sampler="grid", networks=3, watcher=short)
    assert any("the budget is enough for about 3 of them: a random part of the grid" in n for n in short.notes)


def test_limits_are_kept_before_anything_is_trained(tmp_path: Path) -> None:
    space = Space({"network.width": Number(2, 200, integer=True, log=True)}, {"epochs": 3})
    run = fit(
        space=space,
        networks=40,
        limits={"parameters": 900},
        settings={"network.family": "mlp", "network.embedding": "none"},
    )
    assert run.networks["parameters"].max() <= 900
    assert run.result["search"]["rejected"] > 0
    refused(
        r"none of \d+ recipes drawn keeps the limits: the least parameters seen would be .*, at most 10 are allowed",
        limits={"parameters": 10},
        out=tmp_path / "run",
    )
    assert not (tmp_path / "run").exists()
    steep = Space({**space.nodes, "network.width": Choice.of(4, *range(100, 700))}, {**space.fixed, "network.depth": 1})
    grid = fit("iris", space=steep, sampler="grid", limits={"parameters": 200}, networks=2,
               settings={"network.family": "mlp", "network.activation": "relu", "network.embedding": "none",
                         "network.normalization": "none", "network.residual": False, "network.dropout": 0.0,
                         "optimizer.weight_decay": 0.0, "loss.name": "likelihood"})  # fmt: skip
    assert set(grid.networks["network.width"]) == {4}
    climbed = fit("iris", ladder="on", limits={"parameters": 60}, networks=4, space=Space(fixed={"epochs": 2}))
    assert climbed.networks["parameters"].max() <= 60
    refused("there is no limit 'paramters'; did you mean 'parameters'", limits={"paramters": 10})


def test_a_front_of_error_and_size_is_found_and_shown(tmp_path: Path) -> None:
    space = Space({"network.width": Choice.of(2, 4, 8, 16, 32)}, {"epochs": 8, "network.embedding": "none"})
    run = fit("iris", space=space, pareto=("error", "parameters"), sampler="nsga2", networks=24, out=tmp_path / "run")
    found = run.result["front"]
    assert found
    for one in found:
        assert not any(other["error"] <= one["error"] and other["parameters"] < one["parameters"] for other in found), (
            "one of the front is beaten"
        )
        assert 0 <= one["on_front"] <= 1
    page = (tmp_path / "run" / "report.html").read_text()
    assert 'id="front"' in page
    assert "picture-front" in page
    table = pd.read_csv(tmp_path / "run" / "networks.csv")
    assert table["parameters"].min() == min(f["parameters"] for f in found)


def test_evidence_can_be_one_of_a_fronts_criteria() -> None:
    run = fit("iris", pareto=("nll", "evidence"), networks=8)
    assert all(np.isfinite(one["evidence"]) for one in run.result["front"])
    assert set(run.networks["loss.name"]) == {"likelihood"}


def test_repeats_are_one_population_and_their_spread_is_told() -> None:
    twice = fit("iris", networks=20, folds=2, repeats=2, space=SMALL)
    assert twice.result["repeats"]["count"] == 2
    assert len(set(twice.result["repeats"]["nll"])) == 2
    per_candidate = twice.networks.dropna(subset=["score"]).groupby("candidate")["network"].count()
    assert set(per_candidate) == {4}  # two folds, two times
    split = json.loads(json.dumps(twice.dataset.split.to_json()))
    folds = split["validation_rows_of_folds"]
    assert len(folds) == 4
    assert sorted(folds[0] + folds[1]) == sorted(folds[2] + folds[3])
    assert folds[0] != folds[2]
    seeds = fit("iris", networks=12, repeats=3)
    assert len(set(seeds.result["repeats"]["nll"])) == 3  # one split, three seeds


def test_preparation_can_be_searched() -> None:
    space = Space({**SMALL.nodes, "preparation.numbers": Choice.of("standard", "quantile")}, SMALL.fixed)
    run = fit(space=space, networks=40, deliver="ensemble", sampler="random")  # five blocks
    assert set(run.networks["preparation.numbers"]) == {"standard", "quantile"}
    frame = pd.DataFrame(nastavnik.data.read_source("wine").frame).head(5)
    assert len(run.model.predict(frame)) == 5


def test_a_search_ends_when_nothing_is_to_be_gained() -> None:
    run = fit("iris", networks=300, stop="gain")
    assert run.result["cost"]["networks"] < 300
    assert "more candidates are expected to gain" in run.result["search"]["ended"]


def test_hard_data_are_climbed_from_a_first_signal(rng: np.random.Generator) -> None:
    x = rng.normal(size=(600, 5))
    frame = pd.DataFrame(x, columns=list("abcde")).assign(y=np.array(["p", "q", "r"])[np.argmax(x[:, :3], 1)])
    space = Space({"optimizer.learning_rate": Number(1e-9, 1e-8, log=True)}, {"epochs": 3})
    heard = Listening()
    run = fit(frame, target="y", space=space, watcher=heard, settings={"network.family": "mlp"}, networks=20)
    stages = run.result["search"]["ladder"]
    assert [s["stage"] for s in stages] == [1, 2]  # all rows are no more than a thousand, and the linear model is out
    assert stages[0]["classes"] == 2
    assert stages[-1]["signal"]
    assert stages[-1]["nll"] < stages[-1]["chance"]
    assert any("the space does not reach that rate; --set optimizer.learning_rate=" in n for n in heard.notes)
    noise = frame.assign(y=rng.permutation(frame["y"]))
    pinned = {"regularization.l2": 0.01, "regularization.schedule": "cosine"}
    heard = Listening()
    lost = fit(noise, target="y", watcher=heard, networks=4, ladder="on", settings=pinned)
    assert not any(s["signal"] for s in lost.result["search"]["ladder"])
    assert any("suspects, in order: the learning rate" in n for n in heard.notes)
    assert fit("iris", ladder="off").result["search"]["ladder"] == []
    assert fit("iris").result["search"]["ladder"] == []  # a signal is there at once


def test_what_a_search_says_has_its_published_form(tmp_path: Path) -> None:
    from importlib import resources

    schema = json.loads((resources.files("nastavnik") / "schemas" / "result.schema.json").read_text())
    run = fit("iris", networks=40, out=tmp_path / "run", repeats=2)
    validate(json.loads((tmp_path / "run" / "result.json").read_text()), schema)
    optimism = run.result["optimism"]
    assert optimism["candidates"] == 20
    assert optimism["candidate"] in set(run.networks["candidate"])
    ensemble = fit("iris", deliver="ensemble")
    assert ensemble.result["optimism"] == {}
    assert optimism["nll"]["corrected"] >= optimism["nll"]["apparent"]
    assert optimism["accuracy"]["corrected"] <= optimism["accuracy"]["apparent"]
    assert optimism["accuracy"]["high"] <= 1
    assert run.result["search"]["importance"]
    assert 0 < run.result["search"]["saved"]["share"] < 1


@pytest.mark.parametrize(
    "asked,sentence",
    [
        ({"sampler": "tep"}, "--sampler cannot be 'tep'; did you mean 'tpe'"),
        ({"halving": "half"}, "--halving cannot be 'half'"),
        ({"pareto": ("nll",)}, "--pareto needs at least two different criteria"),
        ({"pareto": ("nll", "size")}, "--pareto cannot be 'size'"),
        ({"pareto": "nll,parameters"}, "--pareto must be a list of words"),
        ({"sampler": "nsga2"}, "nsga2 seeks a front; name its criteria"),
        ({"sampler": "annealing", "pareto": ("nll", "parameters")}, "--sampler annealing follows one criterion only"),
        ({"sampler": "cma_es"}, "cma_es draws numbers only, and .* is a choice"),
        ({"repeats": 10**8}, "--repeats must be at most 100"),
        ({"limits": {"parameters": None}}, "--limit must be names with values, each a number"),
        ({"limits": "parameters=1"}, "--limit must be names with values"),
        ({"space": 3}, "space must be a nastavnik.space.Space or a TOML file, but got int"),
        ({"sampler": 3}, "--sampler must be a word, but got 3"),
        ({"pareto": ("nll", "evidence"), "class_weights": "balanced"}, "--pareto evidence needs a loss"),
        (
            {"space": Space({"network.width": Number(10**12, 10**12, integer=True)})},
            "a whole number from 1 to 1,000,000",
        ),
        ({"settings": {"network.width": 10**23}, "space": None}, "network.width must be at most 1,000,000"),
        (
            {"settings": {"network.family": "linear"}, "space": Space({"network.width": Choice.of(4, 8)})},
            "network.width would have no effect: it belongs to network.family=mlp",
        ),
        ({"repeats": 0}, "--repeats must be a whole number of at least 1"),
        ({"pareto": ("error", "parameters"), "source": "diabetes"}, "--pareto error is the share of wrong classes"),
        ({"space": "nowhere.toml"}, "the space nowhere.toml cannot be read"),
        ({"space": Space({"network.widht": Choice.of(1, 2)})}, "there is no setting 'network.widht'"),
    ],
)
def test_what_cannot_be_searched_is_told_in_a_sentence(asked: dict[str, Any], sentence: str, tmp_path: Path) -> None:
    refused(sentence, out=tmp_path / "run", **asked)
    assert not (tmp_path / "run").exists()


def test_a_grid_of_a_thousand_million_points_is_refused(tmp_path: Path) -> None:
    numbers = ["regularization.mixup", "regularization.l1", "optimizer.clip_norm", "schedule.warmup"]
    lines = [f"{name} = {{ low = 0.1, high = 0.4 }}" for name in numbers]
    lines += [f"{name} = {{ low = 8, high = 64, integer = true }}" for name in ("epochs", "batch_size")]
    (tmp_path / "space.toml").write_text("\n".join(lines))
    asked = ["--sampler", "grid", "--out", str(tmp_path / "run"), "--space", str(tmp_path / "space.toml"), "--quiet"]
    done = command("fit", "wine", *asked)
    assert done.returncode == 2
    assert "a grid of this space has" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "run").exists()


def test_the_tree_is_printed_and_nothing_is_written(tmp_path: Path) -> None:
    (tmp_path / "space.toml").write_text("epochs = 5\n[limits]\nparameters = 5000\n")
    done = command("fit", "wine", "--space", "space.toml", "--show-space", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "network.family  mlp | linear" in done.stdout or "network.family  linear | mlp" in done.stdout
    assert "as a flat list they would be" in done.stdout
    assert "limits: parameters at most 5000" in done.stdout
    assert [p.name for p in tmp_path.iterdir()] == ["space.toml"]


def command(*words: str, folder: Path | None = None) -> Any:
    return subprocess.run(
        [sys.executable, "-m", "nastavnik", *words], cwd=folder, capture_output=True, text=True, check=False
    )
