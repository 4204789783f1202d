"""What is seen of a snapshot: the instruments' numbers, the probes' answers, how rows of each part are told."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import nn

from nastavnik.errors import UserError
from nastavnik.instruments import Sight, look, looks_fresh, measured, network_facts
from nastavnik.mentor._batch import Batch
from nastavnik.mentor._cadence import Cadence
from nastavnik.mentor._judging import Judge
from nastavnik.mentor._live import Loss, live_subject, own_copy, seeded, unused_parameters
from nastavnik.mentor._places import table_of
from nastavnik.mentor._reading import skills
from nastavnik.mentor._snapshot import Snapshot
from nastavnik.mentor.probes import PROBES, Asked, FirstUndefined, eight_rows, loss_facts, silent_classes, terms_of
from nastavnik.trace import History

_STEP_ONLY = ("layer update ratio", "predicted change", "actual change")
_POOR = 0.3  # of the way from chance to perfect
_ASKED_EVERY = 4  # looks are questions put again
Told = Callable[[str, Exception], None]


class Looker:
    """Looks at snapshots of one model and writes down what it sees.

    Args:
        model: what is trained.
        loss_fn: its loss, None where the model gives one.
        judge: the rows it is judged by.
        history: where everything is written.
        cadence: told of classes of instruments that fail.
        failed: told of the mentor's own faults.
    """

    def __init__(
        self, model: nn.Module, loss_fn: Loss | None, judge: Judge, history: History, cadence: Cadence, failed: Told
    ) -> None:
        self.model, self.loss_fn, self.judge, self.history = model, loss_fn, judge, history
        self.cadence, self.failed = cadence, failed
        self.start: dict[str, torch.Tensor] = {}
        self.looks = 0

    def look(self, snapshot: Snapshot, held: Sequence[nn.Module]) -> None:
        """Everything that is to be seen of a step that was taken; at the end, of none."""
        if not snapshot.before:
            raise UserError("the model has no parameter that is trained (requires_grad)")
        if not snapshot.batch.inputs or not len(snapshot.batch.inputs[0]):
            return  # an empty batch shows nothing
        snapshot = replace(snapshot, batch=snapshot.batch.to(next(iter(snapshot.after.values())).device))
        self.start |= {n: t for n, t in snapshot.before.items() if n not in self.start}  # the later unfrozen too
        with snapshot.again(self.model, held):
            if snapshot.costs:
                self._look(snapshot)
            self.history.facts["steps"] = snapshot.step + (not snapshot.ends)
            first = self.looks == 0
            self.looks += 1
            if snapshot.ends or ("pass" in snapshot.costs and (first or self.looks % _ASKED_EVERY == 0)):
                self._ask(snapshot)

    def _look(self, snapshot: Snapshot) -> None:
        facts, step = self.history.facts, snapshot.step
        passes = "pass" in snapshot.costs or not facts.get("layers")
        batch = snapshot.batch
        noise = seeded(self.model, step)
        table = table_of(self.judge.axis)
        subject = live_subject(self.model, self.loss_fn, batch, noise, table)
        targets = batch.inputs[0] if batch.targets is None else batch.targets
        rows = min(32, len(targets))
        arguments = (subject, snapshot.before, snapshot.after, self.start, snapshot.fixed, batch.inputs, targets)
        sight = look(*arguments, rows=rows, passes=passes)
        if passes and not facts.get("layers"):
            sight = self._meet(sight, snapshot)
        for cost in snapshot.costs:
            self._measure(sight, cost, snapshot)
        if passes:
            self._look_at_steps(sight, snapshot)
            self._look_at_loss(sight, snapshot)
            suspects = [*facts.get("unused", []), *facts.get("without optimizer", [])]
            own = [n for n in dict.fromkeys(suspects) if n in snapshot.before]
            facts["still"] = [n for n in own if torch.equal(snapshot.before[n], self.start[n])]
            self.judge.see_targets(self.history, step, batch)
            self.judge.appraise(
                self.history, step, batch, {**snapshot.before, **snapshot.fixed},
                lambda own: live_subject(self.model, self.loss_fn, own, noise),
            )  # fmt: skip

    def _meet(self, sight: Sight, snapshot: Snapshot) -> Sight:
        """What is known from the first look on: the layers, what has no part in the loss, what the loss expects."""
        facts, batch = self.history.facts, snapshot.batch
        facts["layers"] = network_facts(sight)
        self._find_fresh(facts["layers"])
        subject = live_subject(self.model, self.loss_fn, batch, seeded(self.model, snapshot.step))
        facts["unused"] = unused_parameters(subject, snapshot.before, snapshot.fixed, batch)
        self.judge.sizes = _taken_for_sizes(sight, batch)
        facts["batch"] = len(batch.inputs[0] if batch.targets is None else batch.targets)
        try:
            asked = Asked(self.model, self.loss_fn, batch, {**snapshot.before, **snapshot.fixed})
            say = partial(asked.say, batch)
            self.judge.meet(facts, self.loss_fn, say, sight.outputs, batch)
            facts |= loss_facts(self.loss_fn, sight.outputs, batch, self.judge.classes or 0)
            silent = silent_classes(asked)
            self.judge.ignored = silent.get("silent classes", []) if silent.get("silent at the ends") else []
        except Exception as error:
            self.failed("asking the loss", error)
        return sight._replace(outputs=table_of(self.judge.axis)(sight.outputs))

    def _measure(self, sight: Sight, cost: str, snapshot: Snapshot) -> None:
        try:
            seen = measured(sight, (cost,))
        except Exception as error:
            self.cadence.failed(cost)
            self.failed(f"{cost} instruments", error)
            return
        for name, values in seen.items():
            if snapshot.moved or name not in _STEP_ONLY:
                for layer, value in values.items():
                    self.history.add(name, snapshot.step, float(value), layer)

    def _look_at_steps(self, sight: Sight, snapshot: Snapshot) -> None:
        """How the gradients that the optimizer used compare with those of the loss on this batch."""
        own = [(sight.moment.gradients[n], g) for n, g in snapshot.used.items() if n in sight.moment.gradients]
        own = [(a, b) for a, b in own if a.shape == b.shape]
        if not own:
            return
        told = torch.cat([a.reshape(-1).double() for a, _ in own])
        used = torch.cat([b.to_dense().reshape(-1).double() if b.is_sparse else b.reshape(-1).double() for _, b in own])
        length, taken = float(told.norm()), float(used.norm())
        if length > 0 and torch.isfinite(used).all():
            self.history.add("gradient used", snapshot.step, taken / length)
            self.history.add("gradient agreement", snapshot.step, float(told @ used) / max(length * taken, 1e-300))
        self.history.add("gradient root mean square", snapshot.step, taken / max(len(used), 1) ** 0.5)
        halves = [n for n, p in snapshot.before.items() if p.dtype in (torch.float16, torch.bfloat16)]
        lost = [(snapshot.after[n] == snapshot.before[n]) & (sight.moment.gradients[n] != 0) for n in halves]
        if lost and snapshot.moved:
            share = sum(float(t.sum()) for t in lost) / max(sum(t.numel() for t in lost), 1)
            self.history.add("steps lost in rounding", snapshot.step, share)

    def _look_at_loss(self, sight: Sight, snapshot: Snapshot) -> None:
        """The terms it is the sum of, and where it first became no number."""
        facts, batch = self.history.facts, snapshot.batch
        asked = Asked(self.model, self.loss_fn, batch, {**snapshot.before, **snapshot.fixed})
        say = partial(asked.say, batch, modes={m: m.training for m in self.model.modules()}, seed=snapshot.step)
        if not bool(torch.isfinite(sight.losses).all()) and "first undefined" not in facts:
            with FirstUndefined() as seen:
                asked.loss(say(), batch)
            if seen.found is not None:
                facts["first undefined"] = seen.found
        if self.loss_fn is not None and not facts.get("terms told"):
            said, y = say(), batch.rebuilt(batch.inputs)[2]
            try:
                terms = terms_of(partial(own_copy(self.loss_fn), said, y))
            except Exception as error:
                self.failed("the loss's terms", error)
                terms = {}
            facts["terms told"] = not terms  # of what has none is not asked again
            for name, value in terms.items():
                self.history.add("loss term", snapshot.step, value, name)

    def _ask(self, snapshot: Snapshot) -> None:
        """Put all questions."""
        batch = snapshot.batch
        tensors = {**snapshot.after, **snapshot.fixed}
        asked = Asked(self.model, self.loss_fn, batch, tensors, self.history.facts, self.start)
        for name, probe in PROBES.items():
            try:
                answers = probe(asked)
            except Exception as error:
                self.failed(f"the question {name}", error)
                continue
            self._write(answers, snapshot.step)
        if snapshot.ends and self._went_badly():
            try:
                self._write(eight_rows(asked), snapshot.step)
                self._write(self.judge.trees(), snapshot.step)
            except Exception as error:
                self.failed("whether it could be learned at all", error)

    def _went_badly(self) -> bool:
        """Whether rows are told hardly better than by chance: those of the part that is known worse."""
        known = [skills(self.history, part)[-1:] for part in ("training", "validation")]
        return any(len(k) and not k[-1] > _POOR for k in known)

    def _write(self, answers: dict[str, Any], step: int) -> None:
        """Numbers as measurements of this step, anything else as facts."""
        for what, answer in answers.items():
            if isinstance(answer, float):
                self.history.add(what, step, answer)
            else:
                self.history.facts[what] = answer

    def _find_fresh(self, layers: Sequence[dict[str, Any]]) -> None:
        """Of layers that are not trained, whether all are as chance left them: then they were hardly meant to stay."""
        modules = dict(self.model.named_modules())
        still = [layer for layer in layers if layer["tensors"] and not layer["trained"] and layer["name"] in modules]
        fresh = [looks_fresh(modules[layer["name"]]) for layer in still]
        for layer in still:
            layer["fresh"] = False not in fresh and True in fresh


def _taken_for_sizes(sight: Sight, batch: Batch) -> bool:
    """Whether whole numbers among the inputs are multiplied by a layer's weights, and not looked up in a table."""
    first = next((layer.given for layer in sight.weighted), None)
    whole = [t for t in batch.numbers if not t.is_floating_point()]
    return first is not None and any(t.shape == first.shape and bool((t == first).all()) for t in whole)
