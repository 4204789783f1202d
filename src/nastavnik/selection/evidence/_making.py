"""Networks of any origin made into a joint density, and what does not fit together told in a sentence."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from nastavnik.errors import UserError, nearest
from nastavnik.population import Learner, Population
from nastavnik.selection.evidence._joint import LARGE, NETWORK, Joint, Layout, Networks, Scored, flushed
from nastavnik.training.likelihoods import ClassLikelihood, Likelihood


def make_joint(
    networks: Networks,
    x: Any,
    y: Any,
    *,
    likelihood: Likelihood | None = None,
    prior_precision: float | Mapping[str, float] = 1.0,
    per_layer: bool = False,
    own_data: bool = False,
    trained: Callable[[str], bool] = lambda name: True,
    dtype: torch.dtype | None = None,
) -> Joint:
    """Put networks, data and prior together.

    Args:
        networks: a module, several of one architecture, or a population; learners bring their likelihood.
        x: what ``forward`` takes: a tensor [n, …], or a tuple of them; with ``own_data`` [K, n, …].
        y: targets [n, …]; with ``own_data`` [K, n, …].
        likelihood: the distribution of the targets given the outputs.
        prior_precision: of the normal prior around zero on each weight; or a mapping from parameters' names.
        per_layer: whether each parameter tensor has a precision of its own.
        own_data: whether each network has rows of its own.
        trained: which parameters, by name, the posterior is over; the others are taken as given.
        dtype: of the computation; by default double precision, single for large networks.

    Raises:
        UserError: something does not fit together.
    """
    modules, likelihoods = _modules(networks, likelihood)
    scored = [Scored(m, one) for m, one in zip(modules, likelihoods, strict=True)]
    first = scored[0]
    names = [
        name
        for name, p in first.named_parameters()
        if p.requires_grad and name.startswith(NETWORK) and trained(name.removeprefix(NETWORK))
    ]
    if any(dict(first.named_parameters())[name].is_complex() for name in names):
        raise UserError("the network has complex weights; evidence is over real ones (torch.view_as_complex of them)")
    if not names:
        raise UserError("the network has no weights that are trained; evidence is over weights")
    shapes = {name: dict(first.named_parameters())[name].shape for name in names}
    layout = Layout(shapes, per_layer=per_layer or isinstance(prior_precision, Mapping))
    dtype = dtype or (torch.float64 if layout.size <= LARGE else torch.float32)
    tensors = [dict(s.named_parameters()) | dict(s.named_buffers()) for s in scored]
    for own in tensors[1:]:
        if {n: t.shape for n, t in own.items()} != {n: t.shape for n, t in tensors[0].items()}:
            raise UserError("the networks must be of one architecture; give others in a call of their own")
    if any(_plan(s) != _plan(first) for s in scored[1:]):
        raise UserError("the networks must be of one architecture and mode; give others in a call of their own")

    def cast(t: torch.Tensor) -> torch.Tensor:
        t = t.detach()
        return t.to(dtype) if t.is_floating_point() else t

    weights = torch.empty(len(tensors), layout.size, dtype=dtype)
    for row, own in zip(weights, tensors, strict=True):
        row.copy_(flushed(torch.cat([cast(own[n]).reshape(-1) for n in names])))
    constants = {n: torch.stack([cast(own[n]) for own in tensors]) for n in tensors[0] if n not in shapes}
    inputs = tuple(cast(torch.as_tensor(t)) for t in (x if isinstance(x, (tuple, list)) else (x,)))
    targets = cast(torch.as_tensor(y))
    _check_data(inputs, targets, likelihoods[0], len(modules) if own_data else None)
    module = copy.deepcopy(first).to(dtype)
    for part in module.modules():
        if isinstance(part, (nn.Embedding, nn.EmbeddingBag)):
            part.sparse = False  # whose gradient would be sparse, which torch.func cannot take
    return Joint(
        module,
        layout,
        weights,
        constants,
        inputs,
        targets,
        own_data,
        _precision(prior_precision, layout).to(dtype).expand(len(modules), -1).clone(),
        torch.ones(len(modules), dtype=dtype),
    )


def _plan(scored: Scored) -> list[tuple[Any, ...]]:
    """What the modules are, beside their tensors: the first network's code runs for all."""
    noise = getattr(scored.likelihood, "noise", None)
    parts = [(name, type(m), m.training, _words(m)) for name, m in scored.named_modules() if name != "likelihood"]
    return [*parts, (type(scored.likelihood), noise if isinstance(noise, str) else None)]


def _words(module: nn.Module) -> str:
    """A module's options; a dropout's rate says nothing in evaluation."""
    return "" if "Dropout" in type(module).__name__ else module.extra_repr()


def _modules(networks: Networks, likelihood: Likelihood | None) -> tuple[list[nn.Module], list[Likelihood]]:
    if isinstance(networks, Population):
        networks = [networks.network(i) for i in range(len(networks))]
    given = [networks] if isinstance(networks, nn.Module) else list(networks)
    if not given:
        raise UserError("give at least one network")
    modules: list[nn.Module] = []
    likelihoods: list[Likelihood] = []
    for module in given:
        if not isinstance(module, nn.Module):
            raise UserError(f"a network must be a torch.nn.Module, but got {type(module).__name__}")
        if isinstance(module, Learner):
            modules.append(module.network)
            likelihoods.append(likelihood or module.likelihood)
        elif likelihood is None:
            raise UserError("give likelihood=, such as nastavnik.likelihoods.Gaussian(noise=0.3)")
        else:
            modules.append(module)
            likelihoods.append(likelihood)
    for one in likelihoods:
        if not isinstance(one, Likelihood):
            raise UserError(f"likelihood must be one of nastavnik.likelihoods, but got {type(one).__name__}")
        if not one.normalized:
            raise UserError(f"the likelihood {one.name} is not normalized, so it has no evidence")
    return modules, likelihoods


def _check_data(
    inputs: tuple[torch.Tensor, ...], targets: torch.Tensor, likelihood: Likelihood, networks: int | None
) -> None:
    axis = 0 if networks is None else 1
    for t in (*inputs, targets):
        if t.ndim <= axis or (networks is not None and len(t) != networks):
            raise UserError(f"with own_data, inputs and targets must be [{networks}, rows, …], got {tuple(t.shape)}")
    rows = {t.shape[axis] for t in (*inputs, targets)}
    if len(rows) != 1:
        raise UserError(f"inputs and targets must have as many rows, got {sorted(rows)}")
    if targets.shape[axis] == 0:
        raise UserError("there are no rows")
    may_miss = likelihood.target in ("several", "vector")  # a value that is missing says nothing
    known = targets[targets == targets] if may_miss else targets
    if any(t.is_floating_point() and not bool(torch.isfinite(t).all()) for t in (*inputs, known)):
        raise UserError("inputs or targets hold values that are not numbers; fill or drop those rows")
    real = likelihood.target in ("real", "count")
    if real and targets.ndim != axis + 1:
        hint = "; flatten them: y[:, 0]" if targets.ndim == axis + 2 and targets.shape[-1] == 1 else ""
        raise UserError(f"the targets of {likelihood.name} are one number a row, got {tuple(targets.shape)}{hint}")
    if isinstance(likelihood, ClassLikelihood) and not targets.is_floating_point():
        _check_classes(likelihood, targets)
    if likelihood.target == "count" and not bool(((targets >= 0) & (targets == targets.round())).all()):
        raise UserError(f"the targets of {likelihood.name} must be whole numbers from 0 up")
    if real != targets.is_floating_point() and likelihood.target in ("real", "count", "class"):
        wanted = "numbers with a decimal point" if real else "whole class numbers"
        raise UserError(f"the targets of {likelihood.name} must be {wanted}, got {targets.dtype}")


def _check_classes(likelihood: ClassLikelihood, targets: torch.Tensor) -> None:
    with torch.no_grad():
        count = likelihood.log_probabilities(torch.zeros(1, likelihood.outputs)).shape[-1]
    low, high = int(targets.min()), int(targets.max())
    if low < 0 or high >= count:
        raise UserError(f"the targets of {likelihood.name} must be classes 0 to {count - 1}, got {low} to {high}")


def _precision(given: float | Mapping[str, float], layout: Layout) -> torch.Tensor:
    if isinstance(given, Mapping):
        own = [name.removeprefix(NETWORK) for name in layout.names]
        for name in given:
            if name not in own:
                raise UserError(f"prior_precision names {name!r}, which is no parameter{nearest(name, own)}")
        missing = [name for name in own if name not in given]
        if missing:
            raise UserError(f"prior_precision must name every parameter; {missing[0]!r} is missing")
        values = [float(given[name]) for name in own]
    else:
        values = [float(given)] * len(layout.names)
    if not all(0 < v < math.inf for v in values):
        raise UserError(f"prior_precision must be positive, but got {given}")
    return torch.tensor(values, dtype=torch.float64)
