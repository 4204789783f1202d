"""How large gradients, weights and updates are."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch

Tensors = dict[str, torch.Tensor]


class Moment(NamedTuple):
    """What one step knows: its gradients, and the parameters before and after it."""

    gradients: Tensors
    before: Tensors
    after: Tensors


Instrument = Callable[[Moment], torch.Tensor]


def gradient_norm(moment: Moment) -> torch.Tensor:
    """Euclidean length of the whole gradient."""
    return _length(moment.gradients)


def weight_norm(moment: Moment) -> torch.Tensor:
    """Euclidean length of all parameters."""
    return _length(moment.after)


def update_ratio(moment: Moment) -> torch.Tensor:
    """Length of the step over the length of the parameters."""
    change = {name: moment.after[name] - w for name, w in moment.before.items()}
    return _length(change) / (_length(moment.before) + 1e-12)


def _length(tensors: Tensors) -> torch.Tensor:
    return torch.stack([t.square().sum() for t in tensors.values()]).sum().sqrt()


INSTRUMENTS: dict[str, Instrument] = {
    "gradient norm": gradient_norm,
    "weight norm": weight_norm,
    "update ratio": update_ratio,
}
