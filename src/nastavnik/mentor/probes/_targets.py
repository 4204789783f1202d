"""Questions about targets: whether they are among the inputs, and whether the loss hears all of them."""

from __future__ import annotations

from typing import Any

import torch
from torch.nn.utils.stateless import _reparametrize_module

from nastavnik.mentor._live import loss_of
from nastavnik.mentor._places import table_of, untable
from nastavnik.mentor.probes._asked import Asked

_ALIKE = 1 - 1e-5  # squared correlation from which one column is the target, but for scale and place
_MOST_COLUMNS = 4096
_FEWEST = 8  # rows
_SAME = 0.98  # of the places


def target_among_inputs(asked: Asked) -> dict[str, Any]:
    """Is the target one of the inputs: word by word, or as one column but for its scale and place?"""
    y, batch = asked.whole.targets, asked.whole
    if y is None or len(y) < _FEWEST:
        return {}
    inputs = [t for i, t in enumerate(batch.inputs) if i != batch.target_at and len(t) == len(y)]
    if y.ndim > 1 and y.numel() > len(y):
        return _same_steps(asked, inputs, y)
    return _same_column(inputs, y.reshape(-1).double())


def _same_steps(asked: Asked, inputs: list[torch.Tensor], y: torch.Tensor) -> dict[str, Any]:
    """Words that are their own targets; series too, where no output hears later steps, so that nothing is squeezed."""
    for x in inputs:
        words = not x.is_floating_point() and not y.is_floating_point()
        if x.shape != y.shape or (words and bool((y < 0).any())) or (not words and y.ndim != 3):
            continue
        if float((x == y).float().mean()) > _SAME and (words or _hears_no_later(asked, x.shape)):
            return {"target among inputs": "the inputs themselves, step by step"}
    return {}


def _hears_no_later(asked: Asked, shape: torch.Size) -> bool:
    inputs = enumerate(asked.batch.inputs)
    at = next(i for i, t in inputs if i != asked.batch.target_at and t.shape[1:] == shape[1:])
    return asked.carried == 0 and asked.first_half_changes(at) == 0


def _same_column(inputs: list[torch.Tensor], y: torch.Tensor) -> dict[str, Any]:
    y = y - y.mean()
    if not float(y.square().sum()) > 0:
        return {}
    for x in inputs:
        flat = x.reshape(len(x), -1).double()
        if not 2 <= flat.shape[1] <= _MOST_COLUMNS or not bool(torch.isfinite(flat).all()):
            continue
        flat = flat - flat.mean(0)
        size = flat.square().sum(0)
        told = (flat * y[:, None]).sum(0).square() / (size * y.square().sum()).clamp(min=1e-30)
        told[size <= 0] = 0
        if int((size > 0).sum()) > 1 and float(told.max()) > _ALIKE:
            return {"target among inputs": f"column number {int(told.argmax())}, counted from 0, of a row"}
    return {}


def heard_places(asked: Asked) -> torch.Tensor | None:
    """Which targets the loss hears: where its gradient by the outputs is not exactly zero; None where it cannot be
    asked. The outputs are made up, so that no rectifier of the network's silences them."""
    y, base = asked.targets, asked.base
    if y is None or base is None or not isinstance(asked.batch.rebuilt(asked.batch.inputs)[2], torch.Tensor):
        return None
    axis = asked.axis
    places = table_of(axis)(base)
    if places.ndim != 2 or len(places) != y.numel() or y.is_floating_point():
        return None
    made = 0.05 + 0.9 * torch.rand(places.shape, generator=torch.Generator().manual_seed(0))
    made = made.to(base.device).requires_grad_()
    try:
        with torch.enable_grad(), _reparametrize_module(asked.model, asked.tensors, tie_weights=True):
            own = untable(axis, made, base)
            loss = loss_of(asked.loss_fn, own, asked.batch.rebuilt(asked.batch.inputs)[2])
            gradient = torch.autograd.grad(loss.sum(), made)[0]
    except Exception:  # the loss takes no such outputs
        return None
    return gradient.ne(0).any(1).reshape(y.shape) if bool(torch.isfinite(gradient).all()) else None


def silent_classes(asked: Asked) -> dict[str, Any]:
    """Are there classes that the loss never hears, though rows have them?"""
    if asked.loss_fn is None:
        return {}
    wide = Asked(asked.model, asked.loss_fn, asked.whole, asked.tensors, rows=len(asked.whole.inputs[0]))
    heard, y = heard_places(wide), wide.targets
    if heard is None or y is None:
        return {}
    labelled = y >= 0
    classes = y[labelled].unique().tolist()
    silent = [int(c) for c in classes if not bool(heard[y == c].any())]
    if not silent or len(silent) == len(classes):
        return {"silent classes": []}
    share = float(sum(int((y == c).sum()) for c in silent) / max(int(labelled.sum()), 1))
    return {"silent classes": silent, "silent share": share, "silent at the ends": _at_the_ends(y, silent)}


def _at_the_ends(y: torch.Tensor, silent: list[int]) -> bool:
    """Whether the silent ones fill the ends of rows, as padding does."""
    if y.ndim != 2 or len(silent) != 1:
        return False
    run = (y.flip(1) == silent[0]).long().cumprod(1).sum()
    return bool(run >= 0.9 * (y == silent[0]).sum())
