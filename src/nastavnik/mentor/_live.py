"""A live module as instruments see it: batches of any form as tensors in a row, the module as a function of them."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.func import functional_call
from torch.utils._pytree import TreeSpec, tree_flatten, tree_unflatten

from nastavnik.instruments import Subject

_LABELS = ("labels", "label", "targets", "target", "y")
_EXPECTS = {  # what a loss takes the outputs for
    "CrossEntropyLoss": "logits", "cross_entropy": "logits", "BCEWithLogitsLoss": "logits",
    "binary_cross_entropy_with_logits": "logits", "MultiMarginLoss": "logits", "BCELoss": "probabilities",
    "binary_cross_entropy": "probabilities", "NLLLoss": "log probabilities", "nll_loss": "log probabilities",
    "MSELoss": "numbers", "mse_loss": "numbers", "L1Loss": "numbers", "l1_loss": "numbers", "HuberLoss": "numbers",
    "SmoothL1Loss": "numbers", "smooth_l1_loss": "numbers", "huber_loss": "numbers",
}  # fmt: skip
Loss = Callable[[Any, Any], torch.Tensor]
RandomState = tuple[Any, ...]  # of torch, its devices, numpy and Python

_ROW = object()  # stands in a batch's tree where a tensor of rows was taken out


@dataclass(frozen=True)
class Batch:
    """What a model and its loss were given: arguments, keywords and targets, their tensors of rows taken out in a row.

    ``inputs`` are those tensors, ``leaves`` everything else in its place; ``target_at`` is the place among the tensors
    of what rows are judged by, None if there is no one tensor of them.
    """

    inputs: tuple[torch.Tensor, ...]
    target_at: int | None
    leaves: tuple[Any, ...]
    spec: TreeSpec

    @classmethod
    def of(cls, args: tuple[Any, ...], kwargs: Mapping[str, Any], y: Any) -> Batch:
        """Of a model's call and the targets given to the loss; without any, what the keywords call labels."""
        leaves, spec = tree_flatten((args, dict(kwargs), y))
        tensors = [leaf for leaf in leaves if _has_rows(leaf)]
        if y is None:
            y = next((kwargs[name] for name in _LABELS if _has_rows(kwargs.get(name))), None)
        at = next((i for i, t in enumerate(tensors) if t is y), None)
        places = tuple(_ROW if _has_rows(leaf) else leaf for leaf in leaves)
        alike = len({len(t) for t in tensors}) == 1
        return cls(tuple(t.detach() for t in tensors), at if alike else None, places, spec)

    @property
    def targets(self) -> torch.Tensor | None:
        """What rows are judged by [n, …]."""
        return None if self.target_at is None else self.inputs[self.target_at]

    @property
    def numbers(self) -> tuple[torch.Tensor, ...]:
        """The tensors that are not the targets."""
        return tuple(t for i, t in enumerate(self.inputs) if i != self.target_at)

    def rebuilt(self, inputs: Sequence[torch.Tensor]) -> tuple[tuple[Any, ...], dict[str, Any], Any]:
        """Arguments and keywords of the model's call, and the loss's targets, of these tensors."""
        own = iter(inputs)
        args, kwargs, y = tree_unflatten([next(own) if x is _ROW else x for x in self.leaves], self.spec)
        return args, kwargs, y

    def mapped(self, change: Callable[[torch.Tensor], torch.Tensor]) -> Batch:
        """The same with each tensor changed."""
        return replace(self, inputs=tuple(change(t) for t in self.inputs))

    def first(self, rows: int) -> Batch:
        """Its first rows."""
        return self.mapped(lambda t: t[:rows])

    def kept(self) -> Batch:
        """A copy that stays as it is when the loop writes over its buffers."""
        return self.mapped(torch.clone)

    def to(self, device: torch.device) -> Batch:
        """The same on another device."""
        return self.mapped(lambda t: t.to(device))

    @staticmethod
    def joined(batches: Sequence[Batch]) -> Batch | None:
        """Several batches of one form as one; None where there are none, or shapes differ."""
        usable = [b for b in batches if b.targets is not None]
        if not usable or len({tuple(t.shape[1:] for t in b.inputs) for b in usable}) > 1:
            return None
        return replace(
            usable[0], inputs=tuple(torch.cat(parts) for parts in zip(*(b.inputs for b in usable), strict=True))
        )


def flat_batch(x: Any, y: Any = None) -> Batch:
    """A batch of any form: ``x`` a tensor, a tuple of arguments or a mapping of keywords; ``y`` as the loss has it."""
    if isinstance(x, Mapping):
        return Batch.of((), x, y)
    return Batch.of(tuple(x) if isinstance(x, (tuple, list)) else (x,), {}, y)


def _has_rows(leaf: Any) -> bool:
    """Whether a part of a batch is a tensor of rows, and no single number."""
    return isinstance(leaf, torch.Tensor) and leaf.ndim > 0


def captured(model: nn.Module, y: Any) -> Callable[[], Batch | None]:
    """Take down what the model is first called with from now on; the function that comes back ends it and tells."""
    seen: list[Batch] = []

    def note(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if not seen:
            seen.append(Batch.of(args, kwargs, y))

    handle = model.register_forward_pre_hook(note, with_kwargs=True)

    def end() -> Batch | None:
        handle.remove()
        return seen[0] if seen else None

    return end


def live_tensors(model: nn.Module, *, trained: bool) -> dict[str, torch.Tensor]:
    """Copies of the trained parameters, or of everything else, by name."""
    if trained:
        return {n: p.detach().clone() for n, p in model.named_parameters() if p.requires_grad}
    fixed = {n: p.detach().clone() for n, p in model.named_parameters() if not p.requires_grad}
    return {**fixed, **{n: b.detach().clone() for n, b in model.named_buffers()}}


def unhooked(p: torch.Tensor) -> None:
    """Drop the empty tables that removed hooks leave behind: autograd would go on calling into Python for them."""
    for table in ("_backward_hooks", "_post_accumulate_grad_hooks"):
        if getattr(p, table, None) is not None and not getattr(p, table):
            setattr(p, table, None)


def expects(loss_fn: Loss | None) -> str:
    """What a loss takes the outputs for: logits, probabilities, log probabilities, numbers, or unknown."""
    own = getattr(loss_fn, "expects", None)
    name = getattr(loss_fn, "__name__", type(loss_fn).__name__)
    return str(own) if isinstance(own, str) else _EXPECTS.get(name, "unknown")


def live_subject(model: nn.Module, loss_fn: Loss | None, batch: Batch, noise: RandomState) -> Subject:
    """The model and its loss as functions of tensors, in training mode as it stands and in evaluation mode.

    Every call in training mode draws the random numbers of the state ``noise``. The loss is a copy, as it may have a
    state of its own; one that sums over rows is divided by them.
    """
    if isinstance(loss_fn, nn.Module) and type(loss_fn).__module__ != "torch.nn.modules.loss":
        loss_fn = copy.deepcopy(loss_fn)
    summed = getattr(loss_fn, "reduction", "mean") == "sum"

    def run(tensors: dict[str, torch.Tensor], inputs: Sequence[torch.Tensor]) -> Any:
        args, kwargs, y = batch.rebuilt(inputs)
        said = functional_call(model, tensors, args, kwargs)
        if loss_fn is None:
            loss = said["loss"] if isinstance(said, Mapping) else said.loss
            outputs = said["logits"] if isinstance(said, Mapping) else said.logits
        else:
            loss, outputs = loss_fn(said, y), said
        outputs = outputs[0] if isinstance(outputs, (tuple, list)) else outputs
        return outputs, loss.reshape(-1) / (len(inputs[0]) if summed else 1)

    def trained(tensors: dict[str, torch.Tensor], inputs: Sequence[torch.Tensor], targets: torch.Tensor) -> Any:
        _set_random_state(noise)
        return run(tensors, inputs)

    def evaluated(tensors: dict[str, torch.Tensor], inputs: Sequence[torch.Tensor], targets: torch.Tensor) -> Any:
        modes = {module: module.training for module in model.modules()}
        for module in modes:
            module.training = False
        try:
            return run(tensors, inputs)
        finally:
            for module, training in modes.items():
                module.training = training

    return Subject(model, trained, evaluated, "", alone=True)


def unused_parameters(
    subject: Subject, parameters: dict[str, torch.Tensor], buffers: dict[str, torch.Tensor], batch: Batch
) -> list[str]:
    """Names of trained parameters that have no part in the loss."""
    targets = batch.inputs[0] if batch.targets is None else batch.targets
    with torch.enable_grad():
        leaves = {n: p.detach().requires_grad_() for n, p in parameters.items()}
        tensors = {**leaves, **{n: b.clone() for n, b in buffers.items()}}
        loss = subject.training(tensors, batch.inputs, targets)[1].mean()
        if not loss.requires_grad:
            return list(leaves)
        found = torch.autograd.grad(loss, list(leaves.values()), allow_unused=True)
    return [name for name, g in zip(leaves, found, strict=True) if g is None]


@contextmanager
def undisturbed(model: nn.Module) -> Iterator[RandomState]:
    """Random states of torch, numpy and Python, and the modes of the model's modules, are afterwards what they were."""
    modes = {module: module.training for module in model.modules()}
    state = _random_state(model)
    try:
        yield state
    finally:
        _set_random_state(state)
        for module, training in modes.items():
            module.training = training


def _random_state(model: nn.Module) -> RandomState:
    devices = sorted({p.device for p in model.parameters() if p.device.type == "cuda"}, key=str)
    there = [(device, torch.cuda.get_rng_state(device)) for device in devices]
    return torch.get_rng_state(), there, np.random.get_state(), random.getstate()


def _set_random_state(state: RandomState) -> None:
    here, there, arrays, python = state
    torch.set_rng_state(here)
    for device, own in there:
        torch.cuda.set_rng_state(own, device)
    np.random.set_state(arrays)
    random.setstate(python)


def resident_megabytes() -> float | None:
    """Memory that this process holds now; None where the system does not tell."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            pages = int(file.read().split()[1])
    except (OSError, ValueError, IndexError):
        return None
    import resource

    return pages * resource.getpagesize() / 2**20
