"""Evidence: which model, by the probability it gave the data, and what is believed of its weights.

Each road is one file and answers for one network of any origin or for many at once with an ``Evidence``: a number in
nats of the whole data set, prior included, with what it assumes, its own error, its cost; or a problem and no number.
"""

from nastavnik.selection.evidence._conformal import Conformal as Conformal
from nastavnik.selection.evidence._conformal import conformal as conformal
from nastavnik.selection.evidence._descent import Descent as Descent
from nastavnik.selection.evidence._descent import descent_entropy as descent_entropy
from nastavnik.selection.evidence._description import DescriptionLength as DescriptionLength
from nastavnik.selection.evidence._description import description_length as description_length
from nastavnik.selection.evidence._langevin import langevin as langevin
from nastavnik.selection.evidence._laplace import laplace as laplace
from nastavnik.selection.evidence._linear import LinearTruth as LinearTruth
from nastavnik.selection.evidence._linear import linear_regression as linear_regression
from nastavnik.selection.evidence._record import Cost as Cost
from nastavnik.selection.evidence._record import Evidence as Evidence
from nastavnik.selection.evidence._training import train as train
from nastavnik.selection.evidence._variational import variational as variational
