"""What a search may seek to lower, several at once if asked: never summed, always side by side."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from nastavnik.population import Outcome, Population
from nastavnik.selection._criteria import Rows, ask_criterion
from nastavnik.selection._workbench import Workbench

OBJECTIVES = {
    "nll": "validation negative log likelihood, nats a row",
    "error": "share of validation rows whose class is wrong",
    "parameters": "weights of the network",
    "seconds": "seconds of a whole training, all folds, measured",
    "evidence": "negative log evidence of the first part's network by Laplace (K-FAC), nats a training row",
}


def objective_values(
    names: Sequence[str], known: Mapping[str, float], outcome: Outcome, bench: Workbench, seed: int
) -> tuple[float, ...]:
    """A candidate's objectives in order; the evidence is computed here, infinite where there is none."""
    return tuple(_neg_evidence(outcome, bench, seed) if name == "evidence" else known[name] for name in names)


def known_early(names: Sequence[str], population: Population) -> np.ndarray:
    """The objectives beside the score that are known before the end of training [C, m]: the size."""
    candidates = len(population.best.score)
    if "parameters" not in names:
        return np.empty((candidates, 0))
    return np.full((candidates, 1), float(sum(p.numel() for p in population.learner.network.parameters())))


def _neg_evidence(outcome: Outcome, bench: Workbench, seed: int) -> float:
    if not math.isfinite(outcome.score):
        return math.inf
    data = bench.data
    rows = Rows(data.rows_of(0, data.train[0]), data.rows_of(0, data.validation[0]))
    answer = ask_criterion("laplace_kfac", outcome.learners[0], rows, seed=seed).answer
    return math.inf if answer.value is None else -answer.value / len(data.train[0])
