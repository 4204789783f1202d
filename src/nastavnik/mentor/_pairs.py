"""Whether inputs come with the targets that belong to them: rows that are met again, with the same or another one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from nastavnik.mentor._batch import Batch

_VALUES = 16  # different numbers, from which rows do not meet by chance
_MOST_BYTES = 2**26  # of rows that are compared


def pair_facts(fed: Batch | None, given: Batch | None) -> dict[str, Any]:
    """How many of the rows that were fed are found again, among the given rows or fed before, and with what target.

    A picture is found turned round as well: its target, where it is a picture too, must then be turned likewise.
    """
    if fed is None or fed.targets is None or not fed.numbers or _counts_rows(fed.targets):
        return {}
    if sum(t.numel() * t.element_size() for t in fed.inputs) > _MOST_BYTES:
        return {}
    known: dict[bytes, set[bytes]] = {}
    if given is not None and given.targets is not None and _small(given):
        for x, y in _rows(given):
            known.setdefault(x, set()).add(y)
    elif given is None:
        return _met_again(fed) if any(_fine(t) for t in fed.numbers) else {}
    again, broken = _compare(fed, known)
    if not again:
        for turned in _turned(fed):
            again, broken = _compare(turned, known)
            if again:
                break
    return {"pairs found": again, "pairs broken": broken / again} if again else {}


def _met_again(fed: Batch) -> dict[str, Any]:
    """Rows that were fed several times, and those of them with another target than at first."""
    first: dict[bytes, bytes] = {}
    again = broken = 0
    for x, y in _rows(fed):
        if x in first:
            again, broken = again + 1, broken + (first[x] != y)
        first.setdefault(x, y)
    if len(first) < 0.3 * len(fed.inputs[0]):
        return {}  # of so few different rows, equal ones are no copies
    return {"pairs found": again, "pairs broken": broken / again} if again else {}


def _fine(x: torch.Tensor) -> bool:
    """Whether inputs are numbers of so many values that equal rows are the same row."""
    return x.is_floating_point() and len(x[: 2**12].unique()) > _VALUES


def _compare(fed: Batch, known: dict[bytes, set[bytes]]) -> tuple[int, int]:
    found = [(x, y) for x, y in _rows(fed) if x in known]
    return len(found), sum(y not in known[x] for x, y in found)


def _turned(fed: Batch) -> Iterator[Batch]:
    """The batch with pictures mirrored back, as the given rows have them, their targets as they are or mirrored too."""
    x, y = fed.numbers[0], fed.targets
    if y is None or x.ndim != 4 or y.ndim < 3 or x.shape[-2:] != y.shape[-2:]:
        return
    for axis in (-1, -2):
        yield fed.mapped(lambda t, axis=axis: t.flip(axis) if t.ndim >= 3 else t)  # type: ignore[misc]


def _counts_rows(y: torch.Tensor) -> bool:
    """Whether targets only number the rows of a batch, as in contrastive losses."""
    if y.numel() != len(y) or y.is_floating_point():
        return False
    flat = y.reshape(-1).long()
    return bool((flat[1:] >= flat[:-1]).float().mean() > 0.9)


def _small(batch: Batch) -> bool:
    return sum(t.numel() * t.element_size() for t in batch.inputs) <= 4 * _MOST_BYTES


def _rows(batch: Batch) -> Iterator[tuple[bytes, bytes]]:
    """Inputs and target of each row, as bytes."""
    y = batch.targets
    assert y is not None
    inputs = [np.ascontiguousarray(t.detach().cpu().numpy()) for t in batch.numbers if t.dtype != torch.bfloat16]
    targets = np.ascontiguousarray(y.detach().cpu().numpy())
    for i in range(len(targets)):
        yield b"".join(t[i].tobytes() for t in inputs), targets[i].tobytes()
