"""Likelihoods: what distribution the target has, given the network's output. The loss is its negative log.

Each class is one likelihood as a module, in the same order: what it says of itself, its outputs, its negative log
density (nats per example, normalized), its description as numbers. Always from logits, never from probabilities.
"""

from nastavnik.training.likelihoods._base import TEMPERATURES as TEMPERATURES
from nastavnik.training.likelihoods._base import Likelihood as Likelihood
from nastavnik.training.likelihoods._bernoulli import Bernoulli as Bernoulli
from nastavnik.training.likelihoods._bernoulli import MultiLabel as MultiLabel
from nastavnik.training.likelihoods._categorical import Categorical as Categorical
from nastavnik.training.likelihoods._classes import ClassLikelihood as ClassLikelihood
from nastavnik.training.likelihoods._members import Members as Members
from nastavnik.training.likelihoods._ordinal import Ordinal as Ordinal
from nastavnik.training.likelihoods._poisson import Poisson as Poisson
from nastavnik.training.likelihoods._positive import Gamma as Gamma
from nastavnik.training.likelihoods._positive import Hurdle as Hurdle
from nastavnik.training.likelihoods._real import Gaussian as Gaussian
from nastavnik.training.likelihoods._real import Laplace as Laplace
from nastavnik.training.likelihoods._real import RealLikelihood as RealLikelihood
from nastavnik.training.likelihoods._real import StudentT as StudentT
from nastavnik.training.likelihoods._several import Several as Several
from nastavnik.training.likelihoods._vector import Vector as Vector
from nastavnik.training.likelihoods._votes import Votes as Votes

# of one target the first that suits it is the default
LIKELIHOODS: dict[str, type[Likelihood]] = {
    likelihood.name: likelihood
    for likelihood in (
        Bernoulli,
        Categorical,
        Ordinal,
        Gaussian,
        Laplace,
        StudentT,
        Gamma,
        Hurdle,
        Poisson,
        MultiLabel,
        Votes,
        Vector,
    )
}
