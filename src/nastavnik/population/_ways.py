"""The ways of running a step for many networks: one by one, batched, or compiled; all give the same numbers."""

from __future__ import annotations

import copy
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any, ClassVar, NamedTuple

import torch
from torch.func import vmap
from torch.utils._pytree import tree_flatten, tree_leaves, tree_unflatten

from nastavnik.compiler import NotCompilable, Program
from nastavnik.instruments import Instrument
from nastavnik.population._data import Data
from nastavnik.population._learner import Learner
from nastavnik.population._stacking import joined, joined_states, some
from nastavnik.population._step import State, Step, make_step
from nastavnik.population._work import forward_flops, threads_worth
from nastavnik.rooms import touched
from nastavnik.training import Method
from nastavnik.training.optimizers import Tensors
from nastavnik.training.regularizers import Batch
from nastavnik.training.schedules import Time

_LOSS = "training loss"


@dataclass(frozen=True)
class Training:
    """What all networks of a population share: the code of their step, the data, and how many run together.

    ``spare`` is a copy of the learner that nobody runs: a step for a network alone is made of it, also by another
    thread while the learner holds the tensors of a batched step.
    """

    learner: Learner
    shared: Tensors
    method: Method
    instruments: Mapping[str, Instrument]
    data: Data
    block: int
    kin: Hashable = None  # populations of one kin on the same data have the same step
    _made: dict[tuple[bool, bool, bool], Step] = field(default_factory=dict, init=False, repr=False, compare=False)
    _flops: list[float] = field(default_factory=list, init=False, repr=False, compare=False)
    spare: Learner = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "spare", copy.deepcopy(self.learner))

    def step(self, measured: bool, *, alone: bool = False, eager: bool = False) -> Step:
        """The step of one network, with or without its instruments; made once."""
        if (measured, alone, eager) not in self._made:
            instruments = self.instruments if measured else {}
            learner = self.spare if alone else self.learner
            step = make_step(learner, self.shared, self.method, instruments, alone=alone, eager=eager)
            self._made[measured, alone, eager] = step
        return self._made[measured, alone, eager]

    def flops(self, stretch: Stretch) -> float:
        """Floating-point operations of one network's forward pass over one batch; counted once."""
        if not self._flops:
            self._flops.append(forward_flops(self.learner, self.data, int(stretch.part[0]), stretch.rows[0, 0]))
        return self._flops[0]

    def threads(self, stretch: Stretch, networks: int) -> AbstractContextManager[None]:
        """As many threads as a step of so many networks at a time is worth."""
        known = self.data.device.type == "cpu" and not self.learner.draws  # counting would draw, too
        return threads_worth(networks * self.flops(stretch)) if known else nullcontext()


class Stretch(NamedTuple):
    """Some steps for K networks.

    ``settings`` are the method's numbers [K]; ``part`` [K] which part of the data each network has; ``rows``
    [steps, G, batch], or [steps, K, batch] when each network has its ``own`` order; ``time`` holds [steps] each. At the
    last step the instruments run if ``measured``.
    """

    settings: Tensors
    part: torch.Tensor
    rows: torch.Tensor
    own: bool
    time: Time
    measured: bool

    @property
    def steps(self) -> int:
        """How many."""
        return len(self.time.step)

    def last(self) -> Stretch:
        """Its last step."""
        time = Time(*(t[-1:] for t in self.time))
        return self._replace(rows=self.rows[-1:], time=time)

    def first(self, steps: int) -> Stretch:
        """Its first steps, without instruments."""
        time = Time(*(t[:steps] for t in self.time))
        return self._replace(rows=self.rows[:steps], time=time, measured=False)

    def moments(self) -> Iterator[Time]:
        """The time of each step."""
        return (Time(*(t[s] for t in self.time)) for s in range(self.steps))


class Way(ABC):
    """A way of running; ``advance`` may use the state's own memory for the new one."""

    name: ClassVar[str]
    words: str  # for people

    @abstractmethod
    def advance(self, state: State, losses: torch.Tensor, stretch: Stretch) -> tuple[State, torch.Tensor, Tensors]:
        """The new state, ``losses`` [K] with each step's training loss added, and what instruments saw [K].

        Losses are added one after the other, so that the sum does not depend on how steps are cut into stretches.
        """

    def end(self) -> None:  # noqa: B027  most ways have nothing to end
        """No more steps will be asked for."""


class Sequential(Way):
    """One network after the other, by autograd: for what is bound by arithmetic, and for what vmap cannot do."""

    name = "sequential"
    words = "one network after the other"

    def __init__(self, training: Training) -> None:
        self.training, self.data = training, training.data
        self._steps = {m: training.step(m, alone=True, eager=True) for m in (False, True)}

    def advance(self, state: State, losses: torch.Tensor, stretch: Stretch) -> tuple[State, torch.Tensor, Tensors]:
        """See ``Way``."""
        sums, measured = [], []
        last = stretch.steps - 1
        with torch.no_grad(), self.training.threads(stretch, 1):
            for k, part in enumerate(stretch.part.tolist()):
                one = some(state, k)
                settings = {name: t[k] for name, t in stretch.settings.items()}
                total = losses[k].clone()
                measures: Tensors = {}
                for s, time in enumerate(stretch.moments()):
                    batch = Batch(*self.data.rows_of(part, stretch.rows[s, k if stretch.own else part]))
                    step = self._steps[stretch.measured and s == last]
                    one, measures = step(one, batch, settings, time)
                    total += measures[_LOSS]
                for old, new in zip(state, one, strict=True):
                    for name, t in new.items():
                        old[name][k] = t
                sums.append(total)
                measured.append({name: t[None] for name, t in measures.items() if name != _LOSS})
        return state, torch.stack(sums), joined(measured)


class Batched(Way):
    """A block of networks at a time under ``torch.func.vmap``."""

    name = "batched"
    words = "batched"

    def __init__(self, training: Training) -> None:
        self.training, self.data, self.block = training, training.data, training.block
        self._steps = {m: training.step(m) for m in (False, True)}

    def advance(self, state: State, losses: torch.Tensor, stretch: Stretch) -> tuple[State, torch.Tensor, Tensors]:
        """See ``Way``."""
        states, sums, measured = [], [], []
        count = len(stretch.part)
        with self.training.threads(stretch, min(count, self.block)):
            for start in range(0, count, self.block):
                which = slice(start, min(start + self.block, count))
                block, total, measures = self._block(some(state, which), losses[which].clone(), stretch, which)
                states.append(block)
                sums.append(total)
                measured.append(measures)
        return joined_states(states), torch.cat(sums), joined(measured)

    def _block(
        self, state: State, total: torch.Tensor, stretch: Stretch, which: slice
    ) -> tuple[State, torch.Tensor, Tensors]:
        settings = {name: t[which] for name, t in stretch.settings.items()}
        part = stretch.part[which]
        last = stretch.steps - 1
        measures: Tensors = {}
        for s, time in enumerate(stretch.moments()):
            state, measures = self._call(
                stretch.measured and s == last, state, self._batch(stretch, s, which, part), settings, time
            )
            total += measures.pop(_LOSS)
        return state, total, measures

    def _batch(self, stretch: Stretch, s: int, which: slice, part: torch.Tensor) -> tuple[Batch, bool]:
        """The rows of one step, and whether all networks share them."""
        rows = stretch.rows[s]
        if self.data.parts == 1 and not stretch.own:
            return Batch(*self.data.rows_of(0, rows[0])), True
        index = (part[:, None], rows[which] if stretch.own else rows[part])
        inputs = tuple(t[index] for t in self.data.inputs)
        touched(sum(t.nbytes for t in inputs))
        return Batch(inputs, self.data.targets[index]), False

    def _rows_in(self, shared: bool) -> Batch | None:
        """Where networks stand among the rows of a step."""
        return None if shared else Batch((0,) * len(self.data.inputs), 0)  # type: ignore[arg-type]

    def _call(
        self, measured: bool, state: State, batch: tuple[Batch, bool], settings: Tensors, time: Time
    ) -> tuple[State, Tensors]:
        step = vmap(self._steps[measured], in_dims=(0, self._rows_in(batch[1]), 0, None), randomness="different")
        return step(state, batch[0], settings, time)


class CompiledByTorch(Batched):
    """Batched, the step compiled by ``torch.compile``: for devices other than the CPU.

    A block is always full (the last one repeats its first network), so that networks may stop without a new
    compilation.
    """

    name = "compiled"
    words = "compiled by torch"

    def __init__(self, training: Training) -> None:
        super().__init__(training)
        self._compiled: dict[tuple[bool, bool], Callable[..., list[torch.Tensor]]] = {}
        self._shapes: dict[bool, Any] = {}  # of what comes back

    def _call(
        self, measured: bool, state: State, batch: tuple[Batch, bool], settings: Tensors, time: Time
    ) -> tuple[State, Tensors]:
        rows, shared = batch
        count = len(next(iter(settings.values())))
        full = torch.cat([torch.arange(count), torch.zeros(self.block - count, dtype=torch.long)]).to(time.step.device)
        if not shared:
            rows = Batch(tuple(t[full] for t in rows.inputs), rows.targets[full])
        padded = {name: t[full] for name, t in settings.items()}
        new, measures = self._full_block(measured, shared, (some(state, full), rows, padded, time))
        return some(new, slice(count)), {name: t[:count] for name, t in measures.items()}

    def _full_block(self, measured: bool, shared: bool, arguments: tuple[Any, ...]) -> tuple[State, Tensors]:
        """The compiled step; compiled when it is first called, from its operations."""
        from torch.fx.experimental.proxy_tensor import make_fx  # takes a while to import

        leaves, shape = tree_flatten(arguments)
        function = vmap(self._steps[measured], in_dims=(0, self._rows_in(shared), 0, None))
        if (measured, shared) not in self._compiled:
            graph = make_fx(lambda *given: tree_leaves(function(*tree_unflatten(given, shape))))(*leaves)
            self._compiled[measured, shared] = torch.compile(graph, dynamic=False)
            self._shapes[measured] = tree_flatten(function(*arguments))[1]
        with torch.no_grad():
            found = self._compiled[measured, shared](*leaves)
        result: tuple[State, Tensors] = tree_unflatten(found, self._shapes[measured])
        return result


class Compiled(Way):
    """The step as one C function that takes each network through all its steps in the processor's cache.

    A network's numbers do not depend on its neighbours, on the block or on the number of threads, bit for bit. It is
    translated when made, and compiled by ``build``.

    Raises:
        NotCompilable: the step has an operation that cannot be put into C.
    """

    name = "compiled"

    def __init__(
        self, training: Training, state: State, settings: Tensors, batch: int, *, measured_later: bool = False
    ) -> None:
        """Translate the step, or take what was translated for a population of its kin.

        With ``measured_later`` the step with its instruments is translated when it is to be compiled.
        """
        started = perf_counter()
        self.data, self._training = training.data, training
        self._names = [(i, name) for i, part in enumerate(state) for name in part]
        self._settings = list(settings)
        self._instruments = list(training.instruments)
        example = [state[i][name][0].clone() for i, name in self._names] + [
            settings[name][0] for name in self._settings
        ]
        example += [t[0] for t in self.data.inputs] + [self.data.targets[0]]
        dtype = next(iter(state.parameters.values())).dtype
        moment = [*(torch.tensor(0.5, dtype=dtype) for _ in Time._fields), torch.zeros((), dtype=dtype)]
        weights = [t * 1.001 if i == 0 else t.clone() for (i, _), t in zip(self._names, example, strict=False)]
        rows = self.data.train[0]
        others = [*weights, *example[len(weights) :], rows.flip(0)[:batch], *moment]  # it must compute these as well
        example += [rows[:batch], *moment]
        kept = [(i, i) for i in range(len(self._names))] + [(len(example) - 1, len(self._names))]
        self._example, self._others, self._kept = example, others, kept
        self._kinds = (False, True) if training.instruments else (False,)
        own: dict[bool, Program] = {}
        kin = (training.kin, *training.shared, *self._names, *self._settings, *self._instruments, batch)
        self.over = threading.Event()  # nobody needs what is still to be compiled
        self._programs = own if training.kin is None else self.data.programs.setdefault(kin, own)
        for measured in self._kinds[: 1 if measured_later else None]:
            self._translate(measured)
        self._seconds = perf_counter() - started
        self.words = "compiled"

    def end(self) -> None:
        """See ``Way``."""
        self.over.set()

    def _translate(self, measured: bool) -> Program:
        if measured not in self._programs:
            step = self._flat(self._training.step(measured, alone=True), measured)
            others = None if measured else self._others
            self._programs[measured] = Program(step, self._example, self._kept, others)
        return self._programs[measured]

    @property
    def built(self) -> bool:
        """Whether the step, without its instruments, was compiled before, so that compiling it takes no time."""
        return self._programs[False].built

    def length(self, measured: bool) -> int:
        """Characters that are to be compiled of the step with or without its instruments; the time grows with them."""
        program = self._programs.get(measured)
        return 0 if program is None or program.built else len(program.source)

    def build_one(self, measured: bool, ended: Callable[[], bool]) -> None:
        """Compile the step with or without its instruments; see ``build``.

        Without the one that has them, the steps that are measured are taken batched.
        """
        started = perf_counter()
        if measured in self._kinds:
            self._translate(measured).build(ended)
        self._seconds += 0.0 if measured else perf_counter() - started
        self.words = f"compiled in {self._seconds:.1f} s"

    def build(self, ended: Callable[[], bool] = lambda: False) -> None:
        """Compile, or take what was compiled before.

        Raises:
            NotCompilable: there is no C compiler, or it refuses.
            Ended: ``ended`` before it was done; the compiler was stopped.
        """
        started = perf_counter()
        programs = [self._translate(measured) for measured in self._kinds]
        with ThreadPoolExecutor(len(programs)) as pool:
            for job in [pool.submit(program.build, ended) for program in programs]:
                job.result()
        self._seconds += perf_counter() - started
        self.words = f"compiled in {self._seconds:.1f} s"

    @property
    def scratch_bytes(self) -> int:
        """Temporary memory of all threads."""
        return torch.get_num_threads() * max(program.scratch_bytes for program in list(self._programs.values()))

    def _flat(self, step: Step, measured: bool):  # type: ignore[no-untyped-def]
        """The step as a function of a row of tensors that gives a row of tensors."""

        def function(*arguments: torch.Tensor) -> list[torch.Tensor]:
            given = iter(arguments)
            parts: tuple[Tensors, Tensors, Tensors] = ({}, {}, {})
            for i, name in self._names:
                parts[i][name] = next(given)
            settings = {name: next(given) for name in self._settings}
            inputs = [next(given) for _ in self.data.inputs]
            targets, rows, *moment, total = given
            batch = Batch(tuple(t[rows] for t in inputs), targets[rows])
            state, measures = step(State(*parts), batch, settings, Time(*moment))
            new = [state[i][name] for i, name in self._names]
            return [*new, total + measures[_LOSS], *(measures[name] for name in self._instruments if measured)]

        return function

    def advance(self, state: State, losses: torch.Tensor, stretch: Stretch) -> tuple[State, torch.Tensor, Tensors]:
        """See ``Way``."""
        count = len(stretch.part)
        dtype = next(iter(state.parameters.values())).dtype
        state = State(*({name: t.contiguous() for name, t in part.items()} for part in state))
        total = losses.clone()
        measures = {name: torch.zeros(count, dtype=dtype) for name in self._instruments if stretch.measured}
        cut = stretch.steps - (1 if stretch.measured else 0)
        if stretch.measured and not (True in self._programs and self._programs[True].ready):
            if cut:
                whole = stretch._replace(measured=False)
                state, losses, _ = self.advance(state, losses, whole.first(cut))
            return Batched(self._training).advance(state, losses, stretch.last())
        for measured, first, last in ((False, 0, cut), (True, cut, stretch.steps)):
            if first == last:
                continue
            bound = [(state[i][name], "k") for i, name in self._names]
            bound += [(stretch.settings[name], "k") for name in self._settings]
            bound += [(t, "p") for t in self.data.inputs] + [(self.data.targets, "p")]
            bound += [(stretch.rows[first:last], "sk" if stretch.own else "sp")]
            bound += [(t[first:last], "s") for t in stretch.time]
            bound += [(total, "k"), *((t, "k") for t in measures.values() if measured)]
            self._programs[measured].run(bound, stretch.part, steps=last - first, threads=torch.get_num_threads())
        return state, total, measures


__all__ = ["Batched", "Compiled", "CompiledByTorch", "NotCompilable", "Sequential", "Stretch", "Training", "Way"]
