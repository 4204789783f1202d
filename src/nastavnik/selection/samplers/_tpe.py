"""The tree-structured Parzen estimator, by Optuna."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np

from nastavnik.recipe import Value
from nastavnik.selection.pareto import best_first
from nastavnik.selection.samplers._base import SIBLINGS, Keys, Sampler, centred_keys, keys_of
from nastavnik.space import Choice, Node, Number, Space, nodes_by_key

_STARTUP = 12  # points told before it is believed
_WIDTH, _USUAL = 0.2, 0.5  # until then: how far from the default, and how often an option is the usual one
_BEST, _LATEST = 40, 120  # points it is shown: a study of thousands takes seconds a draw


class Tpe(Sampler):
    """Optuna's TPE, multivariate, with the constant liar for what is pending.

    It is shown the best points and the latest ones, so that the time a draw takes does not grow with the search.
    """

    name = "tpe"
    formula = "the largest l(x) / g(x), of good points and of the others"
    prefer = "as the usual one: mixed trees, some dozens to thousands of networks"
    source = "Bergstra et al. 2011; Optuna"
    siblings = SIBLINGS
    startup = _STARTUP
    several = True

    def __init__(self, space: Space, *, seed: int, objectives: int = 1) -> None:
        super().__init__(space, seed=seed, objectives=objectives)
        self._nodes = nodes_by_key(space)
        self._distributions = {key: _distribution(node) for key, node in self._nodes.items()}
        self._best: list[tuple[int, Keys, tuple[float, ...]]] = []
        self._latest: list[tuple[int, Keys, tuple[float, ...]]] = []
        self._study: Any = None

    def propose(self, rng: np.random.Generator, given: Mapping[str, Value]) -> Keys:
        """What Optuna suggests; before it is believed, points about the default."""
        if self.told < _STARTUP:
            return centred_keys(self.space, rng, given, width=_WIDTH, usual=_USUAL)
        import optuna

        if self._study is None:
            self._study = self._shown()
        own = {key: _encoded(self._nodes[key], value) for key, value in given.items() if key in self._nodes}
        seed = int(rng.integers(2**31))
        try:
            self._study.sampler = _sampler(seed, own)
        except optuna.exceptions.ExperimentalWarning:
            # warning filters belong to the process: another thread may just have put back its own
            self._study.sampler = _sampler(seed, own)
        trial = self._study.ask()
        return keys_of(self.space, lambda key, node: _suggest(trial, key, node))

    def hear(self, keys: Keys, values: tuple[float, ...]) -> None:
        """Remember it among the latest, and among the best if it is."""
        self._study = None
        self._latest = [*self._latest, (self.told, keys, values)][-_LATEST:]
        self._best.append((self.told, keys, values))
        self._best = [self._best[i] for i in best_first([v for _, _, v in self._best])[:_BEST]]

    def _shown(self) -> Any:
        """A study of the points it is shown, in the order they were told."""
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        study = optuna.create_study(directions=["minimize"] * self.objectives)
        shown = {n: (keys, values) for n, keys, values in (*self._best, *self._latest)}
        finite = np.array([v for _, v in shown.values() if all(map(math.isfinite, v))]).reshape(-1, self.objectives)
        worst = finite.max(0) if len(finite) else np.zeros(self.objectives)
        for _, (keys, values) in sorted(shown.items()):
            if all(key in self._distributions for key in keys):
                told = [v if math.isfinite(v) else float(w) for v, w in zip(values, worst, strict=True)]
                study.add_trial(self._trial(keys, values=told))
        for keys in self.pending.values():
            study.add_trial(self._trial(keys, state=optuna.trial.TrialState.RUNNING))
        return study

    def _trial(self, keys: Keys, **more: Any) -> Any:
        import optuna

        params = {key: _encoded(self._nodes[key], value) for key, value in keys.items()}
        return optuna.trial.create_trial(
            params=params, distributions={key: self._distributions[key] for key in keys}, **more
        )


def _suggest(trial: Any, key: str, node: Node) -> Value:
    if isinstance(node, Choice):
        return trial.suggest_categorical(key, list(node.options))
    if node.step is not None:
        return node.nth(trial.suggest_int(key, 0, (node.count or 1) - 1))
    if node.integer:
        return trial.suggest_int(key, int(node.low), int(node.high), log=node.log)
    return trial.suggest_float(key, node.low, node.high, log=node.log)


def _distribution(node: Node) -> Any:
    """Stepped numbers are counted: Optuna and we would round their sums otherwise."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if isinstance(node, Choice):
        return CategoricalDistribution(list(node.options))
    if node.step is not None:
        return IntDistribution(0, (node.count or 1) - 1)
    if node.integer:
        return IntDistribution(int(node.low), int(node.high), log=node.log)
    return FloatDistribution(node.low, node.high, log=node.log)


def _encoded(node: Node, value: Value) -> Value:
    if isinstance(node, Number) and node.step is not None and not isinstance(value, str):
        return round((value - node.low) / node.step)
    return value


def _sampler(seed: int, own: dict[str, Any]) -> Any:
    """Optuna's sampler, some parameters given; it warns of being experimental, which a user cannot act on."""
    import optuna

    # for good: filters belong to the process, and what a thread puts back would take one of a moment away
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    tpe = optuna.samplers.TPESampler(
        n_startup_trials=_STARTUP, multivariate=True, group=True, constant_liar=True, seed=seed
    )
    return optuna.samplers.PartialFixedSampler(own, tpe) if own else tpe
