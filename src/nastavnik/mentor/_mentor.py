"""The mentor of any PyTorch loop: looks at some steps, keeps what it saw, and never stands in the way."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from nastavnik.arguments import checked
from nastavnik.errors import UserError
from nastavnik.files import plain, read_json, settle, together, write_json
from nastavnik.mentor._arguments import bare, cadences, check_arguments, check_rows, optimizers_of
from nastavnik.mentor._batch import flat_batch
from nastavnik.mentor._batches import FIRST, Batches
from nastavnik.mentor._cadence import Cadence
from nastavnik.mentor._diagnosis import Finding, diagnose
from nastavnik.mentor._judging import Judge
from nastavnik.mentor._loop import Loop
from nastavnik.mentor._steps import Idle, Step
from nastavnik.mentor._words import in_words
from nastavnik.schemas import HISTORY
from nastavnik.trace import History


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
        model, optimizers = bare(model), optimizers_of(optimizer)
        costs, own = cadences(costs, every)
        check_arguments(model, optimizers, loss_fn, costs, own, budget)
        for part, rows in (("train", train), ("validation", validation)):
            check_rows(part, rows)
        self.judge = Judge(train, validation, classes)
        self.loop = Loop(model, optimizers, loss_fn, self.judge, Cadence(costs, own, budget), on)
        self._idle = Idle(self.loop, self)

    # A step

    def step(self, x: Any = None, y: Any = None) -> Step[Mentor] | Idle[Mentor]:
        """A context around one step of training on the batch (x, y); x may be a tensor, or a tuple or dict of them.

        Without x, the batch is taken from the model's own first call inside the context.
        """
        loop = self.loop
        if loop.steps < FIRST and loop.on:
            loop.batches.refer(x, y)
        return self._idle if loop.steps < loop.wake or not loop.on else Step(loop, self, x, y)

    def terms(self, **losses: torch.Tensor | float) -> None:
        """Tell the parts a loss is the sum of, at each step: ``mentor.terms(data=a, physics=b)``."""
        loop = self.loop
        if loop.on and loop.looking:
            with loop.guarded("terms"):
                for name, value in losses.items():
                    number = float(value.detach()) if isinstance(value, torch.Tensor) else float(value)
                    loop.history.facts["terms told"] = True
                    loop.history.add("loss term", loop.steps, number, name.encode(errors="replace").decode())

    @property
    def model(self) -> nn.Module:
        """What is trained."""
        return self.loop.model

    @property
    def optimizer(self) -> torch.optim.Optimizer | None:
        """What trains the model, the first of several."""
        return self.loop.optimizers[0] if self.loop.optimizers else None

    @property
    def on(self) -> bool:
        """Whether it watches at all."""
        return self.loop.on

    @property
    def steps(self) -> int:
        """How many were taken."""
        return self.loop.steps

    @property
    def looking(self) -> bool:
        """Whether the step that runs is looked at."""
        return self.loop.looking

    @property
    def history(self) -> History:
        """Everything that was seen so far."""
        self.loop.settle()
        return self.loop.history

    @property
    def faults(self) -> list[str]:
        """The mentor's own faults, each once."""
        self.loop.settle()
        return self.loop.faults

    @property
    def classes(self) -> int | None:
        """How many the target has, 0 for numbers; None before that is known."""
        self.loop.settle()
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
        loop = self.loop
        if not loop.on:
            return []
        suppress = [suppress] if isinstance(suppress, str) else list(suppress)
        loop.settle()
        history = loop.history
        with loop.guarded("facts"):
            dispersion = None if self.judge.axis is not None else loop.batches.dispersion()  # words are never shuffled
            if dispersion is not None:
                history.values.pop(("order dispersion", ""), None)  # of all batches, anew
                history.add("order dispersion", loop.steps, dispersion)
            self.judge.data_facts(history.facts, loop.batches.joined())
        with loop.guarded("the end"):
            loop.look_at_the_end()
        history.facts["steps taken"] = loop.steps
        return diagnose(
            history, suppress=suppress, broken=lambda rule, error: loop.note_fault(f"the rule {rule}", error)
        )

    def __str__(self) -> str:
        """The findings as a text."""
        found = self.findings()
        if not found and not self.loop.looker.looks:
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
        if facts.get("layers") and not (self.loop.loss_fn is None or facts.get("scored", True)):
            said.append("outputs could not be held against targets: nothing is said of chance or of single rows")
        elif facts.get("layers") and not len(self.history.series("training rows' score")):
            said.append("targets are of no form that is scored: of how well rows are told only the loss speaks")
        if not self.loop.optimizers:
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
        self.loop.history.facts["faults"] = self.faults
        history = plain(self.history.to_json())
        try:
            with together(folder) as stage:
                write_json(stage / "history.json", history, HISTORY)
                write_json(stage / "findings.json", {"findings": found, "faults": self.faults})
        except UserError as error:
            raise UserError(f"{folder} cannot be written to: {error}") from error

    def close(self) -> None:
        """Take its hooks off the model and the optimizer."""
        self.loop.detach()


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
