"""Small sick networks and their healthy twins, for what only a question tells."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from loops import blobs, layers, surface
from torch import nn
from torch.nn import functional as F

from nastavnik.mentor import Mentor
from nastavnik.trace import History

Rows = tuple[Any, Any]


def watched(
    net: nn.Module,
    rows: Rows,
    loss_fn: Any = None,
    *,
    held: Rows | None = None,
    make: Callable[..., torch.optim.Optimizer] = torch.optim.Adam,
    rate: float = 1e-2,
    steps: int = 60,
    batch: int = 32,
    after: Callable[[torch.optim.Optimizer, int], None] = lambda optimizer, step: None,
    backward: Callable[[torch.Tensor], Any] = lambda loss: loss.backward(),
    feed: Callable[[Any, Any], Rows] = lambda x, y: (x, y),
) -> History:
    """A plain loop of random batches; what the mentor saw."""
    x, y = rows
    loss_fn = loss_fn or (nn.MSELoss() if y.is_floating_point() else nn.CrossEntropyLoss())
    optimizer = make(net.parameters(), lr=rate)
    mentor = Mentor(net, optimizer, loss_fn, train=rows, validation=held or rows)
    for step in range(steps):
        some = torch.randint(0, len(y), (batch,), generator=torch.Generator().manual_seed(step))
        own_x, own_y = feed(x[some], y[some])
        with mentor.step(own_x, own_y):
            optimizer.zero_grad()
            backward(loss_fn(net(own_x), own_y))
            optimizer.step()
        after(optimizer, step)
    mentor.findings()
    assert not mentor.faults, mentor.faults
    return mentor.history


def words(n: int = 256, T: int = 12, V: int = 10) -> torch.Tensor:
    return torch.randint(2, V, (n, T), generator=torch.Generator().manual_seed(0))


class Reader(nn.Module):
    """Words, a layer over steps, one answer a row or a step."""

    def __init__(self, over: Callable[[], nn.Module], outputs: int = 2, every: bool = False, V: int = 10) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embedding, self.over, self.head, self.every = nn.Embedding(V, 8), over(), nn.Linear(8, outputs), every

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        said = self.over(self.embedding(tokens))
        said = said[0] if isinstance(said, tuple) else said
        return self.head(said if self.every else said[:, -1])


def lstm(batch_first: bool = True, both: bool = False) -> nn.Module:
    return nn.LSTM(8, 4 if both else 8, batch_first=batch_first, bidirectional=both)


def mixed(sick: bool) -> History:
    x = words()
    return watched(Reader(functools.partial(lstm, not sick)), (x, (x.sum(1) > 66).long()))


def future(sick: bool) -> History:
    x = words(T=13)
    return watched(Reader(functools.partial(lstm, True, sick), 10, every=True), (x[:, :-1], x[:, 1:]), each_word)


def each_word(said: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return F.cross_entropy(said.flatten(0, 1), y.flatten())


class Dropping(nn.Module):
    def __init__(self, always: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b, self.always = nn.Linear(4, 16), nn.Linear(16, 3), always

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.b(F.dropout(torch.relu(self.a(x)), 0.5, training=self.always or self.training))


class Carrying(nn.Module):
    """Keeps the last mean it said, and adds it the next time, or not."""

    def __init__(self, keeps: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.keeps = nn.Linear(4, 3), keeps
        self.last: torch.Tensor | None = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        said = self.a(x)
        told = said if self.last is None or not self.keeps else said + 0.5 * self.last
        self.last = told.detach().mean(0)
        return told


class Sampling(nn.Module):
    def __init__(self, always: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.always = nn.Linear(4, 1), always

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        said = self.a(x)
        return said + 0.3 * torch.randn_like(said) if self.always or self.training else said


def lagging(momentum: float) -> History:
    torch.manual_seed(0)
    norm = nn.BatchNorm1d(4, momentum=momentum)
    x, y = blobs()
    net = nn.Sequential(norm, nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 3))
    return watched(net, (8 * x + 20, y), steps=120)


class Coded(nn.Module):
    """A variational autoencoder of four numbers."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.into, self.out = nn.Linear(4, 4), nn.Linear(2, 4)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        mean, scale = self.into(x).chunk(2, 1)
        return self.out(mean + torch.randn_like(mean) * (0.5 * scale).exp()), mean, scale


def coded(weight: float) -> History:
    def loss(said: Any, x: torch.Tensor) -> torch.Tensor:
        divergence = 0.5 * (said[1].square() + said[2].exp() - 1 - said[2]).sum(1).mean()
        return (said[0] - x).square().sum(1).mean() + weight * divergence

    x, _ = blobs()
    return watched(Coded(), (x, x), loss, steps=150, rate=3e-2)


def ordered(positions: bool) -> History:
    class Mean(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.places = nn.Parameter(torch.randn(12, 8)) if positions else None

        def forward(self, h: torch.Tensor) -> torch.Tensor:
            h = h if self.places is None else h * self.places
            return torch.tanh(h.mean(1, keepdim=True)) * 3

    x = words()
    x[:, :2] = torch.where(
        torch.rand(256, 1, generator=torch.Generator().manual_seed(1)) < 0.5, torch.tensor([0, 1]), torch.tensor([1, 0])
    )
    return watched(Reader(Mean), (x, x[:, 0]), steps=200 if positions else 60)


def early(sick: bool) -> History:
    """Only the last steps are heard; the target is told by the first."""

    class Window(nn.Module):
        def forward(self, h: torch.Tensor) -> torch.Tensor:
            return h[:, -4:].mean(1, keepdim=True) if sick else h.cumsum(1)

    x = words(T=16)
    return watched(Reader(Window), (x, (x[:, 0] > 5).long()), steps=60)


def padded(sick: bool) -> History:
    """Means over words, the filling's number 0 among them or not."""

    class Mean(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding, self.head = nn.Embedding(10, 8), nn.Linear(8, 2)

        def forward(self, tokens: torch.Tensor) -> torch.Tensor:
            h, real = self.embedding(tokens), (tokens != 0).float()[..., None]
            return self.head(h[:, -1] if sick else (h * real).sum(1) / real.sum(1))

    torch.manual_seed(0)
    x = words(T=16)
    x[torch.arange(16)[None] >= torch.randint(6, 17, (256, 1), generator=torch.Generator().manual_seed(2))] = 0
    return watched(Mean(), (x, (x[:, 0] > 5).long()), steps=60)


def filled(ignored: bool) -> History:
    x = words(T=16)
    x[torch.arange(16)[None] >= torch.randint(2, 9, (256, 1), generator=torch.Generator().manual_seed(2))] = 0
    y = torch.where(x == 0, 0, 1 + x % 3)

    def loss(said: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(said.flatten(0, 1), y.flatten(), ignore_index=0 if ignored else -100)

    return watched(Reader(lstm, 4, every=True), (x, y), loss)


def named(shift: int) -> History:
    x, y = blobs(4)
    held = (x[480:], (y[480:] + shift) % 4)
    return watched(layers(4, 16, 4), (x[:480], y[:480]), held=held, steps=150)


def silent(ignore: int) -> History:
    return watched(layers(4, 16, 3), blobs(), nn.CrossEntropyLoss(ignore_index=ignore))


def vanished(gamma: float) -> History:
    def after(optimizer: torch.optim.Optimizer, step: int) -> None:
        optimizer.param_groups[0]["lr"] *= gamma

    return watched(layers(4, 16, 3), blobs(), rate=1e-3, steps=120, after=after)


def climbing(sign: float) -> History:
    return watched(layers(4, 16, 3), blobs(), backward=lambda loss: (sign * loss).backward())


def epsilon(eps: float) -> History:
    return watched(layers(4, 16, 3), blobs(), make=functools.partial(torch.optim.Adam, eps=eps), rate=1e-3)


def rounded(dtype: torch.dtype) -> History:
    x, y = blobs()
    return watched(layers(4, 16, 3).to(dtype), (x.to(dtype), y), make=torch.optim.SGD, rate=1e-4)


def summed(times: int) -> History:
    def backward(loss: torch.Tensor) -> None:
        for i in range(times):
            loss.backward(retain_graph=i + 1 < times)

    return watched(layers(4, 16, 1), surface(), make=torch.optim.SGD, rate=1e-3, backward=backward)


def scrambled(reshaped: bool) -> History:
    """Pictures whose channels differ in brightness, read on in another shape or not."""
    source = torch.Generator().manual_seed(0)
    x = torch.rand(256, 6, 6, 3, generator=source) * torch.tensor([0.2, 1.0, 2.0])
    y = (x[:, :3].mean((1, 2, 3)) > x[:, 3:].mean((1, 2, 3))).long()
    x = x.reshape(-1, 3, 6, 6) if reshaped else x.permute(0, 3, 1, 2).contiguous()
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 2))
    return watched(net, (x, y), steps=40)


PAIRS: dict[str, tuple[Callable[[], History], Callable[[], History]]] = {
    "mixed_rows": (lambda: mixed(True), lambda: mixed(False)),
    "future_seen": (lambda: future(True), lambda: future(False)),
    "dropout_at_evaluation": (lambda: watched(Dropping(True), blobs()), lambda: watched(Dropping(False), blobs())),
    "carried_state": (lambda: watched(Carrying(True), blobs()), lambda: watched(Carrying(False), blobs())),
    "sampled_evaluation": (lambda: watched(Sampling(True), surface()), lambda: watched(Sampling(False), surface())),
    "batch_norm_gap": (lambda: lagging(1e-4), lambda: lagging(0.1)),
    "posterior_collapse": (lambda: coded(50.0), lambda: coded(0.01)),
    "order_unheard": (lambda: ordered(False), lambda: ordered(True)),
    "early_steps_unheard": (lambda: early(True), lambda: early(False)),
    "padding_heard": (lambda: padded(True), lambda: padded(False)),
    "padding_in_loss": (lambda: filled(False), lambda: filled(True)),
    "shifted_labels": (lambda: named(1), lambda: named(0)),
    "class_without_gradient": (lambda: silent(1), lambda: silent(-100)),
    "rate_vanished": (lambda: vanished(0.8), lambda: vanished(0.999)),
    "uphill_steps": (lambda: climbing(-1.0), lambda: climbing(1.0)),
    "epsilon_too_large": (lambda: epsilon(10.0), lambda: epsilon(1e-8)),
    "rounded_away": (lambda: rounded(torch.bfloat16), lambda: rounded(torch.float32)),
    "summed_gradients": (lambda: summed(8), lambda: summed(1)),
    "scrambled_inputs": (lambda: scrambled(True), lambda: scrambled(False)),
}


class Two(nn.Module):
    """Two outputs on one body."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body, self.a, self.b = nn.Linear(4, 16), nn.Linear(16, 1), nn.Linear(16, 1)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        h = torch.relu(self.body(x))
        return self.a(h), self.b(h)


def two_outputs(scale: float) -> History:
    """The loss of one output weighs as much as the other's, or a million times as much."""
    x, y = surface()
    optimizer_of = torch.optim.SGD

    def loss(said: tuple[torch.Tensor, torch.Tensor], wanted: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        return F.mse_loss(said[0], wanted[0]) + scale * F.mse_loss(said[1], wanted[1])

    net = Two()
    optimizer = optimizer_of(net.parameters(), lr=0.05 / scale)
    mentor = Mentor(net, optimizer, loss)
    for step in range(200):
        some = torch.randint(0, len(y), (32,), generator=torch.Generator().manual_seed(step))
        wanted = (y[some], x[some, :1] + x[some, 1:2])
        with mentor.step(x[some], wanted):
            optimizer.zero_grad()
            loss(net(x[some]), wanted).backward()
            optimizer.step()
    mentor.findings()
    assert not mentor.faults, mentor.faults
    return mentor.history


PAIRS["neglected_output"] = (lambda: two_outputs(1e5), lambda: two_outputs(1.0))
