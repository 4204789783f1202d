"""Optimizers: rules that move the parameters of ONE network, as pure functions; the engine runs one for K networks.

Each class holds one rule in the same order: what it says of itself, its settings, its state, its step. First-order
rules see one parameter and its gradient at a time; second-order ones may ask the ``Problem`` for more. ``WRAPPERS`` go
round first-order optimizers, in the order of the table, the last outermost: a recipe that names
``optimizer.clip_norm`` clips.
"""

from nastavnik.training.optimizers._adafactor import Adafactor
from nastavnik.training.optimizers._adagrad import Adadelta, Adagrad, RmsProp
from nastavnik.training.optimizers._adam import Adam, Adamax, AdamW, NAdam, RAdam
from nastavnik.training.optimizers._averaging import Ema, Lookahead, Sam, Swa, SwitchToSgd
from nastavnik.training.optimizers._base import DECAY as DECAY
from nastavnik.training.optimizers._base import RATE as RATE
from nastavnik.training.optimizers._base import FirstOrder as FirstOrder
from nastavnik.training.optimizers._base import Optimizer as Optimizer
from nastavnik.training.optimizers._base import Problem as Problem
from nastavnik.training.optimizers._base import Tensors as Tensors
from nastavnik.training.optimizers._base import concerns as concerns
from nastavnik.training.optimizers._base import decays as decays
from nastavnik.training.optimizers._base import updated_at_once as updated_at_once
from nastavnik.training.optimizers._entropy import Entropy
from nastavnik.training.optimizers._gauss_newton import GaussNewton, LevenbergMarquardt
from nastavnik.training.optimizers._gradients import Accumulate, ClipNorm, ClipUnit, ClipValue, GradientNoise, Grokfast
from nastavnik.training.optimizers._lion import Lion
from nastavnik.training.optimizers._muon import Muon
from nastavnik.training.optimizers._natural import NaturalGradient
from nastavnik.training.optimizers._newton import Newton
from nastavnik.training.optimizers._quasi_newton import Bfgs, ConjugateGradient, Lbfgs, LbfgsB
from nastavnik.training.optimizers._schedule_free import ScheduleFreeAdamW
from nastavnik.training.optimizers._second_order import SecondOrder as SecondOrder
from nastavnik.training.optimizers._sgd import Momentum, Nesterov, Sgd
from nastavnik.training.optimizers._turns import Turns
from nastavnik.training.optimizers._wrapper import Wrapper as Wrapper
from nastavnik.training.optimizers._wrapper import wrapped as wrapped

OPTIMIZERS: dict[str, type[Optimizer]] = {
    optimizer.name: optimizer
    for optimizer in (
        AdamW,
        Sgd,
        Momentum,
        Nesterov,
        Adagrad,
        RmsProp,
        Adadelta,
        Adam,
        NAdam,
        RAdam,
        Adamax,
        Adafactor,
        Lion,
        Muon,
        ScheduleFreeAdamW,
        Newton,
        GaussNewton,
        LevenbergMarquardt,
        ConjugateGradient,
        Bfgs,
        Lbfgs,
        LbfgsB,
        NaturalGradient,
    )
}

WRAPPERS: dict[str, type[Wrapper]] = {
    wrapper.name: wrapper
    for wrapper in (
        SwitchToSgd,
        Turns,
        Lookahead,
        Ema,
        Swa,
        ClipUnit,
        ClipValue,
        ClipNorm,
        Grokfast,
        GradientNoise,
        Accumulate,
        Sam,
        Entropy,
    )
}
