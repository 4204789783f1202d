"""The model's card: what it is, how good, how it was made, and what it is not for."""

from __future__ import annotations

from typing import Any

from nastavnik.dataset import Dataset
from nastavnik.report._words import against_baselines, blended, cost, ends, figure, metric_name, verdict
from nastavnik.selection import Delivery
from nastavnik.training.optimizers import OPTIMIZERS, FirstOrder
from nastavnik.training.regularizers import strengths


def model_card(result: dict[str, Any], delivery: Delivery, dataset: Dataset) -> str:
    """Markdown."""
    task = result["task"]
    told = f"{blended(result)} " if blended(result) else ""
    lines = [
        f"# {task['target']} from {dataset.name}",
        "",
        f"{task['kind'].capitalize()} of `{task['target']}` from {len(dataset.infos)} columns, by "
        f"{len(delivery.model.members)} network(s). {verdict(result)} {told}{against_baselines(result)}",
        "",
        "## Scores",
        "",
        "| score | validation | test |",
        "|---|---|---|",
    ]
    for name, score in result["validation"].items():
        test = result["test"][name] if result["test"] else None
        lines.append(f"| {metric_name(name)} | {_cell(score)} | {_cell(test)} |")
    lines += ["", "Intervals: 95 %, bootstrap over rows. Validation rows also chose the network; test rows did not."]
    lines += ["", "## Recipe", ""]
    lines += [f"- {c.recipe.in_words()}" for c in delivery.candidates]
    lines += [f"- {line}" for line in strength_lines(delivery, dataset)]
    lines += ["", "## Data", "", f"{len(dataset.columns)} rows, split {dataset.split.method}. {cost(result)}", ""]
    lines += [f"- {finding['message']}" for finding in dataset.audit]
    lines += [f"- {note}" for note in dataset.notes]
    lines += [
        "",
        "## Limits",
        "",
        "The scores hold for rows drawn like these. Unseen categories, missing cells and values far outside the "
        "training rows are predicted with a warning.",
        "",
    ]
    return "\n".join(lines)


def strength_lines(delivery: Delivery, dataset: Dataset) -> list[str]:
    """What the chosen recipe's penalties stand for: λ for the rows trained on, and the prior if there is one."""
    recipe = delivery.candidates[0].recipe
    optimizer = OPTIMIZERS.get(str(recipe.get("optimizer.name")))
    coupled = bool(optimizer.coupled) if optimizer is not None and issubclass(optimizer, FirstOrder) else None
    rows = len(dataset.split.development if dataset.split.folds is not None else dataset.split.train)
    lines = []
    for found in strengths(recipe, rows, coupled):
        prior = "" if found.prior_precision is None else f", prior precision {figure(found.prior_precision)}"
        lines.append(
            f"{found.name} {found.per_example:.3g} per example: λ = {figure(found.total)} for {rows} rows{prior} "
            f"({found.note})"
        )
    return lines


def _cell(score: dict[str, float] | None) -> str:
    if score is None:
        return "–"
    return f"{figure(score['value'])} ({ends(score)})"
