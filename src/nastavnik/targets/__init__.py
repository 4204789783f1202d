"""Kinds of targets: what is to be predicted, one file a kind.

Each says when a column is of it and reads its values; which likelihoods and losses suit it, and how values are
prepared for them; what cheap estimators are asked; and how predictions, scores and pages show it. ``Several`` puts some
together.
"""

from nastavnik.targets._base import Column as Column
from nastavnik.targets._base import Fitting as Fitting
from nastavnik.targets._base import Question as Question
from nastavnik.targets._base import Target as Target
from nastavnik.targets._base import in_digits as in_digits
from nastavnik.targets._base import make_loss as make_loss
from nastavnik.targets._classification import Classification as Classification
from nastavnik.targets._count import Count as Count
from nastavnik.targets._find import are_one as are_one
from nastavnik.targets._find import find_target as find_target
from nastavnik.targets._find import kinds_wanted as kinds_wanted
from nastavnik.targets._find import target_of as target_of
from nastavnik.targets._grades import Grades as Grades
from nastavnik.targets._labels import Labels as Labels
from nastavnik.targets._regression import Regression as Regression
from nastavnik.targets._regression import crps as crps
from nastavnik.targets._several import Several as Several
from nastavnik.targets._several import known_rows as known_rows
from nastavnik.targets._table import TARGETS as TARGETS
from nastavnik.targets._votes import Votes as Votes
