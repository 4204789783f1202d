"""How far candidates were trained before the budget ended."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from nastavnik.selection._candidate import Candidate
from nastavnik.selection._search import LEAST, Search


def is_unfinished(search: Search, candidate: Candidate) -> bool:
    """Whether the budget ended before half of its training, or before that of those which were thinned out with it."""
    cut = {c.generation for c in search.history if c.status == "cut"}
    ended = candidate.status == "cut" or (candidate.status == "dropped" and candidate.generation in cut)
    return ended and candidate.steps < LEAST * candidate.total_steps


def training_of(search: Search, candidates: Iterable[Candidate]) -> dict[str, Any]:
    """How far the least trained of these was trained: its steps, those planned for it, and those usual for it.

    ``share`` is of what is usual, 1 where its training came to an end of its own.
    """
    found = []
    for c in candidates:
        usual = search.total_steps(c.recipe)
        share = (1 - c.lacking) * min(1.0, c.total_steps / usual)
        record = {"steps": c.steps, "planned_steps": c.total_steps, "usual_steps": usual, "share": share}
        found.append({**record, "hardly_trained": share < LEAST})
    return min(found, key=lambda record: float(record["share"]))
