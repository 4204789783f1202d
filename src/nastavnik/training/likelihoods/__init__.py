"""Likelihoods: what distribution the target has, given the network's output. The loss is its negative log.

Each file holds one likelihood as a module, in the same order: what it is, its outputs, its negative log density
(nats per example, normalized), its temperature, and its description as numbers.
"""

from nastavnik.training.likelihoods._base import TEMPERATURES as TEMPERATURES
from nastavnik.training.likelihoods._base import Likelihood as Likelihood
from nastavnik.training.likelihoods._bernoulli import Bernoulli as Bernoulli
from nastavnik.training.likelihoods._categorical import Categorical as Categorical
from nastavnik.training.likelihoods._gaussian import Gaussian as Gaussian
from nastavnik.training.likelihoods._poisson import Poisson as Poisson

LIKELIHOODS: dict[str, type[Likelihood]] = {
    "categorical": Categorical,
    "bernoulli": Bernoulli,
    "gaussian": Gaussian,
    "poisson": Poisson,
}
