"""Regularizers: what keeps ONE network simple, as changes of its objective or of its parameters after a step.

Each class holds one in the same order: what it says of itself, its settings, what it does. A recipe that names
``regularization.l2`` has it; the value is the strength *per example*, λ/n, which keeps its meaning when the number of
rows changes, and may be negative as an honest control. The table goes from the inside out.
"""

from nastavnik.training.regularizers._base import Batch as Batch
from nastavnik.training.regularizers._base import Context as Context
from nastavnik.training.regularizers._base import Loss as Loss
from nastavnik.training.regularizers._base import Regularizer as Regularizer
from nastavnik.training.regularizers._data import Flooding, GradientPenalty, InputNoise, Mixup
from nastavnik.training.regularizers._penalties import L1, L2, ActivityL1, DecoupledL2, ElasticNet, MaxNorm, WeightNoise
from nastavnik.training.regularizers._strength import Strength as Strength
from nastavnik.training.regularizers._strength import strengths as strengths

REGULARIZERS: dict[str, type[Regularizer]] = {
    regularizer.name: regularizer
    for regularizer in (
        Flooding,
        GradientPenalty,
        ActivityL1,
        Mixup,
        InputNoise,
        WeightNoise,
        L1,
        L2,
        ElasticNet,
        DecoupledL2,
        MaxNorm,
    )
}
