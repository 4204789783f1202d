"""The mentor of any PyTorch loop: looks at some steps, keeps what it saw, and never stands in the way."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from nastavnik.arguments import checked
from nastavnik.errors import UserError
from nastavnik.files import plain, read_json, write_json
from nastavnik.mentor._arguments import bare, cadences, check_arguments, check_rows, optimizers_of
from nastavnik.mentor._batch import Batch, flat_batch
from nastavnik.mentor._batches import FIRST, Batches
from nastavnik.mentor._cadence import Cadence, trains_alone
from nastavnik.mentor._diagnosis import Finding, diagnose
from nastavnik.mentor._judging import Judge
from nastavnik.mentor._live import (
    Tensors,
    held_modules,
    in_evaluation,
    kept_tensors,
    live_tensors,
    resident_megabytes,
    unhooked,
)
from nastavnik.mentor._looking import Looker
from nastavnik.mentor._players import Players
from nastavnik.mentor._snapshot import Album, Snapshot
from nastavnik.mentor._steps import Guard, Idle, Step
from nastavnik.mentor._words import in_words
from nastavnik.schemas import HISTORY
from nastavnik.together import settle, together
from nastavnik.trace import History

_FAULT = 300  # characters of what an error says


class Mentor:
    """Watches a training loop that is not ours, and says what is wrong with it.

    Put ``with mentor.step(x, y):`` around a step of your own (forward, backward, optimizer), whatever it looks like:
    updates are measured from weights, so any optimizer, frozen layers, mixed precision and accumulation are fine. Some
    steps are kept; when somebody asks (``findings``, ``history``, ``print``), or before they take more than a twentieth
    of the memory, the network is run once more on their batches and questions are put to it, with copies of its buffers
    and torch's random state put back: the training takes the course it would have taken. Its own faults are kept in
    ``faults``.

    Args:
        model: what is trained.
        optimizer: what trains it, or several; without, what none of them holds and forgotten gradients are not seen.
        loss_fn: ``loss_fn(model(x), y)``; None if the model gives an object with a ``loss`` (transformers do).
        train: some rows that are trained on, (x, y): they are appraised in evaluation mode at each look.
        validation: rows that are not.
        classes: how many the target has, 0 for numbers; by default found from the first batch.
        costs: which instruments look: "pass" (a forward and backward pass), "example" (a backward pass a row),
            "curvature" (products with the Hessian).
        every: look every so many steps, or a class of instruments every so many (``{"curvature": 64}``); by default at
            0, 1, 2, 4, 8 and then at steps three quarters as far again.
        budget: share of the loop's time that it may take; what would go beyond is left out, as much as four hundred
            steps allow being free. With ``every`` it does not hold.
        on: False leaves everything out.

    Raises:
        UserError: something given is not what it is taken for; steps themselves never raise anything of the mentor's.

    Example:
        >>> mentor = nastavnik.Mentor(model, optimizer, loss_fn, validation=(x_val, y_val))  # doctest: +SKIP
        >>> for x, y in loader:  # doctest: +SKIP
        ...     with mentor.step(x, y):
        ...         optimizer.zero_grad()
        ...         loss_fn(model(x), y).backward()
        ...         optimizer.step()
        >>> print(mentor)  # doctest: +SKIP
    """

    @checked(but=("model", "optimizer", "loss_fn", "train", "validation", "costs", "every"))
    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer | Sequence[torch.optim.Optimizer] | None = None,
        loss_fn: Callable[[Any, Any], torch.Tensor] | None = None,
        *,
        train: tuple[Any, Any] | None = None,
        validation: tuple[Any, Any] | None = None,
        classes: int | None = None,
        costs: Sequence[str] = ("pass",),
        every: int | Mapping[str, int] | None = None,
        budget: float = 0.05,
        on: bool = True,
    ) -> None:
        self.model, self.loss_fn = bare(model), loss_fn
        self.optimizers = optimizers_of(optimizer)
        costs, own = cadences(costs, every)
        check_arguments(self.model, self.optimizers, loss_fn, costs, own, budget)
        for part, rows in (("train", train), ("validation", validation)):
            check_rows(part, rows)
        self._history = History()
        self._faults: list[str] = []
        self.on = on
        self.album = Album()
        self.cadence = Cadence(costs, own, budget)
        self.batches = Batches()
        self.judge = Judge(train, validation, classes)
        self._looker = Looker(self.model, loss_fn, self.judge, self._history, self.cadence, self.note_fault)
        self.steps = 0
        self.seconds = 0.0  # of the loop, spent looking
        self.looking = self.inside = False
        self._ended = -1  # the steps taken when it last looked at the end
        self._wake = 0  # the next step at which there is anything to do
        self._held: list[nn.Module] = []  # by the loss
        self._modes: dict[nn.Module, bool] = {}  # training or not, at the last look
        self.players = Players(self)
        self._idle = Idle(self)
        self._fresh: bool | None = None  # whether a gradient of our own arrived since the last step taken, if known
        self.trained: list[torch.Tensor] = []  # by an optimizer, when the hooks were attached
        self.comparing = False  # whether gradients are copied as an optimizer takes them
        self.used: Tensors = {}  # gradients, as an optimizer took them in this step
        self._stepped = False
        self._left = self._begun = time.perf_counter()
        self._handles: list[Any] = []
        if on:
            with self._guarded("the start"):
                self._held = held_modules(loss_fn)
                self._begin_facts()
                self.album.prepare(self.model)

    # A step

    def step(self, x: Any = None, y: Any = None) -> Step | Idle:
        """A context around one step of training on the batch (x, y); x may be a tensor, or a tuple or dict of them.

        Without x, the batch is taken from the model's own first call inside the context.
        """
        if self.steps < FIRST and self.on:
            self.batches.refer(x, y)
        return self._idle if self.steps < self._wake or not self.on else Step(self, x, y)

    def terms(self, **losses: torch.Tensor | float) -> None:
        """Tell the parts a loss is the sum of, at each step: ``mentor.terms(data=a, physics=b)``."""
        if self.on and self.looking:
            with self._guarded("terms"):
                for name, value in losses.items():
                    number = float(value.detach()) if isinstance(value, torch.Tensor) else float(value)
                    self._history.facts["terms told"] = True
                    self._history.add("loss term", self.steps, number, name.encode(errors="replace").decode())

    @property
    def optimizer(self) -> torch.optim.Optimizer | None:
        """What trains the model, the first of several."""
        return self.optimizers[0] if self.optimizers else None

    @property
    def groups(self) -> list[dict[str, Any]]:
        """All optimizers' groups of parameters."""
        return [group for optimizer in self.optimizers for group in optimizer.param_groups]

    @property
    def history(self) -> History:
        """Everything that was seen so far."""
        self.settle()
        return self._history

    @property
    def faults(self) -> list[str]:
        """The mentor's own faults, each once."""
        self.settle()
        return self._faults

    @property
    def classes(self) -> int | None:
        """How many the target has, 0 for numbers; None before that is known."""
        self.settle()
        return self.judge.classes

    # What it says

    @checked(but=("batches",))
    def data(self, batches: Iterable[Any], most: int = 64) -> list[Finding]:
        """What is wrong with the data alone, before a step is taken: the first ``most`` batches (x, y) of a loader.

        Raises:
            UserError: a batch is no pair of inputs and targets.
        """
        looked = Batches()
        for _, batch in zip(range(most), batches, strict=False):
            if not isinstance(batch, (tuple, list)) or len(batch) != 2:
                raise UserError(f"a batch is a pair (x, y), but got {type(batch).__name__}")
            looked.keep(FIRST, flat_batch(*batch).kept(), True)
        judge = Judge(self.judge.parts["training"], self.judge.parts["validation"], self.judge.classes)
        history = History()
        judge.guess(looked.joined())
        judge.data_facts(history.facts, looked.joined())
        return diagnose(history)

    @checked()
    def findings(self, suppress: str | Iterable[str] = ()) -> list[Finding]:
        """What is wrong so far, the causes first, without the rules to ``suppress``.

        Before the first step, what the network alone shows.
        """
        if not self.on:
            return []
        suppress = [suppress] if isinstance(suppress, str) else list(suppress)
        self.settle()
        history = self._history
        with self._guarded("facts"):
            dispersion = None if self.judge.axis is not None else self.batches.dispersion()  # words are never shuffled
            if dispersion is not None:
                history.values.pop(("order dispersion", ""), None)  # of all batches, anew
                history.add("order dispersion", self.steps, dispersion)
            self.judge.data_facts(history.facts, self.batches.joined())
        with self._guarded("the end"):
            self._look_at_the_end()
        history.facts["steps taken"] = self.steps
        return diagnose(
            history, suppress=suppress, broken=lambda rule, error: self.note_fault(f"the rule {rule}", error)
        )

    def __str__(self) -> str:
        """The findings as a text."""
        found = self.findings()
        if not found and not self._looker.looks:
            why = "it is off" if not self.on else "no step was taken yet" if not self.faults else "its looks failed"
            text = f"nothing was looked at: {why}"
        else:
            text = "\n".join([in_words(found), *self.unseen()])
        return text + "".join(f"\nthe mentor's own fault: {fault}" for fault in self.faults)

    def unseen(self) -> list[str]:
        """What could not be looked at, and which rules say nothing for want of it, in sentences."""
        facts, parts, said = self.history.facts, self.judge.parts, []
        if parts["validation"] is None:
            said.append(
                "without validation=(x, y) nothing is said of rows that were not trained on: overfitting, parts or "
                "labels that differ, rows that both parts have"
            )
        if facts.get("layers") and not (self.loss_fn is None or facts.get("scored", True)):
            said.append("outputs could not be held against targets: nothing is said of chance or of single rows")
        elif facts.get("layers") and not len(self.history.series("training rows' score")):
            said.append("targets are of no form that is scored: of how well rows are told only the loss speaks")
        if not self.optimizers:
            said.append("without an optimizer nothing is said of gradients left over, clipped or added up")
        return [f"        not seen  {sentence}" for sentence in said]

    @checked()
    def save(self, folder: str | Path) -> None:
        """Write ``findings.json`` and ``history.json`` into a folder, for ``nastavnik check FOLDER``.

        Raises:
            UserError: the folder is a run's, or cannot be written to.
        """
        folder = Path(folder)
        if (folder / "run.json").exists():
            raise UserError(f"{folder} is the folder of a run; save the mentor's findings in one of their own")
        found = [finding.to_json() for finding in self.findings()]
        self._history.facts["faults"] = self.faults
        history = plain(self.history.to_json())
        try:
            with together(folder) as stage:
                write_json(stage / "history.json", history, HISTORY)
                write_json(stage / "findings.json", {"findings": found, "faults": self.faults})
        except UserError as error:
            raise UserError(f"{folder} cannot be written to: {error}") from error

    def close(self) -> None:
        """Take its hooks off the model and the optimizer."""
        for handle in self._handles:
            handle.remove()
        self._handles = []
        for p in self.model.parameters():
            unhooked(p)

    # Inside

    def _attach(self) -> None:
        """Hooks that only set a flag (a gradient arrived, an optimizer has used it), or copy it before a look."""
        if self._handles:
            return
        trained = self.trained = self.held_parameters()
        if not trained:
            return
        self._fresh = None

        def arrived(p: torch.Tensor) -> None:
            if self.inside:  # from elsewhere, as from another network's turn, it is nobody's to keep
                self._fresh = True

        def using(optimizer: torch.optim.Optimizer, *_: Any) -> None:
            if self.comparing and not isinstance(optimizer, torch.optim.LBFGS):
                with self._guarded("gradients used"):
                    self._copy_gradients(optimizer)

        def used(*_: Any) -> None:
            self._fresh, self._stepped = False, True

        self._handles.append(trained[-1].register_post_accumulate_grad_hook(arrived))
        for optimizer in self.optimizers:
            if isinstance(optimizer, torch.optim.Optimizer):
                self._handles += [optimizer.register_step_pre_hook(using), optimizer.register_step_post_hook(used)]

    def _copy_gradients(self, optimizer: torch.optim.Optimizer) -> None:
        names = {id(p): name for name, p in self.model.named_parameters()}
        for group in optimizer.param_groups:
            for p in group["params"]:
                if p.grad is not None and id(p) in names:
                    self.used[names[id(p)]] = self.album.arena.copy(p.grad)

    def has_others(self) -> bool:
        """Whether the loss holds a module with parameters."""
        return any(next(module.parameters(), None) is not None for module in self._held)

    def versions_beside(self) -> dict[int, int]:
        """How often each parameter that the loss holds beside the model's was changed: by others, as far as is known.

        Those of a loss that is a module of its own are trained with the model, unless its optimizer is known.
        """
        own = {id(p) for p in self.model.parameters()}
        own |= {id(p) for group in self.groups for p in group["params"]}
        held = self._held if self.optimizers or not isinstance(self.loss_fn, nn.Module) else []
        return {id(p): p._version for module in held for p in module.parameters() if id(p) not in own}

    def held_parameters(self) -> list[torch.Tensor]:
        """The parameters that are trained and that an optimizer holds."""
        held = {id(p) for group in self.groups for p in group["params"]}
        return [p for p in self.model.parameters() if p.requires_grad and id(p) in held]

    def _begin_facts(self) -> None:
        facts = self._history.facts
        if self.optimizer is not None:
            group = self.groups[0] if self.groups else {}
            facts["optimizer"] = type(self.optimizer).__name__
            for name in ("weight decay", "momentum", "eps"):
                facts[name] = float(group.get(name.replace(" ", "_"), 0.0) or 0.0)
            facts["learning rate"] = float(group.get("lr", 0.0))
            held = {id(p) for p in self.held_parameters()}
            trained = [(n, id(p)) for n, p in self.model.named_parameters() if p.requires_grad]
            facts["without optimizer"] = [n for n, own in trained if own not in held]
            facts["optimizer holds none"] = bool(trained) and not held

    def _due(self) -> list[str]:
        """The classes of instruments that look at this step."""
        return self.cadence.due(self.steps, self.seconds, time.perf_counter() - self._begun)

    def _due_next(self) -> bool:
        """Whether the step after this one may be looked at."""
        return self.cadence.after(self.steps) == self.steps + 1

    def _sleep(self) -> None:
        """Find the next step at which there is anything to do: a look, or the step before one."""
        self._wake = self.cadence.after(self.steps) - 1

    def _guarded(self, what: str) -> Guard:
        """A context in which its own faults end, and are reported; the user's loop goes on."""
        return Guard(self, what)

    def note_fault(self, what: str, error: Exception) -> None:
        """Keep a fault of the mentor's own, once, to be reported."""
        where = traceback.extract_tb(error.__traceback__)[-1]
        said = next(iter(str(error).splitlines()), "")[:_FAULT]
        fault = f"{what}: {type(error).__name__}: {said} ({Path(where.filename).name}, line {where.lineno})"
        if fault not in self._faults:
            self._faults.append(fault)

    # Looking, at once or later

    def keep(self, batch: Batch, before: Tensors, costs: Sequence[str], used: Tensors) -> None:
        """Keep a step that was just taken, to be looked at when somebody asks; at once where memory has no room."""
        model = self.model
        if not batch.inputs or not len(batch.inputs[0]):
            return  # an empty batch shows nothing
        after = {n: self.album.arena.copy(p) for n, p in model.named_parameters() if n in before}
        moved = self._stepped or not self.optimizers
        self._add(batch, before, after, costs, used, moved)
        self._see_surroundings()
        if self.album.full(next(iter(after.values())).device if after else torch.device("cpu")):
            begun = time.perf_counter()
            self.settle()
            self.seconds += time.perf_counter() - begun

    def _add(
        self, batch: Batch, before: Tensors, after: Tensors, costs: Sequence[str], used: Tensors, moved: bool,
        ends: bool = False,
    ) -> None:  # fmt: skip
        own = {id(p) for p in self.model.parameters()}
        beside = []
        for module in self._held:
            named = {n: p for n, p in module.named_parameters() if id(p) not in own}
            if named:
                beside.append((module, self.album.parameters(named)))
        if not ends:
            self._modes = {module: module.training for module in self.model.modules()}
        self.album.add(
            Snapshot(
                self.steps, batch, tuple(costs), before, after, self.album.fixed(self.model), tuple(beside),
                self._modes, kept_tensors(self.model), used, moved, ends,
            )
        )  # fmt: skip

    def settle(self) -> None:
        """Look at everything that was kept."""
        for snapshot in self.album.take():
            with self._guarded("a look"):
                self._looker.look(snapshot, self._held)

    def _look_at_the_end(self) -> None:
        """Look once more, at the network as it is now, so that nothing is said of it that is past.

        Left out where several processes train: the others do not look now.
        """
        first = self.judge.first
        if self.steps == self._ended or "pass" not in self.cadence.costs or first is None or not trains_alone():
            return
        self._ended = self.steps
        before, seen = live_tensors(self.model), self._history.steps("batch loss")
        costs = () if len(seen) and seen[-1] >= self.steps - 1 else ("pass",)  # it was just looked at: only ask it
        self._add(first, before, before, costs, {}, False, ends=True)
        self.settle()

    def _see_surroundings(self) -> None:
        facts, history = self._history.facts, self._history
        facts["stepped"] = facts.get("stepped", False) or self._stepped
        history.add("moving loss", self.steps, float(self.players.moving()))
        history.add("evaluation mode", self.steps, float(in_evaluation(self.model)))
        groups = self.groups
        if groups:
            history.add("rate", self.steps, float(groups[0].get("lr", 0.0)))
        memory = resident_megabytes()
        if memory is not None:
            history.add("memory", self.steps, memory - self.album.bytes / 2**20)


def read_history(path: str | Path) -> History:
    """A history that ``Mentor.save`` wrote.

    Raises:
        UserError: there is none, or it is of another format.
    """
    settle(Path(path))
    path = Path(path) / "history.json"
    record = read_json(path, HISTORY)
    try:
        return History.from_json(record)
    except ValueError as error:
        raise UserError(f"{path} is damaged: {error}") from error
