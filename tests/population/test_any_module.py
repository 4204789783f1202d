"""Any module is trained as a function of its tensors, run one by one where it must be, or refused in a sentence."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import nastavnik
from nastavnik.errors import UserError
from nastavnik.population import Data, Learner, Population
from nastavnik.recipe import Recipe
from nastavnik.training.likelihoods import Categorical

D, OUT, N = 6, 3, 48
RECIPE: dict[str, Any] = {
    "optimizer.name": "sgd",
    "optimizer.learning_rate": 0.05,
    "optimizer.momentum": 0.0,
    "optimizer.weight_decay": 0.0,
    "schedule.name": "constant",
    "batch_size": 16,
}
Forward = Callable[["Net", torch.Tensor], Any]


class Net(nn.Module):
    """A linear layer, some parts more, and a forward that does something unusual."""

    own: Any
    read: Any
    e: Any
    c: Any
    d: Any
    w: Any
    scale: Any
    kept: Any
    list: Any

    def __init__(self, forward: Forward, **parts: Any) -> None:
        super().__init__()
        self.layer = nn.Linear(D, OUT)
        self.does, self.kept, self.list = forward, None, []
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, x: torch.Tensor) -> Any:
        return self.does(self, x)


def population(
    build: Callable[[], nn.Module], engine: str = "auto", seeds: Any = (0, 1, 2), **options: Any
) -> Population:
    x = torch.randn(N, D, generator=torch.Generator().manual_seed(0))
    rows = np.arange(N)
    data = Data.of([(x,)], [torch.arange(N) % OUT], [(rows[:32], rows[32:])], seed=0)
    recipes = [Recipe({**RECIPE, "network.family": "own", "seed": k}) for k in seeds]
    learners = [Learner.seeded(k, lambda: (build(), Categorical(OUT))) for k in seeds]
    return Population(learners, recipes, data, total_steps=6, engine=engine, evaluations=2, **options)


def weights(trained: Population, k: int) -> torch.Tensor:
    return torch.cat([p.detach().flatten().double() for p in trained.network(k).parameters()])


def noisy(draw: Callable[[Any, torch.Tensor], torch.Tensor]) -> Forward:
    return lambda net, x: net.layer(x + draw(net, x)) if net.training else net.layer(x)


DRAWS: dict[str, Callable[[], nn.Module]] = {
    "randn_like": lambda: Net(noisy(lambda net, x: torch.randn_like(x))),
    "rand": lambda: Net(noisy(lambda net, x: torch.rand(x.shape))),
    "dropout": lambda: Net(lambda net, x: net.layer(F.dropout(x, 0.5, net.training))),
    "numpy": lambda: Net(noisy(lambda net, x: torch.from_numpy(np.random.randn(*x.shape)).float())),
    "a generator of its own": lambda: Net(
        noisy(lambda net, x: torch.randn(x.shape, generator=net.own)), own=torch.Generator().manual_seed(3)
    ),
    "inside a recurrent layer": lambda: Net(
        lambda net, x: net.layer(net.read(x[:, None])[0][:, -1]), read=nn.GRU(D, D, 2, batch_first=True, dropout=0.5)
    ),
    "in evaluation too": lambda: Net(lambda net, x: net.layer(x + torch.randn_like(x))),
}


@pytest.mark.parametrize("name", DRAWS)
def test_a_networks_draws_are_its_own(name: str) -> None:
    """The same bytes again, alone, in company, and whatever engine was asked for; torch's state is left alone."""
    torch.manual_seed(5)
    before = torch.random.get_rng_state(), np.random.get_state(legacy=False)["state"]["key"].copy()
    together, again, alone = (
        population(DRAWS[name]),
        population(DRAWS[name], "batched"),
        population(DRAWS[name], seeds=[1]),
    )
    for one in (together, again, alone):
        one.train(6)
        assert one.way == "sequential"
    assert torch.equal(weights(together, 1), weights(again, 1))
    assert torch.equal(weights(together, 1), weights(alone, 0))
    assert torch.equal(together.evaluate(), together.evaluate())
    assert torch.equal(together.evaluate()[1], alone.evaluate()[0])
    quiet = population(lambda: Net(lambda net, x: net.layer(x)))
    quiet.train(6)
    first = [p.detach() for p in together.network(0).network.layer.parameters()]  # type: ignore[union-attr]
    plain = [p.detach() for p in quiet.network(0).network.layer.parameters()]  # type: ignore[union-attr]
    assert not all(torch.equal(a, b) for a, b in zip(first, plain, strict=True))  # there was noise
    assert torch.equal(torch.random.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state(legacy=False)["state"]["key"], before[1])
    with pytest.raises(UserError, match="draws random numbers"):
        population(DRAWS[name], "compiled").train(1)


def _keep(net: Net, x: torch.Tensor) -> torch.Tensor:
    net.kept = net.layer(x)
    net.list.append(net.kept)
    return net.kept


def _own_weights(net: Net, x: torch.Tensor) -> torch.Tensor:
    net.kept = net.layer.weight * 2
    return F.linear(x, net.kept, net.layer.bias)


class _Sign(torch.autograd.Function):
    """Without what torch.func asks for."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        return x.sign()

    @staticmethod
    def backward(ctx: Any, g: torch.Tensor) -> torch.Tensor:
        return g


def _changes_its_input(net: Net, x: torch.Tensor) -> torch.Tensor:
    x.mul_(1.5)
    return net.layer(x)


def _by_value(net: Net, x: torch.Tensor) -> torch.Tensor:
    y = net.layer(x)
    return y * 2 if y.mean() > 0 else y


def _by_numpy(net: Net, x: torch.Tensor) -> torch.Tensor:
    return net.layer(x) + torch.from_numpy(np.sin(x.detach().numpy()))[:, :OUT]


def _masked(net: Net, x: torch.Tensor) -> torch.Tensor:
    y = net.layer(x).clone()
    y[y < 0] = 0
    return y


def _codes(x: torch.Tensor) -> torch.Tensor:
    return (x[:, 0].abs() * 2).long().clamp(0, 4)


def _twice() -> nn.Module:
    one = nn.Linear(D, D)
    return nn.Sequential(one, nn.Tanh(), one, nn.Linear(D, OUT))


GOES: dict[str, Callable[[], nn.Module]] = {
    "keeps a tensor": lambda: Net(_keep),
    "keeps its weights": lambda: Net(_own_weights),
    "sparse embedding": lambda: Net(lambda net, x: net.layer(net.e(_codes(x))), e=nn.Embedding(5, D, sparse=True)),
    "a function of its own": lambda: Net(lambda net, x: _Sign.apply(net.layer(x)) + net.layer(x)),
    "changes its input": lambda: Net(_changes_its_input),
    "branches": lambda: Net(_by_value),
    "item": lambda: Net(lambda net, x: net.layer(x) * (1 + 0.1 * np.tanh(net.layer.weight.sum().item()))),
    "numpy of its input": lambda: Net(_by_numpy),
    "masks": lambda: Net(_masked),
    "no batching rule": lambda: Net(lambda net, x: net.layer(torch.cdist(x, net.c)), c=nn.Parameter(torch.eye(D))),
    "spectral norm": lambda: nn.Sequential(nn.utils.parametrizations.spectral_norm(nn.Linear(D, 8)), nn.Linear(8, OUT)),
    "old weight norm": lambda: nn.Sequential(nn.utils.weight_norm(nn.Linear(D, 8)), nn.Linear(8, OUT)),
    "one module in two places": _twice,
    "two types": lambda: Net(lambda net, x: net.layer(net.d(x.double()).float()), d=nn.Linear(D, D).double()),
    "lstm": lambda: Net(lambda net, x: net.layer(net.read(x[:, None])[0][:, -1]), read=nn.LSTM(D, D, batch_first=True)),
    "batch norm by count": lambda: nn.Sequential(nn.BatchNorm1d(D, momentum=None), nn.Linear(D, OUT)),
}


COMPILED = {
    "keeps a tensor",
    "keeps its weights",
    "a function of its own",
    "changes its input",
    "one module in two places",
}


@pytest.mark.filterwarnings("ignore:.*weight_norm.*deprecated:FutureWarning")
@pytest.mark.parametrize("name", GOES)
def test_unusual_modules_give_the_same_numbers_whatever_the_engine(name: str) -> None:
    truth = population(GOES[name], "sequential")
    truth.train(6)
    for engine in ("auto", "batched", "compiled"):
        other = population(GOES[name], engine)
        if engine == "compiled" and name not in COMPILED:
            with pytest.raises(UserError, match="cannot be compiled"):
                other.train(6)
            continue
        other.train(6)
        for k in range(3):
            torch.testing.assert_close(weights(other, k), weights(truth, k), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(other.evaluate(), truth.evaluate(), rtol=1e-4, atol=1e-5)


def test_training_one_by_one_is_torchs_own() -> None:
    """A module that keeps, with a sparse embedding and dense weights, against ``torch.optim.SGD``."""
    build = GOES["sparse embedding"]
    trained = population(build, "sequential", seeds=[0])
    network = copy.deepcopy(trained.network(0).network)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05)
    for row in trained._order.rows(0, 6)[:, 0]:
        inputs, targets = trained.data.rows_of(0, row)
        optimizer.zero_grad()
        F.cross_entropy(network(*inputs), targets).backward()
        optimizer.step()
    trained.train(6)
    for p, q in zip(trained.network(0).network.parameters(), network.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("engine", ["sequential", "batched", "compiled"])
def test_a_buffer_that_is_assigned_moves(engine: str) -> None:
    class Centred(nn.Module):
        mean: torch.Tensor

        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(D, OUT)
            self.register_buffer("mean", torch.zeros(D))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if self.training:
                self.mean = 0.5 * self.mean + 0.5 * x.mean(0)
            return self.layer(x - self.mean)

    trained = population(Centred, engine)
    trained.train(3)
    mean = torch.zeros(D)
    for row in trained._order.rows(0, 3)[:, 0]:
        mean = 0.5 * mean + 0.5 * trained.data.rows_of(0, row)[0][0].mean(0)
    torch.testing.assert_close(dict(trained.network(1).network.named_buffers())["mean"], mean)


def _counts(net: Net, x: torch.Tensor) -> torch.Tensor:
    net.kept = (net.kept or 0) + 1
    return net.layer(x) * net.kept


def _caches(net: Net, x: torch.Tensor) -> torch.Tensor:
    net.kept = net.layer(x) if net.kept is None else net.kept
    return net.kept


def _fails_in_training(net: Net, x: torch.Tensor) -> torch.Tensor:
    if net.training:
        raise KeyError("only evaluation")
    return net.layer(x)


def _hooked() -> nn.Module:
    net = nn.Linear(D, OUT)
    net.weight.register_hook(lambda g: g * 0.5)
    return net


def _replaces(net: Net, x: torch.Tensor) -> torch.Tensor:
    net.layer.weight.data = net.layer.weight.data.clamp(-0.1, 0.1)
    return net.layer(x)


REFUSED: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "counts": (lambda: Net(_counts), r"Net says something else of the same rows.*it keeps kept.*register_buffer"),
    "gives what it cached": (lambda: Net(_caches), r"it keeps kept"),
    "complex": (
        lambda: Net(
            lambda net, x: (x.to(net.w.dtype) @ net.w).real, w=nn.Parameter(torch.ones(D, OUT, dtype=torch.cfloat))
        ),
        "w of the module Net is complex.*view_as_complex",
    ),
    "lazy": (lambda: nn.LazyLinear(OUT), "has no size yet"),
    "nothing trained": (lambda: nn.Identity(), "has no weights that are trained"),
    "gives a tuple": (lambda: Net(lambda net, x: (net.layer(x), x)), r"must give 3 outputs a row.*gave tuple"),
    "gives no outputs": (lambda: Net(lambda net, x: net.layer(x)[:, 0]), r"must give 3 outputs a row.*gave \(16,\)"),
    "gives too many": (lambda: nn.Linear(D, OUT + 1), r"but gave \(16, 4\)"),
    "cut off": (lambda: Net(lambda net, x: net.layer(x).detach()), "no gradient reaches the weights"),
    "fails": (lambda: nn.Linear(D + 1, OUT), "fails when it is looked at.*shapes cannot be multiplied"),
    "fails in training": (lambda: Net(_fails_in_training), "fails when it is looked at.*only evaluation"),
    "another type": (lambda: nn.Linear(D, OUT).double(), "must have the same dtype"),
    "sparse buffer": (lambda: _with_buffer(torch.eye(D).to_sparse()), "is sparse.*to_dense"),
    "hook on a weight": (_hooked, "has a hook"),
    "replaces its weights": (lambda: Net(_replaces), "puts other values in place of its weights layer.weight"),
    "differs": (lambda: Net(lambda net, x: net.layer(x * net.scale), scale=torch.rand(D)), "differ in scale"),
    "scripted": (lambda: torch.jit.script(nn.Linear(D, OUT)), "is scripted"),
}


def _with_buffer(t: torch.Tensor) -> nn.Module:
    net = nn.Linear(D, OUT)
    net.register_buffer("extra", t)
    return net


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_trained_is_said_in_a_sentence(name: str) -> None:
    build, words = REFUSED[name]
    for engine in ("auto", "sequential", "batched"):
        with pytest.raises(UserError, match=f"(?s){words}"):
            population(build, engine)


def test_a_batch_of_one_row_for_batch_norm_is_said() -> None:
    RECIPE_OF_ONE = {**RECIPE, "batch_size": 1, "network.family": "own", "seed": 0}
    learner = Learner.seeded(0, lambda: (nn.Sequential(nn.BatchNorm1d(D), nn.Linear(D, OUT)), Categorical(OUT)))
    data = population(lambda: nn.Linear(D, OUT)).data
    with pytest.raises(UserError, match="Expected more than 1 value per channel"):
        Population([learner], [Recipe(RECIPE_OF_ONE)], data, total_steps=3)


def test_a_fit_takes_such_modules_too() -> None:
    frame = pd.DataFrame({"a": np.linspace(-1, 1, 60), "b": np.tile([0.0, 1.0, 2.0], 20)})
    frame["y"] = np.where(frame["a"] > 0, "yes", "no")

    def make(inputs: int, outputs: int) -> nn.Module:
        class Own(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.layer = nn.Linear(inputs, outputs)

            def forward(self, x: torch.Tensor) -> torch.Tensor:
                self.last = self.layer(x + 0.01 * torch.randn_like(x))
                return self.last

        return Own()

    options: dict[str, Any] = {"target": "y", "networks": 2, "folds": 0, "settings": {"epochs": 3}}
    runs = [nastavnik.fit(frame, family=make, **options) for _ in range(2)]
    said = [np.asarray(run.model.predict(frame)) for run in (*runs, runs[0])]
    assert runs[0].result["validation"] == runs[1].result["validation"]
    assert np.array_equal(said[0], said[1])
    assert np.array_equal(said[0], said[2])
    with pytest.raises(UserError, match="fails on 2 rows"):
        nastavnik.fit(frame, family=lambda i, o: nn.Linear(i + 1, o), **options)
    with pytest.raises(UserError, match="must give a tensor of outputs, but gave tuple"):
        nastavnik.fit(frame, family=lambda i, o: nn.LSTM(i, o), **options)


def test_stopped_networks_answer() -> None:
    """After one diverged and the others were let go; each under its number, with the weights of its best moment."""
    trained = population(lambda: nn.Linear(D, OUT), "batched", numbers=[10, 11, 12])
    x = trained.data.inputs[0][0][:5]
    trained.train(3)
    for t in trained.state.parameters.values():
        t[1] = torch.nan
    trained.train(6)
    assert trained.numbers.tolist() == [10, 12]
    assert torch.equal(next(trained.numbered(12).parameters()), next(trained.network(1).parameters()))
    trained.harvest()
    assert len(trained) == 0
    assert trained.numbers.tolist() == [10, 11, 12]
    losses, outputs = trained.evaluate(), trained.predict(x)
    known = {
        number: (o, learner) for o in trained.outcomes for number, learner in zip(o.numbers, o.learners, strict=True)
    }
    for k, number in enumerate((10, 11, 12)):
        outcome, learner = known[number]
        for one in (trained.network(k), trained.numbered(number)):
            assert torch.equal(one(x), learner(x))
        torch.testing.assert_close(outputs[k], learner(x))
        assert losses[k].item() == pytest.approx(outcome.score, rel=1e-5)
    assert trained.memory() > 0
    with pytest.raises(UserError, match=r"no network of number 9"):
        trained.numbered(9)
    with pytest.raises(UserError, match=r"no network at place 3"):
        trained.network(3)
