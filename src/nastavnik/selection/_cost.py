"""What training costs: a forecast in seconds, corrected by what was measured in this run."""

from __future__ import annotations

import math

from torch import nn

from nastavnik.population import Population

_FLOPS = 1e11  # a guess, in multiply-adds forward and backward a second; corrected at once
_BYTES = 2e10
_LEAST = 3e-5  # seconds of a step of the smallest network
_CALL = 1.5e-3  # seconds of Python and dispatch a step
_COMPILED_CALL = 3e-4  # of a compiled one: what lies between stretches of steps, evaluations above all
_BELIEVED = 3.0  # seconds that the guess counts for beside what was measured: small populations tell of beginnings


class CostModel:
    """Seconds = correction × steps × (shapes × call + networks × (arithmetic + memory traffic of the update))."""

    def __init__(self) -> None:
        self.correction = 1.0
        self.call = _CALL  # of populations to come, as most went lately

    def seconds(self, size: int, networks: int, shapes: int, steps: int, batch: int) -> float:
        """Forecast for ``networks`` of ``size`` weights each, trained as ``shapes`` populations."""
        return self.correction * steps * (shapes * self.call + networks * _each(size, batch))

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

    def learn(self, measured: dict[Population, float]) -> None:
        """Take the measured seconds of populations into account."""
        seconds, steps = sum(measured.values()), sum(p.network_steps for p in measured)
        raw = 0.0
        for p in measured:
            calls = p.step * math.ceil(p.network_steps / max(1, p.step) / p.block)
            raw += calls * _call(p) + p.network_steps * _each(size_of(p.learner), p.batch)
        if raw > 0 and seconds > 0.2:
            self.correction = self.blended(seconds, raw)
            compiled = sum(p.network_steps for p in measured if p.way == "compiled")
            self.call = _COMPILED_CALL if compiled > 0.5 * steps else _CALL


def _call(population: Population) -> float:
    return _COMPILED_CALL if population.way == "compiled" else _CALL


def _each(size: int, batch: int) -> float:
    """Seconds a network and step beside the call."""
    return _LEAST + 6.0 * size * batch / _FLOPS + 60.0 * size / _BYTES


def size_of(learner: nn.Module) -> int:
    """Weights in matrices: what a step's arithmetic grows with; those of convolutions count at each place they see."""
    again = sum(int(getattr(module, "further_products", 0)) for module in learner.modules())
    return again + sum(p.numel() for p in learner.parameters() if p.ndim >= 2)
