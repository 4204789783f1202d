"""Writing ``report.html``: one file with everything inside."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from nastavnik.dataset import Dataset
from nastavnik.files import write_text
from nastavnik.predictive import ClassPredictive, Predictive
from nastavnik.report import _figures as figures
from nastavnik.report._cells import shown
from nastavnik.report._plotly import plotlyjs
from nastavnik.report._words import (
    against_baselines,
    cost,
    figure,
    headline,
    metric_name,
    optimism,
    surer,
    verdict,
)
from nastavnik.report._words import search as search_words
from nastavnik.selection import Delivery, Search

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
    environment.filters["figure"] = figure
    head = headline(result)
    part, predictive, rows = _shown_part(delivery)
    y = dataset.task.values
    classes = dataset.task.classes
    pictures = {"curves": figures.curves(search.trace.frame(), search, {c.number for c in delivery.candidates})}
    pictures["fit"] = figures.fit_picture(predictive, y[rows], classes, part)
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
        title=f"{result['task']['target']} from {dataset.name}",
        result=result,
        head=head,
        metric_name=metric_name,
        verdict=verdict(result),
        against=against_baselines(result),
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


def _examples(dataset: Dataset) -> list[dict[str, str]]:
    """A few training rows of each class (or any), where rows hold more than numbers."""
    rows, y, classes = dataset.split.train, dataset.task.values, dataset.task.classes
    if not dataset.columns.fields:
        return []
    order = rows[np.argsort(y[rows], kind="stable")]
    some = np.unique(order[np.linspace(0, len(order) - 1, _EXAMPLES).astype(int)])
    some = some[np.argsort(y[some], kind="stable")]
    words = [classes[int(y[i])] if classes else figure(float(y[i])) for i in some]
    return [{"target": w, "shown": shown(dataset.columns, int(i))} for i, w in zip(some, words, strict=True)]


def _worst(predictive: Predictive, y: np.ndarray, rows: np.ndarray, dataset: Dataset) -> list[dict[str, str]]:
    """The rows the model finds most surprising."""
    classes, columns = dataset.task.classes, dataset.columns
    loss = predictive.neg_log_likelihood(y)
    order = np.argsort(-loss)[:_WORST]
    point = predictive.point()
    found = []
    for i in order:
        if isinstance(predictive, ClassPredictive):
            true, guess = classes[int(y[i])], f"{classes[int(point[i])]} ({predictive.probabilities[i].max():.2f})"
        else:
            true, guess = figure(float(y[i])), figure(float(point[i]))
        own = {"row": str(int(rows[i]) + 1), "true": true, "predicted": guess, "loss": figure(float(loss[i]))}
        found.append({**own, "shown": shown(columns, int(rows[i]))})
    return found
