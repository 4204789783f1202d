"""What a command does not need is not imported: exact, where seconds would depend on the machine."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import nastavnik
from nastavnik.data import read_source
from nastavnik.population import Learner
from nastavnik.selection._ladder import _Constant, best_constant
from nastavnik.training.likelihoods import LIKELIHOODS

DYNAMO = {"torch._dynamo", "sympy", "torch.fx.experimental.symbolic_shapes"}
SHOWN = "import sys\nfrom nastavnik.cli import main\ntry: main(sys.argv[1:])\nexcept SystemExit as s: assert s.code == 0, s.code\nprint('MODULES', *sys.modules)"


def imported(*words: str, cwd: Path) -> set[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", SHOWN, *words], cwd=cwd, env=environment, capture_output=True, text=True, check=True
    )
    return set(done.stdout.splitlines()[-1].split())


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, set[str]]:
    place = tmp_path_factory.mktemp("startup")
    return place, imported("fit", "iris", "--networks", "2", "--out", "r", "--quiet", cwd=place)


def test_a_small_fit_imports_no_tracer_and_no_figure_classes(run: tuple[Path, set[str]]) -> None:
    assert not run[1] & {*DYNAMO, "plotly.graph_objs", "plotly.graph_objects", "torch._inductor"}


def test_predict_imports_no_jobs_but_its_own(run: tuple[Path, set[str]]) -> None:
    found = imported("predict", "r", "iris", "--out", "p.csv", cwd=run[0])
    assert not found & {
        *DYNAMO,
        "scipy.stats",
        "sklearn",
        "optuna",
        "plotly",
        "nastavnik.jobs._fit",
        "nastavnik.mentor",
    }


def test_a_small_check_imports_no_tracer(run: tuple[Path, set[str]]) -> None:
    found = imported("check", "r", "--quiet", cwd=run[0])
    assert not found & {"torch._dynamo", "sklearn", "scipy.stats", "torch._decomp.decompositions_for_jvp"}


def test_list_imports_no_tables(tmp_path: Path) -> None:
    assert not imported("list", cwd=tmp_path) & {
        *DYNAMO,
        "scipy",
        "pandas",
        "sklearn",
        "optuna",
        "plotly",
        "nastavnik.data",
    }


@pytest.mark.parametrize("room", ["jobs", "selection", ""])
def test_rooms_show_what_they_announce(room: str) -> None:
    """The names a type checker sees are those that are found, each from where it says."""
    path = Path(nastavnik.__file__).parent / room / "__init__.py"
    seen = next(n for n in ast.parse(path.read_text(encoding="utf-8")).body if isinstance(n, ast.If))
    announced = {a.name: n.module for n in seen.body if isinstance(n, ast.ImportFrom) for a in n.names}
    module = __import__(f"nastavnik.{room}".rstrip("."), fromlist=["x"])
    shown = {
        n for n in dir(module) if n in announced or (not n.startswith("_") and n in vars(module).get("__all__", ()))
    }
    assert set(announced) <= shown
    for name, home in announced.items():
        assert getattr(module, name) is getattr(__import__(str(home), fromlist=["x"]), name)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = module.nothing


@pytest.mark.parametrize("name", ["iris", "wine", "breast_cancer", "digits", "diabetes"])
def test_built_in_sets_are_scikit_learns(name: str) -> None:
    from sklearn import datasets

    bunch = getattr(datasets, f"load_{name}")(as_frame=True)
    wanted = bunch.frame.copy()
    if name != "diabetes":
        wanted["target"] = [str(bunch.target_names[i]) for i in wanted["target"]]
    pd.testing.assert_frame_equal(read_source(name).frame, wanted)


def _targets(kind: str) -> torch.Tensor:
    rng = np.random.default_rng(0)
    if kind == "real":
        return torch.tensor(rng.standard_t(3, 301) * 0.7 + 0.4, dtype=torch.float32)
    if kind == "positive":
        return torch.tensor(rng.gamma(2.0, 0.5, 301), dtype=torch.float32)
    if kind == "spike":
        return torch.tensor(np.where(rng.random(301) < 0.3, -30.0, rng.normal(0.4, 0.7, 301)), dtype=torch.float32)
    if kind == "count":
        return torch.tensor(rng.poisson(2.5, 301), dtype=torch.float32)
    if kind == "labels":
        return torch.tensor(rng.random((301, 3)) < [0.1, 0.5, 0.8], dtype=torch.float32)
    if kind == "votes":
        return torch.tensor(rng.multinomial(5, [0.2, 0.3, 0.5], 301), dtype=torch.float32)
    if kind == "vector":
        return torch.tensor(rng.normal([0.0, 1.0, -2.0], 0.7, (301, 3)), dtype=torch.float32)
    return torch.tensor(rng.choice(3, 301, p=[0.2, 0.3, 0.5]))


@pytest.mark.parametrize("name", list(LIKELIHOODS))
def test_the_best_constant_is_lbfgss_and_better_than_its_neighbours(name: str) -> None:
    entry = LIKELIHOODS[name]
    targets = _targets(entry.target) if name != "bernoulli" else (_targets("class") > 1).long()
    classes = 2 if name == "bernoulli" else 3
    inputs = (torch.zeros(len(targets), 1),)

    def made() -> Learner:
        likelihood = entry.make(classes, {})
        return Learner(_Constant(likelihood.outputs), likelihood)

    def loss(learner: Learner) -> torch.Tensor:
        return learner.likelihood.neg_log_likelihood(learner(*inputs), targets).mean()

    found, other = best_constant(made(), inputs, targets), made()
    fit = torch.optim.LBFGS(other.parameters(), max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        fit.zero_grad()
        value = loss(other)
        value.backward()
        return value

    fit.step(closure)
    with torch.no_grad():
        best = float(loss(found))
        assert best <= float(loss(other)) + 1e-5
        for parameter in found.parameters():
            for step in (-0.05, 0.05):
                parameter.add_(step)
                assert float(loss(found)) > best - 1e-6
                parameter.sub_(step)


def test_the_best_constant_has_closed_forms() -> None:
    targets = _targets("class")
    learner = best_constant(
        Learner(_Constant(3), LIKELIHOODS["categorical"].make(3, {})), (targets[:, None].float(),), targets
    )
    shares = torch.softmax(learner(targets[:1, None].float())[0], -1)
    torch.testing.assert_close(shares, torch.bincount(targets) / len(targets), atol=1e-5, rtol=0)
    values = _targets("real")
    laplace = best_constant(Learner(_Constant(1), LIKELIHOODS["laplace"].make(0, {})), (values[:, None],), values)
    assert float(laplace(values[:1, None])[0, 0].detach()) == pytest.approx(float(values.median()), abs=1e-3)
    scale = float(laplace.likelihood.scale(laplace(values[:1, None])).detach())  # type: ignore[operator]
    assert scale == pytest.approx(float((values - values.median()).abs().mean()), rel=1e-3)
