from pathlib import Path

import numpy as np
import pytest

import nastavnik


def test_a_linear_model_is_taken_where_no_network_is_shown_to_be_better(
    rng: np.random.Generator, tmp_path: Path
) -> None:
    x = rng.normal(size=(300, 4))
    y = x @ [1.0, -1.0, 0.5, 0.0] + rng.normal(0, 1, 300)
    plain = nastavnik.fit(x, y, networks=24, folds=0, out=tmp_path / "r")
    assert plain.result["chosen"]["recipe"]["network"]["family"] == "linear"
    page = (tmp_path / "r" / "report.html").read_text()
    best_row = page.split("against the chosen")[1].split("</tr>")[1]
    assert ("not shown to be better than this linear model" in page) == ("<td>chosen</td>" not in best_row)


def test_a_network_is_taken_where_it_is_better(rng: np.random.Generator) -> None:
    x = rng.uniform(-2, 2, size=(600, 2))
    ring = nastavnik.fit(x, ((x**2).sum(1) < 2).astype(int), networks=24, folds=0)
    assert ring.result["chosen"]["recipe"]["network"]["family"] == "mlp"
    assert ring.result["test"]["accuracy"]["value"] > 0.9


@pytest.mark.parametrize("deliver", ["single", "ensemble"])
def test_the_choice_never_sees_the_test_rows(deliver: str, rng: np.random.Generator) -> None:
    x = rng.normal(size=(200, 3))
    y = x[:, 0] + rng.normal(0, 0.5, 200)
    first = nastavnik.fit(x, y, networks=4, folds=0, deliver=deliver)
    spoiled = y.copy()
    spoiled[first.dataset.split.test] = rng.permutation(y[first.dataset.split.test]) * 3
    second = nastavnik.fit(x, spoiled, networks=4, folds=0, deliver=deliver)
    assert first.dataset.split.test.tolist() == second.dataset.split.test.tolist()
    assert first.result["validation"] == second.result["validation"]
    for name, tensor in first.model.members[0].learner.state_dict().items():
        assert (second.model.members[0].learner.state_dict()[name] == tensor).all()
