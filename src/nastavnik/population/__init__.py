"""The engine: the training of one network is a pure function; a population runs it for K networks at once.

``Learner`` joins a network and its likelihood; ``make_step`` writes the step of ONE; ``Population`` stacks K of them,
trains them, keeps the best of each, and lets the diverged and the stopped go. ``_ways`` are the ways of running the
step (one by one, batched, compiled), ``_choice`` picks one, ``_memory`` says beforehand what it takes.
"""

from nastavnik.population._data import Data as Data
from nastavnik.population._data import Order as Order
from nastavnik.population._glance import subject_of as subject_of
from nastavnik.population._learner import Learner as Learner
from nastavnik.population._memory import estimate as estimate
from nastavnik.population._memory import memory_of as memory_of
from nastavnik.population._population import Population as Population
from nastavnik.population._stacking import tensors_of as tensors_of
from nastavnik.population._standing import Outcome as Outcome
from nastavnik.population._step import State as State
from nastavnik.population._step import make_step as make_step
from nastavnik.population._step import weight_penalty as weight_penalty
from nastavnik.training.regularizers import Batch as Batch
