"""A plotly picture as plain records: plotly's own classes check every value in Python, which takes seconds a page."""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files
from typing import Any

from nastavnik.files import plain

_PAGE = """<div style="height:100%; width:100%;"><div id="{name}" class="plotly-graph-div" \
style="height:100%; width:100%;"></div><script>if (document.getElementById("{name}")) {{\
Plotly.newPlot("{name}", {data}, {layout}, {{"displaylogo": false, "responsive": true}})}};</script></div>"""

INK, BLUE, ORANGE, GREY, RED = "#1f2933", "#2166ac", "#e08214", "#b8c0c8", "#b2182b"


class Figure:
    """Traces and a layout in plotly.js's own words; ``record`` is what ``plotly.graph_objects.Figure`` takes."""

    def __init__(self, **layout: Any) -> None:
        self.record: dict[str, Any] = {"data": [], "layout": layout}

    def draw(self, kind: str, **trace: Any) -> None:
        """Add a trace: "scatter", "bar" …"""
        self.record["data"].append({"type": kind, **trace})

    def lay_out(self, **changes: Any) -> None:
        """Change the layout; the entries of ``xaxis`` and ``yaxis`` join what they have."""
        for name, value in changes.items():
            before = self.record["layout"].get(name)
            both = isinstance(before, dict) and isinstance(value, dict)
            self.record["layout"][name] = {**before, **value} if both else value

    def to_html(self, name: str) -> str:
        """The picture for a page that holds plotly.js, in an element of this name."""
        layout = {"template": _template(), **self.record["layout"]}
        return _PAGE.format(name=name, data=_for_a_page(self.record["data"]), layout=_for_a_page(layout))


def blank(x: str, y: str) -> Figure:
    """A picture without traces."""
    return Figure(
        height=380,
        margin={"l": 60, "r": 20, "t": 62, "b": 50},  # above: plotly's buttons, and below them the legend
        font={"family": "system-ui, sans-serif", "color": INK, "size": 13},
        legend={"orientation": "h", "y": 1, "yanchor": "bottom"},
        xaxis={"title": {"text": x}},
        yaxis={"title": {"text": y}, "automargin": True},
    )


def plotlyjs() -> str:
    """The program that draws pictures in a page."""
    return (files("plotly") / "package_data" / "plotly.min.js").read_text(encoding="utf-8")


@cache
def _template() -> dict[str, Any]:
    return json.loads((files("plotly") / "package_data" / "templates" / "plotly_white.json").read_text("utf-8"))


def _for_a_page(value: Any) -> str:
    """JSON that a script element may hold, whatever the words in it."""
    text = json.dumps(plain(value), allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
