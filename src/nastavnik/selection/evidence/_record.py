"""What a criterion says of one network: a number with its doubt, what it rests on, and what it cost."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from nastavnik.selection.evidence._posterior import Posterior


@dataclass(frozen=True)
class Cost:
    """``seconds`` of one network (its share where several were computed together); ``passes`` over all rows, forward
    and backward."""

    seconds: float
    passes: float


@dataclass(frozen=True)
class Evidence:
    """One criterion's answer for one network.

    Attributes:
        road: laplace, variational, descent_entropy, langevin.
        structure: what shape of posterior or which sampler; evidences of different structures are not comparable.
        log_evidence: log p(D | model) in nats, of all rows, prior included; None where there is a ``problem``.
        error: standard error of the number where it rests on random draws, None where it does not.
        bound: whether it is a lower bound, up to ``error``.
        assumptions: what must hold for the number to mean what it says.
        prior_precision: of each group of weights.
        noise: the standard deviation of the targets' noise, if the likelihood has one.
        cost: what it took.
        problem: why there is no number, in a sentence.
        details: what else was found, plain values.
        posterior: what is believed of the weights.
    """

    road: str
    structure: str
    log_evidence: float | None
    error: float | None
    bound: bool
    assumptions: tuple[str, ...]
    prior_precision: Mapping[str, float]
    noise: float | None
    cost: Cost
    problem: str | None = None
    details: Mapping[str, Any] = field(default_factory=dict)
    posterior: Posterior | None = None

    @property
    def bits(self) -> float | None:
        """The same in bits: what the data cost in a code that knows the model, -log2 p(D | model)."""
        return None if self.log_evidence is None else -self.log_evidence / math.log(2)

    def comparable(self, other: Evidence) -> bool:
        """Whether the two numbers may be ranked against each other."""
        return (self.road, self.structure) == (other.road, other.structure)

    def __str__(self) -> str:
        if self.log_evidence is None:
            return f"{self.road} ({self.structure}): no number: {self.problem}"
        doubt = "" if self.error is None else f" ± {self.error:.2g}"
        sign = ">= " if self.bound else ""
        return f"{self.road} ({self.structure}): log evidence {sign}{self.log_evidence:.2f}{doubt} nats"
