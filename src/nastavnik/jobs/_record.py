"""What a fit leaves on record: ``result.json`` and ``networks.csv``."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from nastavnik.files import plain
from nastavnik.metrics import LEVEL
from nastavnik.runs import FitRequest
from nastavnik.selection import Delivery, Search, hyperparameter_importance, optimism, scored_forecasts

_WASTED = ("dropped", "diverged")


def result_record(delivery: Delivery, search: Search, request: FitRequest) -> dict[str, Any]:
    """``result.json``; its form is ``schemas/result.schema.json`` in the package."""
    task = search.bench.task
    recipe = delivery.candidates[0].recipe.to_json()
    chosen: dict[str, Any] = {"deliver": delivery.deliver, "networks": list(delivery.numbers), "recipe": recipe}
    chosen |= {"asked": request.deliver, "training": delivery.training}
    if len(delivery.candidates) > 1:
        chosen["votes"] = list(delivery.votes)
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
        **({"targets": delivery.targets} if delivery.targets else {}),
        "comparison": delivery.comparison,
        "optimism": _optimism(delivery, search, request),
        "search": _search(search),
        "front": delivery.front,
        "cost": {
            "seconds": search.seconds,
            "networks": len(search.history) * search.bench.folds
            + delivery.final_networks
            + delivery.alone_networks
            + _ladder_networks(search),
            "network_steps": search.network_steps,
            "wasted_seconds": sum(c.seconds for c in search.history if c.status in _WASTED),
        },
    }
    if search.bench.split.repeats > 1:
        deviation = float(np.std(delivery.spread, ddof=1))
        record["repeats"] = {"count": len(delivery.spread), "nll": delivery.spread, "deviation": deviation}
    return plain(record)


def _optimism(delivery: Delivery, search: Search, request: FitRequest) -> dict[str, Any]:
    """What the winner by held-out loss would score on rows that did not choose it, in the scores' own units.

    ``candidate`` is that winner; ``delivered`` says whether it is what was delivered (a simpler model, another
    criterion's choice or an ensemble may be). Rows are taken as independent. Empty for an ensemble, whose rows in own
    units are not those of one candidate.
    """
    if (
        len(search.held_out.rows) < 2
        or delivery.deliver != "single"
        or delivery.candidates[0].number not in search.losses
    ):
        return {}
    own, chosen = delivery.validation["nll"]["value"], delivery.candidates[0].number
    if own is None:
        return {}
    numbers, losses = list(search.losses), np.stack(list(search.losses.values()))
    winner = numbers[int(losses.mean(1).argmin())]
    shift = own - float(search.losses[chosen].mean())  # a target's units move every candidate's loss alike
    found = optimism(losses, seed=request.seed)
    record: dict[str, Any] = {"candidates": found.candidates, "candidate": winner, "delivered": winner == chosen}
    record["nll"] = {name: getattr(found, name) + shift for name in ("apparent", "corrected", "low", "high")}
    if search.errors:
        wrong = optimism(losses, np.stack([search.errors[n] for n in numbers]), seed=request.seed)
        right = {"apparent": 1 - wrong.apparent, "corrected": 1 - wrong.corrected}
        record["accuracy"] = {**right, "low": max(0.0, 1 - wrong.high), "high": min(1.0, 1 - wrong.low)}
    return record


def _search(search: Search) -> dict[str, Any]:
    """How the space was searched, and how good its forecasts were."""
    strategy = search.strategy
    return {
        "sampler": strategy.sampler,
        "halving": strategy.halving,
        "objectives": list(strategy.objectives),
        "stop": strategy.stop,
        "ended": search.ended or "the budget was used",
        "rejected": len(search.drawing.refused),
        "forecasts": scored_forecasts(search.forecasts, search.history) if strategy.forecasts else None,
        "saved": _saved(search),
        "ladder": search.ladder,
        "importance": hyperparameter_importance(search.history, seed=search.seed),
    }


def _ladder_networks(search: Search) -> int:
    return sum(stage["networks"] for stage in search.ladder)


def _saved(search: Search) -> dict[str, Any]:
    """Steps that were not taken because a network was stopped, of those that all would have taken."""
    whole = sum(c.total_steps for c in search.history)
    left = sum(c.total_steps - c.steps for c in search.history)
    dropped = sum(c.total_steps - c.steps for c in search.history if c.status == "dropped")
    folds = search.bench.folds
    return {"network_steps": left * folds, "share": left / max(1, whole), "by_search": dropped / max(1, whole)}


def network_table(search: Search, delivery: Delivery | None) -> pd.DataFrame:
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
                    "parameters": c.parameters,
                    "best_step": c.best_step,
                    "steps": c.steps,
                    "seconds": c.seconds / len(c.numbers),
                    **c.recipe,
                }
            )
    if delivery is not None and delivery.final_networks:
        for number, c in zip(delivery.numbers, delivery.candidates, strict=True):
            rows.append({"network": number, "candidate": c.number, "status": "final", "steps": c.best_step, **c.recipe})
    return pd.DataFrame(rows)
