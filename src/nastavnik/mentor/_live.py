"""A live module as instruments see it: batches of any form as tensors in a row, the module as a function of them."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from types import CellType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.func import functional_call
from torch.nn.utils.stateless import _reparametrize_module
from torch.utils._pytree import TreeSpec, tree_flatten, tree_unflatten

from nastavnik.errors import UserError
from nastavnik.instruments import Subject

_FEW = 100  # things in a collection that modules are looked for in
_MOST_THINGS = 1000  # looked into for modules
_LABELS = ("labels", "label", "targets", "target", "y")
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
    """Whether a part of a batch is a tensor of rows, and no single number; ragged ones have none."""
    return isinstance(leaf, torch.Tensor) and not leaf.is_nested and leaf.ndim > 0


class Capture:
    """Takes down what the model is first called with; goes off the model then, or when it is told to ``end``.

    A copy of it, as in a model that is copied or saved meanwhile, does nothing.
    """

    def __init__(self, model: nn.Module, y: Any, failed: Callable[[Exception], None]) -> None:
        self.batch: Batch | None = None
        self._y, self._failed = y, failed
        self._handle = model.register_forward_pre_hook(self, with_kwargs=True)

    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.end()
        try:
            self.batch = Batch.of(args, kwargs, self._y)
        except Exception as error:
            self._failed(error)

    def __reduce__(self) -> tuple[Any, ...]:
        return _Nothing, ()

    def end(self) -> None:
        """Take it off the model."""
        self._handle.remove()


class _Nothing:
    """A hook that does nothing."""

    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        pass


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


def own_copy(loss_fn: Loss) -> Loss:
    """A copy of a loss that may have a state of its own: torch's own have none.

    One that cannot be copied, as it keeps a tensor of the step's graph, is taken itself.
    """
    if not isinstance(loss_fn, nn.Module) or type(loss_fn).__module__ == "torch.nn.modules.loss":
        return loss_fn
    try:
        return copy.deepcopy(loss_fn)
    except (RuntimeError, TypeError):
        return loss_fn


def live_subject(model: nn.Module, loss_fn: Loss | None, batch: Batch, noise: RandomState) -> Subject:
    """The model and its loss as functions of tensors, in training mode as it stands and in evaluation mode.

    Every call in training mode draws the random numbers of the state ``noise``. The loss is a copy, as it may have a
    state of its own; one that sums over rows is divided by them.
    """
    loss_fn = None if loss_fn is None else own_copy(loss_fn)
    summed = getattr(loss_fn, "reduction", "mean") == "sum"

    def run(tensors: dict[str, torch.Tensor], inputs: Sequence[torch.Tensor]) -> Any:
        args, kwargs, y = batch.rebuilt([t.clone() for t in inputs])  # a forward may write into what it is given
        said = functional_call(model, tensors, args, kwargs)
        if loss_fn is not None:
            loss = loss_fn(said, y)
        else:
            loss = said["loss"] if isinstance(said, Mapping) else said.loss
        return outputs_of(said), loss.reshape(-1) / (len(inputs[0]) if summed else 1)

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

    return Subject(
        model,
        trained,
        evaluated,
        "",
        alone=True,
        wearing=lambda own: _reparametrize_module(model, own, tie_weights=True),
    )


def outputs_of(said: Any) -> torch.Tensor:
    """The outputs among what a model says: itself, what is called logits, or the first tensor of several.

    Raises:
        UserError: there is no tensor in it.
    """
    if isinstance(said, torch.Tensor):
        return said
    logits = said.get("logits") if isinstance(said, Mapping) else getattr(said, "logits", None)
    if isinstance(logits, torch.Tensor):
        return logits
    parts = vars(said) if hasattr(said, "__dict__") and not isinstance(said, (tuple, list, Mapping)) else said
    for leaf in tree_flatten(dict(parts) if isinstance(parts, Mapping) else parts)[0]:
        if isinstance(leaf, torch.Tensor) and leaf.ndim:
            return leaf
    raise UserError(f"the model says {type(said).__name__}, in which there is no tensor of outputs")


def said_by(model: nn.Module, tensors: Mapping[str, torch.Tensor], batch: Batch) -> Any:
    """Everything that the model says of a batch with these tensors."""
    args, kwargs, _ = batch.rebuilt([t.clone() for t in batch.inputs])
    with torch.no_grad():
        return functional_call(model, dict(tensors), args, kwargs)


def unused_parameters(
    subject: Subject, parameters: dict[str, torch.Tensor], buffers: dict[str, torch.Tensor], batch: Batch
) -> list[str]:
    """Names of trained parameters that have no part in the loss."""
    targets = batch.inputs[0] if batch.targets is None else batch.targets
    with torch.enable_grad():
        leaves = {n: p.detach().requires_grad_() for n, p in parameters.items()}
        tensors = {**leaves, **{n: b.clone() for n, b in buffers.items()}}
        with subject.wearing(tensors):
            loss = subject.training(tensors, batch.inputs, targets)[1].mean()
            if not loss.requires_grad:
                return list(leaves)
            found = torch.autograd.grad(loss, list(leaves.values()), allow_unused=True)
    return [name for name, g in zip(leaves, found, strict=True) if g is None]


@contextmanager
def undisturbed(model: nn.Module, held: Sequence[nn.Module]) -> Iterator[RandomState]:
    """Random states, buffers and modes of the model and of the modules its loss holds are afterwards what they were.

    Buffers are put back as well as copied before use, since what is run again in the backward pass (activation
    checkpointing) runs on the model's own.
    """
    modules = list(dict.fromkeys(m for part in (model, *held) for m in part.modules()))
    modes = [(module, module.training) for module in modules]
    buffers = [(b, b._version, b.detach().clone()) for m in modules for b in m.buffers(recurse=False)]
    torchs = [(g, g.get_state()) for m in modules for g in vars(m).values() if isinstance(g, torch.Generator)]
    arrays = [g.bit_generator for m in modules for g in vars(m).values() if isinstance(g, np.random.Generator)]
    states = [bits.state for bits in arrays]
    random_state = _random_state(model)
    try:
        yield random_state
    finally:
        _set_random_state(random_state)
        for generator, own in torchs:
            generator.set_state(own)
        for bits, state in zip(arrays, states, strict=True):
            bits.state = state
        for module, training in modes:
            module.training = training
        with torch.no_grad():
            for buffer, version, kept in buffers:  # batch normalization changes its own without a new version
                same = torch.equal(buffer, kept) if buffer.layout == torch.strided else buffer._version == version
                if not same:
                    buffer.copy_(kept)


def held_modules(loss_fn: Any) -> list[nn.Module]:
    """The modules that a loss is or holds: in its closure, its defaults, the object it is a method of, its attributes,
    or by a global name.

    Long collections, such as rows of data, are passed over, and no more than a thousand things looked into.
    """
    found: list[nn.Module] = []
    seen: set[int] = set()
    ahead = [loss_fn]
    while ahead and len(seen) < _MOST_THINGS:
        thing = ahead.pop(0)
        if id(thing) in seen:
            continue
        seen.add(id(thing))
        if isinstance(thing, nn.Module):
            found.append(thing)
        else:
            ahead += _inside(thing)
    return found


def _inside(thing: Any) -> list[Any]:
    if isinstance(thing, (list, tuple, set)):
        return list(thing) if len(thing) <= _FEW else []
    if isinstance(thing, Mapping):
        return list(thing.values()) if len(thing) <= _FEW else []
    if isinstance(thing, partial):
        return [thing.func, thing.args, thing.keywords]
    if isinstance(thing, MethodType):
        return [thing.__self__]
    if isinstance(thing, FunctionType):
        cells = [cell.cell_contents for cell in thing.__closure__ or () if cell != CellType()]
        named = [thing.__globals__.get(name) for name in thing.__code__.co_names]  # as in a notebook
        return [*cells, thing.__defaults__, thing.__kwdefaults__, *(m for m in named if isinstance(m, nn.Module))]
    if hasattr(thing, "__dict__") and not isinstance(thing, (torch.Tensor, type, ModuleType)):
        return [vars(thing)]
    return []


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


def in_evaluation(model: nn.Module) -> bool:
    """Whether the whole model is in evaluation mode, and has parts for which that matters."""
    kinds = (nn.modules.dropout._DropoutNd, nn.modules.batchnorm._BatchNorm)
    return not model.training and any(isinstance(m, kinds) and not m.training for m in model.modules())


def resident_megabytes() -> float | None:
    """Memory that this process holds now; None where the system does not tell."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            pages = int(file.read().split()[1])
    except (OSError, ValueError, IndexError):
        return None
    import resource

    return pages * resource.getpagesize() / 2**20
