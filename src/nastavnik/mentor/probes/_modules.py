"""Questions about the module itself: layers that it uses and does not hold."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import nn
from torch.nn.utils.stateless import _reparametrize_module

from nastavnik.instruments import looks_fresh
from nastavnik.mentor._live import loss_of
from nastavnik.mentor.probes._asked import Asked

_DEEP = 3  # collections within collections


def unheld_layers(asked: Asked) -> dict[str, Any]:
    """Which layers have a part in the loss, and are held by no module, as those in a list or a dictionary?"""
    own = {id(p) for p in asked.model.parameters()}
    beside = {
        f"{name}.{p_name}": p
        for name, module in _hidden(asked.model)
        for p_name, p in module.named_parameters()
        if id(p) not in own and p.requires_grad
    }
    fresh = {name for name, module in _hidden(asked.model) if looks_fresh(module) is not False}
    if not beside:
        return {"unheld": []}
    args, kwargs, y = asked.batch.rebuilt([t.clone() for t in asked.batch.inputs])
    tensors = {n: t.clone() for n, t in asked.tensors.items()}
    with torch.enable_grad(), _reparametrize_module(asked.model, tensors, tie_weights=True):
        loss = loss_of(asked.loss_fn, asked.model(*args, **kwargs), y).mean()
        if not loss.requires_grad:
            return {"unheld": []}
        found = torch.autograd.grad(loss, list(beside.values()), allow_unused=True)
    used = [name for name, g in zip(beside, found, strict=True) if g is not None]
    return {"unheld": [name for name in used if name.rpartition(".")[0] in fresh]}


def _hidden(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Layers in plain attributes of the model's modules: in lists, tuples and dictionaries."""
    for name, module in model.named_modules():
        for attribute, thing in vars(module).items():
            if attribute not in ("_modules", "_parameters", "_buffers"):
                yield from _inside(thing, f"{name}.{attribute}".lstrip("."), _DEEP)


def _inside(thing: Any, name: str, deep: int) -> Iterator[tuple[str, nn.Module]]:
    if isinstance(thing, nn.Module):
        yield from ((f"{name}.{n}" if n else name, m) for n, m in thing.named_modules() if not list(m.children()))
    elif deep and isinstance(thing, (list, tuple)):
        for i, part in enumerate(thing):
            yield from _inside(part, f"{name}[{i}]", deep - 1)
    elif deep and isinstance(thing, Mapping):
        for key, part in thing.items():
            yield from _inside(part, f"{name}[{key!r}]", deep - 1)
