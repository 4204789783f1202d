"""A population: networks of one shape, trained as one program."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.func import functional_call, vmap

from nastavnik.clock import Deadline
from nastavnik.instruments import INSTRUMENTS, Instrument
from nastavnik.population._data import Data
from nastavnik.population._learner import Learner
from nastavnik.population._step import Batch, State, make_step
from nastavnik.recipe import Recipe
from nastavnik.trace import Trace
from nastavnik.training.optimizers import OPTIMIZERS, Tensors
from nastavnik.training.schedules import SCHEDULES

_ROWS_AT_ONCE = 8192  # rows of one evaluation call
_LIKELIHOOD = "likelihood."  # what the likelihood's tensors are called inside a learner


@dataclass(frozen=True)
class Outcome:
    """What became of one candidate: its networks with the weights of their best moment.

    ``score`` is in nats per validation example, infinite when no score was ever finite; ``best_step`` is the moment of
    it, ``steps`` how far training went; ``status`` is finished, stopped (by patience), dropped (by the search), cut (by
    the deadline) or diverged.
    """

    recipe: Recipe
    numbers: tuple[int, ...]
    status: str
    score: float
    best_step: int
    steps: int
    learners: tuple[Learner, ...]


@dataclass
class Best:
    """The best moment of each candidate so far: its score, its step, and its networks' weights then."""

    score: np.ndarray  # [C]
    step: np.ndarray  # [C]
    tensors: Tensors  # parameters and buffers, [K, …]


class Population:
    """K networks of one shape, grouped into C candidates of G networks each (one for each part of the data).

    A candidate's score is the mean over its networks of the validation rows' negative log likelihood (nats per
    example), at the one temperature that suits them best; its best moment is kept, and it stops after ``patience``
    evaluations without a better one. A candidate whose score is no longer finite has *diverged*.

    Args:
        learners: C·G learners, candidate by candidate; all of one architecture.
        recipes: C recipes of one shape.
        data: what to train on; G is its number of parts.
        numbers: the networks' numbers in the trace, K of them; by default 0…K-1.
        total_steps: the length of the schedule.
        patience: evaluations without a better score before a candidate stops; None for never.
        evaluations: how many evaluations a whole training has; 0 for none, and then nothing counts as best.
        block: networks run together; the population is worked through block by block.
        instruments: what is measured at each evaluation.
    """

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
        block: int = 8,
        instruments: dict[str, Instrument] | None = None,
        trace: Trace | None = None,
    ) -> None:
        if len(learners) != len(recipes) * data.parts:
            raise ValueError(f"{len(recipes)} recipes × {data.parts} parts need as many learners, got {len(learners)}")
        if len({recipe.shape for recipe in recipes}) != 1:
            raise ValueError("the recipes of a population must share one shape")
        self.data, self.total_steps, self.patience, self.block = data, total_steps, patience, block
        self.recipes = list(recipes)
        self.numbers = np.arange(len(learners)) if numbers is None else np.asarray(numbers)
        self.trace = Trace() if trace is None else trace
        self.step = 0
        self.network_steps = 0
        self.outcomes: list[Outcome] = []
        self.learner = copy.deepcopy(learners[0]).to(data.device)
        self._optimizer = OPTIMIZERS[str(recipes[0]["optimizer.name"])](recipes[0].section("optimizer"))
        self._shared, parameters, buffers = _stack(learners, data.device)
        self.state = State(parameters, buffers, vmap(self._optimizer.init)(parameters))
        self._settings = self._stack_settings()
        self._part = torch.arange(len(learners), device=data.device) % data.parts
        self.batch = data.batch_size(recipes[0].whole("batch_size"))
        self._judged = evaluations > 0
        self._every = max(1, math.ceil(total_steps / max(evaluations, 1)))
        self.widest = min(block, len(learners))  # networks in one call at the start
        schedule = SCHEDULES[str(recipes[0]["schedule.name"])]
        chosen = INSTRUMENTS if instruments is None else instruments
        self._plain = make_step(self.learner, self._shared, self._optimizer, schedule, {})
        self._measured = make_step(self.learner, self._shared, self._optimizer, schedule, chosen)
        self._orders: dict[int, torch.Tensor] = {}
        self.best = Best(
            np.full(len(recipes), np.inf),
            np.zeros(len(recipes), dtype=int),
            {name: t.clone() for name, t in self._tensors().items()},
        )
        self._waited = np.zeros(len(recipes), dtype=int)

    def __len__(self) -> int:
        return len(self.numbers)

    # Training

    def train(self, until: int, deadline: Deadline | None = None) -> None:
        """Train to a step, evaluating on the way; returns earlier when nothing lives or the deadline passes."""
        until = min(until, self.total_steps)
        while self.step < until and len(self):
            self.step = self._advance(min(until, (self.step // self._every + 1) * self._every), deadline)
            cut = deadline is not None and deadline.passed()
            if self._judged and not (cut and np.isfinite(self.best.score).all()):
                self._judge()
            if cut:
                return

    def _advance(self, stop: int, deadline: Deadline | None) -> int:
        """Run every block's steps up to ``stop``; the step reached."""
        losses: list[torch.Tensor] = []
        measured: list[Tensors] = []
        blocks = []
        reached = stop
        for start in range(0, len(self), self.block):
            rows = slice(start, start + self.block)
            state = State(*({name: t[rows] for name, t in part.items()} for part in self.state))
            settings = {name: value[rows] for name, value in self._settings.items()}
            total: torch.Tensor | None = None
            done = 0
            for step in range(self.step, stop):
                last = step == stop - 1
                state, measures = self._run(state, self._rows(step, rows), settings, step, last)
                total = measures["training loss"] if total is None else total + measures["training loss"]
                done += 1
                if deadline is not None and deadline.passed():
                    break
            self.network_steps += done * len(next(iter(settings.values())))
            reached = min(reached, self.step + done)
            assert total is not None
            losses.append(total / done)
            measured.append(measures)
            blocks.append(state)
        self.state = State(*(_join([block[i] for block in blocks]) for i in range(3)))
        self._measure("training loss", torch.cat(losses), reached)
        for name in set.intersection(*(set(m) for m in measured)) - {"training loss"}:
            self._measure(name, torch.cat([m[name] for m in measured]), reached)
        return reached

    def _run(self, state: State, batch: Batch, settings: Tensors, step: int, measured: bool) -> tuple[State, Tensors]:
        """One step of one block: K networks under vmap, one network without it."""
        function = self._measured if measured else self._plain
        progress = torch.tensor(step / self.total_steps, device=self.data.device)
        if len(next(iter(settings.values()))) > 1:
            rows = None if self.data.parts == 1 else 0
            return vmap(function, in_dims=(0, rows, 0, None))(state, batch, settings, progress)
        single = State(*({name: t[0] for name, t in part.items()} for part in state))
        if self.data.parts > 1:
            batch = Batch(*(t[0] for t in batch))
        single, measures = function(single, batch, {n: t[0] for n, t in settings.items()}, progress)
        state = State(*({name: t[None] for name, t in part.items()} for part in single))
        return state, {name: t[None] for name, t in measures.items()}

    def _rows(self, step: int, block: slice) -> Batch:
        """The batch of a step: shared by all networks, or each network's own part's."""
        steps = self.data.steps_per_epoch(self.batch)
        epoch, place = divmod(step, steps)
        if epoch not in self._orders:
            self._orders = {e: o for e, o in self._orders.items() if e >= epoch - self._every // steps - 1}
            self._orders[epoch] = self.data.order(epoch, self.batch)
        index = self._orders[epoch][place]
        if self.data.parts == 1:
            return Batch(*(t[0][index[0]] for t in (self.data.numbers, self.data.categories, self.data.targets)))
        part = self._part[block]
        return Batch(
            *(t[part[:, None], index[part]] for t in (self.data.numbers, self.data.categories, self.data.targets))
        )

    # Judging

    def _judge(self) -> None:
        """Evaluate, keep what is best so far, let the diverged and the patient-no-longer go."""
        profiles = self.validation_profiles()
        folded = profiles.reshape(-1, self.data.parts, profiles.shape[1]).mean(1)  # [C, T]
        least, place = (t.cpu() for t in folded.nan_to_num(nan=torch.inf).min(1))
        shared = place.to(profiles.device).repeat_interleave(self.data.parts)  # a candidate's folds share a temperature
        self._measure("validation loss", profiles.gather(1, shared[:, None])[:, 0], self.step)
        score = least.double().numpy()
        better = score < self.best.score
        if better.any():
            networks = torch.from_numpy(np.repeat(better, self.data.parts)).to(self.data.device)
            for name, now in self._tensors().items():
                self.best.tensors[name][networks] = now[networks]
        self.best.score = np.where(better, score, self.best.score)
        self.best.step = np.where(better, self.step, self.best.step)
        self._waited = np.where(better, 0, self._waited + 1)
        diverged = ~np.isfinite(score)
        self.release(diverged, "diverged")
        if self.patience is not None and self.step < self.total_steps:
            self.release(self._waited >= self.patience, "stopped")

    def validation_profiles(self) -> torch.Tensor:
        """Each network's loss on its part's validation rows at each temperature [K, T]."""
        rows = self.data.validation_rows()
        scores = []
        for start in range(0, len(self), self.block):
            block = slice(start, start + self.block)
            outputs = self.outputs(rows[self._part[block]], block)
            targets = self.data.targets[self._part[block, None], rows[self._part[block]]]
            mine = {n: t[block] for n, t in self._tensors().items() if n.startswith(_LIKELIHOOD)}
            scores.append(self._score(mine, outputs, targets))
        return torch.cat(scores)

    def _score(self, tensors: Tensors, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        def one(own: Tensors, o: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
            named = {name.removeprefix(_LIKELIHOOD): value for name, value in own.items()}
            return functional_call(self.learner.likelihood, named, (o, t))

        with torch.no_grad():
            return vmap(one, in_dims=(0 if tensors else None, 0, 0))(tensors, outputs, targets)

    def outputs(self, rows: torch.Tensor, block: slice = slice(None)) -> torch.Tensor:
        """Outputs [K, V, o] of the networks of a block, in evaluation mode, for the row numbers rows [K, V]."""
        tensors = {name: t[block] for name, t in self._tensors().items()}
        shared = self.data.parts == 1

        def one(own: Tensors, numbers: torch.Tensor, categories: torch.Tensor) -> torch.Tensor:
            return functional_call(self.learner, {**self._shared, **own}, (numbers, categories))

        call = vmap(one, in_dims=(0, None if shared else 0, None if shared else 0))
        part = self._part[block]
        pieces = []
        self.learner.eval()
        with torch.no_grad():
            for some in rows.split(_ROWS_AT_ONCE, dim=1):
                index = (0, some[0]) if shared else (part[:, None], some)
                pieces.append(call(tensors, self.data.numbers[index], self.data.categories[index]))
        self.learner.train()
        return torch.cat(pieces, dim=1)

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
        self.best = Best(self.best.score[stay], self.best.step[stay], tensors)
        self._waited = self._waited[stay]
        self._part = self._part[networks]
        self.numbers = self.numbers[np.repeat(stay, self.data.parts)]
        self.recipes = [recipe for recipe, keep in zip(self.recipes, stay, strict=True) if keep]

    def harvest(self, status: str = "finished") -> list[Outcome]:
        """Every candidate's outcome, those still here included; the population is empty afterwards."""
        self.release(np.ones(len(self.recipes), dtype=bool), status)
        return self.outcomes

    def network(self, i: int) -> Learner:
        """The i-th living network as a plain module with its own, present weights."""
        return self._module({name: t[i] for name, t in self._tensors().items()})

    def _outcome(self, c: int, status: str) -> Outcome:
        networks = range(c * self.data.parts, (c + 1) * self.data.parts)
        learners = tuple(self._module({name: t[k] for name, t in self.best.tensors.items()}) for k in networks)
        numbers = tuple(int(self.numbers[k]) for k in networks)
        score, step = float(self.best.score[c]), int(self.best.step[c])
        return Outcome(self.recipes[c], numbers, status, score, step, self.step, learners)

    def _module(self, tensors: Tensors) -> Learner:
        learner = copy.deepcopy(self.learner)
        with torch.no_grad():
            own = dict(learner.named_parameters()) | dict(learner.named_buffers())
            for name, value in {**self._shared, **tensors}.items():
                own[name].copy_(value)
        return learner.eval()

    # Stacking

    def _tensors(self) -> Tensors:
        return {**self.state.parameters, **self.state.buffers}

    def _stack_settings(self) -> Tensors:
        """The optimizer's numbers, one a network."""
        dtype = next(iter(self.state.parameters.values())).dtype
        return {
            name: torch.tensor(
                [r.number(f"optimizer.{name}", default) for r in self.recipes for _ in range(self.data.parts)],
                dtype=dtype,
                device=self.data.device,
            )
            for name, default in self._optimizer.settings.items()
        }

    def _measure(self, instrument: str, values: torch.Tensor, step: int) -> None:
        epoch = step / self.data.steps_per_epoch(self.batch)
        self.trace.add(self.numbers, step, epoch, instrument, values.detach().float().cpu().numpy())


def _stack(learners: Sequence[Learner], device: torch.device) -> tuple[Tensors, Tensors, Tensors]:
    """What all learners share, their trained parameters [K, …], and their buffers [K, …].

    A module's ``constants`` (buffers it never changes, such as bin edges) are shared when all learners agree on them.
    """
    constants = {
        f"{name}.{constant}" for name, m in learners[0].named_modules() for constant in getattr(m, "constants", ())
    }
    trained = {name for name, p in learners[0].named_parameters() if p.requires_grad}
    own = [dict(learner.named_parameters()) | dict(learner.named_buffers()) for learner in learners]
    shared: Tensors = {}
    parameters: Tensors = {}
    buffers: Tensors = {}
    for name, first in own[0].items():
        tensors = [tensors[name].detach().to(device) for tensors in own]
        if name in constants and all(torch.equal(first.to(device), t) for t in tensors[1:]):
            shared[name] = tensors[0]
        elif name in trained:
            parameters[name] = torch.stack(tensors)
        else:
            buffers[name] = torch.stack(tensors)
    return shared, parameters, buffers


def _join(parts: list[Tensors]) -> Tensors:
    return parts[0] if len(parts) == 1 else {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
