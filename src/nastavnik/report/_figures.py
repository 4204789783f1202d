"""The report's pictures, each a plotly figure made from what a run measured."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from nastavnik.figure import BLUE, GREY, ORANGE, Figure, blank
from nastavnik.report._words import axis_name
from nastavnik.selection import Delivery, Search

_MOST_CURVES = 300


def curves(trace: pd.DataFrame, search: Search, chosen: set[int]) -> Figure:
    """Validation loss of every network over its steps; the chosen ones in colour."""
    figure = blank("steps", "validation loss (nats per row)")
    losses = trace[trace["instrument"] == "validation loss"]
    offsets = {n: search.bench.of(c.recipe).offset for c in search.history for n in c.numbers}
    losses = losses.assign(value=losses["value"] + losses["network"].map(offsets).fillna(0.0))
    status = {n: c.status for c in search.history for n in c.numbers}
    highlighted = {n for c in search.history if c.number in chosen for n in c.numbers}
    groups: dict[str, list[pd.DataFrame]] = {"stopped early": [], "finished": [], "chosen": []}
    for network, part in ((int(part["network"].iloc[0]), part) for _, part in losses.groupby("network", sort=True)):
        kind = (
            "chosen" if network in highlighted else "finished" if status.get(network) == "finished" else "stopped early"
        )
        groups[kind].append(part)
    style = {"stopped early": (GREY, 0.8, 0.5), "finished": (BLUE, 1.0, 0.5), "chosen": (ORANGE, 2.2, 1.0)}
    for kind, parts in groups.items():
        if not parts:
            continue
        colour, width, opacity = style[kind]
        x, y, text = _lines(parts[-_MOST_CURVES:])
        figure.draw(
            "scatter",
            x=x,
            y=y,
            mode="lines",
            name=f"{kind} ({len(parts)}{f', {_MOST_CURVES} drawn' if len(parts) > _MOST_CURVES else ''})",
            text=text,
            line={"color": colour, "width": width},
            opacity=opacity,
            hovertemplate="network %{text}<br>step %{x}<br>loss %{y:.4f}<extra></extra>",
        )
    finite = losses["value"][np.isfinite(losses["value"])]
    if len(finite):
        low, high = float(finite.min()), float(finite.quantile(0.95))
        pad = 0.05 * (high - low + 1e-9)
        figure.lay_out(yaxis={"range": [low - pad, high + pad]})
    return figure


def _lines(parts: list[pd.DataFrame]) -> tuple[list[Any], list[Any], list[Any]]:
    """Many curves as one, with gaps between them."""
    x: list[Any] = []
    y: list[Any] = []
    text: list[Any] = []
    for part in parts:
        x += [*part["step"].tolist(), None]
        y += [*part["value"].round(6).tolist(), None]
        text += [*part["network"].tolist(), None]
    return x, y, text


def candidates(rows: list[dict[str, Any]]) -> Figure:
    """Validation loss of the best candidates with intervals; the chosen one in colour."""
    figure = blank("validation loss (nats per row)", "")
    figure.draw(
        "scatter",
        x=[r["nll"] for r in rows],
        y=[f"candidate {r['number']}" for r in rows],
        error_x={"type": "data", "array": [r["half_width"] for r in rows], "color": GREY},
        mode="markers",
        marker={"size": 10, "color": [ORANGE if r["chosen"] else BLUE for r in rows]},
        text=[r["words"] for r in rows],
        hovertemplate="%{text}<br>%{x:.4f}<extra></extra>",
        showlegend=False,
    )
    figure.lay_out(yaxis={"autorange": "reversed"})
    figure.lay_out(height=182 + 26 * len(rows))
    return figure


def columns(delivery: Delivery, most: int = 20) -> Figure:
    """How much the loss rises when a column is shuffled."""
    rows = delivery.columns[:most]
    figure = blank("rise of the loss when shuffled (nats per row)", "")
    figure.draw(
        "bar",
        x=[r["rise"] for r in rows],
        y=[str(r["column"]) for r in rows],
        error_x={"type": "data", "array": [1.96 * float(r["standard_error"]) for r in rows], "color": GREY},
        orientation="h",
        marker={"color": BLUE},
        showlegend=False,
    )
    figure.lay_out(yaxis={"autorange": "reversed"})
    figure.lay_out(height=182 + 22 * len(rows))
    return figure


def hyperparameters(rows: list[dict[str, Any]], most: int = 12) -> Figure:
    """How much of the scores' variance each hyperparameter explains, with intervals over forests."""
    rows = rows[:most]
    figure = blank("share of the ranks' variance that is lost when shuffled", "")
    figure.draw(
        "bar",
        x=[r["importance"] for r in rows],
        y=[r["name"] for r in rows],
        error_x={
            "type": "data",
            "symmetric": False,
            "array": [r["high"] - r["importance"] for r in rows],
            "arrayminus": [r["importance"] - r["low"] for r in rows],
            "color": GREY,
        },
        orientation="h",
        marker={"color": BLUE},
        showlegend=False,
        hovertemplate="%{y}: %{x:.3f}<extra></extra>",
    )
    figure.lay_out(yaxis={"autorange": "reversed"})
    figure.lay_out(height=182 + 22 * len(rows))
    return figure


def front(delivery: Delivery, search: Search) -> Figure:
    """All candidates by the first two criteria, the front as a staircase, sure members darker."""
    names = search.strategy.objectives
    every = [c.values for c in search.ranking if all(np.isfinite(c.values))]
    figure = blank(_criterion(names[1]), _criterion(names[0]))
    figure.draw(
        "scatter",
        x=[v[1] for v in every],
        y=[v[0] for v in every],
        mode="markers",
        marker={"size": 5, "color": GREY},
        name=f"all {len(every)} candidates",
        hovertemplate="%{x:.4g}, %{y:.4g}<extra></extra>",
    )
    rows = sorted(delivery.front, key=lambda r: r[names[1]])
    figure.draw(
        "scatter",
        x=[r[names[1]] for r in rows],
        y=[r[names[0]] for r in rows],
        mode="lines+markers" if len(names) == 2 else "markers",
        line={"color": ORANGE, "shape": "hv", "width": 1.5},
        marker={"size": 11, "color": ORANGE, "opacity": [0.35 + 0.65 * (r["on_front"] or 0.0) for r in rows]},
        text=[f"candidate {r['candidate']}, on the front in {(r['on_front'] or 0.0):.0%} of draws" for r in rows],
        name="the front",
        hovertemplate="%{text}<br>%{x:.4g}, %{y:.4g}<extra></extra>",
    )
    if names[1] in ("parameters", "seconds"):
        figure.lay_out(xaxis={"type": "log"})
    return figure


def _criterion(name: str) -> str:
    return {"nll": "validation loss (nats per row)", "error": "validation error", "seconds": "seconds of training"}.get(
        name, "negative log evidence (nats per row)" if name == "evidence" else name
    )


def baselines(result: dict[str, Any], head: str) -> Figure:
    """Ours and every baseline on the test rows, with intervals."""
    scored = {n.replace("_", " "): b["test"][head] for n, b in result["baselines"].items() if "test" in b}
    scored = {n: v for n, v in scored.items() if None not in v.values()}
    names = ["this model", *scored]
    values = [result["test"][head], *scored.values()]
    figure = blank(f"{axis_name(head)} on the test rows", "")
    figure.draw(
        "scatter",
        x=[v["value"] for v in values],
        y=names,
        error_x={
            "type": "data",
            "symmetric": False,
            "array": [v["high"] - v["value"] for v in values],
            "arrayminus": [v["value"] - v["low"] for v in values],
            "color": GREY,
        },
        mode="markers",
        marker={"size": 11, "color": [ORANGE] + [BLUE] * len(scored)},
        showlegend=False,
        hovertemplate="%{y}: %{x:.4f}<extra></extra>",
    )
    figure.lay_out(yaxis={"autorange": "reversed"})
    figure.lay_out(height=182 + 28 * len(names))
    return figure
