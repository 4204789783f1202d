"""One network's numbers do not depend on the way it is run, nor on its neighbours."""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch._C._functorch import is_gradtrackingtensor
from worlds import BASE, distance, make, make_data

from nastavnik import noise
from nastavnik.compiler import NotCompilable
from nastavnik.errors import UserError
from nastavnik.population import Data, Learner, Population, _ways, _work
from nastavnik.recipe import Recipe
from nastavnik.runs import Clock, Deadline
from nastavnik.training.likelihoods import Categorical, Gaussian

WAYS = ("sequential", "batched", "compiled")
SGD = {"optimizer.name": "sgd", "optimizer.learning_rate": 0.02, "optimizer.momentum": 0.9}
VARIANTS: list[dict[str, Any]] = [
    {"network.normalization": "none"},
    {"network.normalization": "batch"},
    {"network.normalization": "layer", "network.residual": True, "network.activation": "silu"},
    {"network.activation": "gelu", "network.embedding": "none"},
    {"network.activation": "tanh"},
    {"network.family": "linear"},
    {**SGD, "optimizer.nesterov": True},
    {**SGD, "optimizer.nesterov": False},
]


def changes_of(variant: dict[str, Any], count: int = 4) -> list[dict[str, Any]]:
    return [
        {**variant, "seed": k, "network.dropout": 0.1 * k, "optimizer.weight_decay": 0.01 * k} for k in range(count)
    ]


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda v: "-".join(map(str, v.values())))
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.float64, 1e-9)])
def test_in_a_population_as_alone_whatever_the_way(
    variant: dict[str, Any], dtype: torch.dtype, tolerance: float
) -> None:
    data = make_data(dtype=dtype)
    changes = changes_of(variant)
    alone = [make([changes[k]], data, engine="sequential") for k in (0, 3)]
    for population in alone:
        population.train(200)
    for way in WAYS:
        together = make(changes, data, engine=way)
        together.train(200)
        assert together.way == way
        for population, k in zip(alone, (0, 3), strict=True):
            assert distance(together.network(k), population.network(0)) < tolerance


def test_another_thread_makes_a_step_for_one_while_a_batched_step_runs() -> None:
    """As the one that compiles does; the learner then holds the tensors of the batched step."""
    population = make(changes_of({}), make_data(), engine="batched")
    made: list[object] = []

    def make_one(network: nn.Module, *_: object) -> None:
        held = [is_gradtrackingtensor(p) for p in network.parameters()]
        if all(held) and not made:
            with ThreadPoolExecutor(1) as other:
                made.append(other.submit(population.training.step, True, alone=True).result())

    handle = population.learner.network.register_forward_hook(make_one)
    population.train(2)
    handle.remove()
    assert (len(made), population.way) == (1, "batched")


@pytest.mark.parametrize("way", WAYS)
def test_the_trace_does_not_depend_on_the_way(way: str) -> None:
    data = make_data(dtype=torch.float64)
    traces = []
    for engine in ("batched", way):
        population = make(changes_of({}), data, engine=engine, evaluations=7)
        population.train(60)
        traces.append(population.trace.frame())
    assert traces[0].drop(columns="value").equals(traces[1].drop(columns="value"))
    np.testing.assert_allclose(traces[1]["value"], traces[0]["value"], rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("way", WAYS)
def test_how_steps_are_cut_into_calls_changes_nothing(way: str) -> None:
    """Calls are as long as a clock allows; states, losses and what is measured must not tell."""
    traces, weights = [], []
    for at_once in (1, 7):
        population = make(changes_of({}), make_data(), engine=way, evaluations=3)

        def pause(population: Population = population, at_once: int = at_once) -> None:
            population._at_once = at_once

        pause()
        population.train(60, pause=pause)
        traces.append(population.trace.frame())
        weights.append(torch.cat([p.flatten() for p in population.network(2).parameters()]))
    assert traces[0].equals(traces[1])
    assert torch.equal(weights[0], weights[1])


@pytest.mark.parametrize("way", WAYS)
def test_neighbours_change_nothing_bit_for_bit(way: str) -> None:
    """One neighbour diverges, another is stopped; the block stays as large as it was."""
    data = make_data()
    quiet = make(changes_of({}), data, engine=way, evaluations=0)
    quiet.train(120)
    changes = changes_of({})
    changes[1]["optimizer.learning_rate"] = 1e30
    loud = make(changes, data, engine=way, evaluations=0)
    loud.train(120)
    for k in (0, 2, 3):
        assert all(
            torch.equal(a, b) for a, b in zip(loud.network(k).parameters(), quiet.network(k).parameters(), strict=True)
        )


@pytest.mark.parametrize("way", ["sequential", "compiled"])
def test_these_ways_do_not_know_of_neighbours_at_all(way: str) -> None:
    """Alone, in company, or after the others have gone: the same bytes."""
    data = make_data()
    together = make(changes_of({}), data, engine=way, evaluations=0)
    together.train(60)
    together.release(np.array([True, False, True, True]), "dropped")
    together.train(120)
    alone = make(changes_of({})[1:2], data, engine=way, evaluations=0)
    alone.train(120)
    assert all(
        torch.equal(a, b) for a, b in zip(together.network(0).parameters(), alone.network(0).parameters(), strict=True)
    )


@pytest.mark.parametrize("way", WAYS)
def test_folds_and_orders_of_their_own(way: str) -> None:
    data = make_data(parts=3, dtype=torch.float64)
    changes = [{"seed": 1}, {"seed": 2}]
    one, other = (make(changes, data, engine=e, own_order=True) for e in ("sequential", way))
    one.train(40)
    other.train(40)
    shared = make(changes, data, engine=way)
    shared.train(40)
    for k in range(6):
        assert distance(other.network(k), one.network(k)) < 1e-9
        assert distance(shared.network(k), one.network(k)) > 1e-6


class _Reader(nn.Module):
    """Words to a class by a recurrent network."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(9, 4)
        self.read = nn.LSTM(4, 5, batch_first=True)
        self.say = nn.Linear(5, 3)

    def forward(self, words: torch.Tensor) -> torch.Tensor:
        return self.say(self.read(self.words(words))[0][:, -1])


def _conv() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 3, 3),
        nn.BatchNorm2d(3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Dropout(0.2),
        nn.Flatten(),
        nn.Linear(12, 3),
    )


class _Sorting(nn.Module):
    """What the values are decides what is computed: no way but one by one."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.layer(x)
        return y * 2 if bool(y.detach().mean() > 0) else y


def module_population(build: Any, x: torch.Tensor, engine: str, count: int = 3, **options: Any) -> Population:
    n = len(x)
    y = torch.arange(n) % 3
    rows = np.arange(n)
    data = Data.of([(x,)], [y], [(rows[: n * 2 // 3], rows[n * 2 // 3 :])], seed=0)
    recipes = [Recipe({**BASE, "network.family": "own", "seed": k}) for k in range(count)]
    learners = [Learner.seeded(k, lambda: (build(), Categorical(3))).to(torch.float64) for k in range(count)]
    return Population(learners, recipes, data, total_steps=30, engine=engine, **options)


@pytest.mark.parametrize(
    ("build", "x", "steps"),
    [
        (_Reader, torch.randint(0, 9, (48, 6), generator=torch.Generator().manual_seed(0)), 30),
        # rounding grows with the steps, by how much depends on the processor
        (_conv, torch.randn(48, 1, 6, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64), 6),
    ],
    ids=["recurrent", "convolutional"],
)
def test_modules_that_cannot_be_compiled_run_otherwise(build: Any, x: torch.Tensor, steps: int) -> None:
    with pytest.raises(NotCompilable):
        module_population(build, x, "compiled").train(1)
    batched, sequential, auto = (module_population(build, x, e) for e in ("batched", "sequential", "auto"))
    for population in (batched, sequential, auto):
        population.train(steps)
    assert auto.way in ("batched", "sequential")
    for k in range(3):
        assert distance(batched.network(k), sequential.network(k)) < 1e-9


def test_a_module_that_cannot_be_batched_is_never_refused() -> None:
    x = torch.randn(48, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    population = module_population(_Sorting, x, "auto")
    population.train(30)
    assert population.way == "sequential"
    assert np.isfinite(population.best.score).all()


def test_tied_and_shared_weights_train_as_one() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one = nn.Linear(6, 6, bias=False)
            self.two = nn.Linear(6, 6, bias=False)
            self.two.weight = self.one.weight
            self.out = nn.Linear(6, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.out(self.two(self.one(x).tanh()))

    x = torch.randn(48, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    populations = [module_population(Tied, x, e) for e in WAYS]
    for population in populations:
        population.train(30)
        own = population.network(1).network
        assert own.one.weight is own.two.weight  # type: ignore[union-attr]
    assert distance(populations[0].network(1), populations[1].network(1)) < 1e-9
    assert distance(populations[0].network(1), populations[2].network(1)) < 1e-9


@pytest.mark.parametrize("engine", [*WAYS, "auto"])
def test_saved_in_the_middle_and_taken_up_elsewhere(engine: str, tmp_path: Path) -> None:
    """Saved between evaluations, after one candidate diverged and one was dropped; the same bytes at the end."""
    data = make_data(parts=2)
    changes = changes_of({}, 5)
    changes[2]["optimizer.learning_rate"] = 1e30

    class Moment(Exception):
        pass

    def fresh() -> Population:
        return make(changes, data, engine=engine, evaluations=10)

    whole, broken = fresh(), fresh()
    for population in (whole, broken):
        population.train(50)
        population.release(np.array([False, True, False, False]), "dropped")

    def pause() -> None:
        broken._at_once = 1
        if broken.step == 71:  # evaluations are every 20 steps
            broken.save(tmp_path)
            raise Moment

    with pytest.raises(Moment):
        broken.train(200, pause=pause)
    again = fresh()
    again.load(tmp_path)
    assert again.step == 71
    assert again.numbers.tolist() == broken.numbers.tolist()
    whole.train(200)
    again.train(200)
    outcomes = [{o.recipe: o for o in population.harvest()} for population in (whole, again)]
    assert len(outcomes[0]) == 5
    for recipe, outcome in outcomes[0].items():
        other = outcomes[1][recipe]
        assert (other.status, other.score, other.best_step) == (outcome.status, outcome.score, outcome.best_step)
        for a, b in zip(outcome.learners, other.learners, strict=True):
            for p, q in zip(a.state_dict().values(), b.state_dict().values(), strict=True):
                assert torch.equal(p.nan_to_num(), q.nan_to_num())


def test_foreign_files_are_refused(tmp_path: Path) -> None:
    population = make([{"seed": 0}], make_data())
    with pytest.raises(UserError, match=r"there is no population\.json"):
        population.load(tmp_path)
    population.save(tmp_path)
    (state,) = tmp_path.glob("population-*.safetensors")
    state.write_bytes(state.read_bytes()[:100])
    with pytest.raises(UserError, match="cut short"):
        population.load(tmp_path)


def test_blocks_are_halved_when_memory_runs_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """A device with room for two networks at a time."""
    real = _ways.Batched._block

    def small(self: Any, state: Any, losses: Any, stretch: Any, which: slice) -> Any:
        if which.stop - which.start > 2:
            raise torch.OutOfMemoryError("out of memory")
        return real(self, state, losses, stretch, which)

    data = make_data(dtype=torch.float64)
    roomy = make(changes_of({}), data, engine="batched")
    roomy.train(20)
    monkeypatch.setattr(_ways.Batched, "_block", small)
    tight = make(changes_of({}), data, engine="batched")
    tight.train(20)
    assert tight.block == 2
    assert distance(tight.network(3), roomy.network(3)) < 1e-9
    other = make(changes_of({}), data, engine="batched", block=1)
    monkeypatch.setattr(_ways.Batched, "_block", lambda *_: (_ for _ in ()).throw(RuntimeError("shapes differ")))
    other.train(20)  # no lack of memory: whatever vmap cannot do is done one by one
    assert other.way == "sequential"
    assert distance(other.network(3), roomy.network(3)) < 1e-9


def test_the_fixed_rule_and_the_measured_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    data = make_data()
    short = make([{"seed": 0}], data, steps=20)
    short.train(1)
    assert short.way == "sequential"
    long = make(changes_of({}, 8), data, steps=40_000)
    long.train(1)
    assert long.way == "compiled"
    measured = make(changes_of({}, 8), data, steps=40_000, measure=True)
    state = [p.clone() for p in measured.network(0).parameters()]
    measured._chosen_way()
    assert measured.way == "compiled"
    assert measured.words.startswith("compiled in")  # a small step's gain is known without a trial
    monkeypatch.setattr("nastavnik.population._choice._DOUBTFUL", 0.0)
    tried = make(changes_of({}, 8), data, steps=40_000, measure=True)
    tried._chosen_way()
    assert "times as fast" in tried.words
    assert all(torch.equal(p, q) for p, q in zip(measured.network(0).parameters(), state, strict=True))


def test_without_instruments_nothing_is_measured_beside_losses() -> None:
    for engine in WAYS:
        population = make([{"seed": 0}, {"seed": 1}], make_data(), engine=engine, instruments={}, evaluations=2)
        population.train(10)
        assert set(population.trace.frame()["instrument"]) <= {"training loss", "validation loss"}


def test_pauses_come_while_all_networks_stand_at_one_step() -> None:
    population = make(changes_of({}), make_data(), engine="batched", block=2)
    seen: list[int] = []
    clock = Clock()

    def pause() -> None:
        seen.append(population.step)
        clock.stop_requested = len(seen) >= 3

    population.train(200, Deadline(clock), pause)
    assert seen == sorted(seen)
    assert population.step < 200


@pytest.mark.parametrize("networks", [1, 3])
def test_predictions_and_scores_of_the_living(networks: int) -> None:
    data = make_data(dtype=torch.float64)
    population = make(changes_of({}, networks), data)
    population.train(30)
    inputs, targets = data.rows_of(0, data.validation[0])
    outputs = population.predict(*inputs)
    losses = population.evaluate()
    for k in range(networks):
        alone = population.network(k)
        with torch.no_grad():
            torch.testing.assert_close(outputs[k], alone(*inputs))
            assert losses[k].item() == pytest.approx(alone.likelihood(alone(*inputs), targets).min().item(), rel=1e-9)


def test_memory_is_told_before() -> None:
    data = make_data()
    few, many = (make([{"network.width": 512, "seed": s} for s in range(k)], data, engine="batched") for k in (2, 20))
    weights = sum(p.numel() * 4 for p in few.network(0).parameters())
    assert many.memory() - few.memory() > 18 * 5 * weights  # learners, state, two averages, best
    assert many.memory() < 2 * 2**30


def test_a_regression_with_a_fixed_noise() -> None:
    x = torch.randn(90, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    y = x @ torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64) + 0.3
    rows = np.arange(90)
    data = Data.of([(x,)], [y], [(rows[:60], rows[60:])], seed=0)
    recipes = [Recipe({**BASE, "network.family": "own", "optimizer.learning_rate": 0.05, "seed": k}) for k in range(2)]
    for way in WAYS:
        learners = [Learner.seeded(k, lambda: (nn.Linear(3, 1), Gaussian(0.3))).to(torch.float64) for k in range(2)]
        population = Population(learners, recipes, data, total_steps=400, engine=way)
        population.train(400)
        found = next(population.network(0).network.parameters()).detach().flatten()
        torch.testing.assert_close(found, torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64), atol=0.03, rtol=0)


@pytest.mark.slow
def test_the_way_of_other_devices_compiles_once_however_many_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    """``torch.compile`` of a padded block, tried on the processor."""
    data = make_data(dtype=torch.float64)
    plain, compiled = (make(changes_of({}, 5), data, engine="batched", instruments={}) for _ in range(2))
    compiled._way = _ways.CompiledByTorch(compiled.training)
    from torch._dynamo.utils import counters

    for population in (plain, compiled):
        population.train(10)
    before = counters["stats"]["unique_graphs"]
    for population in (plain, compiled):
        population.release(np.array([False, True, False, False, True]), "dropped")
        population.train(20)
    assert counters["stats"]["unique_graphs"] == before
    for k in range(3):
        assert distance(compiled.network(k), plain.network(k)) < 1e-9


def test_networks_that_were_evaluated_go_on_training_with_dropout() -> None:
    """What ``network`` gives is in evaluation mode; a population of such learners trains all the same."""
    data = make_data(dtype=torch.float64)
    first = make(changes_of({}), data)
    learners = [first.network(k) for k in range(4)]
    results = []
    for way in WAYS:
        population = Population(learners, first.recipes, data, total_steps=40, engine=way, evaluations=4)
        population.train(40)
        results.append(population.network(3))
    assert distance(results[1], results[0]) < 1e-9
    assert distance(results[2], results[0]) < 1e-9


def test_an_infinite_loss_is_a_divergence() -> None:
    population = make([{"seed": 0}, {"seed": 1}], make_data())
    for t in population.state.parameters.values():
        t[1] = 1e30
    population.train(20)
    assert [(o.status, o.numbers) for o in population.outcomes] == [("diverged", (1,))]


def test_averaged_weights_keep_their_bounds() -> None:
    settings = {"regularization.max_norm": 0.5, "optimizer.ema": 0.9, "optimizer.learning_rate": 0.05}
    population = make([{**settings, "seed": k} for k in range(2)], make_data(), engine="batched", steps=40)
    population.train(40)
    for name, p in population.network(0).named_parameters():
        if p.ndim >= 2:
            assert float(p.detach().square().sum(1).sqrt().max()) <= 0.5 + 1e-6, name


def test_the_first_step_of_a_process_can_be_compiled() -> None:
    noise._positions.cache_clear()  # what dropout remembers from an earlier step
    population = make([{}], make_data(), steps=4, engine="compiled")
    population.train(1)
    assert population.way == "compiled"


def test_small_steps_take_one_thread_and_give_the_others_back(monkeypatch: pytest.MonkeyPatch) -> None:
    threads, seen = torch.get_num_threads(), []
    torch.set_num_threads(2)
    try:
        for least, engine in itertools.product((0.0, 1e12), ("sequential", "batched")):
            monkeypatch.setattr(_work, "_WORTH_THREADS", least)
            population = make([{}, {"seed": 1}], make_data(), steps=4, engine=engine)
            alone = engine == "sequential"
            step = population.training.step(False, alone=alone, eager=alone)

            def noted(*given: Any, step: Any = step) -> Any:
                seen.append(torch.get_num_threads())
                return step(*given)

            population.training._made[False, alone, alone] = noted
            population.train(4)
            assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
    half = len(seen) // 2
    assert (set(seen[:half]), set(seen[half:])) == ({2}, {1})
