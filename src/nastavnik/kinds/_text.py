"""Words in sentences, titles and names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from nastavnik.data import Field
from nastavnik.kinds._bags import make_bag
from nastavnik.kinds._category import FEW_LEVELS
from nastavnik.kinds._cells import Cells
from nastavnik.kinds._kind import Features, Guess, Kind, Wishes

_TOKEN = re.compile(r"[^\W\d_]+|\d+")
_LONGEST = 256  # tokens of a text that networks are given
_MOST = 200_000_000  # tokens of one column
_SENTENCES = 4.0  # words on average, from which their order and company tell something
_SAMPLE = 500  # distinct words
_SURE = 5.0  # standard errors
_AGAIN = 2.0  # cells a whole text stands in: it is then a name of its own beside its words


class Text(Kind):
    """Words: which stand in a cell, how many, and the whole of it where it comes again."""

    name = "text"
    about = "sentences, titles, names of several words"

    def recognise(self, cells: Cells, wishes: Wishes) -> Guess | None:
        """Many different cells that share words."""
        if cells.typed or cells.distinct <= FEW_LEVELS:
            return None
        sample = cells.words
        if len(sample) > _SAMPLE:  # by chance: every hundredth word may be of one sort
            sample = [sample[i] for i in np.random.default_rng(0).choice(len(sample), _SAMPLE, replace=False)]
        tokens = [tokens_of(w) for w in sample]
        lengths = np.array([len(t) for t in tokens])
        several, error = float(lengths.mean()), float(lengths.std()) / len(lengths) ** 0.5
        spaced = float(np.mean([" " in w for w in sample]))
        reading = _reading(cells, maybe=several + _SURE * error + 0.1 >= _SENTENCES)
        if spaced > 0.5 or several >= 4:
            return Guess(0.75, f"{cells.distinct} distinct texts of {several:.0f} words", reading)
        return Guess(0.5 if several >= 1.5 else 0.3, f"{cells.distinct} distinct words", reading)

    def given(self, cells: Cells, wishes: Wishes) -> Guess:
        """Any column."""
        return Guess(1.0, "given", _reading(cells))

    def read(self, cells: Cells, reading: Mapping[str, Any]) -> Features:
        """The words of each cell and how many they are, and the whole where it comes again."""
        tokens = [tokens_of(word) for word in cells.words]
        count = cells.spread(np.array([float(len(t)) for t in tokens]), 0.0)
        found = Features(numbers={f"{cells.name}.words": count}, bags={cells.name: make_bag(tokens, cells, "words")})
        if reading["length"]:
            found.fields[cells.name] = _sequences(tokens, cells, int(reading["length"]))
        if reading["whole"]:
            found.words[f"{cells.name}.whole"] = cells.spread(np.array(cells.words, dtype=object), None)
        return found

    def show(self, features: Features, row: int) -> str:
        """The words."""
        return " ".join(next(iter(features.bags.values())).of_row(row)[:8]) or "no words"


def _reading(cells: Cells, maybe: bool = True) -> dict[str, Any]:
    """Whether texts come again, and how many tokens of one are kept in their order; 0 where they are no sentences.

    Not ``maybe``: a sample has shown already that they are none.
    """
    lengths = [len(tokens_of(word)) for word in cells.words] if maybe else []
    long = max(lengths, default=0) if np.mean(lengths or [0]) >= _SENTENCES else 0
    length = min(long, _LONGEST, _MOST // max(len(cells), 1))
    return {"whole": cells.present / max(cells.distinct, 1) >= _AGAIN, "length": length}


def _sequences(tokens: list[list[str]], cells: Cells, length: int) -> Field:
    """The tokens of each cell in their order, cut or filled up to one length."""
    vocabulary = tuple(sorted({token for own in tokens for token in own[:length]}))
    place = {token: j for j, token in enumerate(vocabulary, 1)}
    values = np.zeros((len(tokens) + 1, length), dtype=np.int32)  # the last for missing cells
    for i, own in enumerate(tokens):
        values[i, : len(own[:length])] = [place[token] for token in own[:length]]
    lengths = np.array([len(own) for own in tokens] or [0])
    said = []
    cut = int((lengths > length).sum())
    if cut:
        said.append(("long texts", "info", f"{cells.name}: {cut} texts are longer than {length} words and are cut"))
    if (lengths == 0).any():
        said.append(("empty texts", "warning", f"{cells.name}: {int((lengths == 0).sum())} texts hold no word"))
    return Field(values[cells.codes], "tokens", vocabulary, tuple(said))


def tokens_of(text: str) -> list[str]:
    """Words and numbers of a text, in small letters."""
    return _TOKEN.findall(text.lower())
