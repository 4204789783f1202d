"""Dropout whose masks are a network's own: a function of (seed, layer, step, position) and of nothing else."""

from __future__ import annotations

import functools
import hashlib

import numpy as np
import torch
from torch import nn

_MIX_1 = 0x7FEB352D  # multipliers of a 32-bit integer hash with low bias (Wellons, hash-prospector, 2018)
_MIX_2 = -0x7B935975  # 0x846CA68B as a signed 32-bit number
_GOLDEN = 0x9E3779  # 2²⁴ over the golden ratio: odd, and exact in float32, through which torch.compile takes scalars


def _mix(x: torch.Tensor) -> torch.Tensor:
    """A bijection of 32-bit integers that looks random."""
    x = (x ^ ((x >> 16) & 0xFFFF)) * _MIX_1
    x = (x ^ ((x >> 15) & 0x1FFFF)) * _MIX_2
    return x ^ ((x >> 16) & 0xFFFF)


@functools.lru_cache(maxsize=256)
def _positions(count: int, salt: int, device: torch.device) -> torch.Tensor:
    """Hashed positions 0…count-1, computed once (in numpy, apart from any transform that may be running)."""
    x: np.ndarray = np.arange(count, dtype=np.uint64) * 0x9E3779B9 + salt
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B)):
        x = ((x ^ (x >> np.uint64(shift))) * factor) & 0xFFFFFFFF
    mixed = (x ^ (x >> np.uint64(16))).astype(np.uint32)
    return torch.from_numpy(mixed.view(np.int32)).to(device)


def uniform_bits(stream: torch.Tensor, step: torch.Tensor, rows: int, columns: int) -> torch.Tensor:
    """Signed 32-bit integers [rows, columns], uniform, from a counter-based stream (Salmon et al. 2011 for the idea).

    Row and column are hashed apart and joined by one more round, so that a mask costs a handful of integer
    operations an element. The same arguments give the same bits, alone or under ``torch.vmap``.
    """
    key = stream + step * _GOLDEN
    by_row = _mix(_positions(rows, 1, stream.device) ^ key)
    x = (by_row[:, None] ^ _positions(columns, 2, stream.device)[None, :]) * _MIX_1
    return (x ^ ((x >> 15) & 0x1FFFF)) * _MIX_2


class Dropout(nn.Module):
    """Inverted dropout (Srivastava et al. 2014; notes/001 U14) with a rate and a noise of its own per network.

    ``rate`` is a buffer, so a population holds one rate a network; ``stream`` names the network's and layer's random
    stream (see ``own_noise``); ``calls`` counts the training calls, so that every step draws a new mask.
    """

    rate: torch.Tensor
    stream: torch.Tensor
    calls: torch.Tensor

    def __init__(self, rate: float = 0.0) -> None:
        super().__init__()
        if not 0 <= rate < 1:
            raise ValueError(f"0 <= rate < 1 must hold, but got {rate=}")
        self.register_buffer("rate", torch.tensor(float(rate)))
        self.register_buffer("stream", torch.tensor(0, dtype=torch.int32))
        self.register_buffer("calls", torch.tensor(0, dtype=torch.int32))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x [rows, …], of any shape."""
        if not self.training:
            return x
        self.calls.add_(1)
        rows = x.shape[0]
        bits = uniform_bits(self.stream, self.calls, rows, x[0].numel()).reshape(x.shape)
        threshold = (self.rate * 2.0**32 - 2.0**31).to(torch.int32)  # keeps a share 1 - rate
        return x * ((bits >= threshold).to(x.dtype) / (1 - self.rate))


def own_noise(network: nn.Module, seed: int) -> None:
    """Give each Dropout of a network its stream, from the network's seed and the layer's name.

    A plain ``nn.Dropout`` anywhere inside is replaced by ours of the same rate.
    """
    for module in list(network.modules()):
        for child_name, child in list(module.named_children()):
            if type(child) is nn.Dropout:
                setattr(module, child_name, Dropout(child.p).train(child.training))
    for name, module in network.named_modules():
        if isinstance(module, Dropout):
            module.stream.fill_(_stream(seed, name))


def _stream(seed: int, layer: str) -> int:
    """A signed 32-bit number for (seed, layer), the same on every machine."""
    digest = hashlib.sha256(f"{seed}/{layer}".encode()).digest()
    return int.from_bytes(digest[:4], "little", signed=True)
