"""Dropout of every kind; masks are a network's own: a function of (seed, layer, step, position) and of nothing else."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import ClassVar

import torch
from torch import nn

from nastavnik.nets._timed import add_progress
from nastavnik.noise import Noise, keep_mask, stream_of
from nastavnik.training.schedules import SCHEDULES, Time, factor_at

BY_PROGRESS = tuple(name for name, schedule in SCHEDULES.items() if schedule.by_progress)


class RandomMask(nn.Module):
    """Something random with a rate of its own per network, done in training and left out in evaluation.

    ``rate`` is a buffer, so a population holds one rate a network; ``stream`` names the network's and layer's random
    stream (see ``own_noise``); ``calls`` counts the training calls, so that every step draws anew. ``schedule`` names a
    schedule that the rate follows over the training: "linear" falls, "rising" rises.
    """

    name: ClassVar[str]
    formula: ClassVar[str]
    prefer: ClassVar[str]
    source: ClassVar[str]
    settings: ClassVar[Mapping[str, float]] = {"dropout": 0.2}
    setting = "network.dropout"  # what a recipe calls the rate
    rate: torch.Tensor
    stream: torch.Tensor
    calls: torch.Tensor
    training_progress: torch.Tensor

    def __init__(self, rate: float = 0.0, schedule: str = "constant") -> None:
        super().__init__()
        if not 0 <= rate < 1:
            raise ValueError(f"0 <= rate < 1 must hold, but got {rate=}")
        if schedule not in BY_PROGRESS:
            raise ValueError(f"schedule must be one of {', '.join(BY_PROGRESS)}, but got {schedule!r}")
        self.register_buffer("rate", torch.tensor(float(rate)))
        self.register_buffer("stream", torch.tensor(0, dtype=torch.int32))
        self.register_buffer("calls", torch.tensor(0, dtype=torch.int32))
        self.schedule = SCHEDULES[schedule]
        if schedule != "constant":
            add_progress(self)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x [rows, …], of any shape."""
        if not self.training:
            return x
        self.calls.add_(1)
        return self.noisy(x, self.present_rate())

    def present_rate(self) -> torch.Tensor:
        """The rate at this moment of the training."""
        if self.schedule.name == "constant":
            return self.rate
        p = self.training_progress
        settings = {name: p.new_tensor(value) for name, value in self.schedule.settings.items()}
        return self.rate * factor_at(self.schedule, Time(p, p, p), settings).clamp(0, 1)

    @abstractmethod
    def noisy(self, x: torch.Tensor, rate: torch.Tensor) -> torch.Tensor:
        """x with noise of this rate; its mean is x."""


class Dropout(RandomMask):
    """Silences random units at each step and makes the others louder, so that no unit relies on another (inverted)."""

    name = "units"
    formula = "x * m / (1 - p), m = 0 with probability p"
    prefer = "first"
    source = "Srivastava et al. 2014"

    def noisy(self, x: torch.Tensor, rate: torch.Tensor) -> torch.Tensor:
        """See ``formula``."""
        return x * (keep_mask(self.stream, self.calls, x, rate).to(x.dtype) / (1 - rate))


class GaussianDropout(RandomMask):
    """Multiplies units by normal noise around 1 of the variance that dropout would have."""

    name = "gaussian"
    formula = "x * (1 + sqrt(p / (1 - p)) * N(0, 1))"
    prefer = "where units must never be silent; for variational dropout"
    source = "Srivastava et al. 2014, section 10"

    def noisy(self, x: torch.Tensor, rate: torch.Tensor) -> torch.Tensor:
        """See ``formula``."""
        return x * (1 + (rate / (1 - rate)).sqrt() * Noise(self.stream, self.calls).normal("gaussian", x))


class ChannelDropout(RandomMask):
    """Silences whole feature maps of pictures and series (spatial dropout); of a table's units, single units."""

    name = "channels"
    formula = "x[n, c, ...] * m[n, c] / (1 - p)"
    prefer = "after convolutions, whose neighbours say the same"
    source = "Tompson et al. 2015"

    def noisy(self, x: torch.Tensor, rate: torch.Tensor) -> torch.Tensor:
        """See ``formula``."""
        each = x.flatten(2)[..., 0] if x.ndim > 2 else x
        mask = keep_mask(self.stream, self.calls, each, rate).to(x.dtype) / (1 - rate)
        return x * mask.reshape(*each.shape, *[1] * (x.ndim - each.ndim))


class BranchDropout(RandomMask):
    """Leaves out whole residual branches for random rows (stochastic depth)."""

    name = "branches"
    formula = "branch[n] * m[n] / (1 - p)"
    prefer = "for deep residual networks; layers without a bypass are left alone"
    source = "Huang et al. 2016"

    def noisy(self, x: torch.Tensor, rate: torch.Tensor) -> torch.Tensor:
        """See ``formula``."""
        each = x.flatten(1)[:, :1]
        mask = keep_mask(self.stream, self.calls, each, rate).to(x.dtype) / (1 - rate)
        return x * mask.reshape(-1, *[1] * (x.ndim - 1))


class WeightDropout(Dropout):
    """Silences single connections: the same as dropout, done to a weight matrix (DropConnect), one mask a batch."""

    name = "weights"
    formula = "W * M / (1 - p), M = 0 with probability p"
    prefer = "to compare with dropout of units"
    source = "Wan et al. 2013"


DROPOUTS: dict[str, type[RandomMask]] = {
    dropout.name: dropout for dropout in (Dropout, GaussianDropout, ChannelDropout, BranchDropout, WeightDropout)
}


def own_noise(network: nn.Module, seed: int) -> None:
    """Give each random module of a network its stream, from the network's seed and the layer's name.

    A plain ``nn.Dropout`` (or its kind for feature maps) anywhere inside is replaced by ours of the same rate. Other
    noise of PyTorch's (alpha dropout, dropout inside attention and recurrent layers) draws from its global generator.
    """
    replaced: dict[type, Callable[[float], RandomMask]] = {
        nn.Dropout: Dropout,
        nn.Dropout1d: ChannelDropout,
        nn.Dropout2d: ChannelDropout,
    }
    made: dict[int, RandomMask] = {}  # a module that stands in several places is replaced by one
    for module in list(network.modules()):
        for child_name, child in module._modules.items():
            if isinstance(child, (nn.Dropout, nn.Dropout1d, nn.Dropout2d)) and child.p < 1:
                if id(child) not in made:
                    made[id(child)] = replaced[type(child)](child.p).train(child.training)
                setattr(module, child_name, made[id(child)])
    for name, module in network.named_modules():
        if isinstance(module, RandomMask):
            module.stream.fill_(stream_of(seed, name))


@contextmanager
def monte_carlo(network: nn.Module) -> Iterator[None]:
    """Leave dropout on in a network in evaluation mode: each call inside draws new masks (Gal & Ghahramani 2016).

    Example:
        >>> layer = Dropout(0.5).eval()
        >>> x = torch.ones(1, 1000)
        >>> with monte_carlo(layer):
        ...     changed = bool((layer(x) != x).any())
        >>> changed, bool((layer(x) != x).any())
        (True, False)
    """
    random = [module for module in network.modules() if isinstance(module, RandomMask)]
    before = [module.training for module in random]
    try:
        for module in random:
            module.train()
        yield
    finally:
        for module, training in zip(random, before, strict=True):
            module.train(training)
