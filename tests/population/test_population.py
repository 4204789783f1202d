import numpy as np
import pytest
import torch
from torch import nn
from worlds import BASE, D, distance, make, make_data

from nastavnik.nets import Factory, Signature
from nastavnik.population import Data, Learner, Order, Population
from nastavnik.recipe import Recipe
from nastavnik.runs import Clock, Deadline
from nastavnik.training.likelihoods import Categorical


def test_each_network_has_its_own_hyperparameters() -> None:
    population = make([{"optimizer.learning_rate": r} for r in (1e-4, 1e-2)], make_data())
    before = [[p.clone() for p in population.network(k).parameters()] for k in range(2)]
    population.train(5)
    moved = [
        max(
            float((p - q).detach().abs().max())
            for p, q in zip(population.network(k).parameters(), before[k], strict=True)
        )
        for k in range(2)
    ]
    assert moved[1] > 20 * moved[0]


def test_folds_train_on_their_own_rows() -> None:
    data = make_data(parts=5)
    population = make([{"seed": 1}, {"seed": 2}], data)
    population.train(200)
    single = Data(tuple(t[:1] for t in data.inputs), data.targets[:1], data.train[:1], data.validation[:1], data.seed)
    alone = make([{"seed": 1}], single)
    alone.train(200)
    assert distance(population.network(0), alone.network(0)) < 1e-4


def test_a_diverging_neighbour_changes_nothing() -> None:
    changes = [{"seed": k} for k in range(4)]
    data = make_data()
    healthy = make(changes, data)
    healthy.train(100)
    sick = make([*changes[:2], {**changes[2], "optimizer.learning_rate": 1e30}, changes[3]], data)
    sick.train(100)
    assert [o.status for o in sick.outcomes] == ["diverged"]
    for i, k in ((0, 0), (1, 1), (2, 3)):
        for p, q in zip(sick.network(i).parameters(), healthy.network(k).parameters(), strict=True):
            torch.testing.assert_close(p, q, rtol=1e-5, atol=1e-6)


def test_the_best_moment_is_kept() -> None:
    population = make(
        [{"optimizer.learning_rate": 0.05, "network.dropout": 0.0, "schedule.name": "constant"}], make_data()
    )
    population.train(200)
    trace = population.trace.frame()
    losses = trace[trace["instrument"] == "validation loss"]
    best = losses.iloc[int(losses["value"].to_numpy().argmin())]
    (outcome,) = population.harvest()
    assert outcome.best_step == best["step"]
    assert outcome.score == pytest.approx(best["value"], rel=1e-6)
    data = population.data
    rows = data.validation[0]
    with torch.no_grad():
        outputs = outcome.learners[0](*data.rows_of(0, rows)[0])
    assert outcome.learners[0].likelihood(outputs, data.targets[0][rows]).min().item() == pytest.approx(
        outcome.score, rel=1e-4
    )


def test_patience_stops_and_survivors_close_up() -> None:
    changes = [
        {
            "optimizer.learning_rate": 0.1,
            "network.dropout": 0.0,
            "optimizer.weight_decay": 0.0,
            "schedule.name": "constant",
        },
        {
            "optimizer.learning_rate": 1e-5,
            "network.dropout": 0.0,
            "optimizer.weight_decay": 0.0,
            "schedule.name": "constant",
        },
    ]
    population = make(changes, make_data(), steps=600, patience=5)
    population.train(600)
    assert [o.status for o in population.outcomes] == ["stopped"]
    assert len(population) == 1
    assert population.recipes[0]["optimizer.learning_rate"] == 1e-5


def test_a_deadline_ends_training_with_a_score() -> None:
    clock = Clock(budget=1e9)
    deadline = Deadline(clock)
    population = make([{"seed": 0}], make_data())
    clock.stop_requested = True
    population.train(200, deadline)
    assert population.step == 1
    assert np.isfinite(population.best.score).all()


def test_the_trace_is_tidy() -> None:
    population = make([{"seed": 0}, {"seed": 1}], make_data(), numbers=[10, 11], evaluations=10)
    population.train(40)
    trace = population.trace.frame()
    assert set(trace["network"]) == {10, 11}
    assert set(trace["instrument"]) == {
        "training loss",
        "validation loss",
        "gradient norm",
        "weight norm",
        "update ratio",
    }
    assert (trace[trace["instrument"] == "gradient norm"]["value"] > 0).all()


def test_instruments_equal_brute_force() -> None:
    data = make_data(dtype=torch.float64)
    changes = {
        "network.dropout": 0.0,
        "optimizer.name": "sgd",
        "optimizer.momentum": 0.0,
        "optimizer.weight_decay": 0.0,
    }
    rate = 0.01
    population = make(
        [{**changes, "schedule.name": "constant", "optimizer.learning_rate": rate}], data, evaluations=200
    )
    network = population.network(0)
    population.train(1)
    index = Order(data, 16).rows(0, 1)[0, 0]
    inputs, targets = data.rows_of(0, index)
    loss = network(*inputs, targets=targets).mean()
    loss.backward()
    norm = torch.cat([p.grad.flatten() for p in network.parameters() if p.grad is not None]).norm().item()
    weights = torch.cat([p.detach().flatten() for p in network.parameters()]).norm().item()
    values = population.trace.frame().set_index("instrument")["value"]
    assert values["gradient norm"] == pytest.approx(norm, rel=1e-6)
    assert values["update ratio"] == pytest.approx(float(np.float32(rate)) * norm / weights, rel=1e-5)
    assert values["training loss"] == pytest.approx(loss.item(), rel=1e-6)


def test_a_users_module_with_dropout_and_frozen_parts() -> None:
    def build(inputs: int, outputs: int) -> nn.Module:
        first = nn.Linear(inputs, 8, bias=False)  # batch norm would leave a bias with no gradient but noise
        first.weight.requires_grad_(False)
        return nn.Sequential(first, nn.BatchNorm1d(8), nn.Tanh(), nn.Dropout(0.3), nn.Linear(8, outputs))

    data = make_data()
    signature = Signature(D, (2,), 3, (100,) * D)
    recipes = [Recipe({**BASE, "network.family": "factory", "seed": k}) for k in range(3)]
    learners = [Learner.seeded(k, lambda: (Factory(build).build({}, signature), Categorical(3))) for k in range(3)]
    population = Population(learners, recipes, data, total_steps=50)
    before = learners[1].network.module[0].weight.clone()  # type: ignore[union-attr,index]
    population.train(50)
    after = population.network(1)
    assert torch.equal(after.network.module[0].weight, before)  # type: ignore[union-attr,index]
    alone = Population(learners[1:2], recipes[1:2], data, total_steps=50)
    alone.train(50)
    assert distance(after, alone.network(0)) < 1e-4


def test_the_same_seed_gives_the_same_bytes_and_leaves_torchs_state_alone() -> None:
    torch.manual_seed(123)
    state = torch.random.get_rng_state()
    results = []
    for _ in range(2):
        population = make([{"seed": 3}, {"seed": 4}], make_data())
        population.train(60)
        results.append(torch.cat([p.flatten() for p in population.network(1).parameters()]))
    assert torch.equal(results[0], results[1])
    assert torch.equal(torch.random.get_rng_state(), state)


def test_mistakes_of_the_caller_are_named() -> None:
    data = make_data()
    with pytest.raises(ValueError, match="must share one shape"):
        make([{"network.width": 16}, {"network.width": 8}], data)
    population = make([{"seed": 0}], data)
    with pytest.raises(ValueError, match="need as many learners"):
        Population([population.network(0)] * 2, [Recipe(BASE)], data, total_steps=5)
