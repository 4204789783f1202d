"""The page of a comparison of choices, ``try.html``: it needs neither scripts nor a connection."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from nastavnik.files import write_text
from nastavnik.report._words import figure

_WIDTH, _ROW = 720, 56  # of the picture, in pixels
_MARGIN = 24


def write_tryout(path: Path, record: dict[str, Any]) -> None:
    """Write the page of what ``try.json`` holds."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("nastavnik.report", "."), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["figure"] = figure
    page = environment.get_template("try.html").render(
        record=record, arms=[record["arm"], *record["rivals"]], picture=_picture(record), sentences=tryout(record)
    )
    write_text(path, page)


def tryout(record: dict[str, Any]) -> list[str]:
    """A sentence for each rival: the arm's verdict, the difference with its interval, and what the rival costs."""
    arm, found = record["arm"]["words"], []
    for rival in record["rivals"]:
        size = f"{abs(rival['difference']):.4g} nats a row"
        verdict = {"better": f"is better by {size}", "worse": f"is worse by {size}"}.get(
            rival["verdict"], f"shows no difference ({rival['difference']:+.4g} nats a row)"
        )
        interval = f"{rival['low']:+.4g} to {rival['high']:+.4g}, {100 * rival['level']:.3g} % interval"
        count = rival["capped"]
        capped = (
            f"; {count} score{'s count' if count > 1 else ' counts'} as ten nats beyond the median" if count else ""
        )
        found.append(f"{arm} against {rival['words']}: {arm} {verdict} ({interval}, {record['pairs']} pairs{capped})")
    found += [f"{words} could not be trained: {why}" for words, why in record["refused"].items()]
    return found


def _picture(record: dict[str, Any]) -> dict[str, Any]:
    """Where everything is drawn: the pairs' differences as dots, the interval as a bar, 0 as a line."""
    rows = []
    for rival in record["rivals"]:
        pairs = zip(record["arm"]["scores"], rival["scores"], strict=True)
        rows.append([a - b for a, b in pairs if a is not None and b is not None])
    values = [v for row in rows for v in row] + [r[n] for r in record["rivals"] for n in ("low", "high")] + [0.0]
    low, high = min(values), max(values)
    span = (high - low) or 1.0

    def x(value: float) -> float:
        return round(_MARGIN + (value - low) / span * (_WIDTH - 2 * _MARGIN), 1)

    drawn = [
        {
            "words": rival["words"], "y": _ROW * i + _ROW / 2 + 8, "dots": [x(v) for v in row],
            "low": x(rival["low"]), "high": x(rival["high"]), "middle": x(rival["difference"]),
        }
        for i, (rival, row) in enumerate(zip(record["rivals"], rows, strict=True))
    ]  # fmt: skip
    height = _ROW * len(rows) + 34
    ticks = [{"x": x(v), "words": f"{v:+.3g}" if v else "0"} for v in _ticks(low, high)]
    return {"width": _WIDTH, "height": height, "rows": drawn, "zero": x(0.0), "ticks": ticks, "floor": height - 26}


def _ticks(low: float, high: float) -> list[float]:
    """Round numbers along an axis, five or so."""
    if high <= low:
        return [low]
    rough = (high - low) / 4
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(s * power for s in (1, 2, 5, 10) if s * power >= rough)
    return [round(i * step, 12) for i in range(math.ceil(low / step), math.floor(high / step) + 1)]
