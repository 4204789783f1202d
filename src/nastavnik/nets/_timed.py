"""Modules that change as training goes on: the engine writes its progress into one of their buffers."""

from __future__ import annotations

import torch
from torch import nn

PROGRESS = "training_progress"  # a buffer of this name holds the share of training done


def add_progress(module: nn.Module) -> None:
    """Give a module the buffer ``training_progress``, at first 0."""
    module.register_buffer(PROGRESS, torch.tensor(0.0))
