"""What a rule is, and what it finds."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from typing import Any

from nastavnik.entry import doc_of
from nastavnik.recipe import Value
from nastavnik.trace import History

SEVERITIES = ("info", "warning", "error")


@dataclass(frozen=True)
class Sign:
    """What a rule saw: ``score`` (larger is sicker), where, in which steps, and the numbers that show it.

    ``severity``: how grave this sign is, where that differs from the rule's own. ``proof``: that it is exact, though
    the rule's score is measured as a rule. ``besides``: what else says the same, measured by something else, in words.
    """

    score: float
    layer: str = ""
    steps: tuple[int, int] | None = None
    evidence: Mapping[str, Any] = field(default_factory=dict)
    severity: str | None = None
    proof: bool = False
    besides: str = ""


@dataclass(frozen=True)
class Advice:
    """What to do, in words, and as a change of recipe where one would do it (empty: by hand)."""

    words: str
    changes: Mapping[str, Value] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """As ``findings.json`` has it."""
        return {"words": self.words, "changes": dict(self.changes)}


@dataclass(frozen=True)
class Rule:
    """A pure function of a history, with what it knows about itself.

    ``look`` gives signs; one whose score reaches ``threshold`` becomes a finding. ``usual`` is the threshold by the
    literature, used until the bench has set one. ``causes`` are rules whose findings explain this one's.
    ``measured`` says that the score comes from measurements and the bench may set its threshold; otherwise it is a
    plain fact, such as a layer that is not trained. ``hinders`` says that it is an error for what it does to the
    training, and no more than a warning where that went well all the same. ``outcome``: that the score is how the
    training went. An error of a measured score needs a second sign (``_proof``), else it is a warning.
    """

    name: str
    theme: str
    severity: str
    title: str
    symptom: str
    mechanism: str
    source: str
    usual: float
    look: Callable[[History], Iterable[Sign]]
    advise: Callable[[History], Iterable[Advice]]
    causes: tuple[str, ...] = ()
    measured: bool = True
    hinders: bool = False
    outcome: bool = False

    @property
    def threshold(self) -> float:
        """The score from which a sign counts."""
        return float(calibration().get(self.name, {}).get("threshold", self.usual))

    def strongest(self, history: History) -> Sign | None:
        """The sign of the largest score, one that is proved before others; scores that are no numbers do not count."""
        signs = [sign for sign in self.look(history) if not math.isnan(sign.score)]
        return max(signs, key=lambda sign: (sign.proof and sign.score >= self.threshold, sign.score), default=None)


def rule(
    *,
    severity: str,
    title: str,
    source: str,
    usual: float,
    advise: Callable[[History], Iterable[Advice]],
    causes: tuple[str, ...] = (),
    measured: bool = True,
    hinders: bool = False,
    outcome: bool = False,
) -> Callable[[Callable[[History], Iterator[Sign]]], Rule]:
    """Make a rule of a function; its docstring's first paragraph is the symptom, the rest the mechanism.

    Its name is the function's, its theme the module's.
    """

    def make(look: Callable[[History], Iterator[Sign]]) -> Rule:
        symptom, _, mechanism = doc_of(look).partition("\n\n")
        return Rule(
            look.__name__,
            look.__module__.rpartition(".")[2].lstrip("_"),
            severity,
            title,
            " ".join(symptom.split()),
            " ".join(mechanism.split()),
            source,
            usual,
            look,
            advise,
            causes,
            measured,
            hinders,
            outcome,
        )

    return make


@cache
def calibration() -> dict[str, Any]:
    """What ``benchmarks/mentor.py`` measured: by rule its threshold, precision and recall."""
    return json.loads((resources.files("nastavnik.mentor") / "calibration.json").read_text(encoding="utf-8"))["rules"]
