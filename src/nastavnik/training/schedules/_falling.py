"""Schedules that only fall."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch

from nastavnik.training.schedules._base import Schedule, Settings, Time


class Step(Schedule):
    """Multiplies the rate by ``gamma`` every so many epochs."""

    name = "step"
    formula = "f = gamma^floor(epoch / every)"
    prefer = "to repeat a published recipe; cosine needs no choice of the moments"
    source = "torch.optim.lr_scheduler.StepLR"
    settings: ClassVar[Mapping[str, float]] = {"gamma": 0.1, "every": 10.0}

    @staticmethod
    def factor(time: Time, settings: Settings) -> torch.Tensor:
        """gamma^floor(epoch / every)."""
        return torch.exp(settings["gamma"].log() * torch.floor(time.epoch / settings["every"]))


class Exponential(Schedule):
    """Falls by the same share each epoch."""

    name = "exponential"
    formula = "f = gamma^epoch"
    prefer = "for a smooth fall whose end is not planned"
    source = "torch.optim.lr_scheduler.ExponentialLR"
    settings: ClassVar[Mapping[str, float]] = {"gamma": 0.95}

    @staticmethod
    def factor(time: Time, settings: Settings) -> torch.Tensor:
        """gamma^epoch."""
        return torch.exp(settings["gamma"].log() * time.epoch)


class PerStep(Schedule):
    """Falls by the same small share each step."""

    name = "per_step"
    formula = "f = rate^step"
    prefer = "for long runs over streams of data, where epochs mean little"
    source = "Kulikov & Lempitsky, Introduction to deep learning (0.99998 a step)"
    settings: ClassVar[Mapping[str, float]] = {"rate": 0.99998}

    @staticmethod
    def factor(time: Time, settings: Settings) -> torch.Tensor:
        """rate^step."""
        return torch.exp(settings["rate"].log() * time.step)


class Linear(Schedule):
    """Falls on a straight line from 1 to 0; also for a dropout that should act early."""

    name = "linear"
    by_progress = True
    formula = "f = 1 - progress"
    prefer = "for short trainings of known length; as network.dropout_schedule for a falling dropout"
    source = "Defazio et al. 2023"

    @staticmethod
    def factor(time: Time, settings: Settings) -> torch.Tensor:
        """1 - progress."""
        return 1 - time.progress.clamp(0, 1)


class Cosine(Schedule):
    """Falls from 1 to 0 along half a cosine: slowly, fast, slowly."""

    name = "cosine"
    by_progress = True
    formula = "f = (1 + cos(pi * progress)) / 2"
    prefer = "by default, when the length of the training is known"
    source = "Loshchilov & Hutter 2017"

    @staticmethod
    def factor(time: Time, settings: Settings) -> torch.Tensor:
        """(1 + cos π progress) / 2."""
        return 0.5 * (1 + torch.cos(torch.pi * time.progress.clamp(0, 1)))


class InverseSqrt(Schedule):
    """Stays for ``flat`` steps, then falls with the square root of the steps: no length need be planned."""

    name = "inverse_sqrt"
    formula = "f = sqrt(flat / max(flat, step + 1))"
    prefer = "for trainings that may be prolonged; with schedule.warmup for attention networks"
    source = "Vaswani et al. 2017"
    settings: ClassVar[Mapping[str, float]] = {"flat": 100.0}

    @staticmethod
    def factor(time: Time, settings: Settings) -> torch.Tensor:
        """√(flat / max(flat, step + 1))."""
        flat = settings["flat"]
        return (flat / torch.maximum(flat, time.step + 1)).sqrt()


class FlatCosine(Schedule):
    """Stays for the first half of the training, then falls to 0 along half a cosine."""

    name = "flat_cosine"
    by_progress = True
    formula = "f = (1 + cos(pi * max(0, 2 * progress - 1))) / 2"
    prefer = "as network.dropout_schedule: a dropout that is gone when the last details are learned"
    source = "Holzmüller et al. 2024"

    @staticmethod
    def factor(time: Time, settings: Settings) -> torch.Tensor:
        """(1 + cos π max(0, 2 progress - 1)) / 2."""
        return 0.5 * (1 + torch.cos(torch.pi * (2 * time.progress - 1).clamp(0, 1)))
