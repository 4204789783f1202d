"""The context around one step of the user's: looked at, or passed by as quickly as can be."""

from __future__ import annotations

import time
from types import TracebackType
from typing import TYPE_CHECKING, Any

import torch

from nastavnik.mentor._batch import Batch, Capture, flat_batch
from nastavnik.mentor._live import live_tensors
from nastavnik.mentor._players import TURN

if TYPE_CHECKING:
    from nastavnik.mentor._mentor import Mentor


_COMPARED = 4  # first looks, and every fourth later, compare the gradients used with those computed


class Guard:
    """Faults of the mentor's own end here: they are noted, and the user's loop goes on."""

    __slots__ = ("_mentor", "_what")

    def __init__(self, mentor: Mentor, what: str) -> None:
        self._mentor, self._what = mentor, what

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if not isinstance(error, Exception):
            return False
        self._mentor.note_fault(self._what, error)
        return True


class Idle:
    """A step at which nothing is looked at."""

    __slots__ = ("_mentor", "_number")

    def __init__(self, mentor: Mentor) -> None:
        self._mentor, self._number = mentor, mentor.players.number

    def __enter__(self) -> Mentor:
        TURN[0] = self._number
        return self._mentor

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._mentor.on:
            self._mentor.steps += 1


class Step:
    """One step of the user's, looked at or not."""

    __slots__ = (
        "_alone", "_batch", "_before", "_capture", "_costs", "_entered", "_hook", "_mentor", "_waited", "_x", "_y",
    )  # fmt: skip

    def __init__(self, mentor: Mentor, x: Any, y: Any) -> None:
        self._mentor, self._x, self._y = mentor, x, y
        self._before: dict[str, torch.Tensor] | None = None
        self._batch: Batch | None = None
        self._hook: Any = None
        self._capture: Capture | None = None

    def __enter__(self) -> Mentor:
        mentor = self._mentor
        entered = time.perf_counter()
        self._costs = mentor._due()
        due = mentor.looking = bool(self._costs)
        if due or mentor._due_next():
            with mentor._guarded("a batch"):
                if self._x is None:
                    self._capture = Capture(mentor.model, self._y, lambda e: mentor.note_fault("a batch", e))
                else:
                    self._batch = flat_batch(self._x, self._y)
                    self._batch = self._batch.kept(mentor.album.arena.copy) if due else self._batch
                    mentor.batches.keep(mentor.steps, self._batch, due)
            with mentor._guarded("hooks"):
                mentor._attach()
        if due:
            with mentor._guarded("before a step"):
                self._before = live_tensors(mentor.model, mentor.album.arena.copy)
                mentor.used = {}
                mentor.comparing = mentor.album.taken < _COMPARED or mentor.album.taken % _COMPARED == 0
                self._watch_gradients()
        mentor._stepped, mentor.inside = False, True
        self._alone = not mentor.players.others_stepped()
        self._waited = max(entered - mentor._left, 0.0)
        self._entered = time.perf_counter()
        return mentor

    def _watch_gradients(self) -> None:
        """See whether the first gradient of the step is added to one that the optimizer has already used."""
        mentor = self._mentor
        trained = mentor.trained
        if not trained or mentor.steps == 0:
            return
        asked: list[bool] = []

        def arriving(gradient: torch.Tensor) -> None:
            if asked:
                return
            asked.append(True)
            with mentor._guarded("a gradient"):
                old = trained[-1].grad
                if mentor._fresh is not None:
                    own = old.coalesce().values() if old is not None and old.is_sparse else old
                    left = not mentor._fresh and own is not None and bool(own.any())
                    mentor._history.add("leftover gradient", mentor.steps, float(left))

        self._hook = trained[-1].register_hook(arriving)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        mentor = self._mentor
        done = time.perf_counter()
        mentor.inside = mentor.looking = mentor.comparing = (
            False  # what a loss tells of its terms at a look is not told twice
        )
        if self._hook is not None:
            self._hook.remove()
        if mentor._handles and not mentor._due_next():
            mentor.close()
        if self._capture is not None:
            with mentor._guarded("a batch"):
                self._capture.end()
                self._batch = self._capture.batch
                if self._batch is not None:
                    self._batch = self._batch.kept(mentor.album.arena.copy) if self._before is not None else self._batch
                    mentor.batches.keep(mentor.steps, self._batch, self._before is not None)
        if self._before is not None and kind is None and self._batch is not None:
            with mentor._guarded("a look"):
                if self._alone and not torch.cuda.is_available():  # there, steps end before their work does
                    mentor._history.add("data seconds", mentor.steps, self._waited)
                    mentor._history.add("step seconds", mentor.steps, done - self._entered)
                mentor.keep(self._batch, self._before, self._costs, mentor.used)
        mentor._sleep()
        mentor.steps += 1
        mentor._left = time.perf_counter()
