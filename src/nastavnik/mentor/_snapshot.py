"""A moment of a training, kept so that it can be looked at later: the loop goes on meanwhile."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.nn.utils.stateless import _reparametrize_module

from nastavnik.mentor._batch import Batch
from nastavnik.mentor._live import Tensors, undisturbed

_SHARE = 0.05  # of the memory, or of what is free on a GPU, that moments may take
_MOST_BYTES = 2**30
_ALIGNED = 64  # bytes
_LOOKS = 12  # whose copies fit into memory that is there before
_BATCH = 2**18  # bytes of a batch that are reckoned with
_MOST_BEFORE = 2**25  # bytes


@dataclass(frozen=True)
class Snapshot:
    """One step of the user's: the batch, the trained parameters before and after it, and everything else in use.

    ``fixed`` are the model's buffers and frozen parameters, ``beside`` the tensors of modules that the loss holds,
    ``modes`` which modules were in training mode, ``states`` what they keep in plain attributes.
    ``used`` are the gradients that the optimizer took, as it took them;
    ``moved`` says whether it is known to have taken a step. ``ends``: no step was taken, the network is as it is now.
    """

    step: int
    batch: Batch
    costs: tuple[str, ...]
    before: Tensors
    after: Tensors
    fixed: Tensors
    beside: tuple[tuple[nn.Module, Tensors], ...]
    modes: dict[nn.Module, bool]
    states: dict[nn.Module, dict[str, Any]] = field(default_factory=dict)
    used: Tensors = field(default_factory=dict)
    moved: bool = True
    ends: bool = False

    @property
    def bytes(self) -> int:
        """Memory that it takes."""
        groups = (self.before, self.after, self.fixed, self.used, *(own for _, own in self.beside))
        tensors = [t for own in groups for t in own.values()] + list(self.batch.inputs)
        return sum(t.numel() * t.element_size() for t in tensors)

    @contextmanager
    def again(self, model: nn.Module, held: Sequence[nn.Module]) -> Iterator[None]:
        """Model and loss as they were then; afterwards they are as they are now, whatever was run."""
        with undisturbed(model, held), ExitStack() as stack:
            for module in model.modules():
                module.training = self.modes.get(module, module.training)
            for module, state in self.states.items():
                vars(module).update(state)
            for module, own in self.beside:
                stack.enter_context(_reparametrize_module(module, own, tie_weights=True))
            yield


class Arena:
    """Memory that is there before the training begins: fresh pages cost more than the copies that are put into them.

    Args:
        size: bytes; what does not fit any more is copied as usual.
    """

    def __init__(self, size: int) -> None:
        self._memory = torch.empty(size, dtype=torch.uint8).fill_(1)  # written to, so that the pages are there
        self._used = 0

    def copy(self, t: torch.Tensor) -> torch.Tensor:
        """A copy of a tensor."""
        t = t.detach()
        size = t.numel() * t.element_size()
        begin = self._used
        if t.device.type != "cpu" or t.layout != torch.strided or not 0 < size <= len(self._memory) - begin:
            return t.clone()
        self._used = begin + -(-size // _ALIGNED) * _ALIGNED
        return self._memory[begin : begin + size].view(t.dtype).view(t.shape).copy_(t)


class Album:
    """The snapshots that were not looked at yet, as many as memory has room for."""

    def __init__(self) -> None:
        self.kept: list[Snapshot] = []
        self.bytes = self.taken = 0
        self.arena = Arena(0)
        self._copies: dict[int, tuple[torch.Tensor, int, torch.Tensor]] = {}  # of parameters that mostly stay
        self.most: float | None = None  # bytes that they may take; by default a share of the memory

    def prepare(self, model: nn.Module) -> None:
        """Have memory ready for the first looks at a small model: weights around a step, gradients, batches."""
        own = sum(p.numel() * p.element_size() for p in model.parameters() if p.device.type == "cpu")
        wanted = _LOOKS * (3 * own + _BATCH)
        self.arena = Arena(wanted if wanted <= _MOST_BEFORE else 0)

    def add(self, snapshot: Snapshot) -> None:
        """Keep one."""
        self.kept.append(snapshot)
        self.taken += 1
        self.bytes += snapshot.bytes

    def take(self) -> list[Snapshot]:
        """All of them, and an empty album."""
        kept, self.kept, self.bytes = self.kept, [], 0
        return kept

    def full(self, device: torch.device) -> bool:
        """Whether there is no room for another one like the last."""
        return bool(self.kept) and self.bytes + self.kept[-1].bytes > self._room(device)

    def fixed(self, model: nn.Module) -> Tensors:
        """Copies of a module's frozen parameters, the same ones as long as they stay, and of its buffers."""
        frozen = {n: p for n, p in model.named_parameters() if not p.requires_grad}
        return {**self.parameters(frozen), **{n: b.detach().clone() for n, b in model.named_buffers()}}

    def parameters(self, own: Mapping[str, torch.Tensor]) -> Tensors:
        """Copies of parameters; of what did not change since the last time, the same ones."""
        return {name: self._copy(p) for name, p in own.items()}

    def _copy(self, p: torch.Tensor) -> torch.Tensor:
        known = self._copies.get(id(p))
        if known is None or known[1] != p._version or known[2].shape != p.shape:
            known = self._copies[id(p)] = (p, p._version, p.detach().clone())
        return known[2]

    def _room(self, device: torch.device) -> float:
        if self.most is None:
            if device.type == "cuda":
                there = torch.cuda.mem_get_info(device)[0]
            else:
                there = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
            self.most = min(_SHARE * there, _MOST_BYTES)
        return self.most
