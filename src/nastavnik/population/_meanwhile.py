"""Training goes on batched while the step is being compiled, and switches when that is done; for budgets of time."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from time import perf_counter

import torch

from nastavnik.compiler import Ended, NotCompilable
from nastavnik.population._step import State
from nastavnik.population._ways import Compiled, Stretch, Way
from nastavnik.runs import Deadline
from nastavnik.training.optimizers import Tensors

_WAIT = 0.05  # seconds
_TURN = threading.Lock()  # compilations take turns, as they compete with the training for the processor

Trial = Callable[[Way, State, Stretch], float]  # seconds of one step of all networks


class Pace:
    """How long compiling takes on this machine now: seconds a character of C, from the latest compilations."""

    def __init__(self) -> None:
        self.each = 1.5 / 60_000  # a guess, corrected by the first one

    def seconds(self, length: int) -> float:
        """The forecast for so many characters."""
        return self.each * length

    def learn(self, length: int, seconds: float, *, done: bool) -> None:
        """Take a compilation into account; one that was ended took at least so long."""
        each = seconds / max(1, length)
        self.each = each if done else max(self.each, each)


PACE = Pace()


class Meanwhile(Way):
    """Goes the first way until the other is compiled, in the background; then that one, or by a trial the faster one.

    The compiler is stopped when the deadline passes or no more steps are asked for.
    """

    def __init__(self, eager: Way, compiled: Compiled, deadline: Deadline | None, trial: Trial | None) -> None:
        self._now, self._compiled, self._trial = eager, compiled, trial
        self._began = perf_counter()
        self._over = threading.Event()
        self._failure: list[BaseException] = []
        self._ready, self._tried = threading.Event(), False
        over, ready, failure = self._over, self._ready, self._failure

        def ended() -> bool:
            return over.is_set() or (deadline is not None and deadline.passed())

        def build() -> None:  # holds on to nothing of this object
            try:
                _in_turn(compiled, False, ended)
                ready.set()
                _in_turn(compiled, True, ended)
            except (Ended, NotCompilable):
                if not ready.is_set():
                    over.set()
            except BaseException as error:  # told by the thread that trains
                failure.append(error)

        self._thread: threading.Thread | None = threading.Thread(target=build, daemon=True)
        self._thread.start()

    @property
    def name(self) -> str:  # type: ignore[override]
        """Of the way it goes now."""
        return self._now.name

    @property
    def words(self) -> str:  # type: ignore[override]
        """Of the way it goes now."""
        return self._now.words + (", while the step is being compiled" if self.is_waiting else "")

    @property
    def is_waiting(self) -> bool:
        """Whether the step is being compiled."""
        return not (self._ready.is_set() or self._over.is_set() or self._failure)

    @property
    def seconds_left(self) -> float:
        """Until it is compiled, by the pace of the latest compilations."""
        if not self.is_waiting:
            return 0.0
        return max(0.0, PACE.seconds(self._compiled.length(False)) - (perf_counter() - self._began))

    @property
    def scratch_bytes(self) -> int:
        """Temporary memory, once it is compiled."""
        return getattr(self._now, "scratch_bytes", 0)

    def advance(self, state: State, losses: torch.Tensor, stretch: Stretch) -> tuple[State, torch.Tensor, Tensors]:
        """See ``Way``."""
        if self._failure:
            raise self._failure[0]
        if self._ready.is_set() and not self._tried:
            self._tried, few = True, stretch.first(2)
            trial = self._trial
            if trial is None or trial(self._compiled, state, few) < trial(self._now, state, few):
                self._now = self._compiled
        return self._now.advance(state, losses, stretch)

    def end(self) -> None:
        """See ``Way``: the compiler is stopped."""
        self._over.set()
        if self._thread is not None:
            self._thread.join()

    def __del__(self) -> None:
        self._over.set()


def measure_later(compiled: Compiled, deadline: Deadline | None) -> None:
    """Compile the step with its instruments in the background; until then, and should it fail, it is taken batched."""

    def build() -> None:
        with suppress(Ended, NotCompilable):
            _in_turn(compiled, True, lambda: compiled.over.is_set() or (deadline is not None and deadline.passed()))

    threading.Thread(target=build, daemon=True).start()


def _in_turn(compiled: Compiled, measured: bool, ended: Callable[[], bool]) -> None:
    """Compile when no other compilation is under way, and learn how long it took."""
    while not _TURN.acquire(timeout=_WAIT):
        if ended():
            raise Ended
    try:
        if ended():
            raise Ended
        length, started, done = compiled.length(measured), perf_counter(), False
        try:
            compiled.build_one(measured, ended)
            done = True
        finally:
            if length:
                PACE.learn(length, perf_counter() - started, done=done)
    finally:
        _TURN.release()
