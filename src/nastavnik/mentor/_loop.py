"""The loop that is watched: what trains in it, and what is kept of its steps until somebody asks."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from torch import nn

from nastavnik.mentor._batch import Batch
from nastavnik.mentor._batches import Batches
from nastavnik.mentor._cadence import Cadence, trains_alone
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
from nastavnik.trace import History

_FAULT = 300  # characters of what an error says
_COMPARED = 4  # first looks, and every fourth later, compare the gradients used with those computed


class Guard:
    """Faults of the mentor's own end here: they are noted, and the user's loop goes on."""

    __slots__ = ("_loop", "_what")

    def __init__(self, loop: Loop, what: str) -> None:
        self._loop, self._what = loop, what

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if not isinstance(error, Exception):
            return False
        self._loop.note_fault(self._what, error)
        return True


class Loop:
    """A network, what trains it, how far it is, and the steps that were kept.

    ``steps`` were taken, ``seconds`` of them spent looking; before ``wake`` there is nothing to do. A step is
    ``inside`` while it runs, ``looking`` when it is to be kept, ``comparing`` when gradients are copied as an optimizer
    takes them (``used``). ``fresh`` says whether a gradient of this loop arrived since the last step taken, if that is
    known, ``stepped`` whether an optimizer has taken this one, ``left`` when the last one ended.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizers: Sequence[Any],
        loss_fn: Callable[[Any, Any], torch.Tensor] | None,
        judge: Judge,
        cadence: Cadence,
        on: bool,
    ) -> None:
        self.model, self.optimizers, self.loss_fn = model, optimizers, loss_fn
        self.judge, self.cadence, self.on = judge, cadence, on
        self.history = History()
        self.faults: list[str] = []
        self.album, self.batches, self.players = Album(), Batches(), Players(self)
        self.looker = Looker(model, loss_fn, judge, self.history, cadence, self.note_fault)
        self.steps = self.wake = 0
        self.seconds = 0.0
        self.looking = self.inside = self.comparing = self.stepped = False
        self.fresh: bool | None = None
        self.trained: list[torch.Tensor] = []  # by an optimizer, when the hooks were attached
        self.used: Tensors = {}
        self.left = self._begun = time.perf_counter()
        self._held: list[nn.Module] = []  # by the loss
        self._modes: dict[nn.Module, bool] = {}  # training or not, at the last look
        self._ended = -1  # the steps taken when it last looked at the end
        self._handles: list[Any] = []
        if on:
            with self.guarded("the start"):
                self._held = held_modules(loss_fn)
                self._begin_facts()
                self.album.prepare(model)

    # What trains in it

    @property
    def groups(self) -> list[dict[str, Any]]:
        """All optimizers' groups of parameters."""
        return [group for optimizer in self.optimizers for group in optimizer.param_groups]

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

    def _held_parameters(self) -> list[torch.Tensor]:
        """The parameters that are trained and that an optimizer holds."""
        held = {id(p) for group in self.groups for p in group["params"]}
        return [p for p in self.model.parameters() if p.requires_grad and id(p) in held]

    def _begin_facts(self) -> None:
        facts = self.history.facts
        if self.optimizers:
            group = self.groups[0] if self.groups else {}
            facts["optimizer"] = type(self.optimizers[0]).__name__
            for name in ("weight decay", "momentum", "eps"):
                facts[name] = float(group.get(name.replace(" ", "_"), 0.0) or 0.0)
            facts["learning rate"] = float(group.get("lr", 0.0))
            held = {id(p) for p in self._held_parameters()}
            trained = [(n, id(p)) for n, p in self.model.named_parameters() if p.requires_grad]
            facts["without optimizer"] = [n for n, own in trained if own not in held]
            facts["optimizer holds none"] = bool(trained) and not held

    # Hooks

    def attach(self) -> None:
        """Hooks that only set a flag (a gradient arrived, an optimizer has used it), or copy it before a look."""
        if self._handles:
            return
        trained = self.trained = self._held_parameters()
        if not trained:
            return
        self.fresh = None

        def arrived(p: torch.Tensor) -> None:
            if self.inside:  # from elsewhere, as from another network's turn, it is nobody's to keep
                self.fresh = True

        def using(optimizer: torch.optim.Optimizer, *_: Any) -> None:
            if self.comparing and not isinstance(optimizer, torch.optim.LBFGS):
                with self.guarded("gradients used"):
                    self._copy_gradients(optimizer)

        def used(*_: Any) -> None:
            self.fresh, self.stepped = False, True

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

    def watch_gradients(self) -> Any:
        """See whether the first gradient of a step is added to one that the optimizer has already used: a hook."""
        trained = self.trained
        if not trained or self.steps == 0:
            return None
        asked: list[bool] = []

        def arriving(gradient: torch.Tensor) -> None:
            if asked:
                return
            asked.append(True)
            with self.guarded("a gradient"):
                old = trained[-1].grad
                if self.fresh is not None:
                    own = old.coalesce().values() if old is not None and old.is_sparse else old
                    left = not self.fresh and own is not None and bool(own.any())
                    self.history.add("leftover gradient", self.steps, float(left))

        return trained[-1].register_hook(arriving)

    def detach(self) -> None:
        """Take its hooks off the model and the optimizers."""
        if not self._handles:
            return
        for handle in self._handles:
            handle.remove()
        self._handles = []
        for p in self.model.parameters():
            unhooked(p)

    # When it looks

    def due(self) -> list[str]:
        """The classes of instruments that look at this step."""
        return self.cadence.due(self.steps, self.seconds, time.perf_counter() - self._begun)

    def due_next(self) -> bool:
        """Whether the step after this one may be looked at."""
        return self.cadence.after(self.steps) == self.steps + 1

    def begin(self) -> Tensors:
        """A step begins that is to be kept: its weights, and whether its gradients are copied too."""
        self.used = {}
        self.comparing = self.album.taken < _COMPARED or self.album.taken % _COMPARED == 0
        return live_tensors(self.model, self.album.arena.copy)

    def end(self) -> None:
        """A step has ended: find the next one at which there is anything to do, a look, or the step before one."""
        self.wake = self.cadence.after(self.steps) - 1
        self.steps += 1
        self.left = time.perf_counter()

    # Faults

    def guarded(self, what: str) -> Guard:
        """A context in which its own faults end, and are reported; the user's loop goes on."""
        return Guard(self, what)

    def note_fault(self, what: str, error: Exception) -> None:
        """Keep a fault of the mentor's own, once, to be reported."""
        where = traceback.extract_tb(error.__traceback__)[-1]
        said = next(iter(str(error).splitlines()), "")[:_FAULT]
        fault = f"{what}: {type(error).__name__}: {said} ({Path(where.filename).name}, line {where.lineno})"
        if fault not in self.faults:
            self.faults.append(fault)

    # Looking, at once or later

    def keep(self, batch: Batch, before: Tensors, costs: Sequence[str]) -> None:
        """Keep a step that was just taken, to be looked at when somebody asks; at once where memory has no room."""
        if not batch.inputs or not len(batch.inputs[0]):
            return  # an empty batch shows nothing
        after = {n: self.album.arena.copy(p) for n, p in self.model.named_parameters() if n in before}
        self._modes = {module: module.training for module in self.model.modules()}
        self._add(batch, before, after, costs, self.used, self.stepped or not self.optimizers)
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
        self.album.add(
            Snapshot(
                self.steps, batch, tuple(costs), before, after, self.album.fixed(self.model), tuple(beside),
                self._modes, kept_tensors(self.model), used, moved, ends,
            )
        )  # fmt: skip

    def settle(self) -> None:
        """Look at everything that was kept."""
        for snapshot in self.album.take():
            with self.guarded("a look"):
                self.looker.look(snapshot, self._held)

    def look_at_the_end(self) -> None:
        """Look once more, at the network as it is now, so that nothing is said of it that is past.

        Left out where several processes train: the others do not look now.
        """
        first = self.judge.first
        if self.steps == self._ended or "pass" not in self.cadence.costs or first is None or not trains_alone():
            return
        self._ended = self.steps
        before, seen = live_tensors(self.model), self.history.steps("batch loss")
        costs = () if len(seen) and seen[-1] >= self.steps - 1 else ("pass",)  # it was just looked at: only ask it
        self._add(first, before, before, costs, {}, False, ends=True)
        self.settle()

    def _see_surroundings(self) -> None:
        facts, history = self.history.facts, self.history
        facts["stepped"] = facts.get("stepped", False) or self.stepped
        history.add("moving loss", self.steps, float(self.players.moving()))
        history.add("evaluation mode", self.steps, float(in_evaluation(self.model)))
        groups = self.groups
        if groups:
            history.add("rate", self.steps, float(groups[0].get("lr", 0.0)))
        memory = resident_megabytes()
        if memory is not None:
            history.add("memory", self.steps, memory - self.album.bytes / 2**20)
