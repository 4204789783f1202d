"""Making a bag of tokens from the distinct words of a column."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from nastavnik.data import Bag
from nastavnik.kinds._cells import Cells


def make_bag(tokens: Sequence[Sequence[str]], cells: Cells, weighting: str) -> Bag:
    """The bag of each of n cells, from the tokens of each distinct word."""
    counted = [Counter(own) for own in tokens]
    vocabulary = tuple(sorted({token for own in counted for token in own}))
    place = {token: j for j, token in enumerate(vocabulary)}
    lengths = np.array([len(own) for own in counted], dtype=np.int64)
    flat = np.array([place[t] for own in counted for t in own], dtype=np.int64)
    counts = np.array([n for own in counted for n in own.values()], dtype=np.float32)
    words = Bag(np.concatenate([[0], np.cumsum(lengths)]), flat, counts, vocabulary, weighting)
    empty = len(counted)  # the row of a missing cell
    padded = Bag(np.append(words.starts, words.starts[-1]), flat, counts, vocabulary, weighting)
    return padded.take(np.where(cells.codes < 0, empty, cells.codes))
