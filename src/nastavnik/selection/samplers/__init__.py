"""Samplers: how the next recipes are drawn from a space; a new one is a file here and a line in the table.

``Sampler`` tells the contract, ``nastavnik.testing.check_sampler`` holds any sampler to it.
"""

from nastavnik.selection.samplers._annealing import Annealing as Annealing
from nastavnik.selection.samplers._base import SIBLINGS as SIBLINGS
from nastavnik.selection.samplers._base import Keys as Keys
from nastavnik.selection.samplers._base import Sampler as Sampler
from nastavnik.selection.samplers._cma_es import CmaEs as CmaEs
from nastavnik.selection.samplers._genetic import Genetic as Genetic
from nastavnik.selection.samplers._grid import Grid as Grid
from nastavnik.selection.samplers._hill_climbing import HillClimbing as HillClimbing
from nastavnik.selection.samplers._nsga2 import Nsga2 as Nsga2
from nastavnik.selection.samplers._quasi_random import QuasiRandom as QuasiRandom
from nastavnik.selection.samplers._random import Random as Random
from nastavnik.selection.samplers._tpe import Tpe as Tpe

SAMPLERS: dict[str, type[Sampler]] = {
    sampler.name: sampler
    for sampler in (Tpe, Random, Grid, QuasiRandom, HillClimbing, Annealing, Genetic, CmaEs, Nsga2)
}
