"""Writing ``report.html``: one file with everything inside."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from nastavnik.dataset import Dataset
from nastavnik.figure import plotlyjs
from nastavnik.files import write_text
from nastavnik.predictive import JointPredictive, Predictive
from nastavnik.report import _figures as figures
from nastavnik.report._cells import shown
from nastavnik.report._words import (
    against_baselines,
    best_of,
    blended,
    by_target,
    cost,
    ends,
    figure,
    headline,
    metric_name,
    optimism,
    surer,
    verdict,
)
from nastavnik.report._words import search as search_words
from nastavnik.selection import Delivery, Search
from nastavnik.targets import Target, known_rows

_WORST = 12
_EXAMPLES = 20


def write_report(
    path: Path, result: dict[str, Any], delivery: Delivery, search: Search, dataset: Dataset, run: dict[str, Any]
) -> None:
    """Render the template with the run's pictures and tables."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("nastavnik.report", "."), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(figure=figure, ends=ends)
    head = headline(result)
    part, predictive, rows = _shown_part(delivery)
    y, target = dataset.task.values, dataset.task.target
    pictures = {"curves": figures.curves(search.trace.frame(), search, {c.number for c in delivery.candidates})}
    fits = [
        (one.asks_about, one.name, one.picture(said, own, part).to_html(f"picture-fit-{i}"))
        for i, (one, said, own) in enumerate(_each(target, predictive, y[rows]))
    ]
    pictures["candidates"] = figures.candidates(delivery.finalists)
    if result["search"]["importance"]:
        pictures["hyperparameters"] = figures.hyperparameters(result["search"]["importance"])
    if delivery.front:
        pictures["front"] = figures.front(delivery, search)
    if delivery.columns:
        pictures["columns"] = figures.columns(delivery)
    if result["test"] and result["baselines"] and None not in result["test"][head].values():
        pictures["baselines"] = figures.baselines(result, head)
    page = environment.get_template("template.html").render(
        fits=fits,
        title=f"{result['task']['target']} from {dataset.name}",
        result=result,
        head=head,
        by_target=by_target(result),
        baseline_of=best_of,
        metric_name=metric_name,
        verdict=verdict(result),
        against=against_baselines(result),
        blended=blended(result),
        cost=cost(result),
        surer=surer(result, len(rows)),
        optimism=optimism(result),
        search=search_words(result),
        objectives=search.strategy.objectives,
        recipes=[c.recipe.in_words() for c in delivery.candidates],
        finalists=delivery.finalists,
        dataset=dataset,
        delivery=delivery,
        split={name: len(getattr(dataset.split, name)) for name in ("train", "validation", "test")},
        worst=_worst(predictive, y[rows], rows, dataset),
        examples=_examples(dataset),
        worst_part=part,
        temperature=[m.temperature for m in delivery.model.members],
        run=run,
        plotlyjs=plotlyjs(),
        pictures={name: picture.to_html(f"picture-{name}") for name, picture in pictures.items()},
    )
    write_text(path, page)


def _shown_part(delivery: Delivery) -> tuple[str, Predictive, np.ndarray]:
    if delivery.test_predictive is not None:
        return "test", delivery.test_predictive, delivery.test_rows
    return "validation", delivery.held_out, delivery.rows


def _each(target: Target, predictive: Predictive, y: np.ndarray) -> list[tuple[Target, Predictive, np.ndarray]]:
    """Each target, what is predicted of the rows in which it is known, and its values there."""
    if not isinstance(predictive, JointPredictive):
        return [(target, predictive, y)]
    found = []
    for one, said, own in zip(target.parts, predictive.parts, target.divided(y), strict=True):
        known = np.flatnonzero(known_rows(own))
        if len(known):
            found.append((one, said.take(known), own[known]))
    return found


def _examples(dataset: Dataset) -> list[dict[str, str]]:
    """A few training rows of each class (or any), where rows hold more than numbers."""
    rows, y, target = dataset.split.train, dataset.task.values, dataset.task.target
    if not dataset.columns.fields:
        return []
    first = y.reshape(len(y), -1)[:, 0]
    order = rows[np.argsort(first[rows], kind="stable")]
    some = np.unique(order[np.linspace(0, len(order) - 1, _EXAMPLES).astype(int)])
    some = some[np.argsort(first[some], kind="stable")]
    return [{"target": target.said(y, int(i)), "shown": shown(dataset.columns, int(i))} for i in some]


def _worst(predictive: Predictive, y: np.ndarray, rows: np.ndarray, dataset: Dataset) -> list[dict[str, str]]:
    """The rows the model finds most surprising."""
    target, loss = dataset.task.target, predictive.neg_log_likelihood(y)
    found = []
    for i in np.argsort(-loss)[:_WORST].tolist():
        own = {"row": str(int(rows[i]) + 1), "true": target.said(y, i), "predicted": target.guessed(predictive, i)}
        found.append({**own, "loss": figure(float(loss[i])), "shown": shown(dataset.columns, int(rows[i]))})
    return found
