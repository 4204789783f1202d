"""The mentor: sees what is wrong with a training, says why, and tries its advice.

``rules/`` are pure functions of a history; ``diagnose`` asks them and folds what follows from another under its cause;
``watch`` makes histories of a population, ``Mentor`` of any loop of PyTorch; ``Lab`` trains a recipe again, and
``try_advice`` with and without a change, seed by seed.
"""

from nastavnik.mentor._diagnosis import Finding as Finding
from nastavnik.mentor._diagnosis import diagnose as diagnose
from nastavnik.mentor._diagnosis import root_causes as root_causes
from nastavnik.mentor._rule import SEVERITIES as SEVERITIES
from nastavnik.mentor._rule import Advice as Advice
from nastavnik.mentor._rule import Rule as Rule
from nastavnik.mentor._rule import Sign as Sign
from nastavnik.mentor._rule import rule as rule
from nastavnik.mentor._watching import watch as watch
from nastavnik.mentor.rules import RULES as RULES
