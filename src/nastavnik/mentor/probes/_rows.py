"""Questions about rows: whether one depends on others, whether it is told the same twice, and in both modes."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from nastavnik.mentor.probes._asked import STEADY, Asked
from nastavnik.mentor.probes._operations import drawn

_FEWEST = 4  # rows that are asked about
_STATISTICS = 8  # rows of which a mean and a variance say something


def mixed_rows(asked: Asked) -> dict[str, Any]:
    """Is a row told the same without the rows before it? f(x)[half:] against f(x[half:]), in evaluation mode.

    Where both the first and the second axis could count the rows, as with targets [n, T], it is asked of both; a
    network that carries a state along the first one may have been built with time there.
    """
    n, base = asked.rows, asked.base
    if n < _FEWEST or base is None or len(base) != n or not (asked.tells and asked.steady):
        return {}
    half = n // 2
    own = asked.outputs(asked.batch.mapped(lambda t: t[half:]))
    if own is None or own.shape != base[half:].shape:
        return {}
    apart = asked.apart(own, base[half:])
    return {} if apart > 0 and time_is_first(asked) else {"row mixing": apart}


def time_is_first(asked: Asked) -> bool:
    """Whether the first axis may be time: rows are counted by the second, and nothing mixes along that."""
    targets, base = asked.targets, asked.base
    if targets is None or targets.ndim < 2 or targets.shape[1] < _FEWEST or base is None:
        return False
    inputs = [t for i, t in enumerate(asked.batch.inputs) if i != asked.batch.target_at]
    if any(t.ndim < 2 or t.shape[1] != targets.shape[1] for t in inputs) or base.shape[1:2] != targets.shape[1:2]:
        return False
    if follows(inputs[0], targets, 1):
        return False
    half = targets.shape[1] // 2
    own = asked.outputs(asked.batch.mapped(lambda t: t[:, half:]))
    return own is not None and own.shape == base[:, half:].shape and asked.apart(own, base[:, half:]) == 0


def follows(x: torch.Tensor, y: torch.Tensor, axis: int) -> bool:
    """Whether targets are the inputs one step later, along this axis; not where nothing changes."""
    if x.shape != y.shape or x.is_floating_point() != y.is_floating_point() or x.shape[axis] < 3:
        return False
    later, before = x.narrow(axis, 1, x.shape[axis] - 1), y.narrow(axis, 0, x.shape[axis] - 1)
    told = torch.ones_like(before, dtype=torch.bool) if y.is_floating_point() else before >= 0
    still = x.narrow(axis, 0, x.shape[axis] - 1)
    if not bool(told.any()):
        return False
    return float((later == before)[told].float().mean()) > 0.95 > float((still == before)[told].float().mean())


def repeated(asked: Asked) -> dict[str, Any]:
    """Is a row told the same twice in evaluation mode? Where not, by what kind of random numbers."""
    if asked.base is None:
        return {}
    if asked.steady:
        return {"evaluation noise": 0.0}
    if asked.carried > STEADY:
        return {"carried state": asked.carried}
    return {"evaluation noise": asked.noise, "drawn in evaluation": drawn(asked)}


def batch_statistics(asked: Asked) -> dict[str, Any]:
    """Is the loss in evaluation mode that of the batch's own statistics? Only batch normalization is changed."""
    norms = [
        m
        for m in asked.model.modules()
        if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.track_running_stats and m.training
    ]
    whole = asked.whole
    if not norms or not whole.inputs or len(whole.inputs[0]) < _STATISTICS:
        return {}
    told = []
    for training in (False, True):
        modes = dict.fromkeys(asked.model.modules(), False) | dict.fromkeys(norms, training)
        told.append(asked.loss(asked.say(whole, modes=modes), whole))
    if None in told:
        return {}
    return {"loss by running statistics": told[0], "loss by batch statistics": told[1]}


def modules_left(asked: Asked) -> dict[str, Any]:
    """Which parts of a model that trains are in evaluation mode, though it matters for them?"""
    kinds = (nn.modules.dropout._DropoutNd, nn.modules.batchnorm._BatchNorm)
    parts = [(name, m) for name, m in asked.model.named_modules() if isinstance(m, kinds)]
    left = [
        name
        for name, m in parts
        if not m.training and (not list(m.parameters()) or any(p.requires_grad for p in m.parameters()))
    ]
    return {"left in evaluation mode": left if asked.model.training else [], "parts with modes": len(parts)}
