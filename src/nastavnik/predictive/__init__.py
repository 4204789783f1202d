"""Predictive distributions in the target's own units, of one network or of several together.

Symbols: m members, n rows, C classes. A mixture of members gives each the same weight.
"""

from nastavnik.predictive._base import Moved as Moved
from nastavnik.predictive._base import OfNumbers as OfNumbers
from nastavnik.predictive._base import Predictive as Predictive
from nastavnik.predictive._base import log_mean_exp as log_mean_exp
from nastavnik.predictive._base import mixture as mixture
from nastavnik.predictive._base import stitch as stitch
from nastavnik.predictive._classes import ClassPredictive as ClassPredictive
from nastavnik.predictive._counts import CountPredictive as CountPredictive
from nastavnik.predictive._joint import JointPredictive as JointPredictive
from nastavnik.predictive._joint import divided as divided
from nastavnik.predictive._labels import LabelsPredictive as LabelsPredictive
from nastavnik.predictive._metrics import LEVEL as LEVEL
from nastavnik.predictive._metrics import Weighted as Weighted
from nastavnik.predictive._metrics import mean_of as mean_of
from nastavnik.predictive._positive import GammaPredictive as GammaPredictive
from nastavnik.predictive._positive import HurdlePredictive as HurdlePredictive
from nastavnik.predictive._real import RealPredictive as RealPredictive
from nastavnik.predictive._votes import VotesPredictive as VotesPredictive
