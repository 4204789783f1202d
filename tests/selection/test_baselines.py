"""Baselines in a process of their own: answers, shares of the time, and ends."""

import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nastavnik.data import Columns, Field, Preparation, read_source
from nastavnik.dataset import DatasetOptions, make_dataset
from nastavnik.matrices import matrix
from nastavnik.selection import BaselineProcess
from nastavnik.selection import _baseline_worker as worker
from nastavnik.targets import Regression
from nastavnik.task import Task

STUB = """
import runpy, sys, time
own = runpy.run_path({worker!r})
real = own["makers"]

class Endless:
    def fit(self, x, y):
        while True:
            time.sleep(0.05)

class Dying:
    def fit(self, x, y):
        import os
        os._exit(3)

def makers(*given):
    return {{**real(*given), "linear": Endless, "k_nearest_neighbours": Dying}}

own["work"].__globals__["makers"] = makers
own["main"]()
"""


def columns_of(x: np.ndarray) -> Columns:
    return Columns(x, np.empty((len(x), 0), dtype=object), tuple(f"x{j}" for j in range(x.shape[1])), ())


@pytest.fixture
def table(rng: np.random.Generator) -> tuple[Columns, Task]:
    x = rng.normal(size=(300, 3))
    return columns_of(x), Task(Regression("y"), x @ [2.0, -1.0, 0.0])


def test_one_that_never_ends_is_ended_at_its_share_and_the_others_answer(
    table: tuple[Columns, Task], tmp_path: Path
) -> None:
    script = tmp_path / "stub.py"
    script.write_text(STUB.format(worker=worker.__file__))
    with BaselineProcess(1, script) as process:
        began = time.monotonic()
        process.give(*table, np.arange(250), np.arange(250, 300), seed=0, seconds=40.0)
        found = {b.name: b for b in process.collect()}
        assert time.monotonic() - began < 42
    assert found["linear"].predictive is None
    assert "not done when its time was over" in str(found["linear"].failed)
    assert found["linear"].seconds < 14  # an even share of what is left, not all of it
    assert "it ended its process" in str(found["k_nearest_neighbours"].failed)
    assert {name for name, b in found.items() if b.rows == 250} == {"constant", "random_forest", "gradient_boosting"}


def test_what_is_not_done_when_others_are_waited_for_no_longer_is_left_out(table: tuple[Columns, Task]) -> None:
    with BaselineProcess(1) as process:
        process.give(*table, np.arange(250), np.arange(250, 300), seed=0, seconds=float("inf"))
        found = process.collect(ended=lambda: True)
    assert all(b.predictive is not None or b.failed for b in found)
    assert any(b.failed for b in found)


def test_one_without_a_job_leaves_nothing_behind() -> None:
    with BaselineProcess(1) as process:
        own = process._process
        assert own is not None
    assert own.returncode is not None
    assert own.stdin is not None
    assert own.stdin.closed


def test_growing_fits_stop_at_their_share_and_each_answers(rng: np.random.Generator) -> None:
    x, y = rng.normal(size=(12_000, 3)), rng.normal(size=12_000)
    kind = {"name": "linear", "matrices": ["others"], "first": 2000, "most": 12_000}
    job: dict[str, Any] = {"tasks": ["regression"], "near": 5, "seed": 0, "threads": 1, "kinds": [kind]}
    job |= {"names": ["train.others", "wanted.others", "targets"]}
    sizes: dict[float | None, list[int]] = {}
    for seconds in (1e-6, None):
        sizes[seconds] = []

        def answer(record: dict[str, Any], found: Any = (), own: list[int] = sizes[seconds]) -> None:
            own += [record["rows"]] if "rows" in record else []

        worker.work({**job, "seconds": seconds}, [x, x[:5], y[:, None]], answer)
    assert sizes == {1e-6: [2000], None: [2000, 8000, 12_000]}


def test_the_process_ends_with_the_one_that_started_it(tmp_path: Path) -> None:
    program = (
        "import subprocess, sys; "
        f"p = subprocess.Popen([sys.executable, {worker.__file__!r}], stdin=subprocess.PIPE, stdout=subprocess.PIPE); "
        "p.stdout.readline(); print(p.pid, flush=True); import os; os._exit(0)"
    )
    child = int(subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout)
    for _ in range(200):
        try:
            os.kill(child, 0)
            state = Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[0]
        except (OSError, FileNotFoundError):
            return
        if state == "Z":  # nobody is left to take note of its end
            return
        time.sleep(0.05)
    pytest.fail("the process goes on")


def test_here_or_in_a_process_they_say_the_same() -> None:
    data = make_dataset(read_source("wine"), DatasetOptions(folds=0))
    rows, wanted = data.split.train, data.split.test
    said = []
    for here in (True, False):
        with BaselineProcess(1, here=here) as process:
            process.give(data.columns, data.task, rows, wanted, seed=0, seconds=float("inf"))
            said.append(process.collect())
    for one, other in zip(*said, strict=True):
        assert (one.name, one.rows, one.failed) == (other.name, other.rows, None)
        assert one.predictive is not None
        assert other.predictive is not None
        y = data.task.values[wanted]
        assert one.predictive.neg_log_likelihood(y).tolist() == other.predictive.neg_log_likelihood(y).tolist()


def test_numbers_beside_a_picture_are_given_to_trees_as_they_are() -> None:
    moments = 1.7e9 + np.arange(40.0)  # seconds since 1970: single precision would make them one
    pixels = np.random.default_rng(0).integers(0, 256, (40, 8, 8, 3)).astype(np.uint8)
    columns = replace(columns_of(moments[:, None]), fields={"photo": Field(pixels, "picture")})
    rows = matrix("trees", columns, Preparation.fit(columns, np.arange(40)), 8)
    np.testing.assert_array_equal(rows[:, 0], moments)
    assert rows.shape[1] == 1 + 8 * 8 * 3


def test_many_rows_are_answered_as_they_are_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "_AT_ONCE", 7)
    rows = np.arange(40.0).reshape(20, 2)
    np.testing.assert_array_equal(worker._in_pieces(lambda some: some.sum(1), rows), rows.sum(1))


def test_squares_of_pictures_are_their_means(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nastavnik.matrices._AT_ONCE", 7)
    pixels = np.random.default_rng(0).integers(0, 256, (20, 16, 16, 1)).astype(np.uint8)
    columns = replace(columns_of(np.empty((20, 0))), fields={"photo": Field(pixels, "picture")})
    preparation = Preparation.fit(columns, np.arange(20))
    means = pixels.reshape(20, 8, 2, 8, 2).mean((2, 4)).reshape(20, 64)
    np.testing.assert_allclose(matrix("trees", columns, preparation, 8), means, rtol=1e-6)
    np.testing.assert_allclose(matrix("others", columns, preparation, 8), means / 128, rtol=1e-6)
    np.testing.assert_array_equal(columns.fields["photo"].values, pixels)
