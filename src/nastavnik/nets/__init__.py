"""Families of networks and what they are made of, each for ONE network; a family declares its own branch of the space.

To add a family: one file with a class like ``Mlp``, and its line in ``FAMILIES`` below. ``activations/`` and
``initializers/`` are rooms of their own; normalization and dropout are a file each.
"""

from nastavnik.nets._bag import Bag as Bag
from nastavnik.nets._cnn import Cnn as Cnn
from nastavnik.nets._conduct import Conduct as Conduct
from nastavnik.nets._conduct import copied_module as copied_module
from nastavnik.nets._conduct import name_of as name_of
from nastavnik.nets._conduct import observed as observed
from nastavnik.nets._conduct import shown as shown
from nastavnik.nets._dropout import DROPOUTS as DROPOUTS
from nastavnik.nets._dropout import BranchDropout as BranchDropout
from nastavnik.nets._dropout import ChannelDropout as ChannelDropout
from nastavnik.nets._dropout import Dropout as Dropout
from nastavnik.nets._dropout import GaussianDropout as GaussianDropout
from nastavnik.nets._dropout import RandomMask as RandomMask
from nastavnik.nets._dropout import WeightDropout as WeightDropout
from nastavnik.nets._dropout import monte_carlo as monte_carlo
from nastavnik.nets._dropout import own_noise as own_noise
from nastavnik.nets._embedding import PiecewiseLinear as PiecewiseLinear
from nastavnik.nets._family import Factory as Factory
from nastavnik.nets._family import Family as Family
from nastavnik.nets._family import Signature as Signature
from nastavnik.nets._ft_transformer import FtTransformer as FtTransformer
from nastavnik.nets._function import Function as Function
from nastavnik.nets._linear import Linear as Linear
from nastavnik.nets._mlp import WAVED_INPUTS as WAVED_INPUTS
from nastavnik.nets._mlp import Mlp as Mlp
from nastavnik.nets._normalization import NORMALIZATIONS as NORMALIZATIONS
from nastavnik.nets._normalization import Normalization as Normalization
from nastavnik.nets._normalization import WeightNormLinear as WeightNormLinear
from nastavnik.nets._tabm import Tabm as Tabm
from nastavnik.nets._timed import PROGRESS as PROGRESS
from nastavnik.nets.activations import ACTIVATIONS as ACTIVATIONS
from nastavnik.nets.activations import Activation as Activation
from nastavnik.nets.activations import is_activation as is_activation
from nastavnik.nets.activations import make_activation as make_activation
from nastavnik.nets.initializers import INITIALIZERS as INITIALIZERS
from nastavnik.nets.initializers import Initializer as Initializer
from nastavnik.nets.initializers import initial_variances as initial_variances
from nastavnik.nets.initializers import initialize as initialize

FAMILIES: dict[str, Family] = {
    "linear": Linear(),
    "mlp": Mlp(),
    "cnn": Cnn(),
    "bag": Bag(),
    "tabm": Tabm(),
    "ft_transformer": FtTransformer(),
}
