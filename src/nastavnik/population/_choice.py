"""Which way to run a step: by a fixed rule, or by a short measurement."""

from __future__ import annotations

import time

import torch

from nastavnik.compiler import Ended
from nastavnik.population._meanwhile import PACE, Meanwhile, measure_later
from nastavnik.population._memory import ran_out_of_memory
from nastavnik.population._stacking import some
from nastavnik.population._step import State
from nastavnik.population._ways import (
    Batched,
    Compiled,
    CompiledByTorch,
    NotCompilable,
    Sequential,
    Stretch,
    Training,
    Way,
)
from nastavnik.runs import Deadline
from nastavnik.training.optimizers import SecondOrder, Tensors

# The fixed rule's seconds, of the order of what a processor core of today takes
_CALL = 2.5e-3  # a step's operations, however few networks
_NETWORK = 6e-5  # a small network's share of a step
_COMPILED = 2e-5  # the same, compiled
_COMPILATION = 1.5
_FLOPS = 5e10  # a second
_EARLY = 0.5  # of the training's time: a compilation beside it that takes longer is not begun
_DOUBTFUL = 1e9  # the same with fewer of which a compiled step is known to be faster, without a trial
_LARGE = 2e7  # floating-point operations of a network and step beyond which batching gains nothing on a CPU


def choose(
    engine: str,
    training: Training,
    state: State,
    settings: Tensors,
    stretch: Stretch,
    steps: int,
    *,
    measure: bool,
    deadline: Deadline | None = None,
) -> Way:
    """The way to take ``steps`` steps.

    Under a measurement what is not compiled yet is compiled beside the training, if that may end before the deadline.

    Args:
        engine: a way's name, or "auto".
        training: what is run.
        state: of all networks; left as it is.
        settings: of all networks.
        stretch: the first few steps, for a trial.
        steps: how many there will be.
        measure: decide by trying (so that the choice may differ from run to run), or by the fixed rule.
        deadline: when training ends at the latest.

    Raises:
        NotCompilable: ``engine`` is "compiled", and it cannot be, or not before the deadline.
    """
    networks = len(stretch.part)
    cpu = training.data.device.type == "cpu"
    if training.learner.draws:  # a network's noise is its own only where it runs alone
        if engine == "compiled":
            raise NotCompilable(
                "the network draws random numbers, so its step cannot be compiled; take the engine auto"
            )
        return Sequential(training)
    if engine == "compiled":
        try:
            way = _compiled(training, state, settings, stretch)
            if isinstance(way, Compiled):
                way.build(deadline.passed if measure and deadline is not None else lambda: False)
            return way
        except Ended as error:
            raise NotCompilable("the time was over before the step was compiled; take the engine auto") from error
        except NotCompilable as error:
            raise NotCompilable(f"the step cannot be compiled ({error}); take the engine auto or batched") from error
    if engine != "auto":
        return Sequential(training) if engine == "sequential" else _working(Batched(training), training, state, stretch)
    flops = 3 * training.flops(stretch)
    eager: Way = Sequential(training) if networks == 1 or (cpu and flops > _LARGE) else Batched(training)
    seconds = _eager_seconds(eager, training, networks, flops) * steps
    trusted = cpu and flops < _DOUBTFUL and not training.learner.draws
    if measure and not trusted:
        eager = _working(eager, training, state, stretch)
        seconds = _trial(eager, state, stretch) * steps
    gain = seconds - steps * networks * (_COMPILED + flops / _FLOPS) / torch.get_num_threads() - _COMPILATION
    if gain <= 0 or isinstance(training.method.optimizer, SecondOrder):  # whose line searches take long to compile
        return _working(eager, training, state, stretch)
    try:
        compiled = _compiled(training, state, settings, stretch, measured_later=measure)
        if measure and isinstance(compiled, Compiled) and not compiled.built:
            return _compiled_later(eager, compiled, seconds, deadline, trusted)
        if isinstance(compiled, Compiled) and measure:
            compiled.build_one(False, lambda: False)
            measure_later(compiled, deadline)
        elif isinstance(compiled, Compiled):
            compiled.build()
    except NotCompilable:
        return _working(eager, training, state, stretch)
    if not measure or trusted:
        return compiled
    ratio = seconds / steps / _trial(compiled, state, stretch)
    if ratio < 1:
        return eager
    compiled.words += f"; {ratio:.0f} times as fast as {eager.words}"
    return compiled


def _compiled_later(eager: Way, compiled: Compiled, seconds: float, deadline: Deadline | None, trusted: bool) -> Way:
    """The eager way, and beside it a compilation where it is likely to be done long before the training."""
    needed = PACE.seconds(compiled.length(False))
    left = seconds if deadline is None else min(seconds, deadline.left)
    return Meanwhile(eager, compiled, deadline, None if trusted else _trial) if needed < _EARLY * left else eager


def _working(way: Way, training: Training, state: State, stretch: Stretch) -> Way:
    """The way, or one network after the other where vmap cannot run the module."""
    if isinstance(way, Batched):
        try:
            _trial(way, state, stretch, 1)
        except Exception as error:  # if it is the module's own, it comes again
            return way if ran_out_of_memory(error) else Sequential(training)
    return way


def _compiled(
    training: Training, state: State, settings: Tensors, stretch: Stretch, *, measured_later: bool = False
) -> Way:
    if training.data.device.type != "cpu":
        return CompiledByTorch(training)
    return Compiled(training, state, settings, stretch.rows.shape[-1], measured_later=measured_later)


def _eager_seconds(way: Way, training: Training, networks: int, flops: float) -> float:
    """The fixed rule's guess of one step of all networks."""
    calls = networks if isinstance(way, Sequential) else -(-networks // training.block)
    return calls * _CALL + networks * (_NETWORK + flops / _FLOPS)


def _trial(way: Way, state: State, stretch: Stretch, times: int = 2) -> float:
    """Seconds of one step of all networks, tried on copies of a few."""
    few = slice(min(len(stretch.part), 64 if way.name != "sequential" else 1))
    trial = stretch._replace(
        settings={name: t[few] for name, t in stretch.settings.items()}, part=stretch.part[few], measured=False
    )
    if stretch.own:
        trial = trial._replace(rows=stretch.rows[:, few])
    best = float("inf")
    for _ in range(times):
        copied = State(*({name: t.clone() for name, t in part.items()} for part in some(state, few)))
        started = time.perf_counter()
        way.advance(copied, torch.zeros_like(next(iter(stretch.settings.values()))[few]), trial)
        best = min(best, time.perf_counter() - started)
    return best / stretch.steps * (len(stretch.part) / len(trial.part))
