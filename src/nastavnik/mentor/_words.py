"""Findings as text, for people."""

from __future__ import annotations

import textwrap
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from nastavnik.mentor._diagnosis import Finding

_WIDTH = 100


def in_words(findings: Iterable[Finding], known: Collection[str] = ()) -> str:
    """Causes with what shows them and what to do; what follows from them or was ``known`` before, a line each."""
    listed = list(findings)
    if not listed:
        return "nothing is found to be wrong"
    parts = []
    for finding in listed:
        if finding.root is not None:
            parts.append(f"    follows: {finding.title} ({finding.rule}{_place(finding)})")
            continue
        if finding.rule in known:
            parts.append(f"known   {finding.title} ({finding.rule}{_place(finding)})")
            continue
        lines = [f"{finding.severity.upper():7} {finding.title} ({finding.rule}{_place(finding)})"]
        lines += _wrapped("shown by", evidence_in_words(finding.evidence))
        lines += _wrapped("why", finding.explanation.split(" (score")[0].rstrip(".") + ".")
        lines += [line for advice in finding.advice[:3] for line in _advice(advice.words)]
        if finding.trial:
            lines += _wrapped("tried", trial_in_words(finding.trial))
        parts.append("\n".join(lines))
    return "\n".join(parts)


def evidence_in_words(evidence: Mapping[str, Any]) -> str:
    """Names and numbers in a row; last the score, and from where on it counts, unless it is a plain yes."""
    words = [f"{name} {_number(value)}" for name, value in evidence.items() if name not in ("score", "threshold")]
    score, threshold = evidence.get("score"), evidence.get("threshold")
    if isinstance(score, (int, float)) and isinstance(threshold, (int, float)) and (score != 1 or not words):
        words.append(f"score {_number(float(score))} (counts from {_number(float(threshold))})")
    return ", ".join(words)


def trial_in_words(trial: Mapping[str, Any]) -> str:
    """The effect of a change with its interval, and the verdict."""
    change = ", ".join(f"{n}={_number(v)}" for n, v in trial["changes"].items())
    rest = len(trial.get("arms", ())) - 1
    beside = f" (the best of {rest + 1} changes, all in findings.json)" if rest > 0 else ""
    return (
        f"{trial['words']} ({change}){beside}: {trial['effect']:+.4g} nats a row "
        f"({trial['low']:+.4g} to {trial['high']:+.4g}, "
        f"{trial['pairs']} pairs): {trial['verdict']}"
    )


def _place(finding: Finding) -> str:
    where = f", in {finding.layer}" if finding.layer else ""
    since = "" if finding.steps is None else f", steps {finding.steps[0]} to {finding.steps[1]}"
    return where + since


def _advice(words: str) -> list[str]:
    """Another way to go is said as one."""
    return _wrapped("or", words.removeprefix("or ")) if words.startswith("or ") else _wrapped("do", words)


def _wrapped(label: str, text: str) -> list[str]:
    body = textwrap.wrap(text, _WIDTH - 20) or [""]
    return [f"        {label if i == 0 else '':9} {line}" for i, line in enumerate(body)]


def _number(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, Mapping):
        return "; ".join(f"{k} {_number(v)}" for k, v in value.items())
    if isinstance(value, list):
        return ", ".join(_number(v) for v in value)
    return str(value)
