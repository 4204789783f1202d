"""Rules about the shape of the loss around the weights."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from nastavnik.mentor._reading import late, span
from nastavnik.mentor._rule import Advice, Sign, rule
from nastavnik.trace import History


def _nothing(history: History) -> Iterator[Advice]:
    yield Advice("no change is needed; a larger rate would be unstable, a smaller one would find a steeper place")


@rule(
    severity="info",
    title="At the edge of stability",
    source="Cohen et al. 2021, Gradient descent on neural networks typically occurs at the edge of stability",
    usual=0.8,
    advise=_nothing,
)
def edge_of_stability(history: History) -> Iterator[Sign]:
    """The steepest curvature is about 2 over the rate, and the training is held there.

    Gradient descent sharpens until its step just fits; it is no fault. Only plain gradient descent is judged: with
    momentum β the bound is (2 + 2β) over the rate, looking ahead (2 + 2β) / (1 + 2β), with Adam it is on another
    curvature; under a schedule nothing is said (score: curvature over the bound).
    """
    if history.facts.get("optimizer") not in ("sgd", "SGD", "momentum", "nesterov"):
        return
    if history.facts.get("recipe", {}).get("schedule.name", "constant") != "constant":
        return  # the rate is another at each look
    values = late(history, "curvature", "largest")
    rate, momentum = history.facts.get("learning rate", 0.0), history.facts.get("momentum", 0.0)
    if len(values) and np.isfinite(values).all() and rate:
        bound = (2 + 2 * momentum) / (1 + 2 * momentum if history.facts.get("optimizer") == "nesterov" else 1)
        score = rate * float(np.median(values)) / bound
        yield Sign(
            score,
            steps=span(history, "curvature", "largest"),
            evidence={"steepest curvature": float(np.median(values)), "bound": bound / rate},
        )


RULES = (edge_of_stability,)
