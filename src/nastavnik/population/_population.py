"""A population: networks of one shape, trained as one program."""

from __future__ import annotations

import copy
import math
import time as clock
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.func import vmap

from nastavnik.arguments import checked
from nastavnik.compiler import check_compiler
from nastavnik.errors import UserError, nearest
from nastavnik.instruments import INSTRUMENTS, Instrument, Subject
from nastavnik.population._admission import check_alike, check_tensors, network_at_fault, set_conduct
from nastavnik.population._choice import choose
from nastavnik.population._data import Data, Order
from nastavnik.population._descent import descent_evidence
from nastavnik.population._evaluation import Evaluation
from nastavnik.population._glance import Look, glance, subject_of
from nastavnik.population._learner import Learner
from nastavnik.population._meanwhile import Meanwhile
from nastavnik.population._memory import check_memory, estimate, ran_out_of_memory
from nastavnik.population._numbers import (
    buffers_of_settings,
    change_number,
    check_patterns,
    stacked_settings,
)
from nastavnik.population._saving import read_pair, within, write_pair
from nastavnik.population._stacking import stack, tensors_of
from nastavnik.population._standing import Outcome, Standing, gone
from nastavnik.population._step import State
from nastavnik.population._ways import Stretch, Training, Way
from nastavnik.recipe import Recipe
from nastavnik.runs import Deadline
from nastavnik.trace import Trace
from nastavnik.training import Method
from nastavnik.training.optimizers import Tensors
from nastavnik.training.schedules import Time
from nastavnik.training.stopping import Stopping, check_known

_SECONDS_A_CALL = 0.25  # between two looks at the clock
_TRIAL_STEPS = 2


class Population:
    """K networks of one shape, grouped into C candidates of G networks each (one for each part of the data).

    A candidate's score is the mean over its networks of the validation rows' negative log likelihood (nats per
    example), at the one temperature that suits them best; its best moment is kept, and it stops after ``patience``
    evaluations without a better one. A candidate whose score is no longer finite has *diverged*.

    The modules must be functions of their rows, weights and buffers: what a ``forward`` keeps in Python is forgotten,
    and one that needs it is refused. One that draws random numbers of PyTorch's, numpy's or Python's runs alone, each
    draw a function of its recipe's seed and the step.

    Args:
        learners: C·G learners, candidate by candidate; all of one architecture.
        recipes: C recipes of one shape.
        data: what to train on; G is its number of parts.
        numbers: the networks' numbers in the trace, K of them; by default 0…K-1.
        total_steps: the length of the schedule.
        patience: evaluations without a better score before a candidate stops; None for never. A recipe's stopping
            section says more (``training.stopping``).
        evaluations: how many evaluations a whole training has; 0 for none, and then nothing counts as best.
        block: networks run together; the population is worked through block by block.
        instruments: what is measured at each evaluation; an empty dict for nothing.
        trace: where measurements go.
        engine: the way to run: sequential, batched, compiled, or auto.
        measure: let "auto" decide by trying instead of by its fixed rule.
        own_order: give each network its own order of rows, by its recipe's seed, instead of one for all.
        kin: a name of the step; what was seen of one population of a name, and its translated step, serves the others
            on the same data.
    """

    @checked()
    def __init__(
        self,
        learners: Sequence[Learner],
        recipes: Sequence[Recipe],
        data: Data,
        *,
        total_steps: int,
        numbers: Sequence[int] | None = None,
        patience: int | None = None,
        evaluations: int = 30,
        block: int = 64,
        instruments: dict[str, Instrument] | None = None,
        trace: Trace | None = None,
        engine: str = "auto",
        measure: bool = False,
        own_order: bool = False,
        kin: Hashable = None,
    ) -> None:
        if len(learners) != len(recipes) * data.parts:
            raise ValueError(f"{len(recipes)} recipes × {data.parts} parts need as many learners, got {len(learners)}")
        if len({recipe.shape for recipe in recipes}) != 1:
            raise ValueError("the recipes of a population must share one shape")
        self.data, self.total_steps = data, total_steps
        self.planned_steps = total_steps  # the end may be moved, never beyond these
        self.stopping = Stopping.of(recipes[0], patience)
        self.recipes, self._shape = list(recipes), recipes[0]
        self._numbers = np.arange(len(learners)) if numbers is None else np.asarray(numbers)
        self.trace = Trace() if trace is None else trace
        self.engine, self.measure = engine, measure
        self.step = 0
        self.network_steps = 0
        self.outcomes: list[Outcome] = []
        check_tensors(learners)
        if engine == "compiled" and data.device.type == "cpu":
            check_compiler()
        self.learner = copy.deepcopy(learners[0]).to(data.device).train()
        method = Method.of(recipes[0])
        shared, parameters, buffers = stack(learners, data.device)
        self.batch = data.batch_size(recipes[0].whole("batch_size"))
        set_conduct(self.learner, data, self.batch, kin)
        check_alike(learners, self.learner.conduct)
        alone = check_memory(method.optimizer, learners[0], recipes[0], self.batch, data.device)
        slots = {name: t.contiguous() for name, t in vmap(method.optimizer.init)(parameters).items()}
        self.state = State(parameters, buffers, slots)
        chosen = INSTRUMENTS if instruments is None else instruments
        block = max(1, min(block, len(learners), alone))
        self.training = Training(self.learner, shared, method, chosen, data, block, kin)
        self._evaluation = Evaluation(self.learner, shared, data)
        self._settings = stacked_settings(method, recipes, data.parts, self.dtype, data.device, self.learner.draws)
        self._buffers = buffers_of_settings(self.learner)
        check_patterns(method.settings, parameters)
        check_known(self.stopping.actions, {**method.settings, **self._buffers})
        self._part = torch.arange(len(learners), device=data.device) % data.parts
        self._own_order = own_order
        self._order = self._make_order()
        self._judged, self._evaluations = evaluations > 0, max(evaluations, 1)
        self._every = max(1, math.ceil(total_steps / self._evaluations))
        self._way: Way | None = None
        self._at_once = 1  # steps in one call, so that the clock is looked at in time
        self._losses = torch.zeros(len(learners), dtype=self.dtype, device=data.device)
        self._losses_since = 0  # the step from which they are summed
        self.best = Standing.of(len(recipes))
        if self._judged:
            self.best.tensors = {name: t.clone() for name, t in self._tensors().items()}

    def __len__(self) -> int:
        """How many live."""
        return len(self._numbers)

    @property
    def alive(self) -> np.ndarray:
        """Numbers of the networks in training [K], a candidate's parts side by side; none once all have stopped."""
        return self._numbers

    @property
    def numbers(self) -> np.ndarray:
        """Of those that ``evaluate``, ``predict`` and ``network`` speak of: the living, or else all there were."""
        return self._numbers if len(self) else gone(self.outcomes)[0]

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights."""
        return next(iter(self.state.parameters.values())).dtype

    @property
    def block(self) -> int:
        """Networks run together."""
        return self.training.block

    @property
    def way(self) -> str:
        """The name of the way that was chosen, or what was asked for."""
        return self.engine if self._way is None else self._way.name

    def memory(self) -> int:
        """Bytes that training takes at its peak, the learners it was made of included, the data not."""
        scratch = getattr(self._way, "scratch_bytes", 0)
        way = "batched" if self.way == "auto" else self.way
        judged = self._judged
        recipe, count = self._shape, len(self)
        return estimate(
            self.learner, recipe, self.data, count, block=self.block, way=way, judged=judged, scratch=scratch
        )

    @property
    def words(self) -> str:
        """The way in a few words."""
        return self.way if self._way is None else self._way.words

    # Training

    def train(self, until: int, deadline: Deadline | None = None, pause: Callable[[], None] = lambda: None) -> None:
        """Train to a step, evaluating on the way; returns earlier when nothing lives or the deadline passes.

        ``pause`` is called several times a second while all networks stand at one step: a moment to save.
        """
        while self.step < min(until, self.total_steps) and len(self):
            stop = min(until, self.next_evaluation)
            self._advance(stop, deadline, pause)
            if not len(self):  # let go in a pause
                return
            cut = deadline is not None and deadline.passed()
            scored = np.isfinite(self.best.score).all()
            if self._judged and not (cut and scored and self.step < stop):
                with network_at_fault("it is evaluated", self.learner):
                    self._judge()
            if self.step == stop:
                pause()
            if cut:
                return

    def end_after(self, total_steps: int) -> None:
        """Move the end of the schedule: after the present step at the earliest, as planned at the latest."""
        self.total_steps = min(self.planned_steps, max(total_steps, self.step + 1))
        self._every = max(1, math.ceil(self.total_steps / self._evaluations))

    def begin(self, deadline: Deadline | None = None) -> None:
        """Choose the way to run, so that what is to be compiled is compiled beside other work."""
        with network_at_fault("its way to run is chosen", self.learner):
            self._chosen_way(deadline)

    @property
    def is_compiling(self) -> bool:
        """Whether training goes on by a slower way until its step is compiled."""
        return isinstance(self._way, Meanwhile) and self._way.is_waiting

    @property
    def compilation_left(self) -> float:
        """Seconds that it may take until the step is compiled, roughly."""
        return self._way.seconds_left if isinstance(self._way, Meanwhile) else 0.0

    @property
    def next_evaluation(self) -> int:
        """The step of the next evaluation."""
        return min(self.total_steps, (self.step // self._every + 1) * self._every)

    @property
    def stride(self) -> int:
        """Steps between two looks at the clock."""
        return self._at_once

    def _advance(self, stop: int, deadline: Deadline | None, pause: Callable[[], None]) -> None:
        """Take all networks to a step, or less far when the deadline passes."""
        way = self._chosen_way(deadline)
        measures: Tensors = {}
        while self.step < (stop := min(stop, self.total_steps)):  # whose end may be moved in a pause
            to = min(stop, self.step + self._at_once)
            started = clock.monotonic()
            try:
                stretch = self._stretch(self.step, to, to == stop)
                self.state, self._losses, measures = way.advance(self.state, self._losses, stretch)
            except Exception as error:
                way = self._way_after(error)
                continue
            seconds = clock.monotonic() - started
            self.network_steps += (to - self.step) * len(self)
            self._at_once = max(1, round((to - self.step) * min(4.0, _SECONDS_A_CALL / max(seconds, 1e-9))))
            self.step = to
            if to < stop:
                pause()
            if not len(self):
                return
            if deadline is not None and deadline.passed():
                break
        self._measure("training loss", self._losses / max(1, self.step - self._losses_since), self.step)
        self._losses, self._losses_since = torch.zeros_like(self._losses), self.step
        for name, values in measures.items():
            self._measure(name, values, self.step)

    def _stretch(self, start: int, stop: int, measured: bool) -> Stretch:
        rows = self._order.rows(start, stop)
        shares = [step / self.total_steps for step in range(start, stop)]
        length = self.data.steps_per_epoch(self.batch)
        moments = (range(start, stop), [step / length for step in range(start, stop)], shares)
        time = Time(*(torch.tensor(list(m), dtype=self.dtype, device=self.data.device) for m in moments))
        instruments = measured and bool(self.training.instruments)
        return Stretch(self._settings, self._part, rows, self._own_order, time, instruments)

    def _way_after(self, error: Exception) -> Way:
        """Half as many networks at a time if it was memory that ran out, one by one if vmap cannot go on; the state is
        as it was."""
        memory = ran_out_of_memory(error)
        if self.way != "batched" or (memory and self.block == 1):
            with network_at_fault(f"step {self.step} is taken", self.learner):
                raise error
        if memory:
            self.training = replace(self.training, block=self.block // 2)
        self.engine, self._way = self.way if memory else "sequential", None
        return self._chosen_way()

    def _chosen_way(self, deadline: Deadline | None = None) -> Way:
        if self._way is None:
            trial = self._stretch(0, min(_TRIAL_STEPS, self.total_steps), False)
            steps = self.total_steps - self.step
            self._way = choose(
                self.engine,
                self.training,
                self.state,
                self._settings,
                trial,
                steps,
                measure=self.measure,
                deadline=deadline,
            )
        return self._way

    # Judging

    def _judge(self) -> None:
        """Evaluate, keep what is best so far, let the diverged and the patient-no-longer go."""
        profiles = self.validation_profiles()
        folded = profiles.reshape(-1, self.data.parts, profiles.shape[1]).mean(1)  # [C, T]
        least, place = (t.cpu() for t in folded.nan_to_num(nan=torch.inf, posinf=torch.inf, neginf=torch.inf).min(1))
        shared = place.to(profiles.device).repeat_interleave(self.data.parts)  # a candidate's folds share a temperature
        self._measure("validation loss", profiles.gather(1, shared[:, None])[:, 0], self.step)
        score = least.double().numpy()
        watched = self._watched(score)
        watched = np.where(np.isfinite(score), watched, np.inf)  # networks that are no numbers err by chance
        better = self.best.take(score, watched, self.step)
        if better.any():
            networks = torch.from_numpy(np.repeat(better, self.data.parts)).to(self.data.device)
            for name, now in self._tensors().items():
                self.best.tensors[name][networks] = now[networks]
        self.release(~np.isfinite(score), "diverged")
        if self.step < self.total_steps:
            self._stop_or_act()

    def _watched(self, score: np.ndarray) -> np.ndarray:
        """What decides which moment is best [C]; less is better."""
        if self.stopping.watch == "metric":
            return self._metric()
        if self.stopping.watch == "evidence":
            settings = self._settings
            values = descent_evidence(
                self.training.method, self.state, settings, self._evaluation, self._part, self.block
            )
            self._measure("descent evidence", values, self.step)
            return -values.reshape(-1, self.data.parts).double().mean(1).nan_to_num(nan=-math.inf).cpu().numpy()
        return score

    def _metric(self) -> np.ndarray:
        """Each candidate's validation error [C]: the share of wrong classes, or the root mean square error."""
        errors = self._evaluation.errors(self._tensors(), self._part, block=self._evaluated_at_once)
        self._measure("validation error", errors, self.step)
        return errors.reshape(-1, self.data.parts).double().mean(1).nan_to_num(nan=math.inf).cpu().numpy()

    def _stop_or_act(self) -> None:
        """Let candidates go that stand still, or change what the recipe says to change on a plateau."""
        since = np.maximum(self.best.step, self.best.acted)
        stale = self.stopping.stale(self.best.waited, since, self.step, self._every)
        acting = stale & (self.best.plateaus < (self.stopping.most if self.stopping.actions else 0))
        if acting.any():
            networks = torch.from_numpy(np.repeat(acting, self.data.parts)).to(self.data.device)
            for action in self.stopping.actions:
                change_number(action, networks, self._settings, self.state.buffers, self._buffers)
            self.best.plateaus = self.best.plateaus + acting
            self.best.waited = np.where(acting, 0, self.best.waited)
            self.best.acted = np.where(acting, self.step, self.best.acted)
        self.release(stale & ~acting, "stopped")

    def validation_profiles(self) -> torch.Tensor:
        """Each network's loss on its part's validation rows at each temperature [K, T]."""
        return self._evaluation.profiles(self._tensors(), self._part, block=self._evaluated_at_once)

    def evaluate(self) -> torch.Tensor:
        """Each living network's present loss [K] on its validation rows, in nats per row, at the best temperature.

        Once none lives, that of all there were, in the order of their ``numbers``, at their best moments.
        """
        tensors, part = self._spoken_of()
        with network_at_fault("it is evaluated", self.learner):
            return self._evaluation.profiles(tensors, part, block=self._evaluated_at_once).min(1).values

    def glance(self, measure: Look, *own: Any, first: int | None = None) -> Any:
        """What ``measure(state, state after its next step, batch, settings, *own)`` of ONE network gives, for each [K].

        ``own``: further tensors [K, …], of which each network gets its own; ``first``: look at so many networks only.
        Nothing is changed.
        """
        step = min(self.step, self.total_steps - 1)
        alone = self.way == "sequential"
        stretch, count = self._stretch(step, step + 1, False), first or len(self._part)
        return glance(self.training, self.state, stretch, measure, own, alone, count)

    def subject(self) -> Subject:
        """The networks' code as instruments see it."""
        return subject_of(self.learner, self.training.shared, alone=self.way == "sequential")

    def coming_rows(self, steps: int) -> torch.Tensor:
        """Row numbers of the next batches [steps, K, batch]."""
        rows = self._order.rows(self.step, self.step + steps)
        return rows if self._own_order else rows[:, self._part]

    @property
    def parts(self) -> torch.Tensor:
        """Which part of the data each living network has [K]."""
        return self._part

    def predict(self, *inputs: torch.Tensor) -> torch.Tensor:
        """Outputs [K, n, o] of the networks that ``evaluate`` speaks of; ``inputs`` are what it takes [n, …]."""
        with network_at_fault("it predicts", self.learner):
            return self._evaluation.predict(self._spoken_of()[0], inputs, own=False, block=self._evaluated_at_once)

    def _spoken_of(self) -> tuple[Tensors, torch.Tensor]:
        """Tensors [K, …] and parts of the data [K] of the living, or else of all there were."""
        if len(self):
            return self._tensors(), self._part
        _, learners, part = gone(self.outcomes)
        _, parameters, buffers = stack(learners, self.data.device)
        return {**parameters, **buffers}, torch.tensor(part, device=self.data.device)

    @property
    def _evaluated_at_once(self) -> int:
        return 1 if self.way == "sequential" or self.learner.draws else self.block

    # Coming and going

    def release(self, which: np.ndarray, status: str) -> None:
        """Let candidates (a mask [C]) go with their best weights; the others close up."""
        if not which.any():
            return
        self.outcomes += [self._outcome(c, status) for c in np.flatnonzero(which).tolist()]
        stay = ~which
        networks = torch.from_numpy(np.repeat(stay, self.data.parts)).to(self.data.device)
        self.state = State(*({name: t[networks] for name, t in part.items()} for part in self.state))
        self._settings = {name: value[networks] for name, value in self._settings.items()}
        tensors = {name: t[networks] for name, t in self.best.tensors.items()}
        self.best = self.best.kept(stay, tensors)
        self._part = self._part[networks]
        self._losses = self._losses[networks]
        self._numbers = self._numbers[np.repeat(stay, self.data.parts)]
        self.recipes = [recipe for recipe, keep in zip(self.recipes, stay, strict=True) if keep]
        self._order = self._make_order()

    def harvest(self, status: str = "finished") -> list[Outcome]:
        """Every candidate's outcome, those still here included; the population is empty afterwards."""
        self.release(np.ones(len(self.recipes), dtype=bool), status)
        if self._way is not None:
            self._way.end()
        return self.outcomes

    def network(self, i: int) -> Learner:
        """The i-th living network as a plain module with its present weights; see ``evaluate`` for when none lives."""
        tensors, _ = self._spoken_of()
        if not -len(self.numbers) <= i < len(self.numbers):
            raise UserError(f"there is no network at place {i}; there are {len(self.numbers)}, numbered {self.numbers}")
        return self._module({name: t[i] for name, t in tensors.items()})

    def numbered(self, number: int) -> Learner:
        """The network of this number: with its present weights if it lives, or those of its best moment.

        Raises:
            UserError: there was none.
        """
        if number in self._numbers:
            return self.network(int(np.flatnonzero(self._numbers == number)[0]))
        numbers, learners, _ = gone(self.outcomes)
        if number not in numbers:
            known = sorted([*self._numbers.tolist(), *numbers.tolist()])
            raise UserError(f"there is no network of number {number}{nearest(str(number), known)}")
        return copy.deepcopy(learners[int(np.flatnonzero(numbers == number)[0])])

    def _outcome(self, c: int, status: str) -> Outcome:
        networks = range(c * self.data.parts, (c + 1) * self.data.parts)
        tensors = self.best.tensors if self._judged else self._tensors()
        learners = tuple(self._module({name: t[k] for name, t in tensors.items()}) for k in networks)
        numbers = tuple(int(self._numbers[k]) for k in networks)
        score, step = float(self.best.score[c]), int(self.best.step[c])
        return Outcome(self.recipes[c], numbers, status, score, step, self.step, learners)

    def _module(self, tensors: Tensors) -> Learner:
        learner = copy.deepcopy(self.learner)
        with torch.no_grad():
            own = tensors_of(learner)
            for name, value in {**self.training.shared, **tensors}.items():
                own[name].copy_(value)
        return learner.eval()

    # Saving

    def to_record(self) -> tuple[dict[str, Any], Tensors]:
        """Everything that training changes, as plain JSON and copied tensors; between evaluations too."""
        record = {
            "step": self.step,
            "network_steps": self.network_steps,
            "losses_since": self._losses_since,
            "recipes": [recipe.to_json() for recipe in self.recipes],
            "numbers": self._numbers.tolist(),
            "way": self.way,
            "block": self.block,
            "best": self.best.to_record(),
            "outcomes": [outcome.to_json() for outcome in self.outcomes],
        }
        tensors = {f"state.{i}.{name}": t for i, part in enumerate(self.state) for name, t in part.items()}
        tensors |= {f"best.{name}": t for name, t in self.best.tensors.items()}
        tensors |= {f"settings.{name}": t for name, t in self._settings.items()}
        tensors |= {"losses": self._losses, "part": self._part}
        for i, outcome in enumerate(self.outcomes):
            for g, learner in enumerate(outcome.learners):
                tensors |= {f"outcome.{i}.{g}.{name}": t for name, t in tensors_of(learner).items()}
        return record, {name: t.detach().cpu().clone() for name, t in tensors.items()}

    def restore(self, record: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> None:
        """Take up what ``to_record`` gave, in a population made of the same learners, recipes and data."""
        # copied, as sums may depend on where in memory they begin, and a file's tensors begin anywhere
        here = {name: t.to(self.data.device, copy=True) for name, t in tensors.items()}
        self.step, self.network_steps = record["step"], record["network_steps"]
        self._losses_since = record["losses_since"]
        self.recipes = [Recipe.from_json(r) for r in record["recipes"]]
        self._numbers = np.asarray(record["numbers"], dtype=int)
        self.engine = record["way"]
        self.training = replace(self.training, block=record["block"])
        ordered = [{name: here[f"state.{i}.{name}"] for name in part} for i, part in enumerate(self.state)]
        self.state = State(*ordered)  # in the order of old, in which instruments add up
        self.best = Standing.from_record(record["best"], within(here, "best."))
        self._losses, self._part = here["losses"], here["part"]
        self._settings = {name: here[f"settings.{name}"] for name in self._settings}
        self._order = self._make_order()
        self.outcomes = []
        for i, known in enumerate(record["outcomes"]):
            states = [within(here, f"outcome.{i}.{g}.") for g in range(self.data.parts)]
            learners = tuple(self._module(own) for own in states)
            self.outcomes.append(Outcome.from_json(known, learners))

    def save(self, folder: Path) -> None:
        """Write ``population-….safetensors``, then ``population.json`` that names it, each whole or not at all."""
        record, tensors = self.to_record()
        write_pair(folder, f"population-{self.step}-{len(self.outcomes)}", record, tensors)

    def load(self, folder: Path) -> None:
        """Take up what ``save`` wrote, in a population made of the same learners, recipes and data.

        Raises:
            UserError: the files are missing or cannot be read.
        """
        self.restore(*read_pair(folder))

    # Stacking

    def _tensors(self) -> Tensors:
        """What is judged and delivered: the weights in training, or their average, and the buffers."""
        optimizer = self.training.method.optimizer
        parameters = self.state.parameters
        if optimizer.averages:
            prefix = "optimizer."
            numbers = {n.removeprefix(prefix): t for n, t in self._settings.items() if n.startswith(prefix)}
            parameters = vmap(optimizer.evaluated)(self.state.optimizer, parameters, numbers)
            parameters = vmap(self.training.method.projected)(parameters, self._settings)
        return {**parameters, **self.state.buffers}

    def _make_order(self) -> Order:
        """The order of rows: shared, or each network's own by its recipe's seed."""
        if not self._own_order:
            return Order(self.data, self.batch)
        seeds = [recipe.whole("seed") for recipe in self.recipes for _ in range(self.data.parts)]
        return Order(self.data, self.batch, list(zip(seeds, self._part.tolist(), strict=True)))

    def _measure(self, instrument: str, values: torch.Tensor, step: int) -> None:
        epoch = step / self.data.steps_per_epoch(self.batch)
        self.trace.add(self._numbers, step, epoch, instrument, values.detach().float().cpu().numpy())
