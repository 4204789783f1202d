"""How much arithmetic a step is, and how many threads that is worth."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from nastavnik.compiler import product_flops
from nastavnik.population._data import Data
from nastavnik.population._learner import Learner

_WORTH_THREADS = 1e8  # floating-point operations of a forward pass; with fewer, threads wait longer than they work


def forward_flops(learner: Learner, data: Data, part: int, rows: torch.Tensor) -> float:
    """Floating-point operations of one network's forward pass over one batch."""
    copied = copy.deepcopy(learner).eval()
    inputs, _ = data.rows_of(part, rows)
    with torch.no_grad():
        return product_flops(copied, inputs)


@contextmanager
def threads_worth(flops: float) -> Iterator[None]:
    """One thread where operations are small: benchmarks/threads.py measures what that gains."""
    threads = torch.get_num_threads()
    few = flops < _WORTH_THREADS and threads > 1
    if few:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        if few:
            torch.set_num_threads(threads)
