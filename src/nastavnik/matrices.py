"""A table's rows as one matrix, for estimators that are no networks: baselines, and boosted trees in a model."""

from __future__ import annotations

import numpy as np
import torch

from nastavnik.data import Columns, Inputs, Preparation
from nastavnik.fields import UNKNOWN

_ONE_HOT = 1000  # most one-hot columns
FEW_SQUARES = 8  # pixels of a side that trees are given, which look at each by itself
_AT_ONCE = 512  # rows of pictures that are made smaller together
_BYTE = 128.0  # a pixel's range is about that of a standardized number


def tree_matrix(part: Columns, preparation: Preparation) -> np.ndarray:
    """Numbers as they are, NaN where missing, what is told of words, numbers of categories, squares of pictures."""
    return _for_trees(part.numbers, preparation.apply(part), preparation)


def category_places(preparation: Preparation) -> list[int]:
    """Which columns of ``tree_matrix`` are numbers of categories."""
    first = len(preparation.input_names) - len(preparation.indicators)
    return list(range(first, first + len(preparation.cardinalities)))


def matrix(name: str, part: Columns, preparation: Preparation, side: int) -> np.ndarray:
    """Rows for one sort of estimator.

    Args:
        name: "none" for one that looks at nothing, "tokens" for the words of texts, "trees", "filled" (the same without
            gaps), or any other word for standardized numbers and one-hot categories.
        part: the rows.
        preparation: fitted on training rows.
        side: pixels of a picture's side.
    """
    if name == "none":
        return np.zeros((len(part), 1), dtype=np.float32)
    inputs = preparation.apply(part)
    if name == "tokens":
        return _tokens(inputs, preparation)
    if name == "trees":
        return _for_trees(part.numbers, inputs, preparation)
    if name == "filled":
        return _for_trees(np.where(np.isnan(part.numbers), preparation.centre, part.numbers), inputs, preparation)
    exact = np.float32 if inputs.held else np.float64  # of thousands of pixels the first digits will do
    flat = _flat(inputs, side)
    for own in flat:
        own /= np.float32(_BYTE)
    blocks = [inputs.numbers.numpy().astype(exact), *flat]
    for j, size in enumerate(preparation.cardinalities):
        if size <= _ONE_HOT:
            blocks.append(np.eye(size, dtype=exact)[inputs.categories[:, j].numpy()])
    return _joined(blocks, exact)


def _for_trees(numbers: np.ndarray, inputs: Inputs, preparation: Preparation) -> np.ndarray:
    told = inputs.numbers.numpy()[:, numbers.shape[1] + len(preparation.indicators) :]
    exact = np.float32 if inputs.held and not numbers.shape[1] else np.float64  # squares alone, and names' numbers
    blocks = [numbers, told, inputs.categories.numpy(), *_flat(inputs, FEW_SQUARES)]
    return _joined(blocks, exact)


def _joined(blocks: list[np.ndarray], dtype: type[np.generic]) -> np.ndarray:
    """Side by side; the squares of pictures alone are not copied."""
    wide = [block for block in blocks if block.shape[1]]
    if len(wide) == 1:
        return wide[0].astype(dtype, copy=False)
    return np.concatenate(blocks, axis=1, dtype=dtype, casting="same_kind")


def _tokens(inputs: Inputs, preparation: Preparation) -> np.ndarray:
    """The known words of all texts side by side, each text's numbered on from the one before; 0 for none."""
    found, first = [], 0
    for entry, t in zip(preparation.fields.entries, inputs.fields, strict=True):
        if entry.sort == "tokens":
            own = t.numpy()
            found.append(np.where(own > UNKNOWN, own + first, 0))
            first += entry.levels
    return np.concatenate(found, axis=1)


def _flat(inputs: Inputs, side: int) -> list[np.ndarray]:
    """Pictures as the means of at most side × side squares, arrays as they are; words of texts are told already.

    The arrays are the caller's own.
    """
    found: list[np.ndarray] = []
    for start in range(0, max(1, len(inputs)), _AT_ONCE):
        some = [t for t in inputs.take(slice(start, start + _AT_ONCE)).fields if t.dtype != torch.int32]
        for i, t in enumerate(some):
            if t.dtype == torch.uint8:
                squares = -(-max(t.shape[1:3]) // side)
                maps = t.permute(0, 3, 1, 2).float()
                t = torch.nn.functional.avg_pool2d(maps, squares, ceil_mode=True) if squares > 1 else maps
            rows = t.flatten(1).numpy()
            if not start:
                found.append(np.empty((len(inputs), rows.shape[1]), dtype=rows.dtype))
            found[i][start : start + len(rows)] = rows
    return found
