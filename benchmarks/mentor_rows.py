"""Data, networks and a plain loop for the patients and the healthy ones of mentor_reports.py and mentor_well.py."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional as F

Rows = tuple[torch.Tensor, ...]  # training inputs and targets, validation inputs and targets


def parts(x: Any, y: Any) -> Rows:
    """Three quarters to train on, a quarter to validate."""
    x, y = (torch.as_tensor(t) for t in (x, y))
    x = x.float() if x.is_floating_point() else x
    y = y.float() if y.is_floating_point() else y
    n = len(x) * 3 // 4
    return x[:n], y[:n], x[n:], y[n:]


def digits(pictures: bool = False) -> Rows:
    """Handwritten digits of 8×8 pixels, from 0 to 1."""
    x, y = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(x))
    x = x[order] / 16
    return parts(x.reshape(-1, 1, 8, 8) if pictures else x, y[order])


def waves(n: int = 1200, T: int = 30) -> Rows:
    """Three kinds of noisy waves [n, T, 1]."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, n)
    f = np.array([0.08, 0.16, 0.28])[y] * (1 + 0.1 * rng.normal(size=n))
    x = np.sin(2 * np.pi * f[:, None] * np.arange(T) + 6.28 * rng.random((n, 1))) + 0.3 * rng.normal(size=(n, T))
    return parts(x[..., None], y)


def order(n: int = 1600, T: int = 20) -> Rows:
    """Words [n, T]; the class is whether word 1 comes before word 2."""
    rng = np.random.default_rng(0)
    x, y = rng.integers(3, 20, (n, T)), rng.integers(0, 2, n)
    for i in range(n):
        a, b = sorted(rng.choice(min(T, 8), 2, replace=False))
        x[i, a], x[i, b] = (1, 2) if y[i] else (2, 1)
    return parts(x, y)


def bag(n: int = 1600, T: int = 20) -> Rows:
    """Words [n, T]; the class is which of two lists is met more often."""
    x = np.random.default_rng(0).integers(1, 50, (n, T))
    s = (x < 12).sum(1) - ((x >= 12) & (x < 23)).sum(1)
    return parts(x[s != 0], (s[s != 0] > 0).astype(int))


@cache
def _text() -> tuple[torch.Tensor, int]:
    raw = "\n".join(inspect.getdoc(o) or "" for _, o in sorted(inspect.getmembers(np.random.Generator)))
    raw += "\n".join(inspect.getdoc(o) or "" for _, o in sorted(inspect.getmembers(textwrap)))
    raw = "".join(c for c in raw if 31 < ord(c) < 127)[:60000]
    known = sorted(set(raw))
    return torch.tensor([known.index(c) for c in raw]), len(known)


def characters(T: int = 24, n: int = 1000) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, int]:
    """Pieces of text [n, T], the characters that follow, of two parts; and how many characters there are."""
    text, V = _text()
    generator = torch.Generator().manual_seed(0)
    cut = len(text) * 17 // 20
    begun = torch.randint(0, cut - T - 1, (n,), generator=generator)
    held = torch.randint(cut, len(text) - T - 1, (200,), generator=generator)
    a, b = (torch.stack([text[i : i + T + 1] for i in some]) for some in (begun, held))
    return a[:, :-1], a[:, 1:], b[:, :-1], b[:, 1:], V


def masks(n: int = 600, size: int = 16) -> Rows:
    """Pictures [n, 3, size, size] of bright shapes on noise, and where they are."""
    rng = np.random.default_rng(0)
    x, y = rng.random((n, 3, size, size)) * 0.3, np.zeros((n, 1, size, size))
    for i in range(n):
        a, b = rng.integers(2, size - 6, 2)
        y[i, 0, a : a + 4, b : b + 3] = 1
    x += y * (0.4 + 0.4 * rng.random((n, 3, 1, 1)))
    return parts(x, y)


def text_loss(said: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of every character."""
    return F.cross_entropy(said.reshape(-1, said.shape[-1]), wanted.reshape(-1))


class Last(nn.Module):
    """An LSTM over numbers, its last step, a linear layer."""

    def __init__(self, given: int, units: int, outputs: int, batch_first: bool = True) -> None:
        super().__init__()
        self.rnn, self.head = nn.LSTM(given, units, batch_first=batch_first), nn.Linear(units, outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.rnn(x)[0][:, -1])


class Words(nn.Module):
    """An LSTM over words: its last step, or all of them."""

    def __init__(self, V: int, outputs: int, every_step: bool = False) -> None:
        super().__init__()
        self.embedding, self.rnn = nn.Embedding(V, 24), nn.LSTM(24, 32, batch_first=True)
        self.head, self.every_step = nn.Linear(32, outputs), every_step

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        said = self.rnn(self.embedding(tokens))[0]
        return self.head(said if self.every_step else said[:, -1])


class Tokens(nn.Module):
    """A small transformer over words: the mean of its steps, or all of them."""

    def __init__(
        self, V: int, outputs: int, T: int = 20, positions: bool = True, causal: str = "", every_step: bool = False
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(V, 32)
        self.positions = nn.Parameter(0.1 * torch.randn(T, 32)) if positions else None
        layer = nn.TransformerEncoderLayer(32, 4, 64, 0.0, batch_first=True, norm_first=True)
        self.layers = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head, self.causal, self.every_step = nn.Linear(32, outputs), causal, every_step

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        h = self.embedding(tokens)
        h = h if self.positions is None else h + self.positions[: tokens.shape[1]]
        mask = nn.Transformer.generate_square_subsequent_mask(tokens.shape[1]) if self.causal else None
        h = self.layers(h, mask=mask.T if mask is not None and self.causal == "wrong" else mask)
        return self.head(h if self.every_step else h.mean(1))


def crosses(channels: int, outputs: int, norm: bool = False, dropout: float = 0.0) -> nn.Sequential:
    """A small convolutional network for pictures of 8×8."""
    between = (lambda k: [nn.BatchNorm2d(k)]) if norm else (lambda k: [])
    return nn.Sequential(
        nn.Conv2d(channels, 16, 3, padding=1), *between(16), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1), *between(32), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        *([nn.Dropout(dropout)] if dropout else []), nn.Linear(128, outputs),
    )  # fmt: skip


def train(
    watch: Callable[..., Any],
    net: nn.Module,
    loss: Any,
    rows: Rows,
    *,
    rate: float,
    epochs: int,
    optimizer: Callable[..., torch.optim.Optimizer] = torch.optim.Adam,
    augment: Callable[[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]] | None = None,
    schedule: Callable[[Any], Any] | None = None,
    clip: float | None = None,
    sign: float = 1.0,
    mode: bool = True,
    batch: int = 32,
    parts_a_step: int = 1,
) -> Any:
    """A plain loop under a mentor; a scheduler, if there is one, steps with every batch."""
    x, y, xv, yv = rows
    algorithm = optimizer(net.parameters(), lr=rate)
    scheduler = None if schedule is None else schedule(algorithm)
    mentor = watch(net, algorithm, loss, (x, y), (xv, yv))
    generator, count = torch.Generator().manual_seed(0), 0
    for _ in range(epochs):
        if mode:
            net.train()
        for some in torch.randperm(len(x), generator=generator).split(batch):
            own_x, own_y = (x[some], y[some]) if augment is None else augment(x[some], y[some])
            with mentor.step(own_x, own_y):
                if count % parts_a_step == 0:
                    algorithm.zero_grad()
                (sign * loss(net(own_x), own_y) / parts_a_step).backward()
                if clip is not None:
                    nn.utils.clip_grad_norm_(net.parameters(), clip)
                count += 1
                if count % parts_a_step == 0:
                    algorithm.step()
            if scheduler is not None:
                scheduler.step()
    return mentor
