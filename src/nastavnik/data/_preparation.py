"""Preparation of inputs: fitted on training rows, stored as plain JSON and tensors, applied anywhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from nastavnik.data._bags import Bags
from nastavnik.data._columns import Columns
from nastavnik.data._fields import Fields
from nastavnik.data._names import Names
from nastavnik.fields import Entry
from nastavnik.rooms import touched

_HEAVY = 12.0  # standard deviations from the mean at which a column counts as heavy-tailed
_QUANTILES = 256
_FAR = 2.0  # widths of the training range beyond it that are far outside
_FARTHEST = 1e18  # prepared numbers stay inside this, so that their squares fit single precision


@dataclass(frozen=True)
class Inputs:
    """What a network takes in: ``numbers`` float32 [n, d], ``categories`` int64 [n, c] (0 is unseen or missing), and
    ``fields`` [n, …], a tensor each.

    Fields may be larger than memory: some of the rows are ``chosen`` of what is ``held``, and read when they are asked
    for.
    """

    numbers: torch.Tensor
    categories: torch.Tensor
    held: tuple[torch.Tensor, ...] = ()
    chosen: tuple[torch.Tensor | None, ...] = ()

    def __len__(self) -> int:
        return len(self.numbers)

    @property
    def fields(self) -> tuple[torch.Tensor, ...]:
        """A tensor [n, …] for each field."""
        found = tuple(t if rows is None else t[rows] for t, rows in zip(self.held, self.chosen, strict=True))
        touched(sum(t.nbytes for t in found))
        return found

    @property
    def tensors(self) -> tuple[torch.Tensor, ...]:
        """What ``forward`` takes, in its order."""
        return (self.numbers, self.categories, *self.fields)

    def take(self, rows: Any) -> Inputs:
        """Some of the rows."""
        some = isinstance(rows, slice)
        held = tuple(t[rows] if some and c is None else t for t, c in zip(self.held, self.chosen, strict=True))
        chosen = tuple(
            (None if some else _numbers(rows, len(t))) if c is None else c[rows]
            for t, c in zip(self.held, self.chosen, strict=True)
        )
        return Inputs(self.numbers[rows], self.categories[rows], held, chosen)

    def double(self) -> Inputs:
        """The same, real numbers in float64."""
        fields = tuple(t.double() if t.is_floating_point() else t for t in self.fields)
        return Inputs(self.numbers.double(), self.categories, fields, (None,) * len(fields))


def _numbers(rows: Any, count: int) -> torch.Tensor:
    """Row numbers, however rows were named."""
    return torch.arange(count)[torch.as_tensor(rows)]


@dataclass(frozen=True)
class Preparation:
    """How columns become ``Inputs``: one record, fitted once.

    Numbers: ``(x - centre) / scale`` by column; a column with heavy tails is centred by its median, scaled by its
    quartiles and softly clipped to (-3, 3), z / sqrt(1 + (z/3)²) (Holzmüller et al. 2024); method "quantile" maps to
    normal scores instead, "identity" leaves them as they are. Columns that share one unit (pixels) are centred and
    scaled as one. Missing numbers become the centre, beside an indicator. Words, bags of words and fields: see
    ``Names``, ``Bags``, ``Fields``. In ``Inputs.numbers`` stand numbers, indicators, what names tell as numbers, bags.
    """

    centre: np.ndarray
    scale: np.ndarray
    method: tuple[str, ...]
    indicators: tuple[int, ...]
    quantiles: np.ndarray  # [columns of method "quantile", 256]
    number_names: tuple[str, ...]
    lowest: np.ndarray  # of the training rows, by number column
    highest: np.ndarray
    names: Names
    bags: Bags
    fields: Fields

    @classmethod
    def fit(
        cls,
        columns: Columns,
        rows: np.ndarray,
        *,
        numbers: str = "auto",
        categories: str = "embedding",
        text: str = "words",
        structure: np.ndarray | None = None,
        target: np.ndarray | None = None,
    ) -> Preparation:
        """Fit on ``rows`` alone.

        Args:
            columns: all rows.
            rows: the training rows, whose means, scales and levels are taken.
            numbers: "auto", "standard", "robust", "quantile" or "identity" for every number column.
            categories: "embedding" or "means", the target's mean by level in place of it where levels are many.
            text: "words", or "none" to leave out the words of texts.
            structure: the rows that decide which columns get an indicator, how heavy tails are met, and which levels
                and words are known: folds share one structure, so that their networks share one shape. By default
                ``rows``.
            target: [n, m] real values, or indicators of classes, for ``categories="means"``.
        """
        structure = rows if structure is None else structure
        basis = columns.numbers[structure].astype(np.float64)
        values = columns.numbers[rows].astype(np.float64)
        method = _methods(basis, numbers)
        centre, scale = _centre_and_scale(values, method)
        soft = [j for j, m in enumerate(method) if m == "quantile"]
        grid = np.linspace(0, 1, _QUANTILES)
        quantiles = np.array([np.nanquantile(values[:, j], grid) for j in soft]) if soft else np.zeros((0, _QUANTILES))
        indicators = tuple(np.flatnonzero(np.isnan(basis).any(0) & ~np.isnan(basis).all(0)).tolist())
        return cls(
            centre,
            scale,
            tuple(method),
            indicators,
            np.nan_to_num(quantiles),
            columns.number_names,
            np.fmin.reduce(values, axis=0, initial=np.inf),
            np.fmax.reduce(values, axis=0, initial=-np.inf),
            Names.fit(columns, rows, structure, target if categories == "means" else None),
            Bags.fit(columns, rows, structure, leave=("words",) if text == "none" else ()),
            Fields.fit(columns, structure, leave=("tokens",) if text == "none" else ()),
        )

    def apply(self, columns: Columns) -> Inputs:
        """Prepare rows, of the same columns, from anywhere; columns are found by their names.

        Raises:
            UserError: other columns than those it was fitted on.
        """
        columns = columns.ordered(self.number_names, self.names.word_names, self.bags.bag_names)
        values = columns.numbers.astype(np.float64)
        missing = np.isnan(values)
        z = (np.where(missing, self.centre, values) - self.centre) / self.scale
        for j, method in enumerate(self.method):
            if method == "robust":
                z[:, j] = z[:, j] / np.sqrt(1 + (z[:, j] / 3) ** 2)
        soft = [j for j, m in enumerate(self.method) if m == "quantile"]
        for j, table in zip(soft, self.quantiles, strict=True):
            z[:, j] = np.where(missing[:, j], 0.0, _normal_scores(values[:, j], table))
        codes = self.names.codes(columns)
        blocks = [np.clip(z, -_FARTHEST, _FARTHEST).astype(np.float32)]
        if self.indicators:
            blocks.append(missing[:, list(self.indicators)].astype(np.float32))
        blocks += [*self.names.numbers(codes), *self.bags.apply(columns)]
        numbers = np.concatenate(blocks, axis=1) if len(blocks) > 1 else blocks[0]
        embedded = torch.from_numpy(self.names.embedded(codes))
        held, chosen = self.fields.apply(columns)
        return Inputs(torch.from_numpy(numbers), embedded, tuple(held), tuple(chosen))

    def apply_to_training(self, columns: Columns, rows: np.ndarray, target: np.ndarray) -> Inputs:
        """As ``apply``, but in the training rows a level's mean of the target is taken from other rows than its own."""
        inputs = self.apply(columns)
        own = self.names.cross_fitted(columns, rows, target)
        if own is not None:
            start = len(self.number_names) + len(self.indicators)
            inputs.numbers[torch.from_numpy(rows), start : start + own.shape[1]] = torch.from_numpy(own)
        return inputs

    def unseen(self, columns: Columns) -> dict[str, int]:
        """How many cells of each category column hold a word that training never saw."""
        return self.names.unseen(columns)

    def beyond(self, columns: Columns) -> dict[str, tuple[int, int]]:
        """By number column how many rows lie outside the training range by more than twice its width, and the first."""
        width = self.highest - self.lowest
        with np.errstate(invalid="ignore"):
            low, high = self.lowest - _FAR * width, self.highest + _FAR * width
            far = (columns.numbers < low) | (columns.numbers > high)
        far &= width > 0
        return {
            self.number_names[j]: (int(far[:, j].sum()), int(np.argmax(far[:, j]))) for j in np.flatnonzero(far.any(0))
        }

    @property
    def input_names(self) -> list[str]:
        """Names of the columns of ``Inputs.numbers``."""
        missing = (f"{self.number_names[j]} is missing" for j in self.indicators)
        return [*self.number_names, *missing, *self.names.number_names, *self.bags.number_names]

    @property
    def cardinalities(self) -> tuple[int, ...]:
        """How many values each category takes, the one for unseen and rare ones included."""
        return self.names.sizes

    @property
    def bag_ranges(self) -> tuple[tuple[int, int], ...]:
        """Where in ``Inputs.numbers`` the words of each text stand."""
        start = len(self.number_names) + len(self.indicators) + len(self.names.number_names)
        return self.bags.ranges(start)

    @property
    def entries(self) -> tuple[Entry, ...]:
        """What a network must know of each field."""
        told = dict(zip(self.bags.word_names, self.bag_ranges, strict=True))
        return tuple(replace(e, counted=told.get(e.name)) for e in self.fields.entries)

    def to_record(self) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
        """Plain JSON and tensors."""
        names, name_arrays = self.names.to_record()
        bags, bag_arrays = self.bags.to_record()
        record = {
            "method": list(self.method),
            "indicators": list(self.indicators),
            "number_names": list(self.number_names),
            "names": names,
            "bags": bags,
            "fields": self.fields.to_json(),
        }
        arrays = {
            "centre": self.centre,
            "scale": self.scale,
            "quantiles": self.quantiles,
            "lowest": self.lowest,
            "highest": self.highest,
            **name_arrays,
            **bag_arrays,
        }
        return record, {name: torch.from_numpy(np.ascontiguousarray(a)) for name, a in arrays.items()}

    @classmethod
    def from_record(cls, record: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> Preparation:
        """Read what ``to_record`` wrote."""
        arrays = {name: tensor.numpy() for name, tensor in tensors.items()}
        return cls(
            arrays["centre"],
            arrays["scale"],
            tuple(record["method"]),
            tuple(record["indicators"]),
            arrays["quantiles"],
            tuple(record["number_names"]),
            arrays["lowest"],
            arrays["highest"],
            Names.from_record(record["names"], arrays),
            Bags.from_record(record["bags"], arrays),
            Fields.from_json(record["fields"]),
        )


def _methods(values: np.ndarray, wanted: str) -> list[str]:
    if wanted != "auto":
        return [wanted] * values.shape[1]
    if _one_unit(values):
        return ["common"] * values.shape[1]
    with np.errstate(invalid="ignore", divide="ignore"):
        z = np.abs(values - np.nanmean(values, 0)) / np.nanstd(values, 0) if len(values) else values
    tails = np.nanmax(np.where(np.isfinite(z), z, 0.0), axis=0, initial=0.0)
    return ["robust" if t > _HEAVY else "standard" for t in tails]


def _one_unit(values: np.ndarray) -> bool:
    """Whether the columns look like pixels: many, whole, not negative, and mostly reaching one common top."""
    if values.shape[1] < 16 or np.isnan(values).any() or (values < 0).any() or (values != np.floor(values)).any():
        return False
    tops = values.max(0)
    return bool(tops.max() > 1 and np.mean(tops >= 0.9 * tops.max()) > 0.5)


def _centre_and_scale(values: np.ndarray, method: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    empty = np.isnan(values).all(0)
    filled = np.where(empty, 0.0, values)
    centre, scale = np.nanmean(filled, 0), np.nanstd(filled, 0)
    robust = [j for j, m in enumerate(method) if m == "robust"]
    if robust:
        low, middle, high = np.nanquantile(filled[:, robust], (0.25, 0.5, 0.75), axis=0)
        spread = (high - low) / 1.349  # the quartiles of a normal distribution lie 1.349 σ apart
        centre[robust] = middle
        scale[robust] = np.where(spread > 0, spread, scale[robust])
    for j in (j for j, m in enumerate(method) if m == "identity"):
        centre[j], scale[j] = 0.0, 1.0
    if "common" in method:
        centre[:], scale[:] = np.nanmean(filled), np.nanstd(filled)
    # a column that never varied in training says nothing: whatever it holds later becomes 0
    return centre, np.where(scale > 1e-12 * np.maximum(np.abs(centre), 1e-300), scale, np.inf)


def _normal_scores(values: np.ndarray, table: np.ndarray) -> np.ndarray:
    """The normal score of each value's quantile, clipped to the table's resolution."""
    grid = np.linspace(0, 1, len(table))
    low = np.interp(values, table, grid)
    high = 1 - np.interp(-values, -table[::-1], grid)  # ties take the middle of their quantiles
    share = np.clip((low + high) / 2, 0.5 / len(table), 1 - 0.5 / len(table))
    return torch.special.ndtri(torch.from_numpy(np.nan_to_num(share, nan=0.5))).numpy()
