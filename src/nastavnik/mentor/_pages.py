"""The documentation's page of each rule, written from the rule itself and from what the bench measured of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nastavnik.files import write_text
from nastavnik.mentor._rule import Rule, calibration
from nastavnik.mentor.rules import RULES
from nastavnik.trace import History

_THEMES = {
    "data": "the rows themselves",
    "targets": "targets and whether they are heard",
    "batch": "batches and their order",
    "network": "the network as it was built",
    "wiring": "whether rows stay apart, and whether it is the same in use",
    "sequence": "sequences",
    "loss": "the loss and the outputs",
    "optimizer": "steps, their rate and their length",
    "steps": "single steps of the optimizer",
    "weights": "weights as they begin",
    "gradients": "gradients on their way back",
    "activations": "units",
    "curvature": "the shape of the loss",
    "generalization": "rows held out",
    "examples": "single rows and their labels",
    "cost": "time and memory",
}


def rule_records() -> list[dict[str, Any]]:
    """Every rule in plain values: name, theme, severity, title, symptom, source and threshold."""
    return [
        {
            "name": rule.name,
            "theme": rule.theme,
            "severity": rule.severity,
            "purpose": rule.title,
            "symptom": rule.symptom,
            "source": rule.source,
            "threshold": rule.threshold,
        }
        for rule in RULES.values()
    ]


def page(rule: Rule) -> str:
    """One rule's page: symptom, mechanism, threshold with its precision and recall, advice, source."""
    lines = [f"# {rule.title}", "", f"`{rule.name}`: {rule.severity}, about {_THEMES[rule.theme]}.", ""]
    lines += [f"**Symptom.** {rule.symptom}", "", f"**Mechanism.** {rule.mechanism}", ""]
    lines += [f"**Threshold.** {_threshold(rule)}", "", f"**Measured.** {_measured(rule)}", ""]
    if rule.causes:
        causes = ", ".join(f"[{name}]({name}.md)" for name in rule.causes)
        lines += [f"**Folded under**, where one of these was found too: {causes}.", ""]
    lines += ["**Advice.**", "", *(_advice(rule)), "", f"**Source.** {rule.source}", ""]
    return "\n".join(lines)


def index() -> str:
    """The list of all rules by theme."""
    lines = [
        "# The rules",
        "",
        "Written by `python -m nastavnik.mentor docs/rules`; figures from `benchmarks/mentor.py`.",
    ]
    for theme, words in _THEMES.items():
        lines += ["", f"## {theme.capitalize()}: {words}", ""]
        lines += [
            "| rule | severity | what it says | threshold | precision | recall |",
            "| --- | --- | --- | --- | --- | --- |",
        ]
        for rule in (r for r in RULES.values() if r.theme == theme):
            known = calibration().get(rule.name, {})
            shares = _share(known, "precision", "right", "raised"), _share(known, "recall", "recalled", "planted")
            lines.append(
                f"| [{rule.name}]({rule.name}.md) | {rule.severity} | {rule.title} | {rule.threshold:.3g} "
                f"| {' | '.join(shares)} |"
            )
    return "\n".join([*lines, ""])


def write_pages(folder: str | Path) -> None:
    """A page a rule and their index, into a folder."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / "README.md", index())
    for rule in RULES.values():
        write_text(folder / f"{rule.name}.md", page(rule))


def _threshold(rule: Rule) -> str:
    if not rule.measured:
        return f"a score of {rule.usual:g}; a plain fact, which needs no setting."
    if rule.threshold == rule.usual:
        return f"a score of {rule.usual:g}, the usual one; healthy trainings of the bench stay below it."
    return f"a score of {rule.threshold:g}, set by the bench (usual: {rule.usual:g})."


def _measured(rule: Rule) -> str:
    known = calibration().get(rule.name)
    if not known or "raised" not in known:
        return "not by the fault bench."
    parts = [f"on held-out tasks it was among the first three causes of {known['raised']} trainings"]
    if known["raised"]:
        parts.append(f"in {known['right']} of them it named what was planted (precision {known['precision']:.2f})")
    if known["planted"]:
        parts.append(
            f"of {known['planted']} trainings with its fault {known['recalled']} were named "
            f"(recall {known['recall']:.2f})"
        )
    else:
        parts.append("the bench plants no fault of its own for it")
    parts.append(f"{known['healthy alarms']} of {known['healthy']} healthy trainings raised it")
    return "; ".join(parts) + "."


def _share(known: dict[str, Any], name: str, top: str, bottom: str) -> str:
    return "–" if known.get(name) is None else f"{known[name]:.2f} ({known[top]}/{known[bottom]})"


def _advice(rule: Rule) -> list[str]:
    found = []
    for advice in rule.advise(History()):
        names = ", ".join(f"`{name}`" for name in advice.changes)
        found.append(f"- {advice.words}" + (f" ({names})" if names else ""))
    return found
