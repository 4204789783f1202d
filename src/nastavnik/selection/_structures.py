"""Structures: a family with an embedding of numbers, which a search tells apart by trained networks."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np

from nastavnik.recipe import Value
from nastavnik.selection._candidate import Candidate
from nastavnik.selection.samplers import Keys

_NAMES = ("network.family", "network.embedding")

Structure = tuple[tuple[str, Value], ...]


def structure_of(candidate: Candidate) -> Structure:
    """The keys that name a candidate's structure; none of what is pinned."""
    return tuple((key, value) for key, value in candidate.keys.items() if key.rsplit("/", 1)[-1] in _NAMES)


def rivals(ranking: Sequence[Candidate], losses: Mapping[int, np.ndarray], linear: Collection[str]) -> list[Keys]:
    """The structures beside the best one that are not shown to be worse, by the best network of each.

    "Shown" is a paired 95 % interval of the held-out loss above zero: whoever leads by luck is not to keep the others
    from being trained.

    Args:
        ranking: candidates, best first.
        losses: of each candidate's number, on every held-out row [n].
        linear: families that cost nothing and are not counted.
    """
    best: dict[Structure, Candidate] = {}
    for candidate in ranking:
        if candidate.recipe["network.family"] not in linear and candidate.number in losses:
            best.setdefault(structure_of(candidate), candidate)
    leader, *others = best.values() or [None]
    if leader is None:
        return []
    gaps = {structure_of(c): losses[c.number] - losses[leader.number] for c in others if c is not None}
    return [dict(own) for own, gap in gaps.items() if gap.mean() <= 1.96 * gap.std() / len(gap) ** 0.5]
