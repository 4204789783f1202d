"""Training losses: what is minimized instead of a likelihood's negative log, for a better network in the end.

Each takes the likelihood along, which goes on judging and predicting. None but ``likelihood`` is a normalized density,
and so no other can be used for evidence: ``normalized`` says so.
"""

from nastavnik.training.losses._base import TrainingLoss as TrainingLoss
from nastavnik.training.losses._classes import Focal, LabelSmoothing
from nastavnik.training.losses._plain import NegLogLikelihood as NegLogLikelihood
from nastavnik.training.losses._plain import Tempered
from nastavnik.training.losses._real import Huber, Quantile
from nastavnik.training.losses._several import SeveralLosses as SeveralLosses

LOSSES: dict[str, type[TrainingLoss]] = {
    loss.name: loss for loss in (NegLogLikelihood, LabelSmoothing, Focal, Tempered, Huber, Quantile)
}
