"""Questions about the end of a network: how far its outputs reach, and whether they tell one row from another."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from nastavnik.instruments import has_matrix
from nastavnik.mentor._live import loss_of
from nastavnik.mentor._places import untable
from nastavnik.mentor.probes._asked import Asked
from nastavnik.mentor.probes._operations import FirstUndefined, drawn

_FACTOR = 1e4  # times the last weights
_FAR = 100.0  # beyond which an output is not bounded
_SUM = 1e-3  # a row of probabilities is so near to 1


def reach(asked: Asked) -> dict[str, Any]:
    """Between what bounds do the outputs stay when the last layer says numbers of any size?

    The weights of the layer that runs last are made ten thousand times as large, and so with the other sign: a plain
    output follows, one behind a sigmoid, a softmax or a rectifier stays within its bounds, however it is written.
    """
    base = asked.base
    last = _last_matrix(asked)
    if base is None or last is None:
        return {}
    found = []
    for factor in (_FACTOR, -_FACTOR):
        own = {n: factor * t for n, t in asked.tensors.items() if n.rpartition(".")[0] == last}
        said = asked.outputs(tensors=own)
        if said is None or said.shape != base.shape or not bool(torch.isfinite(said).all()):
            return {}
        found.append(said)
    both = torch.cat(found)
    least, most = float(both.min()), float(both.max())
    if most - least <= 1e-6 * max(abs(most), abs(least), 1e-6) or all(torch.equal(said, base) for said in found):
        return {}  # the outputs do not hang on these weights
    table = asked.table(found[0])
    sums = table.reshape(len(table), -1).sum(1)
    softmax = table.ndim > 1 and table.shape[-1] > 1 and least >= 0 and float((sums - 1).abs().max()) < _SUM
    if table.ndim > 1 and table.shape[-1] > 1 and float(table.double().logsumexp(-1).abs().max()) < _SUM:
        return {"reach": [None, None], "sums to one": False}  # a log-softmax is as good as plain sums
    bounds = [None if least < -_FAR else least, None if most > _FAR else most]
    return {"reach": bounds, "sums to one": bool(softmax)}


def _last_matrix(asked: Asked) -> str | None:
    """The name of the layer with a matrix that runs last."""
    ran: list[str] = []
    handles = [
        module.register_forward_hook(lambda *_, name=name: ran.append(name))
        for name, module in asked.model.named_modules()
        if has_matrix(module)
    ]
    try:
        asked.outputs()
    finally:
        for handle in handles:
            handle.remove()
    return ran[-1] if ran else None


def rows_told_apart(asked: Asked) -> dict[str, Any]:
    """Does a network that draws samples still say something else of another row, the same numbers drawn?"""
    y, base = asked.targets, asked.base
    if base is None or y is None or not y.is_floating_point() or base.shape != y.shape or not asked.rows:
        return {}
    modes = {m: m.training for m in asked.model.modules()}
    first = asked.outputs(modes=modes)
    if first is None or drawn(asked, modes) != "sample":
        return {}
    inputs = [t if i == asked.batch.target_at else t.roll(1, 0) for i, t in enumerate(asked.batch.inputs)]
    other = asked.outputs(asked.batch.holding(inputs), modes=modes)
    if other is None:
        return {}
    spread = float(y.double().var(0, correction=0).mean().sqrt())
    apart = float((other - first).double().square().mean().sqrt())
    return {"rows told apart": apart / max(spread, 1e-12)}


def each_output(asked: Asked) -> dict[str, Any]:
    """How well is each of several outputs told, in its own units? The way from chance to perfect, by name or place."""
    y = asked.whole.rebuilt(asked.whole.inputs)[2]
    if not isinstance(y, (tuple, list, Mapping)) or len(y) < 2:
        return {}
    said = asked.say(asked.whole)
    names = list(y) if isinstance(y, Mapping) else range(len(y))
    if type(said) not in (tuple, list, dict) or any(n not in said for n in names if isinstance(said, dict)):
        return {}
    if len(said) < len(y):
        return {}
    told = {str(n): _skill(said[n], y[n]) for n in names}
    return {f"skill of output {n}": skill for n, skill in told.items() if skill is not None}


def _skill(said: Any, y: Any) -> float | None:
    if not isinstance(said, torch.Tensor) or not isinstance(y, torch.Tensor) or len(said) != len(y) or len(y) < 2:
        return None
    if not y.is_floating_point() and y.numel() == len(y) and said.ndim == 2 and said.shape[1] > 1:
        common = float(torch.bincount(y.reshape(-1)).max()) / len(y)
        right = float((said.argmax(1) == y.reshape(-1)).double().mean())
        return (right - common) / (1 - common) if common < 1 else None
    if not y.is_floating_point() or said.shape != y.shape:
        return None
    left, spread = (said - y).double().square().mean(), y.double().var(0, correction=0).mean()
    return float(1 - left / spread) if spread > 0 else None


def undefined_loss(asked: Asked) -> dict[str, Any]:
    """Is the loss, or its gradient, no number where a bounded output sits on its bound, as a sure softmax does?"""
    bounds, base, y = asked.facts.get("reach"), asked.base, asked.targets
    if not bounds or None in bounds or base is None or y is None or asked.loss_fn is None:
        return {}
    if not isinstance(asked.batch.rebuilt(asked.batch.inputs)[2], torch.Tensor):
        return {}
    least, most = bounds
    low = torch.full_like(base, float(least))
    for made in (low, torch.full_like(base, float(most)), _one_on_top(asked, low, float(most))):
        found = _first_undefined(asked, made)
        if found is not None:
            return {"loss undefined": found}
    return {}


def _one_on_top(asked: Asked, low: torch.Tensor, most: float) -> torch.Tensor:
    """One output of each place on the upper bound, the others on the lower."""
    made = asked.table(low).clone()
    made.reshape(len(made), -1)[:, 0] = most
    return untable(asked.axis, made, low)


def _first_undefined(asked: Asked, made: torch.Tensor) -> dict[str, str] | None:
    y = asked.batch.rebuilt(asked.batch.inputs)[2]
    made = made.detach().requires_grad_()
    try:
        with torch.enable_grad(), FirstUndefined() as seen:
            value = loss_of(asked.loss_fn, made, y).sum()
            gradient = torch.autograd.grad(value, made, allow_unused=True)[0] if value.requires_grad else None
    except Exception:  # the loss takes no such outputs
        return None
    whole = bool(torch.isfinite(value)) and (gradient is None or bool(torch.isfinite(gradient).all()))
    return None if whole else seen.found or {"operation": "the gradient", "line": ""}
