"""Nastavnik trains populations of neural networks and says which one to trust, and why.

``fit`` is the main job, ``Model`` what it delivers; ``NastavnikClassifier`` and ``NastavnikRegressor`` are the same
job as scikit-learn estimators. Names are imported when they are first used, so that the command line answers at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nastavnik.lazy import lazily

if TYPE_CHECKING:
    from nastavnik import testing as testing
    from nastavnik.errors import UserError as UserError
    from nastavnik.estimators import NastavnikClassifier as NastavnikClassifier
    from nastavnik.estimators import NastavnikRegressor as NastavnikRegressor
    from nastavnik.gradient_check import GradientCheck as GradientCheck
    from nastavnik.gradient_check import check_gradients as check_gradients
    from nastavnik.jobs import Run as Run
    from nastavnik.jobs import check as check
    from nastavnik.jobs import compare as compare
    from nastavnik.jobs import fit as fit
    from nastavnik.jobs import predict as predict
    from nastavnik.jobs import try_settings as try_settings
    from nastavnik.mentor import Mentor as Mentor
    from nastavnik.model import Model as Model
    from nastavnik.nets import initial_variances as initial_variances
    from nastavnik.population import Population as Population
    from nastavnik.recipe import Recipe as Recipe
    from nastavnik.selection import evidence as evidence
    from nastavnik.selection import find_rate as find_rate
    from nastavnik.training import likelihoods as likelihoods

__version__ = "0.1.0"

_HOMES = {
    "GradientCheck": "nastavnik.gradient_check",
    "Mentor": "nastavnik.mentor",
    "Model": "nastavnik.model",
    "NastavnikClassifier": "nastavnik.estimators",
    "NastavnikRegressor": "nastavnik.estimators",
    "Population": "nastavnik.population",
    "Recipe": "nastavnik.recipe",
    "Run": "nastavnik.jobs",
    "UserError": "nastavnik.errors",
    "check": "nastavnik.jobs",
    "check_gradients": "nastavnik.gradient_check",
    "compare": "nastavnik.jobs",
    "evidence": "nastavnik.selection.evidence",
    "find_rate": "nastavnik.selection",
    "fit": "nastavnik.jobs",
    "initial_variances": "nastavnik.nets",
    "likelihoods": "nastavnik.training.likelihoods",
    "predict": "nastavnik.jobs",
    "space": "nastavnik.space",
    "testing": "nastavnik.testing",
    "try_settings": "nastavnik.jobs",
}
__all__ = [*sorted(_HOMES), "__version__"]
__getattr__, __dir__ = lazily(__name__, _HOMES)
