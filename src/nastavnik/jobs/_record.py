"""What a fit leaves on record: ``result.json`` and ``networks.csv``."""

from __future__ import annotations

from typing import Any

import pandas as pd

from nastavnik.files import plain
from nastavnik.metrics import LEVEL
from nastavnik.request import FitRequest
from nastavnik.selection import Delivery, Search

_WASTED = ("dropped", "stopped", "diverged")


def result_record(delivery: Delivery, search: Search, request: FitRequest) -> dict[str, Any]:
    """``result.json``; its form is ``schemas/result.schema.json`` in the package."""
    task = search.bench.task
    recipe = delivery.candidates[0].recipe.to_json()
    chosen: dict[str, Any] = {"deliver": delivery.deliver, "networks": list(delivery.numbers), "recipe": recipe}
    if len(delivery.candidates) > 1:
        chosen["votes"] = [member.votes for member in delivery.model.members]
        chosen["recipes"] = [c.recipe.to_json() for c in delivery.candidates]
    record = {
        "task": task.to_json(),
        "seed": request.seed,
        "criterion": request.criterion,
        "chosen": chosen,
        "interval": {"level": LEVEL, "method": "bootstrap over rows"},
        "validation": delivery.validation,
        "test": delivery.test,
        "test_touches": delivery.touches,
        "baselines": delivery.baselines,
        "comparison": delivery.comparison,
        "cost": {
            "seconds": search.seconds,
            "networks": len(search.history) * search.bench.folds + delivery.final_networks,
            "network_steps": search.network_steps,
            "wasted_seconds": sum(c.seconds for c in search.history if c.status in _WASTED),
        },
    }
    return plain(record)


def network_table(search: Search, delivery: Delivery) -> pd.DataFrame:
    """A row per network: which candidate and fold, what became of it, its score, and its whole recipe."""
    rows: list[dict[str, Any]] = []
    for c in search.history:
        for fold, number in enumerate(c.numbers):
            rows.append(
                {
                    "network": number,
                    "candidate": c.number,
                    "fold": fold if len(c.numbers) > 1 else None,
                    "generation": c.generation,
                    "status": c.status,
                    "score": c.score,
                    "best_step": c.best_step,
                    "steps": c.steps,
                    "seconds": c.seconds / len(c.numbers),
                    **c.recipe,
                }
            )
    if delivery.final_networks:
        for number, c in zip(delivery.numbers, delivery.candidates, strict=True):
            rows.append({"network": number, "candidate": c.number, "status": "final", "steps": c.best_step, **c.recipe})
    return pd.DataFrame(rows)
