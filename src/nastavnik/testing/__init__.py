"""Conformance suites: what every entry of the vocabulary must satisfy, for ours and for yours.

Each function takes a class, tries it, and raises an ``AssertionError`` that says what is wrong. An entry need not be in
its table yet. Formulas are held against truth elsewhere (your own tests); these suites check the contract: that an
entry describes itself, leaves its arguments alone, has right derivatives, and that K networks with K settings train in
one population as K networks trained alone.

Example:
    >>> from nastavnik.training.optimizers import OPTIMIZERS
    >>> check_optimizer(OPTIMIZERS["lion"])
"""

from nastavnik.testing._likelihoods import check_likelihood as check_likelihood
from nastavnik.testing._likelihoods import check_loss as check_loss
from nastavnik.testing._nets import check_activation as check_activation
from nastavnik.testing._nets import check_dropout as check_dropout
from nastavnik.testing._nets import check_initializer as check_initializer
from nastavnik.testing._nets import check_normalization as check_normalization
from nastavnik.testing._population import same_as_alone as same_as_alone
from nastavnik.testing._samplers import check_sampler as check_sampler
from nastavnik.testing._training import check_optimizer as check_optimizer
from nastavnik.testing._training import check_regularizer as check_regularizer
from nastavnik.testing._training import check_schedule as check_schedule
from nastavnik.testing._training import check_wrapper as check_wrapper
