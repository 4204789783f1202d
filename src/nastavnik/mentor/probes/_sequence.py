"""Questions about sequences: whether a step sees the next one, whether order, early steps and padding are heard."""

from __future__ import annotations

from typing import Any

import torch

from nastavnik.mentor.probes._asked import Asked
from nastavnik.mentor.probes._rows import follows, time_is_first
from nastavnik.mentor.probes._targets import heard_places

_FEWEST = 4  # steps
_SHORT = 12  # steps, in which early and late ones are hardly apart
_PADDED = 0.2  # of the rows end in padding
_ALONE = 0.9  # of a padding token's places are at the ends of rows


def future_seen(asked: Asked) -> dict[str, Any]:
    """Do outputs at one step change with the inputs of later ones, where the targets are the next inputs?"""
    y = asked.targets
    if y is None or y.ndim < 2 or not asked.tells:
        return {}
    for at, x in enumerate(asked.batch.inputs):
        if at == asked.batch.target_at or x.shape != y.shape or y.shape[1] < _FEWEST:
            continue
        seen = asked.first_half_changes(at) if follows(x, y, 1) else None
        if seen is not None:
            return {"future seen": seen}
    return {}


def _sequence(asked: Asked) -> tuple[int, torch.Tensor] | None:
    """The input that has steps, and where it is: [n, T] of whole numbers, or [n, T, …] of numbers."""
    if time_is_first(asked):
        return None
    for at, x in enumerate(asked.batch.inputs):
        if at == asked.batch.target_at:
            continue
        if (x.ndim == 2 and not x.is_floating_point() and x.dtype != torch.bool) or (
            x.ndim == 3 and x.is_floating_point()
        ):
            return (at, x) if x.shape[1] >= _FEWEST else None
    return None


def order_heard(asked: Asked) -> dict[str, Any]:
    """Does it matter in which order the steps come?"""
    found, base = _sequence(asked), asked.base
    if found is None or base is None or not asked.tells:
        return {}
    at, x = found
    order = torch.randperm(x.shape[1], generator=torch.Generator().manual_seed(0)).to(x.device)
    said = asked.outputs(asked.with_input(at, x[:, order]))
    if said is None or said.shape != base.shape:
        return {}
    stepwise, mixed = asked.stepwise(base, x.shape[1]), asked.stepwise(said, x.shape[1])
    if stepwise is not None and mixed is not None:
        return {"order heard": asked.apart(mixed, stepwise[:, order])}
    return {"order heard": asked.apart(said, base)}


def early_steps_heard(asked: Asked) -> dict[str, Any]:
    """How much less do the first steps change what is said of a row than the last ones?"""
    found, base = _sequence(asked), asked.base
    if found is None or base is None or not asked.tells:
        return {}
    at, x = found
    if x.shape[1] < _SHORT or asked.stepwise(base, x.shape[1]) is not None or _padding(x) is not None:
        return {}
    part, other, told = x.shape[1] // 3, x.roll(1, 0), []
    for steps in (slice(0, part), slice(x.shape[1] - part, None)):
        changed = x.clone()
        changed[:, steps] = other[:, steps]
        said = asked.outputs(asked.with_input(at, changed))
        if said is None or said.shape != base.shape:
            return {}
        told.append(asked.apart(said, base))
    return {"early steps heard": told[0], "late steps heard": told[1]}


def padding_heard(asked: Asked) -> dict[str, Any]:
    """Is a row told otherwise with less padding behind it? And what share of the loss's targets is padding?"""
    found, base = _sequence(asked), asked.base
    if found is None or base is None or not asked.rows or found[1].ndim != 2:
        return {}
    _, x = found
    padding = _padding(x)
    if padding is None:
        return {}
    told: dict[str, Any] = {"padding token": padding}
    runs = _runs(x, padding)
    told |= _padding_in_loss(asked, runs)
    cut = int(runs[runs > 1].min()) if bool((runs > 1).any()) else 0
    rows = torch.nonzero(runs >= max(cut, 1))[:, 0]
    if not cut or not (asked.tells and asked.steady) or x.shape[1] - cut < 1:
        return told
    shorter = asked.batch.mapped(lambda t: t[rows, : x.shape[1] - cut] if t.shape == x.shape else t[rows])
    said, own = asked.outputs(shorter), base[rows]
    stepwise = asked.stepwise(base, x.shape[1])
    if said is None or (stepwise is None and said.shape != own.shape):
        return told
    if stepwise is not None:
        own = stepwise[rows, : x.shape[1] - cut]
        if said.numel() != own.numel():
            return told
        said = said.movedim(1, -1) if said.ndim == 3 and asked.axis == 1 else said.reshape(own.shape)
        real = torch.arange(x.shape[1] - cut, device=x.device)[None] < (x.shape[1] - runs[rows])[:, None]
        said, own = said[real], own[real]
    return {**told, "padding heard": asked.apart(said, own)}


def _padding(x: torch.Tensor) -> int | None:
    """The token that fills the ends of rows, if there is one: hardly anywhere else, and in many rows."""
    if x.ndim != 2 or x.is_floating_point():
        return None
    values, counts = x[:, -1].unique(return_counts=True)
    token = int(values[counts.argmax()])
    runs = _runs(x, token)
    ends = float((runs > 1).float().mean())
    alone = float(runs.sum() / max(int((x == token).sum()), 1))
    lengths = len(runs.unique())
    return token if ends >= _PADDED and alone >= _ALONE and lengths > 1 else None


def _runs(x: torch.Tensor, token: int) -> torch.Tensor:
    """How many of this token stand at each row's end."""
    return (x.flip(1) == token).long().cumprod(1).sum(1)


def _padding_in_loss(asked: Asked, runs: torch.Tensor) -> dict[str, float]:
    """What share of the places that the loss counts is padding, where every place has a target."""
    y, base = asked.targets, asked.base
    if y is None or base is None or asked.axis is None or y.shape[0] != len(runs) or y.ndim != 2:
        return {}
    heard = heard_places(asked)
    if heard is None:
        return {}
    padded = torch.arange(y.shape[1], device=y.device)[None] >= (y.shape[1] - runs)[:, None]
    return {"padding in the loss": float((heard & padded).sum() / heard.sum().clamp(min=1))}
