"""The context around one step of the user's: looked at, or passed by as quickly as can be."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Any, Generic, TypeVar

import torch

from nastavnik.mentor._batch import Batch, Capture, flat_batch
from nastavnik.mentor._loop import Loop
from nastavnik.mentor._players import TURN

Given = TypeVar("Given")  # what ``with … as`` gives


class Idle(Generic[Given]):
    """A step at which nothing is looked at."""

    __slots__ = ("_given", "_loop", "_number")

    def __init__(self, loop: Loop, given: Given) -> None:
        self._loop, self._given, self._number = loop, given, loop.players.number

    def __enter__(self) -> Given:
        TURN[0] = self._number
        return self._given

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._loop.on:
            self._loop.steps += 1


class Step(Generic[Given]):
    """One step of the user's, looked at or not."""

    __slots__ = (
        "_alone", "_batch", "_before", "_capture", "_costs", "_entered", "_given", "_hook", "_loop", "_waited", "_x",
        "_y",
    )  # fmt: skip

    def __init__(self, loop: Loop, given: Given, x: Any, y: Any) -> None:
        self._loop, self._given, self._x, self._y = loop, given, x, y
        self._before: dict[str, torch.Tensor] | None = None
        self._batch: Batch | None = None
        self._hook: Any = None
        self._capture: Capture | None = None

    def __enter__(self) -> Given:
        loop = self._loop
        entered = time.perf_counter()
        self._costs = loop.due()
        due = loop.looking = bool(self._costs)
        if due or loop.due_next():
            with loop.guarded("a batch"):
                if self._x is None:
                    self._capture = Capture(loop.model, self._y, lambda e: loop.note_fault("a batch", e))
                else:
                    self._keep(flat_batch(self._x, self._y), due)
            with loop.guarded("hooks"):
                loop.attach()
        if due:
            with loop.guarded("before a step"):
                self._before = loop.begin()
                self._hook = loop.watch_gradients()
        loop.stepped, loop.inside = False, True
        self._alone = not loop.players.others_stepped()
        self._waited = max(entered - loop.left, 0.0)
        self._entered = time.perf_counter()
        return self._given

    def _keep(self, batch: Batch, due: bool) -> None:
        self._batch = batch.kept(self._loop.album.arena.copy) if due else batch
        self._loop.batches.keep(self._loop.steps, self._batch, due)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        loop = self._loop
        done = time.perf_counter()
        # what a loss tells of its terms at a look is not told twice
        loop.inside = loop.looking = loop.comparing = False
        if self._hook is not None:
            self._hook.remove()
        if not loop.due_next():
            loop.detach()
        if self._capture is not None:
            with loop.guarded("a batch"):
                self._capture.end()
                if self._capture.batch is not None:
                    self._keep(self._capture.batch, self._before is not None)
        if self._before is not None and kind is None and self._batch is not None:
            with loop.guarded("a look"):
                if self._alone and not torch.cuda.is_available():  # there, steps end before their work does
                    loop.history.add("data seconds", loop.steps, self._waited)
                    loop.history.add("step seconds", loop.steps, done - self._entered)
                loop.keep(self._batch, self._before, self._costs)
        loop.end()
