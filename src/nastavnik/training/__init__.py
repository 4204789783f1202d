"""The vocabulary of training, each entry for ONE network: likelihoods, losses, optimizers, schedules, regularizers,
and when to stop.

To add an entry: one file in its folder, and one line in that folder's table. ``Method`` puts together what a recipe
names.
"""

from nastavnik.training._method import NOISE as NOISE
from nastavnik.training._method import Method as Method
from nastavnik.training._method import Now as Now
