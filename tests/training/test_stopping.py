"""Stopping, and doing something else instead."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "population"))
from worlds import make, make_data

from nastavnik.errors import UserError
from nastavnik.population._numbers import change_number
from nastavnik.recipe import Recipe
from nastavnik.training.stopping import Action, Stopping, parse_actions


def stale(rule: Stopping, waited: int, best: int, step: int) -> bool:
    return bool(rule.stale(np.array([waited]), np.array([best]), step)[0])


def test_patience_and_patience_in_log_steps() -> None:
    for patience in (10, 20, 50):  # notes/003-c 7051-7118
        rule = Stopping(patience=patience)
        assert not stale(rule, patience - 1, 0, 100)
        assert stale(rule, patience, 0, 100)
    slow = Stopping("log_steps", factor=3.0)
    assert not stale(slow, 40, 1000, 2900)
    assert stale(slow, 40, 1000, 3100)
    assert stale(slow, 4, 100, 310)
    assert not stale(Stopping("never"), 10**6, 0, 10**6)
    close = np.array([8]), np.array([198]), 352  # eight looks, taken while the end was thought to be near
    assert not Stopping(patience=8).stale(*close, every=111)[0]
    assert Stopping(patience=8).stale(*close, every=19)[0]
    assert not stale(Stopping(patience=None), 10**6, 0, 10**6)


def test_recipes_say_when_to_stop() -> None:
    rule = Stopping.of(
        Recipe({"stopping.rule": "log_steps", "stopping.factor": 4.0, "stopping.watch": "metric"}), patience=8
    )
    assert (rule.rule, rule.factor, rule.watch, rule.patience) == ("log_steps", 4.0, "metric", 8)
    falling = Stopping.of(Recipe({"schedule.name": "plateau"}), patience=8)
    assert falling.actions == (Action("optimizer.learning_rate", "schedule.factor"),)
    assert falling.patience == 4
    assert parse_actions("optimizer.learning_rate*0.5; network.dropout=0.3") == (
        Action("optimizer.learning_rate", 0.5),
        Action("network.dropout", value=0.3),
    )
    for wrong in ("optimizer.learning_rate", "network.dropout=much", "*0.5"):
        with pytest.raises(UserError, match="is no NAME\\*FACTOR or NAME=VALUE"):
            parse_actions(wrong)


def noise(**changes: Any) -> list[dict[str, Any]]:
    """Networks that stand still: their learning rate is nearly zero."""
    return [{"optimizer.learning_rate": 1e-12, "seed": k, "network.dropout": 0.0, **changes} for k in range(2)]


def test_halved_on_each_plateau_and_stopped_at_a_128th() -> None:
    """notes/003-c H10: no change in ten, halve; stop at η₀/128, which is seven halvings exactly."""
    changes = noise(**{
        "stopping.patience": 10, "stopping.on_plateau": "optimizer.learning_rate*0.5", "stopping.most": 7,
        "schedule.name": "constant",
    })  # fmt: skip
    population = make(changes, make_data(), steps=400, evaluations=400, patience=3)
    rates = []
    while population.step < 400 and len(population):
        population.train(population.step + 1)
        rates.append(float(population._settings["optimizer.learning_rate"][0]) if len(population) else 0.0)
    halvings = sorted({round(float(np.log2(1e-12 / rate))) for rate in rates if rate})
    assert halvings == list(range(8))
    assert [outcome.status for outcome in population.outcomes] == ["stopped", "stopped"]
    # best at step 1 or so, then eight times ten evaluations
    assert 80 <= population.step <= 100


def test_the_plateau_schedule_lowers_each_networks_rate_by_its_own_factor() -> None:
    changes = noise(**{"schedule.name": "plateau", "stopping.patience": 5})
    changes[1]["schedule.factor"] = 0.5
    changes[0]["schedule.factor"] = 0.1
    population = make(changes, make_data(), steps=40, evaluations=40)
    population.train(9)
    rates = population._settings["optimizer.learning_rate"] / 1e-12
    torch.testing.assert_close(rates, torch.tensor([0.1, 0.5]))


def test_other_numbers_can_change_on_a_plateau() -> None:
    # notes/003-c idea 4: change regularization, dropout or the loss, and go on
    changes = noise(**{
        "regularization.l2": 1e-3, "stopping.patience": 4, "network.dropout": 0.4, "schedule.name": "constant",
        "stopping.on_plateau": "regularization.l2*10; network.dropout*0.5",
    })  # fmt: skip
    population = make(changes, make_data(), steps=60, evaluations=60)
    population.train(8)
    torch.testing.assert_close(population._settings["regularization.l2"], torch.full((2,), 1e-2))
    rates = [t for name, t in population.state.buffers.items() if name.endswith("dropouts.0.rate")]
    torch.testing.assert_close(rates[0], torch.full((2,), 0.2))
    with pytest.raises(UserError, match=r"names 'network\.dropuot', which is no number of this training; did you mean"):
        make(noise(**{"stopping.on_plateau": "network.dropuot*0.5"}), make_data())


def test_the_metric_can_be_watched() -> None:
    population = make([{"stopping.watch": "metric", "seed": k} for k in range(3)], make_data(parts=2), evaluations=10)
    population.train(200)
    trace = population.trace.frame()
    errors = trace[trace["instrument"] == "validation error"].pivot(index="network", columns="step", values="value")
    assert ((errors.to_numpy() >= 0) & (errors.to_numpy() <= 1)).all()
    whole = errors.to_numpy().reshape(3, 2, -1).mean(1)  # candidates by folds
    np.testing.assert_allclose(population.best.watched, whole.min(1), rtol=1e-5)
    assert (population.best.step == np.array(errors.columns)[whole.argmin(1)]).all()
    # what is judged is the error of the networks themselves
    learner = population.network(0)
    inputs, targets = population.data.rows_of(0, population.data.validation[0])
    with torch.no_grad():
        wrong = float((learner(*inputs).argmax(1) != targets).float().mean())
    assert errors.to_numpy()[0, -1] == pytest.approx(wrong)


def test_actions_survive_a_save(tmp_path: Path) -> None:
    changes = noise(**{"stopping.patience": 4, "stopping.on_plateau": "optimizer.learning_rate*0.5"})
    whole, broken, again = (make(changes, make_data(), steps=60, evaluations=60) for _ in range(3))
    whole.train(30)
    broken.train(11)
    broken.save(tmp_path)
    again.load(tmp_path)
    again.train(30)
    assert torch.equal(again._settings["optimizer.learning_rate"], whole._settings["optimizer.learning_rate"])
    assert (again.best.plateaus == whole.best.plateaus).all()


def test_a_share_never_leaves_its_range() -> None:
    changes = noise(**{
        "stopping.patience": 2, "network.dropout": 0.4, "stopping.on_plateau": "network.dropout*2",
        "schedule.name": "constant",
    })  # fmt: skip
    population = make(changes, make_data(), steps=60, evaluations=60)
    population.train(8)
    (rate, *_) = [t for name, t in population.state.buffers.items() if name.endswith("dropouts.0.rate")]
    assert ((rate >= 0.8 - 1e-6) & (rate < 1)).all()


def test_log_steps_count_from_the_last_action() -> None:
    changes = noise(**{
        "stopping.rule": "log_steps", "stopping.factor": 2.0, "stopping.on_plateau": "optimizer.learning_rate*0.5",
        "stopping.most": 2, "schedule.name": "constant",
    })  # fmt: skip
    population = make(changes, make_data(), steps=200, evaluations=200)
    acted: list[int] = []
    while population.step < 200 and len(population):
        population.train(population.step + 1)
        if len(population) and population.best.plateaus[0] > len(acted):
            acted.append(population.step)
    assert len(acted) == 2
    assert acted[1] >= 2 * acted[0]
    assert population.step > 2 * acted[1]


def test_networks_that_are_no_numbers_are_never_the_best() -> None:
    """The argmax of what is no number is class 0, which may be right by chance."""
    population = make([{"stopping.watch": "metric", "seed": k} for k in range(2)], make_data(), steps=20, evaluations=4)
    population.best.watched[:] = 0.999
    for t in population.state.parameters.values():
        t[0] = torch.nan
    population.train(5)
    assert [(o.status, o.score) for o in population.outcomes] == [("diverged", float("inf"))]
    assert all(torch.isfinite(p).all() for p in population.outcomes[0].learners[0].parameters())


def test_training_losses_are_means_wherever_training_paused() -> None:
    changes = noise(**{"schedule.name": "constant"})
    whole, paused = (make(changes, make_data(), steps=40, evaluations=4) for _ in range(2))
    whole.train(40)
    for stop in (5, 12, 30, 40):
        paused.train(stop)
    seen = [p.trace.frame().query("instrument == 'training loss' and network == 0") for p in (whole, paused)]
    # each mean is over the steps since the last one: they add up to the same
    totals = []
    for frame in seen:
        steps = np.diff(frame["step"].to_numpy(), prepend=0)
        totals.append(float((steps * frame["value"].to_numpy()).sum()))
    assert totals[1] == pytest.approx(totals[0], rel=1e-5)


def test_an_action_leaves_neighbours_as_they_are() -> None:
    settings = {"optimizer.momentum": torch.tensor([0.999, 0.9])}
    change_number(Action("optimizer.momentum", 2.0), torch.tensor([False, True]), settings, {}, {})
    torch.testing.assert_close(settings["optimizer.momentum"], torch.tensor([0.999, 0.99]))
