"""Initializers: what weights are before the first step, for one network of any kind.

Each class holds one in the same order: what it says of itself, its variance, how it fills. Biases start at zero.
"""

from nastavnik.nets.initializers._base import OUTPUTS as OUTPUTS
from nastavnik.nets.initializers._base import Initializer as Initializer
from nastavnik.nets.initializers._base import initialize as initialize
from nastavnik.nets.initializers._base import layers_of as layers_of
from nastavnik.nets.initializers._base import output_of as output_of
from nastavnik.nets.initializers._data import DataDependent, Lsuv
from nastavnik.nets.initializers._report import LayerVariance as LayerVariance
from nastavnik.nets.initializers._report import initial_variances as initial_variances
from nastavnik.nets.initializers._scaled import (
    GlorotNormal,
    GlorotUniform,
    HeFanIn,
    HeFanOut,
    LeCun,
    Orthogonal,
    Sine,
    SmallNormal,
    UniformFanIn,
    UnitNormal,
    Zeros,
)
from nastavnik.nets.initializers._whole import Matched, ZeroResidual

INITIALIZERS: dict[str, type[Initializer]] = {
    initializer.name: initializer
    for initializer in (
        Matched,
        HeFanIn,
        HeFanOut,
        GlorotUniform,
        GlorotNormal,
        LeCun,
        UniformFanIn,
        Orthogonal,
        Sine,
        Lsuv,
        DataDependent,
        ZeroResidual,
        SmallNormal,
        UnitNormal,
        Zeros,
    )
}
