"""The rows a live network is judged by, look by look, and whether its outputs can be scored against their targets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from nastavnik.instruments import Subject, appraise, data_facts, stuck_share
from nastavnik.mentor._live import Batch, flat_batch
from nastavnik.mentor._probes import scored_as
from nastavnik.trace import History

_ROWS = 512  # of each part that are appraised


class Judge:
    """Appraises given rows of each part; without training rows, those of the first batch.

    Args:
        train: rows that are trained on, (x, y), if any are given.
        validation: rows that are not.
        classes: how many the target has, 0 for numbers, None to be found out.
    """

    def __init__(self, train: tuple[Any, Any] | None, validation: tuple[Any, Any] | None, classes: int | None) -> None:
        self.parts = {"training": train, "validation": validation}
        self.classes = classes
        self.first: Batch | None = None  # rows of the first batch
        self._given = classes is not None

    def meet(
        self, facts: dict[str, Any], loss_fn: Any, say: Callable[[], Any], outputs: torch.Tensor, batch: Batch
    ) -> None:
        """Find out at the first look what the target is, and whether the loss holds outputs against it.

        Whole-number targets and several outputs are classes; so are zeros and ones with a logistic loss.
        """
        targets = batch.inputs[0] if batch.targets is None else batch.targets
        if self.classes is None:
            one = outputs.reshape(len(outputs), -1).shape[1] == 1
            whole = not targets.is_floating_point() and targets.numel() == len(targets) and outputs.ndim == 2
            logistic = isinstance(loss_fn, (nn.BCEWithLogitsLoss, nn.BCELoss)) and one
            binary = bool(((targets == 0) | (targets == 1)).all())
            self.classes = 2 if one and binary and (logistic or whole) else int(outputs.shape[1]) if whole else 0
            self.classes = 0 if self.classes == 1 else self.classes
        found = scored_as(loss_fn, say, outputs, batch, self.classes)
        if not self._given:
            self.classes = found or 0
        facts["scored"] = found is not None
        facts["classes"] = self.classes
        facts["outputs"] = int(outputs.shape[-1]) if outputs.ndim > 1 else 1

    def see_targets(self, history: History, step: int, batch: Batch) -> None:
        """Where numbers that are asked for lie, and how many of them on one bound."""
        targets = batch.targets
        if targets is None or not targets.is_floating_point() or not targets.numel():
            return
        history.add("target stuck", step, float(stuck_share(targets.detach().float())))
        least, most = float(targets.min()), float(targets.max())
        known = history.facts.get("target range", [least, most])
        history.facts["target range"] = [min(known[0], least), max(known[1], most)]

    def appraise(
        self,
        history: History,
        step: int,
        batch: Batch,
        tensors: dict[str, torch.Tensor],
        subject_of: Callable[[Batch], Subject],
    ) -> None:
        """Score the rows of each part, or take down their loss alone where outputs cannot be scored."""
        if self.first is None:
            self.first = batch.first(_ROWS).kept()
        for part, rows in self.parts.items():
            own = flat_batch(*rows) if rows is not None else self.first if part == "training" else None
            if own is None:
                continue
            own = own.first(_ROWS).to(batch.inputs[0].device)
            outputs, losses = subject_of(own).evaluation(tensors, own.inputs, own.inputs[0])
            outputs, losses, targets = outputs.detach(), losses.detach(), own.targets
            if targets is None or not self._can_be_scored(history.facts, outputs, targets):
                history.add(f"{part} rows' loss", step, float(losses.mean()))
                continue
            if self.classes and float(targets.min()) < 0:  # rows without a label
                outputs, targets = outputs[targets >= 0], targets[targets >= 0]
            if history.facts.get("expects") == "probabilities":
                outputs = torch.logit(outputs, eps=1e-7)
            found = appraise(outputs, losses, targets, self.classes or 0)
            for name in ("loss", "score", "confidence"):
                if name in found:
                    history.add(f"{part} rows' {name}", step, float(found[name]))
            if part == "training" and rows is not None:
                for name in ("margin", "error"):
                    history.rows.setdefault(name, []).append(found[name].float().cpu().numpy())

    def _can_be_scored(self, facts: dict[str, Any], outputs: torch.Tensor, targets: torch.Tensor) -> bool:
        """Whether each row has one target, a class or a number that is not the same for all, and outputs for it.

        Of a first batch of one class, as rows in their order begin, saying the same of all is no skill.
        """
        single = outputs.ndim <= 2 and len(outputs) == len(targets) == targets.numel() > 0
        if not single or not facts.get("scored", True):
            return False
        given = targets.reshape(-1)
        given = given[given >= 0] if self.classes else given
        if not len(given) or not bool((given != given[0]).any()):
            return False
        if not self.classes:
            return targets.is_floating_point()
        return float(given.max()) < max(outputs.reshape(len(outputs), -1).shape[1], 2)

    def data_facts(self, facts: dict[str, Any], batches: Batch | None) -> None:
        """The data's facts: from the rows that were given, or from the first batches."""
        train, validation = self.parts["training"], self.parts["validation"]
        if self.classes is None or ("input size" in facts and train is not None):
            return
        own = flat_batch(*train) if train is not None else batches
        if own is None or own.targets is None or own.targets.numel() != len(own.targets):
            return
        held = None if validation is None or train is None else flat_batch(*validation)
        pair = None if held is None or held.targets is None else (held.numbers, held.targets)
        seen = facts.get("target range")
        facts |= data_facts((own.numbers, own.targets), pair, self.classes)
        if seen and facts.get("target range"):
            least, most = facts["target range"]
            facts["target range"] = [min(seen[0], least), max(seen[1], most)]
        if train is None and len(own.targets) < 20 * max(self.classes, 1):
            facts.pop("class shares", None)  # too few rows to tell a rare class from chance
