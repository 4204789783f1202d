"""Schedules that stay, rise, or wait for the validation score."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch

from nastavnik.training.schedules._base import Schedule, Settings, Time


class Constant(Schedule):
    """Keeps the rate as it is."""

    name = "constant"
    by_progress = True
    formula = "f = 1"
    prefer = "first, while the rate itself is unknown: schedules are tuned after a constant rate works"
    source = "Nielsen 2015, ch. 3"

    @staticmethod
    def factor(time: Time, settings: Settings) -> torch.Tensor:
        """1."""
        return torch.ones_like(time.progress)


class Warmup(Schedule):
    """Grows linearly from 0 in the first share of the training, then stays: large first steps do the most harm."""

    name = "warmup"
    formula = "f = min(1, progress / warmup)"
    prefer = "for deep or attention networks; every other schedule takes schedule.warmup too"
    source = "Goyal et al. 2017"
    settings: ClassVar[Mapping[str, float]] = {"warmup": 0.1}

    @staticmethod
    def factor(time: Time, settings: Settings) -> torch.Tensor:
        """1: the growth itself belongs to every schedule."""
        return torch.ones_like(time.progress)


class Plateau(Schedule):
    """Stays until the validation score stops improving, then is multiplied by ``factor``, and so on.

    The engine does it between steps, as an action on a plateau (``training.stopping``): after ``stopping.patience``
    evaluations without improvement, by default half of what would stop the training.
    """

    name = "plateau"
    formula = "f = factor^(plateaus so far)"
    prefer = "when nobody knows how long the training will take"
    source = "Nielsen 2015, ch. 3"
    settings: ClassVar[Mapping[str, float]] = {"factor": 0.1}

    @staticmethod
    def factor(time: Time, settings: Settings) -> torch.Tensor:
        """1: what plateaus do to the rate is kept in the rate."""
        return torch.ones_like(time.progress)


class Rising(Schedule):
    """Grows linearly from 0 to 1: for dropout or penalties that should act late."""

    name = "rising"
    by_progress = True
    formula = "f = progress"
    prefer = "for network.dropout_schedule and regularization.schedule"
    source = "Morerio et al. 2017 (dropout by phase)"

    @staticmethod
    def factor(time: Time, settings: Settings) -> torch.Tensor:
        """progress."""
        return time.progress.clamp(0, 1)


class RangeTest(Schedule):
    """Grows exponentially over the whole training: the loss against the rate shows which rates are usable."""

    name = "range_test"
    formula = "f = span^progress"
    prefer = "only to find a rate (nastavnik.find_rate)"
    source = "Smith 2017"
    settings: ClassVar[Mapping[str, float]] = {"span": 1e6}

    @staticmethod
    def factor(time: Time, settings: Settings) -> torch.Tensor:
        """span^progress."""
        return torch.exp(settings["span"].log() * time.progress.clamp(0, 1))
