"""The workbench: a table prepared for training, part by part, and learners built to fit it."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from nastavnik.data import Columns, Inputs, Preparation, Split, TargetPreparation
from nastavnik.errors import UserError
from nastavnik.model import build_network
from nastavnik.nets import Family, Signature
from nastavnik.population import Data, Learner
from nastavnik.recipe import Recipe, Value
from nastavnik.targets import Fitting
from nastavnik.task import Task

_ROWS_FOR_DISTINCT = 5000
_EXAMPLES = 2000  # pictures whose mean and deviation are taken
PLAIN = {  # what a search tries beside the usual preparation, where that does something
    "preparation.numbers": "standard",
    "preparation.target": "identity",
    "preparation.categories": "means",
    "preparation.text": "none",
}
_REPEAT = 7_368_787  # between the seeds of two repeats


@dataclass(frozen=True)
class Part:
    """One fitted preparation and all rows prepared by it; ``train`` are the rows it was fitted on.

    Networks of another ``repeat`` start from other weights.
    """

    preparation: Preparation
    target: TargetPreparation
    inputs: Inputs
    targets: torch.Tensor
    signature: Signature
    train: np.ndarray
    repeat: int = 0

    def rows(self, rows: np.ndarray) -> tuple[Inputs, torch.Tensor]:
        """Some rows, prepared."""
        return self.inputs.take(rows), self.targets[rows]


class Workbench:
    """Columns, task and split; gives the parts that candidates are trained and validated on.

    ``settings`` are one choice for a whole run: the preparation's own ("preparation.numbers", "preparation.target")
    and the likelihood's.
    """

    def __init__(
        self,
        columns: Columns,
        task: Task,
        split: Split,
        *,
        families: Sequence[Family],
        settings: Mapping[str, Value],
        seed: int,
        device: str = "cpu",
    ) -> None:
        self.columns, self.task, self.split = columns, task, split
        self.seed, self.device = seed, device
        self._families = {family.name: family for family in families}
        self.linear_families = {family.name for family in families if family.linear}
        self._settings = dict(settings)
        self._variants: dict[tuple[Value, ...], Workbench] = {}
        self._origin: Workbench | None = None
        self._distinct = _distinct(columns, split.development)
        self.parts = [self._fit(train, split.repeat_of(g)) for g, (train, _) in enumerate(split.parts)]
        pairs = list(split.parts)
        self.data = Data.of(
            [p.inputs.tensors for p in self.parts],
            [p.targets for p in self.parts],
            pairs,
            seed=seed,
            device=device,
            weights=task.weights,
        )

    @property
    def folds(self) -> int:
        """Networks a candidate needs: one for each part."""
        return len(self.parts)

    def of(self, recipe: Mapping[str, Value]) -> Workbench:
        """The workbench whose rows are prepared as a recipe says; made when first asked for."""
        own = {name: self._settings.get(name, "auto") for name in PLAIN}
        wanted = {name: recipe.get(name, value) for name, value in own.items()}
        if wanted == own:
            return self
        key = tuple(wanted.values())
        if key not in self._variants:
            self._variants[key] = Workbench(
                self.columns,
                self.task,
                self.split,
                families=self.families,
                settings={**self._settings, **wanted},
                seed=self.seed,
                device=self.device,
            )
            self._variants[key]._origin = self
        return self._variants[key]

    def joins(self, other: Workbench) -> bool:
        """Whether networks of the other may predict together with these: of one target, and of as many inputs."""
        pairs = zip(self.parts, other.parts, strict=True)
        return other is self or all(a.target == b.target and a.signature == b.signature for a, b in pairs)

    def alternatives(self) -> dict[str, str]:
        """Preparations that are other than plain here, each with its plain word: a search tries both."""
        found = {}
        if any("robust" in part.preparation.method for part in self.parts):
            found["preparation.numbers"] = PLAIN["preparation.numbers"]
        if any(part.target.transformed for part in self.parts):
            found["preparation.target"] = PLAIN["preparation.target"]
        if any(part.preparation.names.counted for part in self.parts):
            found["preparation.categories"] = PLAIN["preparation.categories"]
        if any(part.preparation.bag_ranges for part in self.parts):
            found["preparation.text"] = PLAIN["preparation.text"]
        return {name: plain for name, plain in found.items() if self._settings.get(name, "auto") == "auto"}

    def row_offset(self, g: int, rows: np.ndarray) -> np.ndarray | float:
        """What is added to the nats of rows [n] of a part, so that targets prepared otherwise can be compared.

        A density of the prepared target is one of the target itself by the preparation's Jacobian; this brings it to
        the units of the workbench that this is a variant of. 0 where the target is prepared alike.
        """
        if self._origin is None or self.parts[g].target == self._origin.parts[g].target:
            return 0.0
        y = self.task.values[rows]
        return self._origin.parts[g].target.log_jacobian(y) - self.parts[g].target.log_jacobian(y)

    @functools.cached_property
    def offset(self) -> float:
        """The mean of ``row_offset`` over a part's validation rows, and over the parts: what scores are moved by."""
        each = [np.mean(self.row_offset(g, validation)) for g, (_, validation) in enumerate(self.split.parts)]
        return float(np.mean(each))

    @property
    def families(self) -> list[Family]:
        """The families of its networks."""
        return list(self._families.values())

    @property
    def settings(self) -> dict[str, Value]:
        """The choices of the whole run."""
        return dict(self._settings)

    def on(self, split: Split) -> Workbench:
        """The same with other rows to train and validate on."""
        return Workbench(
            self.columns,
            self.task,
            split,
            families=self.families,
            settings=self._settings,
            seed=self.seed,
            device=self.device,
        )

    def whole(self) -> tuple[Part, Data]:
        """Everything but the test rows as one part, for the final training after cross-validation."""
        rows = self.split.development
        part = self._fit(rows)
        return part, Data.of(
            [part.inputs.tensors],
            [part.targets],
            [(rows, rows)],
            seed=self.seed,
            device=self.device,
            weights=self.task.weights,
        )

    def learner(self, recipe: Recipe, part: Part) -> Learner:
        """A fresh network and likelihood, from the recipe's own seed.

        Raises:
            UserError: it does not fit into memory.
        """
        family = self._families.get(str(recipe["network.family"]))

        def build() -> tuple[nn.Module, ...]:
            likelihood = self.task.likelihood(recipe)
            loss = self.task.loss(recipe, likelihood, part.train)
            return build_network(recipe, part.signature, family), likelihood, loss

        try:
            return Learner.seeded((recipe.whole("seed") + _REPEAT * part.repeat) % 2**31, build)
        except RuntimeError as error:
            if "allocate memory" not in str(error):
                raise
            raise UserError(
                f"a network of these settings does not fit into memory ({recipe.in_words()}); narrow its width or depth"
            ) from error

    def _fit(self, train: np.ndarray, repeat: int = 0) -> Part:
        structure = self.split.development if self.split.folds is not None else train
        target_values = _filled(self.task.target.averaged(self.task.values), train)
        preparation = Preparation.fit(
            self.columns,
            train,
            numbers=str(self._settings.get("preparation.numbers", "auto")),
            categories=str(self._settings.get("preparation.categories", "auto")),
            text=str(self._settings.get("preparation.text", "auto")),
            structure=structure,
            target=target_values,
        )
        likelihood = self._settings.get("likelihood.name")
        transform = str(self._settings.get("preparation.target", "auto"))
        target = self.task.prepare(
            Fitting(train, transform, structure, None if likelihood is None else str(likelihood))
        )
        inputs = preparation.apply_to_training(self.columns, train, target_values)
        distinct = [*self._distinct, *[2] * len(preparation.indicators)]
        told = len(preparation.names.number_names)
        distinct += [_ROWS_FOR_DISTINCT] * told
        distinct += [2] * (inputs.numbers.shape[1] - len(distinct))
        outputs = self.task.likelihood(self._settings).outputs
        some = _some(train, inputs)
        examples = inputs.take(torch.from_numpy(some)).tensors
        signature = Signature(
            inputs.numbers.shape[1],
            preparation.cardinalities,
            outputs,
            tuple(distinct),
            examples,
            preparation.bag_ranges,
            preparation.entries,
            torch.from_numpy(np.ascontiguousarray(target_values[some])),
        )
        return Part(preparation, target, inputs, target.apply(self.task.values), signature, train, repeat)


def _filled(values: np.ndarray, train: np.ndarray) -> np.ndarray:
    """Values [n, m] with the training rows' mean where they are not known."""
    gone = np.isnan(values)
    if not gone.any():
        return values
    known = ~gone[train]
    mean = np.where(known, values[train], 0.0).sum(0) / np.maximum(known.sum(0), 1)
    return np.where(gone, mean, values)


def _some(train: np.ndarray, inputs: Inputs) -> np.ndarray:
    """The training rows that first layers look at: all of a table, some of what holds pictures."""
    if not inputs.held or len(train) <= _EXAMPLES:
        return train
    return np.sort(np.random.default_rng(0).choice(train, _EXAMPLES, replace=False))


def _distinct(columns: Columns, rows: np.ndarray) -> list[int]:
    """How many distinct values each number column has, in at most 5,000 rows."""
    some = rows if len(rows) <= _ROWS_FOR_DISTINCT else np.random.default_rng(0).choice(rows, _ROWS_FOR_DISTINCT, False)
    values = columns.numbers[some]
    ordered = np.sort(np.nan_to_num(values), axis=0)
    return (1 + (np.diff(ordered, axis=0) != 0).sum(0)).tolist()
