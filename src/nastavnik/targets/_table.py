"""The table of kinds of targets; of what is not asked for the first that a column suits is taken."""

from __future__ import annotations

from nastavnik.targets._base import Target
from nastavnik.targets._classification import Classification
from nastavnik.targets._count import Count
from nastavnik.targets._grades import Grades
from nastavnik.targets._labels import Labels
from nastavnik.targets._regression import Regression
from nastavnik.targets._votes import Votes

TARGETS: dict[str, type[Target]] = {
    kind.kind: kind for kind in (Labels, Grades, Classification, Regression, Count, Votes)
}
