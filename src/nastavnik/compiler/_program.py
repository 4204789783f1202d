"""A compiled step, run over the networks of a population: each network on its own, one thread each."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch

from nastavnik.compiler._build import build, is_built
from nastavnik.compiler._expressions import NotCompilable
from nastavnik.compiler._kernels import Product
from nastavnik.compiler._lowering import lower
from nastavnik.compiler._printing import c_source
from nastavnik.compiler._tracing import check_same, record
from nastavnik.compiler.operations import LOWERINGS

_HEADER = Path(__file__).with_name("step.h")


class Program:
    """The C function of a step, and how to call it.

    ``run`` takes one tensor for each argument of the step and each output that is no state, with letters that name
    its leading dimensions: ``k`` networks, ``p`` parts, ``s`` steps.
    """

    def __init__(
        self,
        function: Callable[..., Sequence[torch.Tensor]],
        examples: Sequence[torch.Tensor],
        state: Sequence[tuple[int, int]],
        others: Sequence[torch.Tensor] | None = None,
    ) -> None:
        """Trace and translate ``function(*examples) -> [tensors]``, a step of one network; ``build`` compiles it.

        Args:
            function: pure; what Python does in it beside tensors happens once, now.
            examples: one network's arguments.
            state: pairs (argument, output) of what the step changes.
            others: examples of other numbers, of which the function must compute the same.

        Raises:
            NotCompilable: something in the step cannot be put into C.
        """
        recording = record(function, examples, LOWERINGS, only=True)
        if others is not None:
            check_same(recording, record(function, others, LOWERINGS, only=True))
        lowered = lower(recording, state)
        self.arguments = lowered.arguments
        self._constants = list(lowered.constants.values())
        products = {k.target.dtype for k in lowered.kernels if isinstance(k, Product)}
        if products - {torch.float32, torch.float64}:
            raise NotCompilable("products of whole numbers")
        if len(products) > 1:
            raise NotCompilable("matrices of several types")
        self._wide = torch.float64 in products
        self.source, self._scratch = c_source(lowered, _HEADER.read_text(encoding="utf-8"), self._wide)
        self._run: Callable[..., int] | None = None

    @property
    def scratch_bytes(self) -> int:
        """What each thread needs beside the arguments."""
        return self._scratch

    @property
    def built(self) -> bool:
        """Whether it was compiled before, on this machine."""
        return self._run is not None or is_built(self.source, self._wide)

    @property
    def ready(self) -> bool:
        """Whether it can be run at once."""
        return self._run is not None

    def build(self, ended: Callable[[], bool] = lambda: False) -> None:
        """Compile, or take what was compiled before.

        Raises:
            NotCompilable: there is no C compiler, or it refuses.
            Ended: ``ended`` before it was done; the compiler was stopped.
        """
        if self._run is None:
            self._run = build(self.source, self._wide, ended).run

    def run(
        self,
        tensors: Sequence[tuple[torch.Tensor, str]],
        parts: torch.Tensor,
        *,
        steps: int,
        threads: int,
    ) -> None:
        """Take ``len(parts)`` networks through ``steps`` steps; state and outputs are changed in place.

        ``parts`` [K] int64: which part of the data each network has.
        """
        self.build()
        call = self._run
        assert call is not None
        bound = [*tensors, *((t, "") for t in self._constants)]
        for (tensor, letters), buffer in zip(tensors, self.arguments, strict=True):
            inner = tensor.shape[len(letters) :]
            if (
                tensor.dtype != buffer.dtype
                or inner.numel() != buffer.size
                or not tensor[(0,) * len(letters)].is_contiguous()
            ):
                raise ValueError(
                    f"argument {buffer.name} must be {buffer.dtype} with {buffer.size} elements, row by row"
                )
        count = len(bound)
        base = (ctypes.c_void_p * count)(*(t.data_ptr() for t, _ in bound))
        by = {
            letter: (ctypes.c_long * count)(
                *(t.stride(at.index(letter)) * t.itemsize if letter in at else 0 for t, at in bound)
            )
            for letter in "kps"
        }
        part = parts.contiguous()
        networks = len(part)

        def some(first: int, last: int) -> None:
            scratch = torch.empty(self._scratch + 64, dtype=torch.uint8)
            aligned = -(-scratch.data_ptr() // 64) * 64
            bad = call(
                ctypes.c_long(first),
                ctypes.c_long(last),
                ctypes.c_long(steps),
                base,
                by["k"],
                by["p"],
                by["s"],
                ctypes.c_void_p(part.data_ptr()),
                ctypes.c_void_p(aligned),
            )
            if bad:
                raise IndexError("an index in the step is out of range; look at classes and category codes")

        if threads == 1 or networks == 1:
            some(0, networks)
            return
        chunk = max(1, networks // (threads * 8))
        with ThreadPoolExecutor(threads) as pool:
            starts = range(0, networks, chunk)
            for job in [pool.submit(some, a, min(a + chunk, networks)) for a in starts]:
                job.result()
