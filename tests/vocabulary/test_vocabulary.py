"""The vocabulary as a whole: listed, on one page, accepted by fit, drawn from by a space, open to others."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.datasets import load_diabetes, load_iris

import nastavnik
from nastavnik.cli import main
from nastavnik.errors import UserError
from nastavnik.recipe import Recipe
from nastavnik.selection import SAMPLERS, table_space
from nastavnik.space import Choice, Number, Space
from nastavnik.targets import Classification
from nastavnik.training import Method
from nastavnik.vocabulary import KINDS, page, records

ROOT = Path(__file__).resolve().parents[2]


def test_every_entry_is_listed_with_its_words(capsys: pytest.CaptureFixture[str]) -> None:
    def said(*words: str, code: int = 0) -> str:
        with pytest.raises(SystemExit) as done:
            main(["list", *words])
        assert done.value.code == code
        printed = capsys.readouterr()
        return printed.err if code else printed.out

    listed = json.loads(said("--json"))
    assert set(listed) == set(KINDS)
    for kind, entries in listed.items():
        assert [entry["name"] for entry in entries] == list(KINDS[kind].table)
        assert all(entry["purpose"] for entry in entries)
    for kind in ("activations", "initializers", "likelihoods", "optimizers", "schedules", "regularizers", "families"):
        assert json.loads(said(kind, "--json")) == listed[kind]
    assert "adamw" in said("optimizers")
    assert "did you mean 'optimizers'?" in said("optimisers", code=2)
    with pytest.raises(UserError, match="there are no 'verbs' in the vocabulary"):
        records("verbs")


def test_the_page_is_the_generated_one() -> None:
    assert (ROOT / "docs" / "vocabulary.md").read_text(encoding="utf-8") == page()


def table(kind: str) -> pd.DataFrame:
    loaded = load_iris if kind == "class" else load_diabetes
    frame: pd.DataFrame = loaded(as_frame=True).frame
    if kind == "grades":
        frame = load_iris(as_frame=True).frame
        return frame.iloc[::2]
    if kind == "class":  # names, as whole numbers in a row would be grades
        return frame.iloc[::2].assign(target=lambda f: "class " + f["target"].astype(str))
    return frame.iloc[:80]


FITS: list[tuple[str, dict[str, Any]]] = [
    *[("class", {"optimizer.name": name}) for name in KINDS["optimizers"].table],
    *[("class", {"network.activation": name}) for name in KINDS["activations"].table],
    *[("class", {"network.normalization": name}) for name in KINDS["normalizations"].table],
    *[("class", {"network.dropout_kind": name}) for name in KINDS["dropouts"].table],
    *[("class", {"initialization.name": name, "network.residual": True}) for name in KINDS["initializers"].table],
    *[("class", {"schedule.name": name}) for name in KINDS["schedules"].table],
    *[
        ("class", {f"optimizer.{key}": value for key, value in {**entry.around, name: entry.settings[name]}.items()})
        for name, entry in KINDS["wrappers"].table.items()
    ],
    *[("class", {f"regularization.{n}": entry.settings[n]}) for n, entry in KINDS["regularizers"].table.items()],
    *[(kind, {"likelihood.name": name}) for kind, name in (("class", "categorical"), ("grades", "ordinal"))],
    *[("real", {"likelihood.name": name}) for name in ("gaussian", "laplace", "student_t")],
    *[
        ("real" if "real" in entry.targets else "class", {"loss.name": name})
        for name, entry in KINDS["losses"].table.items()
    ],
]


@pytest.mark.parametrize(
    ("kind", "settings"), FITS, ids=lambda v: "-".join(map(str, v.values())) if v != "x" and isinstance(v, dict) else v
)
def test_fit_takes_each_entry(kind: str, settings: dict[str, Any]) -> None:
    run = nastavnik.fit(
        table(kind), target="target", networks=2, folds=0, family="mlp", settings={"epochs": 2, **settings}
    )
    recipe = Recipe.from_json(run.result["chosen"]["recipe"])
    for name, value in settings.items():
        if name != "likelihood.name" or name in recipe:
            assert recipe[name] == value
    assert run.model.predict(table(kind).drop(columns="target")).shape[0] == len(table(kind))


def test_a_space_draws_from_the_entries_named(rng: np.random.Generator) -> None:
    names = "adamw,lion,muon"
    space = table_space(
        400, 5, target=Classification("y", ("a", "b")),
        pinned={"optimizer.name": names, "network.family": "mlp", "network.activation": "relu,prelu,blend",
                "regularization.l1": "1e-6..1e-3", "optimizer.clip_norm": 1.0},
    )  # fmt: skip
    sampler = SAMPLERS["random"](space, seed=0)
    drawn = [sampler.point(keys) for keys in sampler.ask(150)]
    assert {p["optimizer.name"] for p in drawn} == set(names.split(","))
    assert {p["network.activation"] for p in drawn} == {"relu", "prelu", "blend"}
    strengths = [float(p["regularization.l1"]) for p in drawn]
    assert 1e-6 <= min(strengths) < 1e-5 < 1e-4 < max(strengths) <= 1e-3
    assert all(p["optimizer.clip_norm"] == 1.0 for p in drawn)
    for point in drawn:
        assert Method.of(Recipe(point)).optimizer.name == "clip_norm"
    everything = Space({"optimizer.name": Choice.of(*KINDS["optimizers"].table)})
    found = [everything.draw(lambda key, node: rng.choice(node.options))["optimizer.name"] for _ in range(400)]  # type: ignore[union-attr]
    assert set(found) == set(KINDS["optimizers"].table)


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"optimizer.name": "adamm"}, "optimizer.name cannot be 'adamm'; did you mean 'adam'?"),
        ({"optimizer.name": "adam,adamv"}, "optimizer.name cannot be 'adamv'; did you mean 'adam'?"),
        ({"network.activation": "rleu"}, "network.activation cannot be 'rleu'; did you mean 'relu'?"),
        ({"loss.name": "hubber"}, "loss.name cannot be 'hubber'"),
        ({"schedule.name": "cosin"}, "schedule.name cannot be 'cosin'; did you mean 'cosine'?"),
        ({"regularization.l3": 1e-3}, "there is no setting 'regularization.l3' in a recipe; did you mean"),
        ({"regularization.l2": "strong"}, "regularization.l2 must be a number"),
        ({"optimizer.clip_norm": -1.0}, "optimizer.clip_norm must be above 0, but got -1.0"),
        ({"optimizer.momentum": 0.9}, "optimizer.momentum would have no effect: it belongs to optimizer.name=sgd or"),
        ({"network.leaky_slope": 0.1}, "it belongs to network.activation=leaky_relu; pin that too"),
        ({"optimizer.learning_rate": "1..0.1"}, "the range must go from the smaller number to the larger"),
        ({"network.dropout_kind": "unitz"}, "network.dropout_kind cannot be 'unitz'; did you mean 'units'?"),
        ({"optimizer.name": "newton", "network.width": 600}, "needs 0.3[0-9] GB for a network of"),
        (
            {"optimizer.name": "newton", "optimizer.clip_norm": 1.0},
            "goes round first-order optimizers only, not those of second order",
        ),
        ({"likelihood.name": "gausian"}, "likelihood.name cannot be 'gausian' for this classification"),
        ({"stopping.on_plateau": "halve"}, "is no NAME*FACTOR or NAME=VALUE"),
        ({"optimizer.learning_rate@bais": 0.1}, "no parameter is of kind or name 'bais'; there is network."),
        ({"optimizer.learning_rate@bias": -0.1}, "optimizer.learning_rate@bias must be at least 0, but got -0.1"),
        ({"network.dropout@bias": 0.1}, "network.dropout@bias: only an optimizer's numbers can differ by kind"),
        ({"optimizer.name": "lbfgs", "optimizer.learning_rate@bias": 0.1}, "lbfgs moves all parameters together"),
        ({"optimizer.clip_norm": 1.0, "optimizer.clip_norm@bias": 0.1}, "only adamw's own numbers can differ"),
        ({"optimizer.name": "lbfgsb", "optimizer.lower": 2.0, "optimizer.upper": 1.0}, "must be below optimizer.upper"),
        ({"optimizer.lookahead_share": 0.5}, "it belongs to optimizer.lookahead; pin that too"),
        ({"regularization.schedule": "rising"}, "no regularizer is pinned"),
        ({"regularization.max_norm": -1.0}, "regularization.max_norm must be above 0"),
        ({"optimizer.accumulate": 0.5}, "optimizer.accumulate must be at least 1"),
        ({"optimizer.ema": 1.0}, "optimizer.ema must be less than 1"),
        ({"network.activation": "blend", "network.blend_to": "maxout"}, "network.blend_to cannot be 'maxout'"),
        (
            {"optimizer.name": "schedule_free_adamw", "regularization.max_norm": 1.0},
            "averages weights of its own, which regularization.max_norm would not reach",
        ),
        ({"likelihood.freedom": 3.0}, "likelihood.freedom belongs to likelihood.name=student_t"),
        ({"initialization.output": "zeros"}, "initialization.output cannot be 'zeros'; did you mean 'zero'?"),
    ],
)
def test_mistakes_get_one_clear_sentence(settings: dict[str, Any], complaint: str) -> None:
    pattern = complaint if "[0-9]" in complaint else re.escape(complaint)
    with pytest.raises(UserError, match=pattern):
        nastavnik.fit(table("class"), target="target", networks=2, folds=0, family="mlp", settings=settings)


def test_what_does_not_go_together_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    words = table("class").assign(
        target=lambda f: f["target"].map({"class 0": "low", "class 1": "mid", "class 2": "high"})
    )
    refusals: list[tuple[pd.DataFrame, dict[str, Any], str, str]] = [
        (
            words,
            {"likelihood.name": "ordinal"},
            "none",
            "needs the classes' order, but 'target' holds words such as 'high'",
        ),
        (table("real"), {}, "balanced", "--class-weights is for classes, but 'target' is a regression"),
        (table("real"), {"optimizer.name": "gauss_newton", "likelihood.name": "laplace"}, "none", "laplace has none"),
        (table("class"), {"stopping.on_plateau": "network.dropuot*2"}, "none", "which is no number of this training"),
    ]
    for frame, settings, weights, complaint in refusals:
        place = tmp_path / "run"
        with pytest.raises(UserError, match=re.escape(complaint)):
            nastavnik.fit(
                frame, target="target", networks=1, folds=0, family="mlp", settings=settings, out=place,
                class_weights=weights,
            )  # fmt: skip
        assert not place.exists()


def test_numbers_that_are_taken() -> None:
    taken: list[dict[str, Any]] = [
        {"optimizer.name": "lbfgsb", "optimizer.lower": -0.1, "optimizer.upper": 0.1},
        {"optimizer.name": "sgd", "optimizer.nesterov": True},
        {"optimizer.name": "sgd,adamw", "optimizer.nesterov": "true,false"},
        {"optimizer.learning_rate@bias": 0.0, "optimizer.learning_rate@*.output.*": 0.01},
        {"regularization.mixup": 0.0},
        {"regularization.max_norm": 2.0, "regularization.schedule": "rising"},
        {"regularization.l2": -1e-4, "regularization.schedule": "linear"},
        {"network.dropout_kind": "weights", "network.normalization": "weight", "initialization.name": "lsuv"},
    ]
    for settings in taken:
        run = nastavnik.fit(
            table("class"), target="target", networks=2, folds=0, family="mlp", settings={"epochs": 4, **settings}
        )
        assert run.result["validation"]["nll"]["value"] < 2
        if "optimizer.lower" in settings:
            weights = torch.cat([p.flatten() for p in run.model.members[0].learner.parameters()])
            assert float(weights.detach().abs().max()) <= 0.1 + 1e-6


def test_a_table_of_one_category_takes_them_all() -> None:
    frame = pd.DataFrame({"c": ["a", "b", "c", "d"] * 20, "target": ["x", "y"] * 40})
    for settings in (
        {"optimizer.name": "muon"},
        {"optimizer.gradient_noise": 0.1},
        {"regularization.weight_noise": 0.01, "regularization.input_noise": 0.1, "regularization.mixup": 0.2},
    ):
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Initializing zero-element tensors")
            run = nastavnik.fit(frame, target="target", networks=2, folds=0, settings={"epochs": 3, **settings})
        assert run.result["validation"]["nll"]["value"] < 2


def test_what_cannot_be_compiled_says_so() -> None:
    with pytest.raises(UserError, match=r"the step cannot be compiled \(.*\); take the engine auto or batched"):
        nastavnik.fit(
            table("class"), target="target", networks=1, folds=0, family="mlp", engine="compiled",
            settings={"optimizer.name": "newton"},
        )  # fmt: skip


def test_memory_of_second_order_methods_is_told_beforehand() -> None:
    settings: dict[str, Any] = {"optimizer.name": "gauss_newton", "network.width": 200, "epochs": 1}
    with pytest.raises(UserError, match=r"gauss_newton needs .* GB for a network of 1,603 parameters") as refused:
        nastavnik.fit(
            table("class"), target="target", networks=1, folds=0, family="mlp",
            settings={**settings, "optimizer.memory": 0.01},
        )  # fmt: skip
    assert "optimizer.memory allows 0.01 GB" in str(refused.value)
    run = nastavnik.fit(table("class"), target="target", networks=1, folds=0, family="mlp", settings=settings)
    assert run.result["chosen"]["recipe"]["optimizer"]["name"] == "gauss_newton"


def test_dropout_left_on_widens_predictions() -> None:
    frame = table("real")
    run = nastavnik.fit(
        frame, target="target", networks=1, folds=0, family="mlp", settings={"epochs": 30, "network.dropout": 0.5}
    )
    plain, several = run.model.predict(frame), run.model.predict(frame, passes=40)
    assert ((several["high"] - several["low"]) > (plain["high"] - plain["low"]) * 0.999).mean() > 0.9
    assert run.model.predict(frame, passes=40).equals(several)  # masks come from the network's own seed


def test_the_card_says_what_penalties_stand_for(tmp_path: Path) -> None:
    nastavnik.fit(
        table("class"), target="target", networks=2, folds=0, family="mlp", out=tmp_path / "run",
        settings={"epochs": 2, "regularization.l2": 0.001, "optimizer.weight_decay": 0.01},
    )  # fmt: skip
    card = (tmp_path / "run" / "model" / "card.md").read_text(encoding="utf-8")
    assert re.search(r"regularization\.l2 0\.001 per example: λ = 0\.0\d+ for \d+ rows, prior precision 0\.0\d+", card)
    assert "optimizer.weight_decay 0.01 per example" in card
    assert "stands for no prior" in card


def test_the_worked_example_of_contributing(tmp_path: Path) -> None:
    """Entries, a kind of column, a kind of target and an objective: each one file and one line, as CONTRIBUTING shows."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n# (\w+\.py)\n(.*?)```", text, re.S)
    names = ["signum.py", "snake.py", "cauchy.py", "try_them.py", "place.py", "try_place.py"]
    names += ["thirds.py", "ranking.py", "try_target.py"]
    assert [name for name, _ in blocks] == names
    for name, block in blocks:
        (tmp_path / name).write_text(block, encoding="utf-8")
    ends = {"try_them.py": "accuracy", "try_place.py": "place R2 0.9", "try_target.py": "('low', 'middle', 'high') 0."}
    for script, start in ends.items():
        done = subprocess.run([sys.executable, script], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert done.stdout.splitlines()[-1].startswith(start)
    entries = sum(len(block.split("OPTIMIZERS[")) - 1 for _, block in blocks)
    assert entries == 1  # one line in the table


def test_numbers_of_a_space_can_be_given_as_ranges() -> None:
    space = Space({"a": Number(1e-3, 1e-1, log=True), "b": Choice.of(1, 2, 3)})
    narrowed = space.pin({"a": "0.01..0.02", "b": "1,3"})
    sampler = SAMPLERS["random"](narrowed, seed=0)
    points = [sampler.point(keys) for keys in sampler.ask(20)]
    assert all(0.01 <= float(p["a"]) <= 0.02 for p in points)
    assert {p["b"] for p in points} == {1, 3}
