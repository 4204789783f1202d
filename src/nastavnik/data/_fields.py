"""Preparation of fields: pictures and arrays as they are, the words of texts as places in a vocabulary."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from nastavnik.data._columns import Columns, Field
from nastavnik.errors import UserError
from nastavnik.fields import UNKNOWN, Entry

_MOST_TOKENS = 30_000
_FEWEST = 2  # rows a word must stand in


@dataclass(frozen=True)
class Fields:
    """How fields become tensors, one each, of the smallest dtype: uint8 pixels, int32 tokens, float32 arrays.

    Nothing here depends on more than which words are known; what is to be learned of training rows (a mean, a
    deviation) is a buffer of the network's first layer, so that folds share one tensor.
    """

    entries: tuple[Entry, ...] = ()
    vocabularies: tuple[tuple[str, ...], ...] = ()

    @classmethod
    def fit(cls, columns: Columns, structure: np.ndarray, leave: Collection[str] = ()) -> Fields:
        """By the rows that decide which words are known; ``leave`` are sorts that are left out."""
        entries, vocabularies = [], []
        for name, own in columns.fields.items():
            if own.sort in leave:
                continue
            words = _vocabulary(own.take(structure)) if own.sort == "tokens" else ()
            levels = len(words) + UNKNOWN + 1 if own.sort == "tokens" else 0
            entries.append(Entry(name, own.sort, own.shape, levels))
            vocabularies.append(words)
        return cls(tuple(entries), tuple(vocabularies))

    def apply(self, columns: Columns) -> tuple[list[torch.Tensor], list[torch.Tensor | None]]:
        """A tensor [m, …] for each field, in the order of the entries, and which of its rows are meant (None for all).

        Raises:
            UserError: a field is not there, or of another shape.
        """
        found: list[torch.Tensor] = []
        chosen: list[torch.Tensor | None] = []
        for entry, words in zip(self.entries, self.vocabularies, strict=True):
            own = columns.fields.get(entry.name)
            if own is None or own.shape != entry.shape:
                raise UserError(f"the columns read are not those that were prepared: {entry.name}")
            found.append(_known(own, words) if entry.sort == "tokens" else torch.from_numpy(own.held))
            apart = own.chosen is not None and entry.sort != "tokens"
            chosen.append(torch.from_numpy(own.chosen) if apart else None)
        return found, chosen

    def to_json(self) -> dict[str, Any]:
        """The plain record kept in ``model.json``."""
        kept = ("name", "sort", "levels")
        entries = [{**{k: getattr(e, k) for k in kept}, "shape": list(e.shape)} for e in self.entries]
        return {"entries": entries, "vocabularies": [list(v) for v in self.vocabularies]}

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Fields:
        """Read what ``to_json`` wrote."""
        entries = tuple(Entry(**{**e, "shape": tuple(e["shape"])}) for e in record["entries"])
        return cls(entries, tuple(tuple(v) for v in record["vocabularies"]))


def _vocabulary(own: Field) -> tuple[str, ...]:
    """The commonest words that stand in several rows."""
    ordered = np.sort(own.values, axis=1)
    first = np.ones(ordered.shape, dtype=bool)
    first[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    rows = np.bincount(ordered[first], minlength=len(own.vocabulary) + 1)[1:]
    able = np.flatnonzero(rows >= _FEWEST)
    chosen = sorted(able.tolist(), key=lambda t: (-rows[t], own.vocabulary[t]))[:_MOST_TOKENS]
    return tuple(own.vocabulary[t] for t in chosen)


def _known(own: Field, words: tuple[str, ...]) -> torch.Tensor:
    """Tokens as places among the known words; made once, for all folds that know the same."""
    made: dict[tuple[str, ...], torch.Tensor] = own.__dict__.setdefault("_made", {})
    if words not in made:
        made.clear()  # one at a time
        made[words] = torch.from_numpy(_places(own, words))
    return made[words]


def _places(own: Field, words: tuple[str, ...]) -> np.ndarray:
    place = {word: j + UNKNOWN + 1 for j, word in enumerate(words)}
    table = np.array([0, *(place.get(word, UNKNOWN) for word in own.vocabulary)], dtype=np.int32)
    return table[own.values]
