"""The front of a search by several criteria: what may be chosen from, and how sure it is that it belongs there."""

from __future__ import annotations

from typing import Any

import numpy as np

from nastavnik.selection._search import Search
from nastavnik.selection.pareto import front, on_front


def pareto_front(search: Search, *, seed: int) -> list[dict[str, Any]]:
    """A record for each candidate on the front, by its first objective; none for a search by one criterion.

    ``on_front`` is the share of bootstrap draws of the validation rows in which it stays there: the loss or error is
    redrawn, the other objectives are taken as exact.
    """
    names = search.strategy.objectives
    if len(names) < 2 or not search.ranking:
        return []
    ranked = [c for c in search.ranking if all(np.isfinite(c.values))]
    values = np.array([c.values for c in ranked])
    table = search.errors if names[0] == "error" else search.losses
    shares: np.ndarray | None = None
    if names[0] in ("nll", "error"):
        shares = on_front(np.stack([table[c.number] for c in ranked]).astype(float), values[:, 1:], seed=seed)
    records = []
    for i in sorted(front(values), key=lambda i: tuple(values[i])):
        c = ranked[i]
        record = {"candidate": c.number, "networks": list(c.numbers), **dict(zip(names, c.values, strict=True))}
        record |= {"on_front": None if shares is None else float(shares[i])}
        records.append({**record, "recipe": c.recipe.to_json(), "words": c.recipe.in_words()})
    return records
