"""Optimizers: update rules for ONE network as pure functions; the engine runs one for K networks at once.

Each file holds one rule in the same order: its settings, ``init``, ``update``.
"""

from nastavnik.training.optimizers._adamw import AdamW as AdamW
from nastavnik.training.optimizers._base import Optimizer as Optimizer
from nastavnik.training.optimizers._base import Tensors as Tensors
from nastavnik.training.optimizers._sgd import Sgd as Sgd

OPTIMIZERS: dict[str, type[Optimizer]] = {
    "adamw": AdamW,
    "sgd": Sgd,
}
