"""Families of networks, each for ONE network; a family declares its own branch of the space.

To add a family: one file with a class like ``Mlp``, and its line in ``FAMILIES`` below.
"""

from nastavnik.nets._dropout import Dropout as Dropout
from nastavnik.nets._dropout import own_noise as own_noise
from nastavnik.nets._embedding import PiecewiseLinear as PiecewiseLinear
from nastavnik.nets._family import Factory as Factory
from nastavnik.nets._family import Family as Family
from nastavnik.nets._family import Signature as Signature
from nastavnik.nets._linear import Linear as Linear
from nastavnik.nets._mlp import Mlp as Mlp

FAMILIES: dict[str, Family] = {
    "linear": Linear(),
    "mlp": Mlp(),
}
