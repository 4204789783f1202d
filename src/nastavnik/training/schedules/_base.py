"""The contract of a schedule."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar, NamedTuple

import torch

Settings = Mapping[str, torch.Tensor]


class Time(NamedTuple):
    """A moment of the training, scalars: ``step`` steps done, ``epoch`` passes done (with fractions), and
    ``progress``, the share of all steps that is done."""

    step: torch.Tensor
    epoch: torch.Tensor
    progress: torch.Tensor


class Schedule(ABC):
    """A factor as a function of time: pure, without branches on values, so that it runs for K networks at once."""

    name: ClassVar[str]
    formula: ClassVar[str]
    prefer: ClassVar[str]
    source: ClassVar[str]
    settings: ClassVar[Mapping[str, float]] = {}
    by_progress: ClassVar[bool] = False  # whether it looks at progress alone, not at steps or epochs

    @staticmethod
    @abstractmethod
    def factor(time: Time, settings: Settings) -> torch.Tensor:
        """The factor at a moment, a scalar; ``settings`` are scalars too."""


def factor_at(schedule: type[Schedule], time: Time, settings: Settings) -> torch.Tensor:
    """A schedule's factor, with its warm-up if ``settings`` name one.

    The schedule itself runs over what is left after the warm-up.
    """
    if "warmup" not in settings:
        return schedule.factor(time, settings)
    warmup = settings["warmup"]
    rest = ((time.progress - warmup) / (1 - warmup).clamp(min=1e-6)).clamp(0, 1)
    ramp = (time.progress / warmup.clamp(min=1e-6)).clamp(0, 1)
    ramp = torch.where(warmup > 0, ramp, torch.ones_like(ramp))
    left = (time.progress - warmup).clamp(min=0) / time.progress.clamp(min=1e-12)  # of the steps done
    return schedule.factor(Time(time.step * left, time.epoch * left, rest), settings) * ramp
