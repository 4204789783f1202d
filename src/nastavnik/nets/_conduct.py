"""What a module does beside being a function of its rows and tensors: it may draw random numbers and keep things.

A user's module may do both. Each of its draws then begins where the engine says, and what it keeps is forgotten after
each call; one whose answer depends on what it kept is refused.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from types import FunctionType, MethodType, ModuleType
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from nastavnik.errors import UserError
from nastavnik.noise import stream_of

Inputs = tuple[torch.Tensor, ...]
_GENERATORS = (torch.Generator, np.random.Generator, np.random.RandomState, random.Random)
_OWN = ("_parameters", "_buffers", "_modules")  # of every module
_DEEP = 6  # containers in containers
_PLAIN = (int, float, complex, str, bytes, type(None), torch.dtype, torch.device)
_ENDS = (torch.Tensor, nn.Module, np.ndarray, type, FunctionType, MethodType, ModuleType)
_SAME = 1e-4  # relative to the largest: sums may depend on where in memory they begin


class Conduct(NamedTuple):
    """What a call does: ``draws`` from a generator of random numbers, ``writes`` into its inputs, or sets attributes
    (``kept``, their names)."""

    draws: bool = False
    writes: bool = False
    kept: tuple[str, ...] = ()

    def answer(self, module: nn.Module, inputs: Inputs, seed: int | None) -> Any:
        """What the module says; its draws begin at ``seed`` (None: wherever they are), and all else is as before."""
        given = tuple(t.clone() for t in inputs) if self.writes else inputs
        drawing = drawing_from(module, seed) if self.draws and seed is not None else nullcontext()
        with drawing, remembering(module) if self.kept else nullcontext():
            return module(*given)

    def __or__(self, other: Conduct) -> Conduct:
        """What either does."""
        kept = tuple(dict.fromkeys(self.kept + other.kept))
        return Conduct(self.draws or other.draws, self.writes or other.writes, kept)


def observed(module: nn.Module, some: Inputs, others: Inputs) -> tuple[Any, Conduct]:
    """What a module says of some rows, and how it behaves.

    It is asked about some rows, others, and the first again; its buffers are as before each time, and afterwards.

    Raises:
        UserError: it says something else of the same rows after it has seen others.
    """
    buffers = {name: t.clone() for name, t in module.named_buffers()}

    def asked(inputs: Inputs) -> Any:
        given = tuple(t.clone() for t in inputs)
        try:
            with drawing_from(module, 0, tell=moved.append):
                return module(*given)
        finally:
            written.append(any(t._version for t in given))
            for name, t in module.named_buffers():
                if name in buffers and t.shape == buffers[name].shape:
                    t.data.copy_(buffers[name])  # a change that no backward pass is to see
                elif name in buffers:
                    raise UserError(f"the module {name_of(module)} changes the shape of its buffer {name} when called")

    moved: list[bool] = []
    written: list[bool] = []
    changed: list[str] = []
    with remembering(module, tell=changed.extend):
        first = asked(some)
    with remembering(module):
        asked(others)
        again = asked(some)
    if not _alike(first, again):
        what = (
            f"it keeps {', '.join(shown(c) for c in changed)} from one call to the next"
            if changed
            else "by what is unseen"
        )
        raise UserError(
            f"the module {name_of(module)} says something else of the same rows when it is asked again ({what}); a "
            "network must be a function of its rows, weights and buffers: make what it keeps a buffer "
            "(register_buffer), or draw from torch's own generator"
        )
    return first, Conduct(any(moved), any(written), tuple(changed))


def shown(name: str) -> str:
    """An attribute's name as a user knows it, without our own wrapping's."""
    return name.removeprefix("network.").removeprefix("module.")


def name_of(module: nn.Module) -> str:
    """What a user calls it: the class, of a wrapped module too."""
    return type(getattr(module, "module", module)).__name__


# Random numbers


@contextmanager
def drawing_from(module: nn.Module, seed: int, tell: Callable[[bool], object] | None = None) -> Iterator[None]:
    """All generators that a module may draw from begin at a seed, and are afterwards as they were.

    Those are torch's, numpy's and Python's global ones, and what the module holds as attributes. ``tell`` hears whether
    any was used.
    """
    generators = [*_global_generators(), *_held_generators(module)]
    before = [_state(g) for g in generators]
    try:
        for i, g in enumerate(generators):
            _set_seed(g, stream_of(seed, f"generator {i}") & 0xFFFFFFFF)
        begun = [_state(g) for g in generators] if tell else []
        yield
        if tell:
            tell(not all(_alike(_state(g), b) for g, b in zip(generators, begun, strict=True)))
    finally:
        for g, state in zip(generators, before, strict=True):
            _set_state(g, state)


def _global_generators() -> list[Any]:
    on_devices = torch.cuda.default_generators if torch.cuda.is_available() and torch.cuda.is_initialized() else ()
    return [torch.random.default_generator, *on_devices, np.random, random]


def _held_generators(module: nn.Module) -> list[Any]:
    found = {id(v): v for m in module.modules() for v in _within(m.__dict__) if isinstance(v, _GENERATORS)}
    return [g for g in found.values() if g is not torch.random.default_generator]


def _state(generator: Any) -> Any:
    if isinstance(generator, torch.Generator):
        return generator.get_state()
    if isinstance(generator, np.random.Generator):
        return generator.bit_generator.state
    return generator.getstate() if hasattr(generator, "getstate") else generator.get_state()


def _set_state(generator: Any, state: Any) -> None:
    if isinstance(generator, np.random.Generator):
        generator.bit_generator.state = state
    elif hasattr(generator, "setstate"):
        generator.setstate(state)
    else:
        generator.set_state(state)


def _set_seed(generator: Any, seed: int) -> None:
    if isinstance(generator, torch.Generator):
        generator.manual_seed(seed)
    elif isinstance(generator, np.random.Generator):
        generator.bit_generator.state = type(generator.bit_generator)(seed).state
    else:
        generator.seed(seed)


# What is kept in Python


@contextmanager
def remembering(module: nn.Module, tell: Callable[[Sequence[str]], object] | None = None) -> Iterator[None]:
    """Attributes of a module and of its parts, and what lies in them, are afterwards as they were; tensors are not.

    Buffers that had a value are left alone: they are the engine's. ``tell`` hears the names of what changed.
    """
    before = [(name, m, _Memory(m)) for name, m in module.named_modules()]
    try:
        yield
    finally:
        changed = [f"{name}.{key}".lstrip(".") for name, _, memory in before for key in memory.restore()]
        if tell:
            tell(changed)


class _Memory:
    """The attributes of one module, its containers' contents included."""

    def __init__(self, module: nn.Module) -> None:
        attributes = module.__dict__
        self.attributes, self.before = attributes, dict(attributes)
        self.containers = [
            (key, holder, holder.copy())
            for key, value in attributes.items()
            if key not in _OWN
            for holder in _within({key: value})
            if isinstance(holder, (dict, list, set))
        ]
        self.absent = [key for key, t in module._buffers.items() if t is None]
        self.buffers, self.named = module._buffers, set(module._buffers)

    def restore(self) -> list[str]:
        """Put everything back; the names of what was not as before."""
        now = self.attributes
        changed = [key for key in now if key not in self.before or now[key] is not self.before[key]]
        changed += [key for key in self.before if key not in now]
        for key in changed:
            now.pop(key, None)
            if key in self.before:
                now[key] = self.before[key]
        for key, holder, was in self.containers:
            if not _same_things(holder, was):
                changed.append(key)
                _fill(holder, was)
        new = [key for key in self.buffers if key not in self.named or key in self.absent]
        for key in new:
            if key not in self.named:
                del self.buffers[key]
                changed.append(key)
            elif self.buffers[key] is not None:
                self.buffers[key] = None
                changed.append(key)
        return list(dict.fromkeys(changed))


def _within(value: Any, depth: int = _DEEP, seen: set[int] | None = None) -> Iterator[Any]:
    """A container or plain object and what lies in it, as far as a deep copy would go; tensors and modules are ends."""
    seen = set() if seen is None else seen
    if isinstance(value, _PLAIN) or id(value) in seen:
        return
    seen.add(id(value))
    yield value
    if depth == 0 or isinstance(value, _ENDS):
        return
    if isinstance(value, Mapping):
        inside: Sequence[Any] = list(value.values())
    elif isinstance(value, (list, tuple, set)):
        inside = list(value)
    else:
        held = getattr(value, "__dict__", None)
        inside = [held] if isinstance(held, dict) else []
    for v in inside:
        yield from _within(v, depth - 1, seen)


def _same_things(holder: Any, was: Any) -> bool:
    if len(holder) != len(was):
        return False
    if isinstance(holder, dict):
        return all(k in holder and holder[k] is v for k, v in was.items())
    if isinstance(holder, list):
        return all(a is b for a, b in zip(holder, was, strict=True))
    return {id(v) for v in holder} == {id(v) for v in was}


def _fill(holder: Any, was: Any) -> None:
    holder.clear()
    holder.extend(was) if isinstance(holder, list) else holder.update(was)


def _alike(a: Any, b: Any) -> bool:
    """Whether two answers, or two states of a generator, are the same."""
    if isinstance(a, torch.Tensor):
        if not isinstance(b, torch.Tensor) or a.shape != b.shape or a.dtype != b.dtype:
            return False
        if not (a.is_floating_point() or a.is_complex()) or a.numel() == 0:
            return torch.equal(a, b)
        a, b = a.detach(), b.detach()
        return torch.allclose(a, b, rtol=0, atol=_SAME * float(a.abs().nan_to_num().max()), equal_nan=True)
    if isinstance(a, np.ndarray):
        return np.array_equal(a, b)
    if isinstance(a, Mapping):
        return isinstance(b, Mapping) and a.keys() == b.keys() and all(_alike(v, b[k]) for k, v in a.items())
    if isinstance(a, (tuple, list)):
        return len(a) == len(b) and all(_alike(x, y) for x, y in zip(a, b, strict=True))
    return a is b or bool(a == b)


# Copies


def _note_value(t: torch.Tensor, memo: dict[int, Any]) -> None:
    """Note what a tensor that was computed from others is copied as."""
    try:
        if not t.is_leaf:
            memo[id(t)] = t.detach().clone()
    except RuntimeError:  # it belonged to a transform that has ended; a recurrent layer lists its weights so, and anew
        memo[id(t)] = torch.empty(0)


def copied_module(module: nn.Module, memo: dict[int, Any]) -> nn.Module:
    """A deep copy, in which tensors that were computed from others are values, as torch copies no others."""
    for m in module.modules():
        for key, value in m.__dict__.items():
            if key not in ("_parameters", "_modules"):
                for t in _within(value):
                    if isinstance(t, torch.Tensor) and id(t) not in memo:
                        _note_value(t, memo)
    new = type(module).__new__(type(module))
    memo[id(module)] = new
    new.__dict__.update(copy.deepcopy(module.__dict__, memo))
    return new
