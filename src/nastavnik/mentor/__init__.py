"""The mentor: sees what is wrong with a training, says why, and tries its advice.

``rules/`` are pure functions of a history; ``diagnose`` asks them and folds what follows from another under its cause;
``watch`` makes histories of a population, ``Mentor`` of any loop of PyTorch; ``Lab`` trains a recipe again, and
``try_advice`` with and without a change, seed by seed.
"""

from nastavnik.mentor._diagnosis import Finding as Finding
from nastavnik.mentor._diagnosis import diagnose as diagnose
from nastavnik.mentor._diagnosis import root_causes as root_causes
from nastavnik.mentor._lab import Lab as Lab
from nastavnik.mentor._lab import Watched as Watched
from nastavnik.mentor._mentor import Mentor as Mentor
from nastavnik.mentor._mentor import read_history as read_history
from nastavnik.mentor._pages import index as index
from nastavnik.mentor._pages import page as page
from nastavnik.mentor._pages import rule_records as rule_records
from nastavnik.mentor._rule import SEVERITIES as SEVERITIES
from nastavnik.mentor._rule import Advice as Advice
from nastavnik.mentor._rule import Rule as Rule
from nastavnik.mentor._rule import Sign as Sign
from nastavnik.mentor._rule import calibration as calibration
from nastavnik.mentor._rule import rule as rule
from nastavnik.mentor._stage import STAGES as STAGES
from nastavnik.mentor._stage import Stage as Stage
from nastavnik.mentor._stage import stage as stage
from nastavnik.mentor._trial import PAIRS as PAIRS
from nastavnik.mentor._trial import Arm as Arm
from nastavnik.mentor._trial import Factorial as Factorial
from nastavnik.mentor._trial import Trial as Trial
from nastavnik.mentor._trial import applicable as applicable
from nastavnik.mentor._trial import changed as changed
from nastavnik.mentor._trial import factorial as factorial
from nastavnik.mentor._trial import try_advice as try_advice
from nastavnik.mentor._trial import try_finding as try_finding
from nastavnik.mentor._trial import try_recipes as try_recipes
from nastavnik.mentor._watching import watch as watch
from nastavnik.mentor._words import evidence_in_words as evidence_in_words
from nastavnik.mentor._words import in_words as in_words
from nastavnik.mentor._words import trial_in_words as trial_in_words
from nastavnik.mentor.rules import RULES as RULES
