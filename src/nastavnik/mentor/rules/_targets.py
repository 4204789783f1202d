"""Rules about targets: whether they count from the same number, and are heard by the loss."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from nastavnik.mentor._rule import Advice, Sign, rule
from nastavnik.trace import History

_MORE = 0.3  # of the rows


def _count_alike(history: History) -> Iterator[Advice]:
    yield Advice("let the labels of all parts count from 0 (labels - 1), by one table from names to numbers")


@rule(
    severity="error",
    title="Labels of the two parts are counted differently",
    source="PyTorch's documentation of CrossEntropyLoss (classes from 0)",
    usual=0.5,
    advise=_count_alike,
    measured=False,
)
def shifted_labels(history: History) -> Iterator[Sign]:
    """Most validation rows would be right if the classes had other names.

    The network knows them; the labels of one part begin at 1 and those of the other at 0, or the classes were put in
    order anew for each part (score: the share of validation rows that are right by the best exchange of names, where
    that is three tenths more than are right as it is). Without validation rows: the first class has outputs and no row,
    while all others have.
    """
    named, scores = history.series("right by other names"), history.series("validation rows' score")
    if len(named) and len(scores) and named[-1] > scores[-1] + _MORE:
        evidence = {"right as named": float(scores[-1]), "right by other names": float(named[-1])}
        yield Sign(float(named[-1]), evidence={**evidence, "class taken for": history.facts.get("taken for")})
    counts = np.array(history.facts.get("class shares", [])) * history.facts.get("rows", 0)
    several = 2 < len(counts) <= 100 and not history.facts.get("places")
    if several and counts[0] == 0 and counts[1:].min() >= 5:
        yield Sign(
            0.6, severity="warning", evidence={"rows of class 0": 0, "fewest of the others": int(counts[1:].min())}
        )


def _hear_all(history: History) -> Iterator[Advice]:
    yield Advice("take ignore_index off that class (torch's own is -100), and let no class weight be 0")


@rule(
    severity="warning",
    title="The loss does not hear a class",
    source="PyTorch's documentation of CrossEntropyLoss (ignore_index, weight)",
    usual=0.01,
    advise=_hear_all,
    measured=False,
)
def class_without_gradient(history: History) -> Iterator[Sign]:
    """Rows of a class have a gradient of exactly zero: whatever is said of them costs nothing.

    Such a class is never learned. What fills the ends of rows, as padding does, is meant so and not reported (score:
    the share of rows or places whose class is not heard).
    """
    silent = history.facts.get("silent classes", [])
    if silent and not history.facts.get("silent at the ends"):
        share = history.series("silent share")
        yield Sign(float(share[-1]) if len(share) else 1.0, evidence={"classes": silent})


RULES = (shifted_labels, class_without_gradient)
