"""Drawing recipes through Optuna: a random start, then TPE; a pure function of (space, history, seed, generation)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from nastavnik.recipe import Value, varies
from nastavnik.space import Choice, Node, Number, Space

_STARTUP = 12  # scored recipes before TPE is believed
_SIBLINGS = 3  # recipes that share a shape, and so a population


def ask(
    space: Space,
    history: Sequence[tuple[dict[str, Value], float]],
    count: int,
    *,
    seed: int,
    generation: int,
    leader: Mapping[str, Value] | None = None,
) -> list[tuple[dict[str, Value], dict[str, Value]]]:
    """Draw ``count`` points; returns (keys, values) of each: what was asked by key, and the whole point.

    The study is built anew from the history (keys and scores, lower is better) each time, so that a search can be
    resumed at any generation and goes on as if it had never stopped. Recipes come in threes that share a shape, so
    that they train as one population; the first ones share the shape of the keys ``leader`` where it is given.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    distributions: dict[str, Any] = {}
    _collect(space, "", distributions)
    study = optuna.create_study(sampler=_sampler(seed, generation, 0, {}))
    finite = [s for _, s in history if math.isfinite(s)]
    worst = max(finite, default=0.0)
    study.add_trials(
        [
            optuna.trial.create_trial(
                params=keys,
                distributions={key: distributions[key] for key in keys},
                value=score if math.isfinite(score) else worst,
            )
            for keys, score in history
            if all(key in distributions for key in keys)
        ]
    )
    drawn: list[tuple[dict[str, Value], dict[str, Value]]] = []
    shape = _shape(leader or {})
    family = space.nodes.get("network.family")
    start: dict[str, Value] = {}
    if isinstance(family, Choice) and family.default is not None and len(history) < _STARTUP:
        start = {"network.family": family.default}  # random draws are not spent on the small families
    first = 1 if shape else 0  # the leader given is one of its three
    for i in range(count):
        leads = (i + first) % _SIBLINGS == 0
        study.sampler = _sampler(seed, generation, i, start if leads else shape)
        trial = study.ask()
        point = space.draw(lambda key, node, t=trial: _suggest(t, key, node))  # type: ignore[misc]
        keys = dict(trial.params)
        if leads:
            shape = _shape(keys)
        drawn.append((keys, point))
    return drawn


def _shape(keys: Mapping[str, Value]) -> dict[str, Value]:
    return {key: value for key, value in keys.items() if not varies(key.rsplit("/", 1)[-1], value)}


def _sampler(seed: int, generation: int, i: int, fixed: Mapping[str, Value]) -> Any:
    """TPE with some keys given."""
    import warnings

    import optuna

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        sampler = optuna.samplers.TPESampler(
            n_startup_trials=_STARTUP,
            multivariate=True,
            group=True,
            constant_liar=True,
            seed=(seed * 7919 + generation * 104_729 + i * 15_485_863) % 2**32,
        )
        return optuna.samplers.PartialFixedSampler(dict(fixed), sampler) if fixed else sampler


def _suggest(trial: Any, key: str, node: Node) -> Value:
    if isinstance(node, Choice):
        return trial.suggest_categorical(key, list(node.options))
    if node.integer:
        return trial.suggest_int(key, int(node.low), int(node.high), log=node.log)
    return trial.suggest_float(key, node.low, node.high, log=node.log)


def _collect(space: Space, path: str, into: dict[str, Any]) -> None:
    """Optuna's distribution of every key of the tree."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    for name, node in space.nodes.items():
        key = path + name
        if isinstance(node, Number):
            if node.integer:
                into[key] = IntDistribution(int(node.low), int(node.high), log=node.log)
            else:
                into[key] = FloatDistribution(node.low, node.high, log=node.log)
        else:
            into[key] = CategoricalDistribution(list(node.options))
            for value, branch in node.branches.items():
                _collect(branch, f"{path}{name}={value}/", into)
