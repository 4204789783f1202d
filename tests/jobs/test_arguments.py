"""Every argument of the public functions, crossed with values of wrong types: a sentence, never a traceback."""

import importlib
import inspect
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

import nastavnik
from nastavnik import UserError
from nastavnik.arguments import fitted
from nastavnik.population import Population
from nastavnik.runs import FitRequest

WRONG: dict[str, Any] = {
    "an object": object(), "a list in a list": [[1]], "bytes": b"x", "a complex number": 1j, "a class": int,
    "not a number": float("nan"), "a boolean": True, "a half": 0.5, "a word": "odd word", "a list of numbers": [1, 2],
    "numbers by number": {1: 2}, "a tensor": torch.ones(2, 2), "half a character": "caf\udce9",
}  # fmt: skip
FRAME = pd.DataFrame({"a": np.arange(40.0) % 7, "b": ["x", "y"] * 20})
# what a value of this kind may be, beside what WRONG holds of it by chance
FINE = {
    "y": (), "source": (), "family": ("a class",), "try_rule": (), "criteria": (), "out": ("a word",), "force": ("a boolean",),
    "raw": ("a boolean",), "header": ("a boolean",), "fill": ("a boolean",), "level": ("a half",), "forecasts": ("a boolean",), "on": ("a boolean",), "measure": ("a boolean",),
    "own_order": ("a boolean",), "loss_fn": ("a class",), "build": ("a class",), "target": ("a word",),
    "advice": ("a half",), "test": ("a half",), "checkpoint": ("a half",), "budget": ("a half",), "epochs": ("a half",),
    "low": ("a half",), "classes": (), "watcher": (), "folder": ("a word",), "suppress": ("a word", "a list in a list"),
}  # fmt: skip


def words(name: str, kinds: tuple[str, ...] = ()) -> list[tuple[str, str]]:
    return [(name, wrong) for wrong in WRONG if wrong not in FINE.get(name, ()) and wrong not in kinds]


def arguments(function: Callable[..., Any]) -> list[str]:
    kept = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return [n for n, p in inspect.signature(function).parameters.items() if p.kind in kept and n != "self"]


def held(name: str, value: Any, call: Callable[[], Any]) -> None:
    """Whatever is wrong is told as ``UserError``; nothing else is raised."""
    with pytest.raises(UserError, match=r"\w+ .*\w") as told:
        call()
    assert "\n" not in str(told.value)
    assert len(str(told.value)) < 400


REQUEST = [(f.name, w) for f in fields(FitRequest) for _, w in words(f.name)]
PLAIN_WORDS = (
    "source",
    "target",
    "task",
    "group",
    "time",
    "split",
    "weights",
    "space",
    "delimiter",
    "encoding",
    "device",
)


@pytest.mark.parametrize("name,wrong", REQUEST)
def test_of_a_request(name: str, wrong: str) -> None:
    value = WRONG[wrong]
    if (name in PLAIN_WORDS and wrong == "a word") or (name, wrong) == ("kinds", "numbers by number"):
        pytest.skip("it is one")
    held(name, value, lambda: FitRequest(**{name: value}))


@pytest.mark.parametrize("name,wrong", [pair for n in arguments(nastavnik.fit) for pair in words(n)])
def test_of_fit(name: str, wrong: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    held(name, wrong, lambda: nastavnik.fit(**{"source": FRAME, "target": "b", "networks": 1, name: WRONG[wrong]}))
    assert not [p for p in tmp_path.iterdir() if p.is_dir()]


@pytest.mark.parametrize("job", [nastavnik.predict, nastavnik.compare, nastavnik.check])
def test_of_jobs_on_a_run(job: Callable[..., Any], tmp_path: Path) -> None:
    for name in arguments(job):
        for _, wrong in words(name):
            given = {"run": tmp_path, **({"source": "t.csv"} if job is nastavnik.predict else {}), name: WRONG[wrong]}
            held(name, wrong, lambda given=given: job(**given))  # type: ignore[misc]


def _find_rate(**changes: Any) -> Any:
    def build() -> Any:
        return nn.Linear(2, 1), nastavnik.likelihoods.Gaussian(noise=1.0)

    rows = torch.randn(40, 2, generator=torch.Generator().manual_seed(0))
    return nastavnik.find_rate(**{"build": build, "inputs": rows, "targets": rows[:, 0], "epochs": 1, **changes})


NUMBERS = ["method", "optimizer", "settings", "batch_size", "epochs", "low", "high", "seeds", "seed", "targets"]


@pytest.mark.parametrize("name,wrong", [pair for n in NUMBERS for pair in words(n, ("a half", "a tensor"))])
def test_of_find_rate(name: str, wrong: str) -> None:
    held(name, wrong, lambda: _find_rate(**{name: WRONG[wrong]}))


SIZES = [
    "learners",
    "recipes",
    "data",
    "numbers",
    "total_steps",
    "patience",
    "evaluations",
    "block",
    "trace",
    "engine",
    "measure",
    "own_order",
]


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "population"))
    worlds = importlib.import_module("worlds")

    population = worlds.make([{}], worlds.make_data())
    return {
        "learners": [population.network(0)],
        "recipes": population.recipes,
        "data": population.data,
        "total_steps": 20,
    }


@pytest.mark.parametrize("name", SIZES)
def test_of_a_population(name: str, world: dict[str, Any]) -> None:
    given = world
    for _, wrong in words(
        name, ("a word",) if name == "engine" else ("a list of numbers",) if name == "numbers" else ()
    ):
        held(name, wrong, lambda wrong=wrong: Population(**{**given, name: WRONG[wrong]}))  # type: ignore[misc]


@pytest.mark.parametrize(
    "name,wrong",
    [p for n in ("classes", "budget", "on", "optimizer", "model", "costs", "every", "train") for p in words(n)],
)
def test_of_a_mentor(name: str, wrong: str) -> None:
    if (name, wrong) == ("budget", "a half"):
        pytest.skip("it is a share")
    held(
        name, wrong, lambda: nastavnik.Mentor(**{"model": nn.Linear(2, 1), "loss_fn": nn.MSELoss(), name: WRONG[wrong]})
    )


@pytest.mark.parametrize(
    "wrong", ["an object", "a list of numbers", "a word", "numbers by number", "a tensor", "bytes"]
)
def test_of_a_recipe(wrong: str) -> None:
    held("values", wrong, lambda: nastavnik.Recipe(WRONG[wrong]))
    if wrong != "a word":
        held("values", wrong, lambda: nastavnik.Recipe({"seed": WRONG[wrong]}))


@pytest.mark.parametrize(
    "name", ["networks", "deliver", "folds", "settings", "class_weights", "threads", "device", "random_state", "family"]
)
def test_of_an_estimator(name: str) -> None:
    x, y = np.arange(80.0).reshape(40, 2), np.arange(40) % 2
    for _, wrong in words(name):
        estimator = nastavnik.NastavnikClassifier(**{"networks": 1, name: WRONG[wrong]})
        held(name, wrong, lambda estimator=estimator: estimator.fit(x, y))  # type: ignore[misc]


def test_numpys_numbers_paths_and_devices_are_what_they_stand_for() -> None:
    request = FitRequest(
        source=Path("t.csv"), networks=np.int64(3), test=np.float32(0.25), device=torch.device("cpu"), drop=["a"],  # type: ignore[arg-type]
        settings={"epochs": np.int32(4), "network.residual": np.bool_(True)}, forecasts=np.bool_(False), advice=0,  # type: ignore[dict-item, arg-type]
    )  # fmt: skip
    found = [
        request.source,
        request.networks,
        request.test,
        request.device,
        request.drop,
        request.forecasts,
        request.advice,
    ]
    assert found == ["t.csv", 3, 0.25, "cpu", ("a",), False, 0.0]
    assert [type(v) for v in found] == [str, int, float, str, tuple, bool, float]
    assert {type(v) for v in request.settings.values()} == {int, bool}
    assert type(nastavnik.Recipe({"seed": np.int64(2)})["seed"]) is int  # type: ignore[dict-item]


@pytest.mark.parametrize("hint,value,wanted", [
    (int, True, "a whole number"), (int, 1.0, "a whole number"), (float, True, "a number"), (float, "1", "a number"),
    (str, 1, "a word"), (bool, 1, "true or false"), (tuple[str, ...], "ab", "a list of words"),
    (tuple[str, ...], ["a", 1], "a list, each a word"), (str | Path | None, 3, "a word or a path"),
    (float, 10**400, "a number below 1e308"),
])  # fmt: skip
def test_the_sentence_says_what_was_asked_for_and_given(hint: Any, value: Any, wanted: str) -> None:
    with pytest.raises(UserError, match=rf"^it must be {wanted}, but got "):
        fitted("it", value, hint)
