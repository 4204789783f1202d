"""The report's section of what the mentor found, put into a page that is already there."""

from __future__ import annotations

import html
from pathlib import Path
from typing import Any

import numpy as np

from nastavnik.errors import UserError
from nastavnik.figure import BLUE, GREY, ORANGE, RED, blank
from nastavnik.files import read_bytes, write_text
from nastavnik.mentor import RULES, evidence_in_words, trial_in_words
from nastavnik.trace import History

BEGIN, END = "<!-- mentor -->", "<!-- /mentor -->"
_COLOURS = (BLUE, ORANGE, GREY, RED, "#4d9221", "#762a83")
_MOST_PICTURES = 3
_MOST_LAYERS = 6
_SHOWN = {  # by theme, the instruments that show it best
    "batch": ("order dispersion", "gradient noise scale"),
    "network": ("layer gradient norm",),
    "loss": ("batch loss", "output least", "output most"),
    "optimizer": ("training rows' loss", "layer update ratio"),
    "weights": ("layer weight norm",),
    "gradients": ("layer gradient norm",),
    "activations": ("dead share", "saturated share", "output deviation"),
    "curvature": ("curvature",),
    "generalization": ("training rows' loss", "validation rows' loss"),
    "examples": ("training rows' score", "validation rows' score"),
    "cost": ("data seconds", "step seconds"),
}


def show_findings(path: Path, out: Path, record: dict[str, Any], history: History) -> bool:
    """Write the page ``path`` to ``out`` with the section between its two marks, in place of an earlier one.

    False, and nothing is written, if it has no such marks or cannot be read.
    """
    try:
        page = read_bytes(path).decode("utf-8")
    except (UserError, UnicodeDecodeError):
        return False
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if begin and end:
        write_text(out, before + BEGIN + _section(record, history) + END + after)
    return bool(begin and end)


def _section(record: dict[str, Any], history: History) -> str:
    roots = [f for f in record["findings"] if f["root"] is None]
    parts = ['\n<section id="mentor"><h2>What the mentor found</h2>']
    if not roots:
        parts.append(f"<p>Nothing is found to be wrong with network {record['network']}.</p>")
    for i, finding in enumerate(roots):
        parts.append(_finding(finding, [f for f in record["findings"] if f["root"] == finding["rule"]]))
        if i < _MOST_PICTURES:
            parts.append(_picture(finding, history, i))
    if record["together"]:
        parts.append(_together(record["together"]))
    parts.append(_others(record["others"]))
    return "".join([*parts, "</section>\n"])


def _finding(finding: dict[str, Any], below: list[dict[str, Any]]) -> str:
    colour = {"error": RED, "warning": ORANGE}.get(finding["severity"], BLUE)
    where = f" in <code>{html.escape(finding['layer'])}</code>" if finding["layer"] else ""
    since = f", steps {finding['steps'][0]} to {finding['steps'][1]}" if finding["steps"] else ""
    lines = [
        f'<h3><span style="color:{colour}">{finding["severity"]}</span> {html.escape(finding["title"])}'
        f"{where}{since}</h3>",
        f"<p>{html.escape(finding['explanation'])}</p>",
        f'<p class="soft">Shown by: {html.escape(evidence_in_words(finding["evidence"]))}. '
        f"Source: {html.escape(finding['source'])}</p>",
        "<ul>", *(f"<li>{html.escape(advice['words'])}</li>" for advice in finding["advice"]), "</ul>",
    ]  # fmt: skip
    if finding["trial"]:
        lines.append(f"<p><b>Tried here:</b> {html.escape(trial_in_words(finding['trial']))}</p>")
    if below:
        lines.append(f"<p class='soft'>Follows from it: {html.escape('; '.join(f['title'] for f in below))}</p>")
    return "\n".join(lines)


def _picture(finding: dict[str, Any], history: History, number: int) -> str:
    """The instruments that show a finding, over the steps."""
    rule = RULES.get(finding["rule"])
    shown = _SHOWN.get(rule.theme if rule else "", ())
    figure, colours = blank("step", ", ".join(shown)), iter(_COLOURS * 10)
    drawn: list[np.ndarray] = []
    for name in shown:
        layers = history.layers(name)
        chosen = [finding["layer"]] if finding["layer"] in layers else []
        for layer in [*chosen, *(x for x in layers if x not in chosen)][:_MOST_LAYERS]:
            values = history.series(name, layer)
            drawn.append(values)
            figure.draw("scatter",
                x=history.steps(name, layer), y=values, mode="lines+markers", name=f"{name} {layer}".strip(),
                line={"color": next(colours), "width": 2.2 if layer == finding["layer"] else 1.2},
            )  # fmt: skip
    finite = np.concatenate([v[np.isfinite(v)] for v in drawn]) if drawn else np.zeros(0)
    if len(finite) < 2:
        return ""
    low, high = np.quantile(finite, (0.02, 0.95))  # a first step from zero weights would squeeze all the rest
    if finite.min() > 0 and high > 100 * low:
        figure.lay_out(yaxis={"type": "log", "range": [float(np.log10(low)) - 0.3, float(np.log10(high)) + 0.3]})
    elif finite.max() > 10 * high > 0:
        figure.lay_out(yaxis={"range": [float(min(low, 0.0)), 1.2 * float(high)]})
    return figure.to_html(f"picture-finding-{number}")


def _together(found: dict[str, Any]) -> str:
    rows = "".join(
        f"<tr><td>{html.escape(' with '.join(e['words']))}</td><td class='n'>{e['effect']:+.4g}</td>"
        f"<td class='n'>{e['low']:+.4g} to {e['high']:+.4g}</td></tr>"
        for e in found["effects"]
    )
    best = html.escape(" and ".join(found["best"]) or "leave it as it is")
    return (
        "<h3>Advice against advice</h3><div class='scroll'><table><tr><th>effect of, others averaged</th>"
        f"<th class='n'>nats a row</th><th class='n'>95 %</th></tr>{rows}</table></div><p>Best together: {best} "
        f"({found['effect']:+.4g}, {found['low']:+.4g} to {found['high']:+.4g}).</p>"
    )


def _others(others: list[dict[str, Any]]) -> str:
    if not others:
        return ""
    rows = "".join(
        f"<tr><td class='n'>{o['network']}</td><td>{html.escape(o['status'])}</td><td>"
        f"{html.escape('; '.join(c['title'] for c in o['causes']) or 'nothing is found to be wrong')}</td></tr>"
        for o in others
    )
    return (
        "<h3>What was wrong with others</h3><div class='scroll'><table><tr><th class='n'>network</th><th>status</th>"
        f"<th>causes</th></tr>{rows}</table></div>"
    )
