"""A live module as instruments see it: a function of its tensors and a batch, run without a trace."""

from __future__ import annotations

import copy
import os
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache, partial
from types import CellType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.utils.stateless import _reparametrize_module
from torch.utils._pytree import tree_flatten

from nastavnik.errors import UserError
from nastavnik.instruments import Subject
from nastavnik.mentor._batch import Batch

_FEW = 100  # things in a collection that modules are looked for in
_MOST_THINGS = 1000  # looked into for modules
Loss = Callable[[Any, Any], torch.Tensor]
Table = Callable[[torch.Tensor], torch.Tensor]
Tensors = dict[str, torch.Tensor]
RandomState = tuple[Any, ...]  # of torch, its devices, numpy and Python


def live_tensors(model: nn.Module, copy: Table = torch.clone) -> Tensors:
    """Copies of the trained parameters, by name."""
    return {n: copy(p.detach()) for n, p in model.named_parameters() if p.requires_grad}


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


def live_subject(
    model: nn.Module, loss_fn: Loss | None, batch: Batch, noise: RandomState, table: Table | None = None
) -> Subject:
    """The model and its loss as functions of tensors, in training mode as it stands and in evaluation mode.

    Every call in training mode draws the random numbers of the state ``noise``. The loss is a copy, as it may have a
    state of its own; one that sums over rows is divided by them. ``table`` says which outputs belong to one target.
    """
    loss_fn = None if loss_fn is None else own_copy(loss_fn)
    summed = getattr(loss_fn, "reduction", "mean") == "sum"

    def run(tensors: Tensors, inputs: Sequence[torch.Tensor]) -> Any:
        args, kwargs, y = batch.rebuilt([t.clone() for t in inputs])  # a forward may write into what it is given
        with _reparametrize_module(model, tensors, tie_weights=True):  # for losses that hold the model, too
            said = model(*args, **kwargs)
            loss = loss_of(loss_fn, said, y)
        outputs = outputs_of(said)
        outputs = outputs if table is None else table(outputs)
        return outputs, loss.reshape(-1) / (len(inputs[0]) if summed else 1)

    def trained(tensors: Tensors, inputs: Sequence[torch.Tensor], targets: torch.Tensor) -> Any:
        set_random_state(noise)
        return run(tensors, inputs)

    def evaluated(tensors: Tensors, inputs: Sequence[torch.Tensor], targets: torch.Tensor) -> Any:
        with in_modes(model, dict.fromkeys(model.modules(), False)):
            return run(tensors, inputs)

    return Subject(
        model,
        trained,
        evaluated,
        "",
        alone=True,
        wearing=lambda own: _reparametrize_module(model, own, tie_weights=True),
    )


def loss_of(loss_fn: Loss | None, said: Any, y: Any) -> torch.Tensor:
    """What the loss is of what the model said; without a loss, the one that it gives itself."""
    if loss_fn is not None:
        return loss_fn(said, y)
    return said["loss"] if isinstance(said, Mapping) else said.loss


@contextmanager
def in_modes(model: nn.Module, modes: Mapping[nn.Module, bool]) -> Iterator[None]:
    """Some of its modules in training or evaluation mode; afterwards as they were, and no hook or override was run."""
    own = {module: module.training for module in model.modules()}
    for module, training in modes.items():
        module.training = training
    try:
        yield
    finally:
        for module, training in own.items():
            module.training = training


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
def undisturbed(model: nn.Module, held: Sequence[nn.Module]) -> Iterator[None]:
    """Random states, buffers and modes of the model and of the modules its loss holds are afterwards what they were.

    Buffers are put back as well as copied before use, since what is run again in the backward pass (activation
    checkpointing) runs on the model's own.
    """
    modules = list(dict.fromkeys(m for part in (model, *held) for m in part.modules()))
    modes = [(module, module.training) for module in modules]
    buffers = [(b, b._version, b.detach().clone()) for m in modules for b in m.buffers(recurse=False)]
    torchs = [(g, g.get_state()) for m in modules for g in vars(m).values() if isinstance(g, torch.Generator)]
    plain = [(m, plain_state(m)) for m in modules]
    arrays = [g.bit_generator for m in modules for g in vars(m).values() if isinstance(g, np.random.Generator)]
    states = [bits.state for bits in arrays]
    random_state = _random_state(model)
    try:
        yield
    finally:
        set_random_state(random_state)
        for generator, own in torchs:
            generator.set_state(own)
        for bits, state in zip(arrays, states, strict=True):
            bits.state = state
        for module, training in modes:
            module.training = training
        for module, state in plain:
            put_back(module, state)
        with torch.no_grad():
            for buffer, version, kept in buffers:  # batch normalization changes its own without a new version
                same = torch.equal(buffer, kept) if buffer.layout == torch.strided else buffer._version == version
                if not same:
                    buffer.copy_(kept)


_OWN = ("_parameters", "_buffers", "_modules", "training")


def plain_state(module: nn.Module) -> dict[str, Any]:
    """What a module keeps in plain attributes: the attributes themselves, lists and dictionaries as they are now."""
    state = {n: v for n, v in vars(module).items() if n not in _OWN}
    return {n: copy.copy(v) if type(v) in (list, dict, set) else v for n, v in state.items()}


def kept_tensors(model: nn.Module) -> dict[nn.Module, dict[str, Any]]:
    """What modules keep in plain attributes from call to call, as a recurrent state: tensors, alone or in tuples."""
    found = {}
    for module in model.modules():
        own = {n: v for n, v in vars(module).items() if n[0] != "_" and _is_state(v)}
        if own:
            found[module] = own
    return found


def _is_state(value: Any) -> bool:
    if isinstance(value, torch.Tensor):
        return True
    parts = value if type(value) in (tuple, list) and 0 < len(value) < _FEW else ()
    return bool(parts) and all(isinstance(part, torch.Tensor) for part in parts)


def put_back(module: nn.Module, state: Mapping[str, Any]) -> None:
    """Its plain attributes as they were; those that came since are taken off."""
    known = vars(module)
    for name in [n for n in known if n not in _OWN and n not in state]:
        del known[name]
    for name, value in state.items():
        now: Any = known.get(name)
        if type(value) in (list, dict, set) and type(now) is type(value):
            if _same(now, value):
                continue
            now.clear()
            now.extend(value) if isinstance(value, list) else now.update(value)
        elif now is not value:
            known[name] = value


def _same(now: Any, then: Any) -> bool:
    if len(now) != len(then):
        return False
    if isinstance(now, dict):
        return all(k in now and now[k] is v for k, v in then.items())
    return all(a is b for a, b in zip(now, then, strict=True)) if isinstance(now, list) else bool(now == then)


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
    there = [(device, torch.cuda.get_rng_state(device)) for device in _devices(model)]
    return torch.get_rng_state(), there, np.random.get_state(), random.getstate()


def seeded(model: nn.Module, seed: int) -> RandomState:
    """The state in which all of them are after this seed."""
    there = [(d, torch.Generator(d).manual_seed(seed).get_state()) for d in _devices(model)]
    here = torch.Generator().manual_seed(seed).get_state()
    return here, there, np.random.RandomState(seed).get_state(), random.Random(seed).getstate()


def _devices(model: nn.Module) -> list[torch.device]:
    return sorted({p.device for p in model.parameters() if p.device.type == "cuda"}, key=str)


def set_random_state(state: RandomState) -> None:
    """Put torch's, numpy's and Python's generators into a state."""
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
        return int(os.pread(_memory_file(os.getpid()), 128, 0).split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20
    except (OSError, ValueError, IndexError):
        return None


@cache
def _memory_file(process: int) -> int:
    """Where Linux tells a process's memory, held open, as it is read between two steps."""
    return os.open(f"/proc/{process}/statm", os.O_RDONLY)
