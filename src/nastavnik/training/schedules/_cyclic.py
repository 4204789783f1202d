"""Schedules that rise and fall."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch

from nastavnik.training.schedules._base import Schedule, Settings, Time


class WarmRestarts(Schedule):
    """Falls along half a cosine and starts again at 1, each cycle ``times`` as long as the one before.

    As ``torch.optim.lr_scheduler.CosineAnnealingWarmRestarts``.
    """

    name = "warm_restarts"
    formula = "f = (1 + cos(pi * share of the cycle)) / 2; cycles of first, first * times, ... epochs"
    prefer = "to collect several minima (snapshot ensembles), or when the length is open"
    source = "Loshchilov & Hutter 2017"
    settings: ClassVar[Mapping[str, float]] = {"first": 10.0, "times": 2.0}

    @staticmethod
    def factor(time: Time, settings: Settings) -> torch.Tensor:
        """(1 + cos π s) / 2, s the share of the present cycle."""
        first, times = settings["first"], settings["times"]
        grows = times > 1
        base = torch.where(grows, times, torch.full_like(times, 2.0))
        # n cycles of a growing length end at first · (timesⁿ - 1) / (times - 1)
        number = torch.floor(torch.log1p(time.epoch / first * (base - 1)) / base.log() + 1e-6)
        power = torch.exp(base.log() * number)
        growing = (time.epoch - first * (power - 1) / (base - 1)) / (first * power)
        even = time.epoch / first - torch.floor(time.epoch / first)
        share = torch.where(grows, growing, even).clamp(0, 1)
        return 0.5 * (1 + torch.cos(torch.pi * share))


class Cyclical(Schedule):
    """Rises and falls in triangles between ``low`` and 1, every ``period`` epochs.

    As ``torch.optim.lr_scheduler.CyclicLR`` with mode "triangular".
    """

    name = "cyclical"
    formula = "f = low + (1 - low) * (1 - |2 * (epoch / period - floor(epoch / period)) - 1|)"
    prefer = "to leave plateaus without knowing where they are"
    source = "Smith 2017"
    settings: ClassVar[Mapping[str, float]] = {"low": 0.1, "period": 10.0}

    @staticmethod
    def factor(time: Time, settings: Settings) -> torch.Tensor:
        """A triangle between low and 1."""
        place = time.epoch / settings["period"]
        place = place - torch.floor(place)
        return settings["low"] + (1 - settings["low"]) * (1 - (2 * place - 1).abs())


class OneCycle(Schedule):
    """Rises to 1 in the first ``up`` of the training and falls far below its start, both along cosines.

    As ``torch.optim.lr_scheduler.OneCycleLR``.
    """

    name = "one_cycle"
    by_progress = True
    formula = "f = cosine from 1/start_divisor to 1 until progress = up, then to 1/(start_divisor * end_divisor)"
    prefer = "for short trainings at a large rate"
    source = "Smith & Topin 2019"
    settings: ClassVar[Mapping[str, float]] = {"up": 0.3, "start_divisor": 25.0, "end_divisor": 1e4}

    @staticmethod
    def factor(time: Time, settings: Settings) -> torch.Tensor:
        """Two halves of cosines."""
        up, start = settings["up"], 1 / settings["start_divisor"]
        end = start / settings["end_divisor"]
        p = time.progress.clamp(0, 1)
        rising = _between(start, torch.ones_like(start), (p / up.clamp(min=1e-6)).clamp(0, 1))
        falling = _between(torch.ones_like(end), end, ((p - up) / (1 - up).clamp(min=1e-6)).clamp(0, 1))
        return torch.where(p < up, rising, falling)


def _between(start: torch.Tensor, end: torch.Tensor, share: torch.Tensor) -> torch.Tensor:
    return end + (start - end) * 0.5 * (1 + torch.cos(torch.pi * share))


class LogCosine(Schedule):
    """Rises from 0 and falls again in four cycles, each twice as long as the one before."""

    name = "log_cosine"
    by_progress = True
    formula = "f = (1 - cos(2 pi log2(1 + 15 progress))) / 2"
    prefer = "to have good moments early and late in one training, where the best one is kept"
    source = "Holzmüller et al. 2024 (there coslog4)"

    @staticmethod
    def factor(time: Time, settings: Settings) -> torch.Tensor:
        """(1 - cos 2π log₂(1 + 15 progress)) / 2."""
        return 0.5 * (1 - torch.cos(2 * torch.pi * torch.log2(1 + 15 * time.progress.clamp(0, 1))))
