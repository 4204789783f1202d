from collections.abc import Callable

import pytest
import torch

from nastavnik.training.optimizers import OPTIMIZERS
from nastavnik.training.schedules import SCHEDULES

SETTINGS = {"learning_rate": 0.03, "weight_decay": 0.1, "momentum": 0.9, "beta1": 0.9, "beta2": 0.99}
TORCH: dict[str, Callable[[list[dict[str, object]]], torch.optim.Optimizer]] = {
    "sgd": lambda groups: torch.optim.SGD(groups, lr=0.03, momentum=0.9),
    "sgd nesterov": lambda groups: torch.optim.SGD(groups, lr=0.03, momentum=0.9, nesterov=True),
    "adamw": lambda groups: torch.optim.AdamW(groups, lr=0.03, betas=(0.9, 0.99)),
}


def problem() -> tuple[torch.Tensor, torch.Tensor, Callable[..., torch.Tensor]]:
    g = torch.Generator().manual_seed(0)
    w, b = torch.randn(4, 3, generator=g).double(), torch.randn(3, generator=g).double()
    x, y = torch.randn(20, 4, generator=g).double(), torch.randn(20, 3, generator=g).double()
    return w, b, lambda w, b: ((torch.tanh(x @ w + b) - y) ** 2).mean()


@pytest.mark.parametrize("case", list(TORCH))
def test_step_for_step_as_torch(case: str) -> None:
    w, b, loss = problem()
    name, _, nesterov = case.partition(" ")
    optimizer = OPTIMIZERS[name]({"nesterov": bool(nesterov)})
    settings = {k: torch.tensor(v, dtype=torch.float64) for k, v in SETTINGS.items()}
    ours = {"w": w, "b": b}
    state = optimizer.init(ours)
    tw, tb = w.clone().requires_grad_(), b.clone().requires_grad_()
    theirs = TORCH[case]([{"params": [tw], "weight_decay": 0.1}, {"params": [tb], "weight_decay": 0.0}])
    for _ in range(100):
        gradients = dict(zip("wb", torch.func.grad(loss, argnums=(0, 1))(ours["w"], ours["b"]), strict=True))
        ours, state = optimizer.update(gradients, state, ours, settings)
        theirs.zero_grad()
        loss(tw, tb).backward()
        theirs.step()
    torch.testing.assert_close(ours["w"], tw.detach(), rtol=1e-6, atol=0)
    torch.testing.assert_close(ours["b"], tb.detach(), rtol=1e-6, atol=0)


@pytest.mark.parametrize("name", list(OPTIMIZERS))
def test_update_leaves_its_arguments_alone(name: str) -> None:
    w, b, _ = problem()
    optimizer = OPTIMIZERS[name]({})
    parameters = {"w": w, "b": b}
    before = {k: v.clone() for k, v in parameters.items()}
    state = optimizer.init(parameters)
    settings = {k: torch.tensor(v, dtype=torch.float64) for k, v in SETTINGS.items()}
    optimizer.update({k: torch.ones_like(v) for k, v in parameters.items()}, state, parameters, settings)
    for key, value in before.items():
        assert torch.equal(parameters[key], value)
    assert all((v == 0).all() for v in state.values())
    assert set(optimizer.settings) <= set(SETTINGS)


def test_schedules_begin_at_one_and_cosine_ends_at_zero() -> None:
    for schedule in SCHEDULES.values():
        assert schedule(torch.tensor(0.0)).item() == 1.0
    assert SCHEDULES["cosine"](torch.tensor(1.0)).item() == pytest.approx(0.0, abs=1e-7)
    assert SCHEDULES["cosine"](torch.tensor(0.5)).item() == pytest.approx(0.5)
