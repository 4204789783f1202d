"""The mentor as a callback of Hugging Face's Trainer: ``Trainer(callbacks=[MentorCallback()])``."""

from __future__ import annotations

from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from nastavnik.mentor._mentor import Mentor


class MentorCallback(TrainerCallback):
    """Watches a model of transformers train; ``callback.mentor`` has the findings, printed at the end.

    The batch is taken from the model's own call, the loss is the one that the model gives.

    Args:
        quiet: print nothing at the end.
        **options: of ``nastavnik.Mentor``.
    """

    def __init__(self, *, quiet: bool = False, **options: Any) -> None:
        self._quiet, self._options = quiet, options
        self.mentor: Mentor | None = None
        self._step: Any = None

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Begin to watch."""
        optimizer = kwargs.get("optimizer")
        self.mentor = Mentor(kwargs["model"], getattr(optimizer, "optimizer", optimizer), None, **self._options)

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Before a step."""
        assert self.mentor is not None
        self._step = self.mentor.step()
        self._step.__enter__()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """After it."""
        if self._step is not None:
            self._step.__exit__(None, None, None)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Say what was found."""
        assert self.mentor is not None
        self.mentor.close()
        if not self._quiet:
            print(self.mentor)
