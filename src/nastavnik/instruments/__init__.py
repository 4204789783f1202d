"""Instruments: pure functions that measure the training of ONE network, so that populations have them too.

Four classes by cost. *Scalar* ones read a ``Moment`` and run inside the step itself. The others read a ``Sight``, one
look at the network on a batch: *pass* costs a forward and a backward pass, *example* a backward pass a row, *curvature*
a product with the Hessian or several. ``observe`` runs them; ``appraise`` says how single rows are predicted;
``describe`` tells what is known without training.

To add one: a function of ``Moment`` that gives a number, or of ``Sight`` that gives numbers by layer (``""`` for the
whole network), and its line in ``INSTRUMENTS`` or ``OBSERVED``.
"""

from nastavnik.instruments._describing import batch_facts as batch_facts
from nastavnik.instruments._describing import data_facts as data_facts
from nastavnik.instruments._describing import looks_fresh as looks_fresh
from nastavnik.instruments._describing import network_facts as network_facts
from nastavnik.instruments._layout import layout_facts as layout_facts
from nastavnik.instruments._losses import stuck_share as stuck_share
from nastavnik.instruments._norms import INSTRUMENTS as INSTRUMENTS
from nastavnik.instruments._norms import Instrument as Instrument
from nastavnik.instruments._norms import Moment as Moment
from nastavnik.instruments._observing import COSTS as COSTS
from nastavnik.instruments._observing import OBSERVED as OBSERVED
from nastavnik.instruments._observing import Observed as Observed
from nastavnik.instruments._observing import measured as measured
from nastavnik.instruments._observing import observe as observe
from nastavnik.instruments._rows import appraise as appraise
from nastavnik.instruments._rows import area_under_margin as area_under_margin
from nastavnik.instruments._rows import calibration_error as calibration_error
from nastavnik.instruments._rows import forgetting_events as forgetting_events
from nastavnik.instruments._rows import order_dispersion as order_dispersion
from nastavnik.instruments._sight import Sight as Sight
from nastavnik.instruments._sight import Subject as Subject
from nastavnik.instruments._sight import has_matrix as has_matrix
from nastavnik.instruments._sight import look as look
from nastavnik.instruments._sight import plain_grad as plain_grad
