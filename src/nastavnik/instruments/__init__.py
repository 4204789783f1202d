"""Instruments: pure functions that measure one training step of ONE network, run inside the step.

To add one: a function of ``Moment`` that gives a scalar, and its line in ``INSTRUMENTS``.
"""

from nastavnik.instruments._norms import INSTRUMENTS as INSTRUMENTS
from nastavnik.instruments._norms import Instrument as Instrument
from nastavnik.instruments._norms import Moment as Moment
