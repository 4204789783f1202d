"""What makes a finding an error: a proof, or a second sign that was measured by something else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from nastavnik.mentor._reading import losses, skills
from nastavnik.mentor._rule import Rule, Sign
from nastavnik.trace import History

if TYPE_CHECKING:
    from nastavnik.mentor._diagnosis import Finding

_HALF = 0.5  # of the way from chance to perfect: less is a second sign that something is wrong


def second_sign(
    rule: Rule, sign: Sign, history: History, found: Mapping[str, Finding], rules: Mapping[str, Rule]
) -> str | None:
    """What says the same beside a rule's own score, in words; None where that score stands alone.

    It may be what the sign names itself, how the training ended (unless the rule's score is just that), or a finding
    of another kind that explains this one or follows from it.
    """
    if sign.besides:
        return sign.besides
    if not rule.outcome:
        ended = _ended_badly(history)
        if ended:
            return ended
    for name, other in found.items():
        linked = name in rule.causes or rule.name in rules[name].causes
        apart = rules[name].theme != rule.theme and not (rule.outcome and rules[name].outcome)
        if linked and apart and other.severity != "info":
            return other.title.lower()
    return None


def _ended_badly(history: History) -> str | None:
    """How a training ended, where that was clearly bad."""
    held = losses(history)
    if len(held) and not np.isfinite(held[-1]):
        return "the loss is no number at the end"
    if len(held) > 2 and np.median(held[-3:]) > held[0]:
        return "the loss ends above its start"
    for part in ("training", "validation"):
        known = np.nan_to_num(skills(history, part)[-3:], nan=-1.0)
        if len(known) and np.median(known) < _HALF:
            return f"{max(float(np.median(known)), 0.0):.0%} of the way from chance to perfect on {part} rows"
    return None
