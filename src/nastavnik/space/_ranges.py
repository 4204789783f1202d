"""Ranges that suit a setting by its name: shares, counts of steps, what must be above zero."""

from __future__ import annotations

import math

from nastavnik.space._space import Number

# numbers that are shares by their nature, whatever they belong to: at least 0 and less than 1
_SHARES = frozenset(
    {"beta1", "beta2", "momentum", "rho", "smoothing", "ema", "swa", "lookahead_share", "grokfast_smoothing"}
    | {"switch_to_sgd", "switch_memory", "elastic_l1_share", "quantile", "up", "low", "label_smoothing"}
)
_COUNTS = frozenset({"lookahead", "accumulate"})  # of steps: at least one
_POSITIVE = frozenset(
    {"gamma", "rate", "factor", "every", "first", "times", "period", "flat", "span", "start_divisor", "end_divisor"}
    | {"damping", "temperature", "huber_threshold", "clip_norm", "clip_value", "clip_unit", "max_norm", "blend_until"}
)


def is_share(name: str) -> bool:
    """Whether a number of this name lies between 0 and 1."""
    return name in _SHARES


def around(name: str, value: float, *, signed: bool = False) -> Number:
    """A range round a setting's default, for those who search it, with the bounds that its name asks for.

    Args:
        name: the setting's, without its section.
        value: its default.
        signed: whether it may be negative.
    """
    if name in _SHARES:
        return Number(0.0 if name != "quantile" else 1e-3, 0.999, default=value, below=1.0)
    if value <= 0:
        return Number(min(10 * value, 0.0), 1.0, default=value, least=-math.inf if value < 0 or signed else 0.0)
    least = -math.inf if signed else 1.0 if name in _COUNTS else 1e-12 if name in _POSITIVE else 0.0
    return Number(value / 10, value * 10, log=True, default=value, least=least)
