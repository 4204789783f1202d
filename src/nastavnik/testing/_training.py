"""Optimizers, their wrappers, schedules, regularizers."""

from __future__ import annotations

from typing import Any

import torch
from torch.func import grad

from nastavnik.gradient_check import check_gradients
from nastavnik.noise import Noise
from nastavnik.recipe import Value
from nastavnik.testing._population import check_words, entered, same_as_alone
from nastavnik.training.optimizers import OPTIMIZERS, WRAPPERS, Optimizer, SecondOrder, Tensors, Wrapper, wrapped
from nastavnik.training.regularizers import REGULARIZERS, Batch, Context, Regularizer
from nastavnik.training.schedules import SCHEDULES, Schedule, Time

_CURVED: dict[str, Value] = {"network.depth": 1, "network.width": 4, "batch_size": 72}


class Bowl:
    """A linear regression as a ``Problem``: mean of (x·w + b - y)² / 2 over the rows.

    ``parameters`` is where it starts; ``least`` is its smallest value.
    """

    loss_only: tuple[str, ...] = ()

    def __init__(self, dtype: torch.dtype = torch.float64, rows: int = 30) -> None:
        g = torch.Generator().manual_seed(0)
        self.x = torch.randn(rows, 4, generator=g, dtype=torch.float64).to(dtype)
        self.y = torch.randn(rows, 3, generator=g, dtype=torch.float64).to(dtype)
        start = {"w": torch.randn(4, 3, generator=g, dtype=torch.float64), "b": torch.zeros(3, dtype=torch.float64)}
        self.parameters = {name: t.to(dtype) for name, t in start.items()}
        whole = torch.cat([self.x, torch.ones(rows, 1, dtype=dtype)], 1)
        self.solution = torch.linalg.lstsq(whole, self.y).solution
        self.least = self.objective({"w": self.solution[:4], "b": self.solution[4]})

    def penalty(self, parameters: Tensors) -> torch.Tensor:
        """None."""
        return next(iter(parameters.values())).sum() * 0

    def outputs(self, parameters: Tensors) -> torch.Tensor:
        """[n, 3]."""
        return self.x @ parameters["w"] + parameters["b"]

    def losses_of(self, outputs: torch.Tensor, parameters: Tensors) -> torch.Tensor:
        """[n]."""
        return 0.5 * (outputs - self.y).square().sum(1)

    def row_losses(self, parameters: Tensors) -> torch.Tensor:
        """[n]."""
        return self.losses_of(self.outputs(parameters), parameters)

    def objective(self, parameters: Tensors) -> torch.Tensor:
        """The mean."""
        return self.row_losses(parameters).mean()

    def gradients(self, parameters: Tensors) -> Tensors:
        """Of the mean."""
        return grad(self.objective)(parameters)


def check_optimizer(kind: type[Optimizer]) -> None:
    """Pure, of the weights' own type, descending on a bowl, and K networks trained together as K alone.

    Raises:
        AssertionError: it is not so.
    """
    check_words(kind)
    assert "learning_rate" in kind.settings, f"{kind.name} has no learning_rate"
    assert not set(kind.settings) & set(kind.choices), "a setting is a number or a choice, not both"
    for dtype in (torch.float32, torch.float64):
        _check_pure(kind({}), dtype, _tensors(kind, dtype))
    bowl = Bowl()
    optimizer, settings = kind({}), _tensors(kind, torch.float64)
    parameters, state = bowl.parameters, optimizer.init(bowl.parameters)
    before = bowl.objective(parameters) - bowl.least
    for _ in range(300):
        parameters, state = optimizer.step(bowl, state, parameters, settings)
    after = bowl.objective(optimizer.evaluated(state, parameters, settings)) - bowl.least
    assert after < before, (
        f"{kind.name} went uphill on a bowl: {float(before):.4g} to {float(after):.4g} above its least"
    )
    with entered(OPTIMIZERS, kind):
        own: dict[str, Value] = {f"optimizer.{n}": v for n, v in kind.settings.items() if n != "memory"}
        own |= {"optimizer.name": kind.name}
        if issubclass(kind, SecondOrder):  # few steps: their choices amplify rounding
            own |= {**_CURVED, "optimizer.learning_rate": 0.4}
            own |= {"optimizer.damping": 0.1} if "damping" in kind.settings else {}
            same_as_alone(own, steps=6, ways=("batched",))
        else:
            same_as_alone(own)


def check_wrapper(kind: type[Wrapper]) -> None:
    """Pure round AdamW (or what it asks for), descending on a bowl, and K networks trained together as K alone.

    Raises:
        AssertionError: it is not so.
    """
    check_words(kind)
    assert next(iter(kind.settings)) == kind.name, "the first setting is the one a recipe names the wrapper by"
    inner = OPTIMIZERS[str(kind.around.get("name", "adamw"))]
    optimizer = wrapped(inner({}), {**kind.around, **kind.settings}, {kind.name: kind})
    for dtype in (torch.float32, torch.float64):
        settings = {**_tensors(inner, dtype), **_tensors(kind, dtype)}
        _check_pure(optimizer, dtype, settings)
    bowl = Bowl()
    parameters, state = bowl.parameters, optimizer.init(bowl.parameters)
    settings["learning_rate"] = torch.tensor(0.05, dtype=torch.float64)
    for _ in range(200):
        parameters, state = optimizer.step(bowl, state, parameters, settings)
    after = bowl.objective(optimizer.evaluated(state, parameters, settings))
    assert after < bowl.objective(bowl.parameters), f"{kind.name} keeps {inner.name} from descending on a bowl"
    with entered(WRAPPERS, kind):
        own = {f"optimizer.{name}": value for name, value in {**kind.around, **kind.settings}.items()}
        same_as_alone(own, varied=("optimizer.learning_rate", f"optimizer.{kind.name}"))


def check_schedule(kind: type[Schedule]) -> None:
    """Finite and not negative from start to end, the same for K at once as for one, and so in a population.

    Raises:
        AssertionError: it is not so.
    """
    check_words(kind)
    shares = torch.linspace(0, 1, 201, dtype=torch.float64)[:-1]
    settings = _tensors(kind, torch.float64)

    def at(share: torch.Tensor) -> torch.Tensor:
        return kind.factor(Time(1000 * share, 50 * share, share), settings)

    alone = torch.stack([at(share) for share in shares])
    assert alone.shape == (200,), f"{kind.name} must give a scalar"
    assert torch.isfinite(alone).all(), f"{kind.name} is not finite everywhere"
    assert (alone >= 0).all(), f"{kind.name} is negative somewhere"
    together = torch.vmap(at)(shares)
    assert torch.allclose(alone, together, rtol=1e-12, atol=1e-12), f"{kind.name} differs when many are asked at once"
    with entered(SCHEDULES, kind):
        own = {f"schedule.{name}": value for name, value in kind.settings.items()}
        rate = 1e-6 if kind.name == "range_test" else 0.01
        choice: dict[str, Value] = {"schedule.name": kind.name, "optimizer.learning_rate": rate, **own}
        same_as_alone(choice, varied=("optimizer.learning_rate",))


def check_regularizer(kind: type[Regularizer]) -> None:
    """The changed objective has right derivatives, and K networks train together as K alone.

    Raises:
        AssertionError: it is not so.
    """
    check_words(kind)
    assert next(iter(kind.settings)) == kind.name, "the first setting is the one a recipe names the regularizer by"
    regularizer, bowl = kind(), Bowl()
    dtype = torch.float64
    noise = Noise(torch.tensor(7, dtype=torch.int32), torch.tensor(3.0, dtype=dtype))

    def objective(parameters: Tensors, x: torch.Tensor) -> torch.Tensor:
        context = Context(_tensors(kind, dtype), noise)

        def loss(parameters: Tensors, batch: Batch) -> torch.Tensor:
            outputs = batch.inputs[0] @ parameters["w"] + parameters["b"]
            context.activations[:] = [outputs]
            whole = 0.5 * (outputs - batch.targets).square().sum(1)
            if batch.partners is None or batch.share is None:
                return whole.mean()
            other = 0.5 * (outputs - batch.partners).square().sum(1)
            return (batch.share * whole + (1 - batch.share) * other).mean()

        return regularizer.around(loss, context)(parameters, Batch((x,), bowl.y))

    found = check_gradients(objective, (bowl.parameters, bowl.x), tolerance=1e-5)
    assert found, f"{kind.name}: {found}"
    moved = {n: 10 * w for n, w in bowl.parameters.items()}
    before = {n: w.clone() for n, w in moved.items()}
    regularizer.after(moved, bowl.parameters, torch.tensor(0.1, dtype=dtype), _tensors(kind, dtype))
    assert all(torch.equal(moved[n], before[n]) for n in moved), f"{kind.name} changed its arguments"
    with entered(REGULARIZERS, kind):
        own = {f"regularization.{name}": value for name, value in kind.settings.items()}
        same_as_alone(own, varied=("optimizer.learning_rate", f"regularization.{kind.name}"))


def _tensors(kind: Any, dtype: torch.dtype) -> Tensors:
    settings = {name: torch.tensor(value, dtype=dtype) for name, value in kind.settings.items()}
    if issubclass(kind, Optimizer):
        settings["progress"] = torch.tensor(0.5, dtype=dtype)
        settings["noise"] = torch.tensor(11, dtype=torch.int32)
    return settings


def _check_pure(optimizer: Optimizer, dtype: torch.dtype, settings: Tensors) -> None:
    bowl = Bowl(dtype)
    state = optimizer.init(bowl.parameters)
    before = [{n: t.clone() for n, t in part.items()} for part in (bowl.parameters, state, settings)]
    results = [optimizer.step(bowl, state, bowl.parameters, settings) for _ in range(2)]
    for part, copy in zip((bowl.parameters, state, settings), before, strict=True):
        for name, t in part.items():
            assert torch.equal(t, copy[name]), f"{optimizer.name} changed its argument {name} in place"
    new, slots = results[0]
    assert set(new) == set(bowl.parameters), f"{optimizer.name} must give back every parameter"
    assert set(slots) == set(state), f"{optimizer.name}: a state must keep its names"
    for name, t in {**new, **slots}.items():
        was = {**bowl.parameters, **state}[name]
        assert (t.shape, t.dtype) == (was.shape, was.dtype), f"{optimizer.name} changed the shape or type of {name}"
        assert torch.isfinite(t).all(), f"{optimizer.name} gives {name} that is not finite"
        assert torch.equal(t, {**results[1][0], **results[1][1]}[name]), f"{optimizer.name} does not repeat itself"
