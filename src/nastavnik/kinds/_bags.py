"""Making a bag of tokens from the distinct words of a column."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import pandas as pd

from nastavnik.data import Bag
from nastavnik.kinds._cells import Cells


def make_bag(tokens: Sequence[Sequence[str]], cells: Cells, weighting: str) -> Bag:
    """The bag of each of n cells, from the tokens of each distinct word."""
    said = np.array(list(itertools.chain.from_iterable(tokens)), dtype=object)
    codes, found = pd.factorize(said)
    order = sorted(range(len(found)), key=found.__getitem__)
    place = np.empty(len(found), dtype=np.int64)
    place[order] = np.arange(len(found))
    row = np.repeat(np.arange(len(tokens)), [len(own) for own in tokens])
    _, first, counts = np.unique(row * max(len(found), 1) + codes, return_index=True, return_counts=True)
    met = np.argsort(first)  # the tokens of a row in the order in which they stand there
    lengths = np.bincount(row[first], minlength=len(tokens) + 1)  # the last is a missing cell's
    starts = np.concatenate([[0], np.cumsum(lengths)])
    flat = place[codes[first[met]]]
    words = Bag(starts, flat, counts[met].astype(np.float32), tuple(found[order].tolist()), weighting)
    return words.take(np.where(cells.codes < 0, len(tokens), cells.codes))
