"""What a search may seek to lower, several at once if asked: never summed, always side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from torch import nn

from nastavnik.population import Outcome, Population
from nastavnik.selection._criteria import Rows, ask_criterion
from nastavnik.selection._workbench import Workbench

OBJECTIVES = {
    "nll": "validation negative log likelihood, nats a row",
    "error": "share of validation rows whose class is wrong",
    "parameters": "weights of the network",
    "seconds": "seconds of its training, measured",
    "evidence": "negative log evidence by Laplace's approximation (K-FAC), nats a training row",
}


def objective_values(
    names: Sequence[str], known: Mapping[str, float], outcome: Outcome, bench: Workbench, seed: int
) -> tuple[float, ...]:
    """A candidate's objectives in order; the evidence is computed here, infinite where there is none."""
    return tuple(known[name] if name in known else _neg_evidence(outcome, bench, seed) for name in names)


def known_early(names: Sequence[str], population: Population) -> np.ndarray:
    """The objectives beside the score that are known before the end of training [C, m]: the size."""
    candidates = len(population.best.score)
    if "parameters" not in names:
        return np.empty((candidates, 0))
    return np.full((candidates, 1), float(sum(p.numel() for p in population.learner.network.parameters())))


def _neg_evidence(outcome: Outcome, bench: Workbench, seed: int) -> float:
    data = bench.data
    rows = Rows(data.rows_of(0, data.train[0]), data.rows_of(0, data.validation[0]))
    answer = ask_criterion("laplace_kfac", outcome.learners[0], rows, seed=seed).answer
    return float("inf") if answer.value is None else -answer.value / len(data.train[0])


def size_of(learner: nn.Module) -> int:
    """Weights in matrices: what a step's arithmetic grows with."""
    return sum(p.numel() for p in learner.parameters() if p.ndim >= 2)
