"""Schedules: the factor of the learning rate (or of another setting) at a moment of the training.

Each class holds one schedule in the same order: what it says of itself, its settings, its factor. Any schedule takes
``schedule.warmup`` beside its own settings: a share of the training in which the factor first grows from 0 to 1.
"""

from nastavnik.training.schedules._base import Schedule as Schedule
from nastavnik.training.schedules._base import Time as Time
from nastavnik.training.schedules._base import factor_at as factor_at
from nastavnik.training.schedules._cyclic import Cyclical, LogCosine, OneCycle, WarmRestarts
from nastavnik.training.schedules._falling import Cosine, Exponential, FlatCosine, InverseSqrt, Linear, PerStep, Step
from nastavnik.training.schedules._steady import Constant, Plateau, RangeTest, Rising, Warmup

SCHEDULES: dict[str, type[Schedule]] = {
    schedule.name: schedule
    for schedule in (
        Constant,
        Warmup,
        Step,
        Exponential,
        PerStep,
        Plateau,
        Linear,
        Cosine,
        FlatCosine,
        WarmRestarts,
        Cyclical,
        OneCycle,
        LogCosine,
        InverseSqrt,
        Rising,
        RangeTest,
    )
}
