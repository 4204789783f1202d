"""Noise that is a function of (stream, step, position) and of nothing else: alone and in company the same numbers.

A *stream* is a signed 32-bit number, one for each network and purpose (``stream_of``); counter-based generation is
Salmon et al. 2011's idea, the mixing functions are integer hashes with low bias.
"""

from __future__ import annotations

import functools
import hashlib
import math
from typing import NamedTuple

import numpy as np
import torch

_MIX_1 = 0x7FEB352D  # multipliers of a 32-bit integer hash with low bias (Wellons, hash-prospector, 2018)
_MIX_2 = -0x7B935975  # 0x846CA68B as a signed 32-bit number
_GOLDEN = 0x9E3779  # 2²⁴ over the golden ratio: odd, and exact in float32, through which torch.compile takes scalars
_TRIES = 8  # of a gamma draw; fewer than one in 10⁸ needs more


def stream_of(seed: int, purpose: str) -> int:
    """A signed 32-bit number for (seed, purpose), the same on every machine."""
    digest = hashlib.sha256(f"{seed}/{purpose}".encode()).digest()
    return int.from_bytes(digest[:4], "little", signed=True)


def uniform_bits(stream: torch.Tensor, step: torch.Tensor, rows: int, columns: int) -> torch.Tensor:
    """Signed 32-bit integers [rows, columns], uniform.

    Row and column are hashed apart and joined by one more round, so that a mask costs a handful of integer
    operations an element. The same arguments give the same bits, alone or under ``torch.vmap``.
    """
    key = stream + step * _GOLDEN
    by_row = _mix(_positions(rows, 1, stream.device) ^ key)
    x = (by_row[:, None] ^ _positions(columns, 2, stream.device)[None, :]) * _MIX_1
    return (x ^ ((x >> 15) & 0x1FFFF)) * _MIX_2


def keep_mask(stream: torch.Tensor, step: torch.Tensor, like: torch.Tensor, rate: torch.Tensor) -> torch.Tensor:
    """Booleans of a tensor's shape, each true with probability 1 - rate."""
    rows = like.shape[0]
    bits = uniform_bits(stream, step, rows, like.numel() // max(rows, 1)).reshape(like.shape)
    return bits >= (rate * 2.0**32 - 2.0**31).to(torch.int32)


class Noise(NamedTuple):
    """One network's noise at one step; each ``purpose`` has draws of its own."""

    stream: torch.Tensor
    step: torch.Tensor

    def uniform(self, purpose: str, like: torch.Tensor) -> torch.Tensor:
        """Uniform on (0, 1), of a tensor's shape and type."""
        if like.numel() == 0:
            return like
        rows = like.shape[0] if like.ndim else 1
        key = self.stream ^ stream_of(0, purpose)
        bits = uniform_bits(key, self.step.to(torch.int32), rows, max(1, like.numel() // max(rows, 1)))
        # 23 bits in the middle of their cells, which float32 holds exactly: never 0, never 1
        return (((bits >> 9) & 0x7FFFFF).to(like.dtype).reshape(like.shape) + 0.5) * 2.0**-23

    def normal(self, purpose: str, like: torch.Tensor) -> torch.Tensor:
        """Standard normal, of a tensor's shape and type (Box & Muller 1958)."""
        radius = (-2 * self.uniform(f"{purpose} radius", like).log()).sqrt()
        return radius * torch.cos(2 * math.pi * self.uniform(f"{purpose} angle", like))

    def beta(self, purpose: str, both: torch.Tensor) -> torch.Tensor:
        """One draw of Beta(both, both), a scalar: two gamma draws, the first over their sum."""
        one, other = self._log_gamma(f"{purpose} one", both), self._log_gamma(f"{purpose} other", both)
        return torch.sigmoid(one - other)

    def _log_gamma(self, purpose: str, shape: torch.Tensor) -> torch.Tensor:
        """Log of one Gamma(shape) draw (Marsaglia & Tsang 2000), the first accepted of a few tries."""
        tries = shape.new_zeros(_TRIES)
        d = shape + 1 - 1 / 3  # a draw for shape + 1, made smaller by U^(1/shape)
        c = 1 / (9 * d).sqrt()
        x = self.normal(purpose, tries)
        v = (1 + c * x) ** 3
        safe = v.clamp(min=1e-30)
        good = (v > 0) & (self.uniform(f"{purpose} try", tries).log() < 0.5 * x * x + d - d * v + d * safe.log())
        found = shape.new_zeros(())
        for i in reversed(range(_TRIES)):
            found = torch.where(good[i], safe[i].log(), found)
        return d.log() + found + self.uniform(f"{purpose} power", shape).log() / shape


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
