"""The mentor of any PyTorch loop: looks at some steps, keeps what it saw, and never stands in the way."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from nastavnik.arguments import checked
from nastavnik.errors import UserError
from nastavnik.files import plain, read_json, write_json
from nastavnik.instruments import look, looks_fresh, measured, network_facts
from nastavnik.mentor._arguments import bare, cadences, check_arguments, check_rows
from nastavnik.mentor._batches import Batches
from nastavnik.mentor._cadence import Cadence, trains_alone
from nastavnik.mentor._diagnosis import Finding, diagnose
from nastavnik.mentor._judging import Judge
from nastavnik.mentor._live import (
    Batch,
    held_modules,
    in_evaluation,
    live_subject,
    live_tensors,
    resident_megabytes,
    said_by,
    undisturbed,
    unhooked,
    unused_parameters,
)
from nastavnik.mentor._players import Players
from nastavnik.mentor._probes import loss_facts
from nastavnik.mentor._steps import Idle, Step
from nastavnik.mentor._words import in_words
from nastavnik.schemas import HISTORY
from nastavnik.together import settle, together
from nastavnik.trace import History

_RECENT = 0.02  # of the steps taken: a look so long ago still shows how things are
_FAULT = 300  # characters of what an error says
_STEP_ONLY = ("layer update ratio", "predicted change", "actual change")


class Mentor:
    """Watches a training loop that is not ours, and says what is wrong with it.

    Put ``with mentor.step(x, y):`` around a step of your own (forward, backward, optimizer), whatever it looks like:
    updates are measured from weights, so any optimizer, frozen layers, mixed precision and accumulation are fine. At
    some steps the network is run once more on the batch, with copies of its buffers and torch's random state put
    back: the training takes the course it would have taken. Its own faults are kept in ``faults``.

    Args:
        model: what is trained.
        optimizer: what trains it; without it, what no optimizer holds and forgotten gradients are not seen.
        loss_fn: ``loss_fn(model(x), y)``; None if the model gives an object with a ``loss`` (transformers do).
        train: some rows that are trained on, (x, y): they are appraised in evaluation mode at each look.
        validation: rows that are not.
        classes: how many the target has, 0 for numbers; by default found from the first batch.
        costs: which instruments look: "pass" (a forward and backward pass), "example" (a backward pass a row),
            "curvature" (products with the Hessian).
        every: look every so many steps, or a class of instruments every so many (``{"curvature": 64}``); by default at
            0, 1, 2, 4, 8 and then at steps half as far again.
        budget: share of the time that looking may take; looks that would go beyond are left out, after two seconds
            that are free. With ``every`` it does not hold.
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
        optimizer: torch.optim.Optimizer | None = None,
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
        self.model, self.optimizer, self.loss_fn = bare(model), optimizer, loss_fn
        costs, own = cadences(costs, every)
        check_arguments(self.model, optimizer, loss_fn, costs, own, budget)
        for part, rows in (("train", train), ("validation", validation)):
            check_rows(part, rows)
        self.history = History()
        self.faults: list[str] = []
        self.on = on
        self.cadence = Cadence(costs, own, budget)
        self.batches = Batches()
        self.judge = Judge(train, validation, classes)
        self.steps = 0
        self.seconds = 0.0  # spent looking
        self.looking = False
        self._wake = 0  # the next step at which there is anything to do
        self._held: list[nn.Module] = []  # by the loss
        self._modes: dict[nn.Module, bool] = {}  # training or not, at the last look
        self.players = Players(self)
        self._idle = Idle(self)
        self._start: dict[str, torch.Tensor] = {}
        self._fresh: bool | None = None  # whether a gradient has arrived since the optimizer's last step, if known
        self._stepped = False
        self._left = self._begun = time.perf_counter()
        self._handles: list[Any] = []
        if on:
            with self._guarded("the start"):
                self._held = held_modules(loss_fn)
                self._begin_facts()

    # A step

    def step(self, x: Any = None, y: Any = None) -> Step | Idle:
        """A context around one step of training on the batch (x, y); x may be a tensor, or a tuple or dict of them.

        Without x, the batch is taken from the model's own first call inside the context.
        """
        return self._idle if self.steps < self._wake or not self.on else Step(self, x, y)

    def terms(self, **losses: torch.Tensor | float) -> None:
        """Tell the parts a loss is the sum of, at each step: ``mentor.terms(data=a, physics=b)``."""
        if self.on and self.looking:
            with self._guarded("terms"):
                for name, value in losses.items():
                    number = float(value.detach()) if isinstance(value, torch.Tensor) else float(value)
                    self.history.add("loss term", self.steps, number, name.encode(errors="replace").decode())

    @property
    def classes(self) -> int | None:
        """How many the target has, 0 for numbers; None before that is known."""
        return self.judge.classes

    # What it says

    @checked()
    def findings(self, suppress: str | Iterable[str] = ()) -> list[Finding]:
        """What is wrong so far, the causes first, without the rules to ``suppress``.

        Before the first step, what the network alone shows.
        """
        if not self.on:
            return []
        suppress = [suppress] if isinstance(suppress, str) else list(suppress)
        with self._guarded("facts"):
            self.judge.data_facts(self.history.facts, self.batches.joined())
        with self._guarded("the end"):
            self._look_at_the_end()
        self.history.facts["steps taken"] = self.steps
        return diagnose(
            self.history, suppress=suppress, broken=lambda rule, error: self.note_fault(f"the rule {rule}", error)
        )

    def __str__(self) -> str:
        """The findings as a text."""
        found = self.findings()
        if not found and not self.history.facts.get("steps"):
            why = "it is off" if not self.on else "no step was taken yet" if not self.faults else "its looks failed"
            text = f"nothing was looked at: {why}"
        else:
            text = in_words(found)
        return text + "".join(f"\nthe mentor's own fault: {fault}" for fault in self.faults)

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
        self.history.facts["faults"] = self.faults
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
        """Two hooks that only set a flag: a gradient arrived, the optimizer has used it."""
        trained = self.held_parameters()
        if not trained or self._handles:
            return
        self._fresh = None

        def arrived(p: torch.Tensor) -> None:
            self._fresh = True

        def used(*_: Any) -> None:
            self._fresh, self._stepped = False, True

        self._handles.append(trained[-1].register_post_accumulate_grad_hook(arrived))
        if isinstance(self.optimizer, torch.optim.Optimizer):
            self._handles.append(self.optimizer.register_step_post_hook(used))

    def versions_beside(self) -> dict[int, int]:
        """How often each parameter that the loss holds beside the model's was changed: by others, as far as is known.

        Those of a loss that is a module of its own are trained with the model, unless its optimizer is known.
        """
        own = {id(p) for p in self.model.parameters()}
        groups = [] if self.optimizer is None else self.optimizer.param_groups
        own |= {id(p) for group in groups for p in group["params"]}
        held = self._held if self.optimizer is not None or not isinstance(self.loss_fn, nn.Module) else []
        return {id(p): p._version for module in held for p in module.parameters() if id(p) not in own}

    def held_parameters(self) -> list[torch.Tensor]:
        """The parameters that are trained and that the optimizer holds."""
        groups = [] if self.optimizer is None else self.optimizer.param_groups
        held = {id(p) for group in groups for p in group["params"]}
        return [p for p in self.model.parameters() if p.requires_grad and id(p) in held]

    def _begin_facts(self) -> None:
        facts = self.history.facts
        if self.optimizer is not None:
            group = self.optimizer.param_groups[0] if self.optimizer.param_groups else {}
            facts["optimizer"] = type(self.optimizer).__name__
            facts["learning rate"] = float(group.get("lr", 0.0))
            facts["weight decay"] = float(group.get("weight_decay", 0.0))
            facts["momentum"] = float(group.get("momentum", 0.0))
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
        """Find the next step at which there is anything to do: a look, the step before one, a batch to keep."""
        self._wake = min(self.cadence.after(self.steps) - 1, self.batches.after(self.steps))

    @contextmanager
    def _guarded(self, what: str) -> Iterator[None]:
        """Its own faults end here, and are reported; the user's loop goes on."""
        try:
            yield
        except Exception as error:
            self.note_fault(what, error)

    def note_fault(self, what: str, error: Exception) -> None:
        """Keep a fault of the mentor's own, once, to be reported."""
        where = traceback.extract_tb(error.__traceback__)[-1]
        said = next(iter(str(error).splitlines()), "")[:_FAULT]
        fault = f"{what}: {type(error).__name__}: {said} ({Path(where.filename).name}, line {where.lineno})"
        if fault not in self.faults:
            self.faults.append(fault)

    def _look_at_the_end(self) -> None:
        """Look once more, at the network as it is now, so that nothing is said of it that is past.

        Left out where the last look is recent, and where several processes train: the others do not look now.
        """
        seen = self.history.steps("batch loss")
        recent = not len(seen) or self.steps - seen[-1] <= max(1, _RECENT * self.steps)
        if recent or "pass" not in self.cadence.costs or self.judge.first is None or not trains_alone():
            return
        self._look(self.judge.first, live_tensors(self.model, trained=True), ("pass",), at_the_end=True)

    def _look(
        self, batch: Batch, before: dict[str, torch.Tensor], costs: Sequence[str], at_the_end: bool = False
    ) -> None:
        """Everything the instruments see of a step that was just taken; at the end, of none."""
        if not before:
            raise UserError("the model has no parameter that is trained (requires_grad)")
        if not len(batch.inputs) or not len(batch.inputs[0]):
            return  # an empty batch shows nothing
        self._start |= {n: t.clone() for n, t in before.items() if n not in self._start}  # the later unfrozen too
        passes = "pass" in costs or not self.history.facts.get("layers")
        after = before
        if passes:
            after = {n: p.detach().clone() for n, p in self.model.named_parameters() if n in before}
        moved = not at_the_end and (self._stepped or self.optimizer is None)
        batch = batch.to(next(iter(after.values())).device)
        with undisturbed(self.model, self._held) as noise:
            self._as_trained(at_the_end)
            subject = live_subject(self.model, self.loss_fn, batch, noise)
            buffers = live_tensors(self.model, trained=False)
            targets = batch.inputs[0] if batch.targets is None else batch.targets
            rows = min(32, len(targets))
            arguments = (subject, before, after, self._start, buffers, batch.inputs, targets)
            sight = look(*arguments, rows=rows, passes=passes)
            if passes and not self.history.facts.get("layers"):
                self.history.facts["layers"] = network_facts(sight)
                self._find_fresh(self.history.facts["layers"])
                self.history.facts["unused"] = unused_parameters(subject, before, buffers, batch)
                self.history.facts["batch"] = len(targets)
                with self._guarded("asking the loss"):
                    tensors = {**before, **buffers}
                    say = partial(said_by, self.model, tensors, batch)
                    self.judge.meet(self.history.facts, self.loss_fn, say, sight.outputs, batch)
                    self.history.facts |= loss_facts(self.loss_fn, sight.outputs, batch, self.judge.classes or 0)
            for cost in costs:
                try:
                    seen = measured(sight, (cost,))
                except Exception as error:
                    self.cadence.failed(cost)
                    self.note_fault(f"{cost} instruments", error)
                    continue
                for name, values in seen.items():
                    if moved or name not in _STEP_ONLY:
                        for layer, value in values.items():
                            self.history.add(name, self.steps, float(value), layer)
            if passes:
                suspects = [*self.history.facts.get("unused", []), *self.history.facts.get("without optimizer", [])]
                own = [n for n in dict.fromkeys(suspects) if n in before]
                self.history.facts["still"] = [n for n in own if torch.equal(before[n], self._start[n])]
                self.judge.see_targets(self.history, self.steps, batch)
                self.judge.appraise(
                    self.history, self.steps, batch, {**before, **buffers},
                    lambda rows: live_subject(self.model, self.loss_fn, rows, noise),
                )  # fmt: skip
        if at_the_end:
            self.history.facts["steps"] = self.steps
            return
        dispersion = self.batches.dispersion(self.steps, len(targets))
        if dispersion is not None:
            self.history.add("order dispersion", self.steps, dispersion)
        if passes:
            self._look_at_surroundings()

    def _find_fresh(self, layers: Sequence[dict[str, Any]]) -> None:
        """Of layers that are not trained, whether all are as chance left them: then they were hardly meant to stay."""
        modules = dict(self.model.named_modules())
        still = [layer for layer in layers if layer["tensors"] and not layer["trained"] and layer["name"] in modules]
        fresh = [looks_fresh(modules[layer["name"]]) for layer in still]
        for layer in still:
            layer["fresh"] = False not in fresh and True in fresh

    def _as_trained(self, at_the_end: bool) -> None:
        """Remember which parts of the model are in training mode; at the end, let them be so again."""
        if not at_the_end:
            self._modes = {module: module.training for module in self.model.modules()}
        for module in self.model.modules():
            module.training = self._modes.get(module, module.training)

    def _look_at_surroundings(self) -> None:
        facts = self.history.facts
        facts["steps"] = self.steps + 1
        facts["stepped"] = facts.get("stepped", False) or self._stepped
        self.history.add("moving loss", self.steps, float(self.players.moving()))
        self.history.add("evaluation mode", self.steps, float(in_evaluation(self.model)))
        if self.optimizer is not None and self.optimizer.param_groups:
            self.history.add("rate", self.steps, float(self.optimizer.param_groups[0].get("lr", 0.0)))
        memory = resident_megabytes()
        if memory is not None:
            self.history.add("memory", self.steps, memory)


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
