"""Small loops of plain PyTorch, watched: what the rules' tests are made of."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from nastavnik.mentor import Mentor
from nastavnik.trace import History

ROWS = 480


def blobs(classes: int = 3, columns: int = 4, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Normal clouds around corners, nearly apart."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, classes, 2 * ROWS)
    centres = rng.normal(size=(classes, columns)) * 1.5
    x = centres[y] + 0.8 * rng.normal(size=(2 * ROWS, columns))
    return torch.tensor((x - x.mean(0)) / x.std(0), dtype=torch.float32), torch.tensor(y)


def surface(columns: int = 4, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """A smooth surface with a little noise, mean 0 and deviation 1."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(2 * ROWS, columns))
    y = np.sin(x[:, 0]) + 0.5 * x[:, 1] * x[:, 2] + 0.1 * rng.normal(size=2 * ROWS)
    return torch.tensor(x, dtype=torch.float32), torch.tensor((y - y.mean()) / y.std(), dtype=torch.float32)[:, None]


def layers(*widths: int, activation: Callable[[], nn.Module] = nn.ReLU, seed: int = 0) -> nn.Sequential:
    """Linear layers with activations between them, He's initialization."""
    torch.manual_seed(seed)
    parts: list[nn.Module] = []
    for a, b in itertools.pairwise(widths):
        layer = nn.Linear(a, b)
        nn.init.kaiming_normal_(layer.weight)
        nn.init.zeros_(layer.bias)
        parts += [layer, activation()]
    return nn.Sequential(*parts[:-1])


def train(
    net: nn.Module,
    rows: tuple[torch.Tensor, torch.Tensor],
    *,
    optimizer: Callable[[Any], torch.optim.Optimizer] = lambda p: torch.optim.Adam(p, lr=3e-3),
    loss_fn: Any = None,
    epochs: int = 12,
    batch: int = 16,
    looks: int = 24,
    shuffled: bool = True,
    zeroed: bool = True,
    train_rows: int = ROWS,
    labels: Callable[[torch.Tensor], torch.Tensor] = lambda y: y,
    costs: tuple[str, ...] = ("pass",),
    classes: int | None = None,
    step: Callable[[Mentor, Any], None] | None = None,
) -> History:
    """Train on the first half of the rows, validate on the second; what the mentor saw."""
    x, y = rows
    own_x, own_y = x[:train_rows], labels(y[:train_rows].clone())
    loss_fn = loss_fn or (nn.MSELoss() if y.is_floating_point() else nn.CrossEntropyLoss())
    algorithm = optimizer([p for p in net.parameters() if p.requires_grad])
    steps = epochs * (len(own_x) // batch)
    mentor = Mentor(
        net, algorithm, loss_fn, train=(own_x, own_y), validation=(x[ROWS:], y[ROWS:]),
        every=max(1, steps // looks), costs=costs, classes=classes,
    )  # fmt: skip
    torch.manual_seed(1)
    for _ in range(epochs):
        order = torch.randperm(len(own_x)) if shuffled else torch.argsort(own_y.reshape(len(own_y), -1)[:, 0].float())
        for some in order[: len(own_x) // batch * batch].split(batch):
            with mentor.step(own_x[some], own_y[some]):
                if zeroed:
                    algorithm.zero_grad()
                loss = loss_fn(net(own_x[some]), own_y[some])
                loss.backward()
                if step is not None:
                    step(mentor, loss)
                algorithm.step()
    mentor.findings()  # settles the data's facts
    assert not mentor.faults, mentor.faults
    history = mentor.history
    history.facts["steps"] = steps
    return history
