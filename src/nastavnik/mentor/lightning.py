"""The mentor as a callback of Lightning: ``Trainer(callbacks=[MentorCallback()])``; needs ``lightning``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import lightning.pytorch as pl
import torch
from torch.nn import functional as F

from nastavnik.mentor._mentor import Mentor


def usual_loss(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Cross-entropy for whole-number targets, squared error for others."""
    if targets.is_floating_point():
        return F.mse_loss(outputs.reshape(targets.shape), targets)
    return F.cross_entropy(outputs, targets)


usual_loss.expects = "logits"  # type: ignore[attr-defined]


class MentorCallback(pl.Callback):
    """Watches a ``LightningModule`` train; ``callback.mentor`` has the findings, printed at the end.

    The module is looked at as ``loss_fn(module(x), y)``: its ``training_step`` is not called again.

    Args:
        loss_fn: what training_step minimizes; by default cross-entropy for whole numbers, squared error otherwise.
        split: what makes (x, y) of a batch; by default the batch is one already.
        quiet: print nothing at the end.
        **options: of ``nastavnik.Mentor``.
    """

    def __init__(
        self,
        loss_fn: Callable[[Any, Any], torch.Tensor] = usual_loss,
        *,
        split: Callable[[Any], tuple[Any, Any]] = tuple,
        quiet: bool = False,
        **options: Any,
    ) -> None:
        self._loss_fn, self._split, self._quiet, self._options = loss_fn, split, quiet, options
        self.mentor: Mentor | None = None
        self._step: Any = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin to watch."""
        optimizer = trainer.optimizers[0] if trainer.optimizers else None
        self.mentor = Mentor(pl_module, optimizer, self._loss_fn, **self._options)

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Before a step."""
        assert self.mentor is not None
        self._step = None
        try:
            x, y = self._split(batch)
        except Exception as error:  # a batch of another form: nothing is seen of it, and that is said
            self.mentor.loop.note_fault("split(batch) must give (x, y)", error)
            return
        self._step = self.mentor.step(x, y)
        self._step.__enter__()

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: torch.Tensor | Mapping[str, Any] | None,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """After it."""
        if self._step is not None:
            self._step.__exit__(None, None, None)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Say what was found."""
        assert self.mentor is not None
        self.mentor.close()
        if not self._quiet:
            print(self.mentor)
