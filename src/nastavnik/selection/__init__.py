"""Choosing: what is searched, how candidates are drawn and compared, what is chosen, and against which baselines."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nastavnik.lazy import homes_of, lazily

if TYPE_CHECKING:
    from nastavnik.selection._baselines import Baseline as Baseline
    from nastavnik.selection._baselines import BaselineProcess as BaselineProcess
    from nastavnik.selection._baselines import fit_baselines as fit_baselines
    from nastavnik.selection._bracket import HALVINGS as HALVINGS
    from nastavnik.selection._by_target import networks_for_sharing as networks_for_sharing
    from nastavnik.selection._candidate import Candidate as Candidate
    from nastavnik.selection._choice import Delivery as Delivery
    from nastavnik.selection._choice import deliver as deliver
    from nastavnik.selection._criteria import CHOOSING as CHOOSING
    from nastavnik.selection._criteria import CRITERIA as CRITERIA
    from nastavnik.selection._criteria import Rows as Rows
    from nastavnik.selection._criteria import Verdict as Verdict
    from nastavnik.selection._criteria import ask_criterion as ask_criterion
    from nastavnik.selection._criteria import criteria_named as criteria_named
    from nastavnik.selection._ensemble import greedy_ensemble as greedy_ensemble
    from nastavnik.selection._forecast import scored_forecasts as scored_forecasts
    from nastavnik.selection._hyperparameters import hyperparameter_importance as hyperparameter_importance
    from nastavnik.selection._importance import importance as importance
    from nastavnik.selection._ladder import climb as climb
    from nastavnik.selection._ladder import has_signal as has_signal
    from nastavnik.selection._likelihoods import compare_likelihoods as compare_likelihoods
    from nastavnik.selection._likelihoods import suitable as suitable
    from nastavnik.selection._objectives import OBJECTIVES as OBJECTIVES
    from nastavnik.selection._optimism import Optimism as Optimism
    from nastavnik.selection._optimism import optimism as optimism
    from nastavnik.selection._rates import RateSearch as RateSearch
    from nastavnik.selection._rates import find_rate as find_rate
    from nastavnik.selection._search import Search as Search
    from nastavnik.selection._search import Strategy as Strategy
    from nastavnik.selection._space import families_for as families_for
    from nastavnik.selection._space import families_named as families_named
    from nastavnik.selection._space import simplest as simplest
    from nastavnik.selection._space import table_space as table_space
    from nastavnik.selection._trained import training_of as training_of
    from nastavnik.selection._workbench import Part as Part
    from nastavnik.selection._workbench import Workbench as Workbench
    from nastavnik.selection.samplers import SAMPLERS as SAMPLERS
    from nastavnik.selection.samplers import Keys as Keys
    from nastavnik.selection.samplers import Sampler as Sampler

_NAMES = {
    "_baselines": "Baseline BaselineProcess fit_baselines",
    "_bracket": "HALVINGS",
    "_by_target": "networks_for_sharing",
    "_candidate": "Candidate",
    "_choice": "Delivery deliver",
    "_criteria": "CHOOSING CRITERIA Rows Verdict ask_criterion criteria_named",
    "_ensemble": "greedy_ensemble",
    "_forecast": "scored_forecasts",
    "_hyperparameters": "hyperparameter_importance",
    "_importance": "importance",
    "_ladder": "climb has_signal",
    "_likelihoods": "compare_likelihoods suitable",
    "_objectives": "OBJECTIVES",
    "_optimism": "Optimism optimism",
    "_rates": "RateSearch find_rate",
    "_search": "Search Strategy",
    "_space": "families_for families_named simplest table_space",
    "_trained": "training_of",
    "_workbench": "Part Workbench",
    "samplers": "SAMPLERS Keys Sampler",
}
__getattr__, __dir__ = lazily(__name__, homes_of(__name__, _NAMES))
