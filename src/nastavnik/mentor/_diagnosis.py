"""From a history to findings: every rule asked, what follows from another folded under it, the causes first."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from nastavnik.errors import UserError, nearest
from nastavnik.files import plain
from nastavnik.mentor._proof import second_sign
from nastavnik.mentor._reading import fared_well
from nastavnik.mentor._rule import SEVERITIES, Advice, Rule, Sign
from nastavnik.mentor.rules import RULES
from nastavnik.trace import History


@dataclass(frozen=True)
class Finding:
    """What a history shows by one rule: where, since when, the numbers, why, and what to do about it.

    ``root`` is the rule whose finding this one follows from, None for a cause; ``weight`` is score over threshold;
    ``trial`` what a trial of the advice found, if there was one; ``networks`` which networks showed it.
    """

    rule: str
    severity: str
    title: str
    layer: str
    steps: tuple[int, int] | None
    evidence: Mapping[str, Any]
    explanation: str
    advice: tuple[Advice, ...]
    source: str
    weight: float
    root: str | None = None
    trial: Mapping[str, Any] | None = None
    networks: tuple[int, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """As ``findings.json`` has it."""
        own = {name: getattr(self, name) for name in self.__dataclass_fields__}
        record = {**own, "advice": [advice.to_json() for advice in self.advice], "evidence": dict(self.evidence)}
        return plain(
            {**record, "steps": None if self.steps is None else list(self.steps), "networks": list(self.networks)}
        )


def diagnose(
    history: History,
    *,
    suppress: Iterable[str] = (),
    rules: Mapping[str, Rule] | None = None,
    broken: Callable[[str, Exception], None] | None = None,
) -> list[Finding]:
    """What is wrong with one training, the causes first, each followed by what follows from it.

    Args:
        history: its measurements.
        suppress: names of rules whose findings are left out.
        rules: those that are; all by default.
        broken: told of a rule that fails, which is then passed over; without it the failure is raised.

    Raises:
        UserError: a suppressed rule that does not exist.
    """
    rules = RULES if rules is None else rules
    left_out = set(suppress)
    for name in left_out - set(rules):
        raise UserError(f"there is no rule {name!r}{nearest(name, rules)}")
    found: dict[str, Finding] = {}
    signs: dict[str, Sign] = {}
    for name, rule in rules.items():
        try:
            sign = rule.strongest(history)
            if sign is not None and sign.score >= rule.threshold:
                found[name], signs[name] = _finding(rule, sign, history), sign
        except Exception as error:
            if broken is None:
                raise
            broken(name, error)
    # one that is suppressed is a second sign all the same: the others weigh what they weigh
    told = [name for name in found if name not in left_out]
    found = {name: _weighed(found[name], signs[name], history, found, rules) for name in told}
    rooted = {name: replace(f, root=_root(name, found, rules)) for name, f in found.items()}
    return _ordered(rooted)


def _finding(rule: Rule, sign: Sign, history: History) -> Finding:
    evidence = {**sign.evidence, "score": sign.score, "threshold": rule.threshold}
    severity, well = sign.severity or rule.severity, fared_well(history) if rule.hinders else None
    if severity == "error" and well is not None:
        severity, evidence = "warning", {"learned all the same": well, **evidence}
    explanation = f"{rule.symptom} {rule.mechanism}".strip()
    return Finding(
        rule.name,
        severity,
        rule.title,
        sign.layer,
        sign.steps,
        evidence,
        explanation,
        tuple(rule.advise(history)),
        rule.source,
        sign.score / rule.threshold,
    )


def _weighed(
    finding: Finding, sign: Sign, history: History, found: Mapping[str, Finding], rules: Mapping[str, Rule]
) -> Finding:
    """An error that is neither proved nor has a second sign is a warning."""
    rule = rules[finding.rule]
    if finding.severity != "error" or not rule.measured or sign.proof:
        return finding
    besides = second_sign(rule, sign, history, found, rules)
    if besides is None:
        return replace(finding, severity="warning", evidence={**finding.evidence, "besides": "no second sign"})
    return replace(finding, evidence={**finding.evidence, "besides": besides})


def _root(name: str, found: Mapping[str, Finding], rules: Mapping[str, Rule]) -> str | None:
    """The last cause on the way up from a finding, the strongest first; None where nothing explains it.

    Of findings that explain each other in a circle, the gravest is the cause.
    """
    way = [name]
    while True:
        above = [cause for cause in rules[way[-1]].causes if cause in found]
        if not above:
            break
        strongest = max(above, key=lambda cause: _rank(found[cause]))
        if strongest in way:
            circle = way[way.index(strongest) :]
            way.append(max(circle, key=lambda cause: (_rank(found[cause]), cause)))
            break
        way.append(strongest)
    return None if way[-1] == name else way[-1]


def _rank(finding: Finding) -> tuple[int, float]:
    return SEVERITIES.index(finding.severity), finding.weight


def _ordered(found: Mapping[str, Finding]) -> list[Finding]:
    roots = sorted((f for f in found.values() if f.root is None), key=_rank, reverse=True)
    ordered = []
    for root in roots:
        below = [f for f in found.values() if f.root == root.rule]
        ordered += [root, *sorted(below, key=_rank, reverse=True)]
    return ordered


def root_causes(findings: Iterable[Finding]) -> list[Finding]:
    """Those that follow from nothing else, the gravest first; mere information last."""
    return [finding for finding in findings if finding.root is None]
