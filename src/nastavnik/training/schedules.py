"""Schedules: the factor of the learning rate at a share of the training. To add one: a function and its table line."""

from __future__ import annotations

from collections.abc import Callable

import torch

Schedule = Callable[[torch.Tensor], torch.Tensor]


def constant(progress: torch.Tensor) -> torch.Tensor:
    """Always 1 (notes/003-c: first a constant rate, a schedule later)."""
    return torch.ones_like(progress)


def cosine(progress: torch.Tensor) -> torch.Tensor:
    """From 1 to 0 along half a cosine (Loshchilov & Hutter 2017)."""
    return 0.5 * (1 + torch.cos(torch.pi * progress.clamp(0, 1)))


SCHEDULES: dict[str, Schedule] = {"constant": constant, "cosine": cosine}
