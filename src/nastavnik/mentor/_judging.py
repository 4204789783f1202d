"""The rows a live network is judged by, look by look, and whether its outputs can be scored against their targets."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from scipy.optimize import linear_sum_assignment
from torch import nn

from nastavnik.instruments import Subject, appraise, data_facts, layout_facts, stuck_share
from nastavnik.mentor._batch import Batch, flat_batch
from nastavnik.mentor._pairs import pair_facts
from nastavnik.mentor._places import class_axis, table_of
from nastavnik.mentor.probes import scored_as, trees_on_the_same_rows
from nastavnik.trace import History

_ROWS = 512  # of each part that are appraised
_TREE_ROWS = 4000
_NAMED = 200  # classes up to which other names are tried
_NONE = flat_batch(())


def _several(given: Any) -> bool:
    return isinstance(given, (tuple, list)) and len(given) > 1


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
        self.ignored: list[int] = []  # classes that the loss does not hear
        self.sizes = False  # whether whole numbers among the inputs go into a layer as they are
        self.axis: int | None = None  # of the classes, where a row has many targets
        self._given = classes is not None
        self._asked_trees = False

    def guess(self, batch: Batch | None) -> None:
        """Take whole-number targets for classes, as long as no network shows what they are."""
        if self.classes is None and batch is not None and batch.targets is not None:
            y = batch.targets
            whole = not y.is_floating_point() and y.numel() == len(y) and int(y.min()) >= 0
            self.classes = int(y.max()) + 1 if whole else 0

    def meet(
        self, facts: dict[str, Any], loss_fn: Any, say: Callable[[], Any], outputs: torch.Tensor, batch: Batch
    ) -> None:
        """Find out at the first look what the target is, and whether the loss holds outputs against it.

        Whole-number targets and several outputs are classes; so are zeros and ones with a logistic loss.
        """
        targets = batch.inputs[0] if batch.targets is None else batch.targets
        axis = class_axis(outputs, batch.targets)
        if self.classes is None and axis is not None:
            self.classes = int(outputs.shape[axis])
        elif self.classes is None:
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
        self.axis = axis if self.classes else None
        facts["classes"] = self.classes
        facts["outputs"] = int(outputs.shape[-1 if self.axis is None else self.axis]) if outputs.ndim > 1 else 1
        if self.axis is not None:
            facts["places"] = int(targets[0].numel())

    def see_targets(self, history: History, step: int, batch: Batch) -> None:
        """Where numbers that are asked for lie, and how many of them on one bound."""
        targets = batch.targets
        if targets is None:
            self._see_several(history, batch)
        if targets is None or not targets.is_floating_point() or not targets.numel():
            return
        history.add("target stuck", step, float(stuck_share(targets.detach().float())))
        least, most = float(targets.min()), float(targets.max())
        known = history.facts.get("target range", [least, most])
        history.facts["target range"] = [min(known[0], least), max(known[1], most)]

    def _see_several(self, history: History, batch: Batch) -> None:
        """Mean and deviation of each of several targets, by its place or name."""
        given = batch.rebuilt(batch.inputs)[2]
        named = dict(given) if isinstance(given, Mapping) else dict(enumerate(given)) if _several(given) else {}
        for name, y in named.items():
            if isinstance(y, torch.Tensor) and y.is_floating_point() and y.numel() > 1:
                y = y.detach().double()
                own = {"mean": float(y.mean()), "deviation": float(y.std(correction=0))}
                history.facts.setdefault("several targets", {}).setdefault(str(name), own)

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
            outputs, losses, targets = table_of(self.axis)(outputs.detach()), losses.detach(), own.targets
            targets = targets.reshape(-1) if targets is not None and self.axis is not None else targets
            if targets is None or not self._can_be_scored(history.facts, outputs, targets):
                history.add(f"{part} rows' loss", step, float(losses.mean()))
                continue
            if self.classes:
                told = self._told(targets)
                outputs, targets = outputs[told], targets[told]
            if history.facts.get("expects") == "probabilities":
                outputs = torch.logit(outputs, eps=1e-7)
            found = appraise(outputs, losses, targets, self.classes or 0)
            for name in ("loss", "score", "confidence"):
                if name in found:
                    history.add(f"{part} rows' {name}", step, float(found[name]))
            if part == "validation" and (self.classes or 0) > 2:
                self._see_names(history, step, outputs, targets)
            if part == "training" and rows is not None and self.axis is None:
                for name in ("margin", "error"):
                    history.rows.setdefault(name, []).append(found[name].float().cpu().numpy())

    def _told(self, targets: torch.Tensor) -> torch.Tensor:
        """Which targets are labels that the loss hears."""
        told = targets >= 0
        for silent in self.ignored:
            told = told & (targets != silent)
        return told

    def _see_names(self, history: History, step: int, outputs: torch.Tensor, targets: torch.Tensor) -> None:
        """How many validation rows would be right if the classes had other names: the best exchange of them."""
        columns = outputs.shape[1]
        if columns > _NAMED:
            return
        pairs = torch.bincount(outputs.argmax(1) * columns + targets.reshape(-1).long(), minlength=columns**2)
        table = pairs.reshape(columns, columns).cpu().numpy()
        said, meant = linear_sum_assignment(-table)
        right = float(table[said, meant].sum() / max(table.sum(), 1))
        history.add("right by other names", step, right)
        common = [(int(s), int(m)) for s, m in zip(said, meant, strict=True) if table[s, m]]
        history.facts["taken for"] = {str(m): s for s, m in common if s != m}

    def _can_be_scored(self, facts: dict[str, Any], outputs: torch.Tensor, targets: torch.Tensor) -> bool:
        """Whether each row has one target, a class or a number that is not the same for all, and outputs for it.

        Of a first batch of one class, as rows in their order begin, saying the same of all is no skill.
        """
        single = outputs.ndim <= 2 and len(outputs) == len(targets) == targets.numel() > 0
        if not single or not facts.get("scored", True):
            return False
        given = targets.reshape(-1)
        given = given[self._told(given)] if self.classes else given
        if not len(given) or not bool((given != given[0]).any()):
            return False
        if not self.classes:
            return targets.is_floating_point()
        return float(given.max()) < max(outputs.reshape(len(outputs), -1).shape[1], 2)

    def trees(self) -> dict[str, Any]:
        """What trees make of the given rows, as a reference, where each has one target; asked once."""
        train, validation = self.parts["training"], self.parts["validation"]
        if train is None or validation is None or self.axis is not None or self._asked_trees:
            return {}
        self._asked_trees = True
        return trees_on_the_same_rows(
            flat_batch(*train).first(_TREE_ROWS), flat_batch(*validation).first(_TREE_ROWS), self.classes or 0
        )

    def data_facts(self, facts: dict[str, Any], batches: Batch | None) -> None:
        """The data's facts: from the rows that were given, or from the first batches."""
        train, validation = self.parts["training"], self.parts["validation"]
        given = None if train is None else flat_batch(*train)
        facts |= pair_facts(batches, given)
        pictures = [t for t in (given or batches or _NONE).numbers if t.ndim > 2]
        facts |= layout_facts(pictures[0]) if pictures else {}
        if self.classes is None or ("input size" in facts and train is not None):
            return
        own = given if given is not None else batches
        if own is None or own.targets is None:
            return
        if self.axis is not None:
            facts |= self._places_facts(own.targets)
            return
        if own.targets.numel() != len(own.targets):
            return
        held = None if validation is None or train is None else flat_batch(*validation)
        pair = None if held is None or held.targets is None else (self._as_numbers(held.numbers), held.targets)
        seen = facts.get("target range")
        facts |= data_facts((self._as_numbers(own.numbers), own.targets), pair, self.classes)
        if seen and facts.get("target range"):
            least, most = facts["target range"]
            facts["target range"] = [min(seen[0], least), max(seen[1], most)]
        if train is None and len(own.targets) < 20 * max(self.classes, 1):
            facts.pop("class shares", None)  # too few rows to tell a rare class from chance

    def _as_numbers(self, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        """Whole numbers that the network takes for sizes, made such; those that it looks up stay."""
        return tuple(t.float() if self.sizes and not t.is_floating_point() else t for t in inputs)

    def _places_facts(self, targets: torch.Tensor) -> dict[str, Any]:
        """How common each class is over all places; what is no label, as below 0, does not count."""
        known = targets[self._told(targets)].long()
        counts = torch.bincount(known.reshape(-1), minlength=self.classes or 0)
        return {"rows": len(targets), "class shares": (counts / counts.sum().clamp(min=1)).tolist()}
