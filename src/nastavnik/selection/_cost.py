"""What training costs: a forecast in seconds, corrected by what was measured in this run."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import nn

from nastavnik.population import Population

_FLOPS = 1e11  # a guess, in multiply-adds forward and backward a second; corrected at once
_BYTES = 2e10
_LEAST = 3e-5  # seconds of a step of the smallest network
_CALL = 1.5e-3  # seconds of Python and dispatch a step
_COMPILED_CALL = 3e-4  # of a compiled one: what lies between stretches of steps, evaluations above all
_START = 0.3  # seconds around the steps of a population: to make, trace and compile it, to judge its candidates
_BELIEVED = 0.5  # seconds of steps that what was thought before counts for beside what was measured
_REMEMBERED = 6.0  # populations whose starts tell of the next one's, the latest


@dataclass
class Spent:
    """What steps have taken: by the model, not corrected (``raw``, and of it what was compiled), and by the clock.

    Only a part is timed: the first slice of a way warms up.
    """

    populations: int
    raw: float = 0.0
    compiled: float = 0.0
    timed_raw: float = 0.0
    timed_seconds: float = 0.0


class CostModel:
    """Seconds = shapes × start + correction × steps × (shapes × call + networks × each).

    ``each`` is a network's arithmetic and the memory traffic of its update. A start costs what it costs however long
    the training is: counted among the steps it would make long trainings look out of reach.
    """

    def __init__(self) -> None:
        self.correction = 1.0
        self.start = _START
        self._started = 1.0  # populations that it is the mean of
        self.call = _CALL  # of populations to come, as most went lately

    def seconds(self, size: int, networks: int, shapes: int, steps: int, batch: int) -> float:
        """Forecast for ``networks`` of ``size`` weights each, trained as ``shapes`` populations."""
        return shapes * self.start + self.correction * steps * (shapes * self.call + networks * _each(size, batch))

    def step(self, population: Population, networks: int) -> float:
        """One step of so many networks of a population, not corrected."""
        each = networks * _each(size_of(population.learner), population.batch)
        return math.ceil(networks / population.block) * _call(population) + each

    def blended(self, seconds: float, raw: float) -> float:
        """The correction after so many seconds for what was forecast, uncorrected, to take ``raw``."""
        if seconds <= 0 or raw <= 0:
            return self.correction
        share = seconds / (_BELIEVED + seconds)
        return math.exp(share * math.log(seconds / raw) + (1 - share) * math.log(self.correction))

    def learn(self, spent: Spent, seconds: float) -> None:
        """Take into account what a bracket has spent on steps, of so many seconds in all."""
        if not spent.raw:
            return
        self.correction = self.blended(spent.timed_seconds, spent.timed_raw)
        self.call = _COMPILED_CALL if spent.compiled > 0.5 * spent.raw else _CALL
        starts = max(0.0, seconds - self.correction * spent.raw)
        self.start = (self._started * self.start + starts) / (self._started + spent.populations)
        self._started = min(_REMEMBERED, self._started + spent.populations)


def _call(population: Population) -> float:
    return _COMPILED_CALL if population.way == "compiled" else _CALL


def _each(size: int, batch: int) -> float:
    """Seconds a network and step beside the call."""
    return _LEAST + 6.0 * size * batch / _FLOPS + 60.0 * size / _BYTES


def size_of(learner: nn.Module) -> int:
    """Weights in matrices: what a step's arithmetic grows with; those of convolutions count at each place they see."""
    again = sum(int(getattr(module, "further_products", 0)) for module in learner.modules())
    return again + sum(p.numel() for p in learner.parameters() if p.ndim >= 2)
