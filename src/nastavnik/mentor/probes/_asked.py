"""A network and its loss, as they stand at one moment, to be asked questions of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

import torch
from torch import nn
from torch.nn.utils.stateless import _reparametrize_module
from torch.utils._pytree import tree_map

from nastavnik.mentor._batch import Batch
from nastavnik.mentor._live import Loss, Tensors, in_modes, loss_of, outputs_of, own_copy, seeded, set_random_state
from nastavnik.mentor._places import class_axis, table_of

_MOST_ROWS = 64  # of a batch that questions are put with
STEADY = 1e-6  # of the outputs' deviation: two passes that differ by less are the same
_FINE = 1e-3  # of the size of what is said: such differences come of the order of additions


class Asked:
    """Runs a model and its loss on copies; whoever makes one puts buffers, modes and random states back.

    Args:
        model: the network, its modules in the modes in which they are trained.
        loss_fn: its loss, None where the model gives one.
        batch: rows as the training is fed them; questions are put with the first of them.
        tensors: all parameters and buffers by name.
        facts: what is known of the training beside.
        start: the trained parameters as they began.
        rows: how many of the batch's questions are put with.
    """

    def __init__(
        self,
        model: nn.Module,
        loss_fn: Loss | None,
        batch: Batch,
        tensors: Tensors,
        facts: Mapping[str, Any] | None = None,
        start: Tensors | None = None,
        rows: int = _MOST_ROWS,
    ) -> None:
        self.model, self.loss_fn = model, None if loss_fn is None else own_copy(loss_fn)
        self.whole, self.batch = batch, batch.first(rows)
        self.tensors, self.facts, self.start = tensors, facts or {}, start or {}

    # Running

    def say(
        self,
        batch: Batch | None = None,
        *,
        modes: Mapping[nn.Module, bool] | None = None,
        seed: int = 0,
        tensors: Mapping[str, torch.Tensor] | None = None,
    ) -> Any:
        """What the model says of a batch, in evaluation mode unless other ``modes`` are asked for."""
        batch = self.batch if batch is None else batch
        args, kwargs, _ = batch.rebuilt([t.clone() for t in batch.inputs])
        own = {n: t.clone() for n, t in self.tensors.items()}
        modes = dict.fromkeys(self.model.modules(), False) if modes is None else modes
        set_random_state(seeded(self.model, seed))
        with torch.enable_grad(), in_modes(self.model, modes), _worn(self.model, {**own, **(tensors or {})}):
            return tree_map(_detached, self.model(*args, **kwargs))  # some models take gradients of their own

    def outputs(self, batch: Batch | None = None, **options: Any) -> torch.Tensor | None:
        """Its outputs; None where it does not take such a batch, however it says so."""
        try:
            return outputs_of(self.say(batch, **options)).float()
        except Exception:
            return None

    def loss(self, said: Any, batch: Batch | None = None) -> float | None:
        """The mean loss of what it said; None where the loss does not take that."""
        batch = self.batch if batch is None else batch
        y = batch.rebuilt(batch.inputs)[2]
        try:
            with torch.no_grad(), _worn(self.model, self.tensors):
                return float(loss_of(self.loss_fn, said, y).double().mean())
        except Exception:
            return None

    # What several questions need

    @property
    def rows(self) -> int:
        """How many rows it is asked about; 0 where inputs and targets are of different lengths."""
        lengths = {len(t) for t in self.batch.inputs}
        return lengths.pop() if len(lengths) == 1 else 0

    @cached_property
    def base(self) -> torch.Tensor | None:
        """What it says of the batch in evaluation mode."""
        return self.outputs()

    @cached_property
    def carried(self) -> float:
        """How much two evaluations differ that draw the same random numbers: what is carried from call to call."""
        again = self.outputs()
        return 0.0 if again is None or self.base is None else self.apart(again, self.base)

    @property
    def steady(self) -> bool:
        """Whether evaluations are the same whatever is drawn."""
        return self.noise <= STEADY

    @cached_property
    def tells(self) -> bool:
        """Whether it says different things of different rows, and the same again where the same is drawn."""
        base = self.base
        if base is None or not self.rows or len(base) < 2 or self.carried > STEADY:
            return False
        size, spread = float(base.double().square().mean().sqrt()), float(base.double().std(0, correction=0).mean())
        return spread > STEADY * size

    @property
    def targets(self) -> torch.Tensor | None:
        """What rows are judged by."""
        return self.batch.targets

    @property
    def axis(self) -> int | None:
        """Where the classes of one place lie."""
        return None if self.base is None else class_axis(self.base, self.targets)

    @cached_property
    def noise(self) -> float:
        """How much two evaluations of the same rows differ."""
        again = self.outputs(seed=1)
        return 0.0 if again is None or self.base is None else self.apart(again, self.base)

    def apart(self, found: torch.Tensor, base: torch.Tensor) -> float:
        """Root mean square difference over the deviation of what is said of rows; 0 where it is but rounding."""
        found, base = found.double(), base.double()
        away = float((found - base).square().mean().sqrt())
        size, spread = float(base.square().mean().sqrt()), float(base.var(0, correction=0).mean().sqrt())
        return 0.0 if not away > _FINE * size else away / max(spread, _FINE * size)

    def with_input(self, at: int, changed: torch.Tensor) -> Batch:
        """The batch with one of its tensors changed."""
        return self.batch.holding([changed if i == at else t for i, t in enumerate(self.batch.inputs)])

    def first_half_changes(self, at: int) -> float | None:
        """How much what is said of the first half of the steps changes when an input's later ones are exchanged.

        None where nothing is told step by step.
        """
        x, base = self.batch.inputs[at], self.base
        steps, half = x.shape[1], x.shape[1] // 2
        own = None if base is None else self.stepwise(base, steps)
        if own is None or half < 2:
            return None
        later = x.clone()
        later[:, half:] = x.roll(1, 0)[:, half:]
        said = self.outputs(self.with_input(at, later))
        seen = None if said is None else self.stepwise(said, steps)
        return None if seen is None else self.apart(seen[:, :half], own[:, :half])

    def stepwise(self, outputs: torch.Tensor, steps: int) -> torch.Tensor | None:
        """Outputs [n, T, …] of so many steps; None where they are not told step by step."""
        if outputs.ndim >= 3 and self.axis == 1 and outputs.shape[2] == steps:
            return outputs.movedim(1, -1)
        if outputs.ndim >= 2 and outputs.shape[1] == steps and len(outputs) == self.rows:
            wide = outputs.ndim >= 3 or (self.targets is not None and self.targets.shape[:2] == outputs.shape[:2])
            return outputs if wide else None
        if outputs.ndim == 2 and self.axis == 1 and len(outputs) == self.rows * steps:
            return outputs.reshape(self.rows, steps, -1)
        return None

    @property
    def table(self) -> Callable[[torch.Tensor], torch.Tensor]:
        """Outputs as [places, V]."""
        return table_of(self.axis)


def _detached(leaf: Any) -> Any:
    return leaf.detach() if isinstance(leaf, torch.Tensor) else leaf


def _worn(model: nn.Module, tensors: Mapping[str, torch.Tensor]) -> Any:
    return _reparametrize_module(model, dict(tensors), tie_weights=True)
