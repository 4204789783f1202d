"""Which learning rate: all candidates trained side by side, as one population."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import nn

from nastavnik.arguments import checked
from nastavnik.errors import UserError, nearest
from nastavnik.population import Data, Learner, Population
from nastavnik.recipe import Recipe, Value
from nastavnik.training import Method
from nastavnik.training.likelihoods import Likelihood
from nastavnik.training.optimizers import OPTIMIZERS

_MANTISSAS = (1.0, 2.0, 5.0)
_START = 0.01  # where the threshold procedure begins
_STEPS = 10  # of a window at least, so that its mean is no matter of one batch
_WINDOWS = 20  # means of the training loss that are looked at
_RISEN = 0.05  # of the fall before: more is a rise
_JUDGED = 256  # rows that tell a divergence
METHODS = ("threshold", "range")


@dataclass(frozen=True)
class RateSearch:
    """What was tried and found.

    ``rate`` is the advice, ``threshold`` the largest usable rate. ``rates`` [R] with the mean training loss over
    successive windows ``losses`` [R, W] (nats a row; not a number once diverged); for the range test, the rates
    passed through and the median loss at each. ``words`` tells the steps taken.
    """

    method: str
    rate: float
    threshold: float
    rates: np.ndarray
    losses: np.ndarray
    words: tuple[str, ...]


@checked()
def find_rate(
    build: Callable[[], tuple[nn.Module, Likelihood]],
    inputs: torch.Tensor | Sequence[torch.Tensor],
    targets: torch.Tensor,
    *,
    method: str = "threshold",
    optimizer: str = "sgd",
    settings: Mapping[str, Value] | None = None,
    batch_size: int = 32,
    epochs: float = 2.0,
    low: float = 1e-5,
    high: float = 100.0,
    seeds: int = 5,
    seed: int = 0,
) -> RateSearch:
    """Find a learning rate on the training loss, every candidate in one population.

    "threshold" is the procedure of Nielsen 2015, ch. 3: from 0.01 up or down by tens to the
    largest order of magnitude whose training loss falls in the first epochs, refined within it by 1, 2, 5; the advice
    is half of that. "range" is the exponential range test (Smith 2017): the rate grows from ``low`` to ``high`` within
    one training, for several seeds; the threshold is where the median loss begins to rise again, the advice a tenth.

    Args:
        build: gives a fresh module and likelihood; torch is seeded before each call.
        inputs: training rows, what the module takes [n, …].
        targets: [n].
        method: threshold or range.
        optimizer: a name of the vocabulary.
        settings: further parts of the recipe by dotted name, such as ``{"optimizer.momentum": 0.9}``.
        batch_size: rows of a step.
        epochs: passes over the rows of each training.
        low: the least rate tried.
        high: the largest.
        seeds: trainings of a range test.
        seed: of weights and order.

    Raises:
        UserError: there is no such method, the range is empty, or no rate makes the loss fall.
    """
    if method not in METHODS:
        raise UserError(f"method cannot be {method!r}{nearest(method, METHODS)}")
    if not (low > 0 and 100 * low <= high < math.inf):
        raise UserError(f"0 < 100 low <= high must hold, going by tens, but got low={low:g}, high={high:g}")
    tensors = (inputs,) if isinstance(inputs, torch.Tensor) else tuple(inputs)
    _check_rows(tensors, targets)
    for name, value in (("batch_size", batch_size), ("epochs", epochs), ("seeds", seeds)):
        if not value > 0:
            raise UserError(f"{name} must be above 0, but got {value}")
    data = _data(tensors, targets, seed)
    base: dict[str, Value] = {"optimizer.name": optimizer, "schedule.name": "constant", "batch_size": batch_size}
    base |= settings or {}
    _check_settings(base)
    trial = _Trial(build, data, base, epochs)
    if method == "threshold":
        return _threshold(trial, _ladder(low, high), seed)
    return _range(trial, low, high, seeds, seed)


@dataclass(frozen=True)
class _Trial:
    """What all candidates share."""

    build: Callable[[], tuple[nn.Module, Likelihood]]
    data: Data
    base: Mapping[str, Value]
    epochs: float
    ends: list[float] = field(default_factory=list)  # of the windows last looked at, shares of the training

    def losses(self, changes: Sequence[Mapping[str, Value]], seeds: Sequence[int], windows: int) -> np.ndarray:
        """Mean training losses [K, W] of networks that differ by these changes; nan once one has diverged."""
        recipes = [Recipe({**self.base, **change, "seed": s}) for change, s in zip(changes, seeds, strict=True)]
        learners = [Learner.seeded(s, self.build) for s in seeds]
        batch = self.data.batch_size(recipes[0].whole("batch_size"))
        steps = max(_STEPS * windows, round(self.epochs * self.data.steps_per_epoch(batch)))
        population = Population(learners, recipes, self.data, total_steps=steps, evaluations=windows, instruments={})
        population.train(steps)
        seen = population.trace.frame()
        table = seen[seen["instrument"] == "training loss"].pivot(index="network", columns="step", values="value")
        found = table.reindex(range(len(recipes))).to_numpy(dtype=float, copy=True)
        found[~np.isfinite(found)] = np.nan
        self.ends[:] = (table.columns.to_numpy(dtype=float) / steps).tolist()
        return found


def _threshold(trial: _Trial, rates: list[float], seed: int) -> RateSearch:
    changes = [{"optimizer.learning_rate": rate} for rate in rates]
    losses = trial.losses(changes, [seed] * len(rates), _WINDOWS)
    falls = {rate: _falls(own) for rate, own in zip(rates, losses, strict=True)}
    decades = [rate for rate in rates if math.isclose(math.log10(rate), round(math.log10(rate)), abs_tol=1e-9)]
    place = min(range(len(decades)), key=lambda i: abs(math.log10(decades[i] / _START)))
    words = []
    if falls[decades[place]]:
        while place + 1 < len(decades) and falls[decades[place + 1]]:
            place += 1
        words.append(f"the loss falls at every ten from 0.01 up to {decades[place]:g}")
    else:
        while place >= 0 and not falls[decades[place]]:
            place -= 1
        if place < 0:
            raise UserError(
                f"the training loss falls at no rate from {rates[0]:g} to {rates[-1]:g}; look at the data, the loss "
                "and the initialization, or give a lower low"
            )
        words.append(f"going down from 0.01 by tens the loss first falls at {decades[place]:g}")
    threshold = decades[place]
    for rate in (rate for rate in rates if decades[place] < rate < 9.9 * decades[place]):
        if not falls[rate]:
            break
        threshold = rate
    words += [f"refined by 1, 2, 5: the largest that falls is {threshold:g}", f"half of it is {threshold / 2:g}"]
    return RateSearch("threshold", threshold / 2, threshold, np.array(rates), losses, tuple(words))


def _falls(losses: np.ndarray) -> bool:
    """Whether a training loss falls: its last quarter is its lowest, and it does not swing back on the way.

    Ups and downs are compared with the whole fall: a swing of a third of it is an oscillation.
    """
    if np.isnan(losses).any():
        return False
    quarter = max(1, len(losses) // 4)
    fall = losses[0] - losses[-quarter:].mean()
    rises = np.clip(np.diff(losses), 0, None).max(initial=0.0)
    return bool(fall > 0 and rises < fall / 3)


def _range(trial: _Trial, low: float, high: float, seeds: int, seed: int) -> RateSearch:
    windows = 100
    change: dict[str, Value] = {
        "optimizer.learning_rate": low,
        "schedule.name": "range_test",
        "schedule.span": high / low,
    }
    each = trial.losses([change] * seeds, [seed + k for k in range(seeds)], windows)
    median = _smoothed(np.median(np.where(np.isnan(each), np.inf, each), axis=0))
    middles = np.diff(trial.ends, prepend=0.0) / -2 + trial.ends
    rates = (low * (high / low) ** middles)[: len(median)]
    least = int(median.argmin()) if len(median) else 0
    if least == 0:
        raise UserError(f"the training loss falls at no rate from {low:g} to {high:g}; give a lower low or more epochs")
    risen = np.flatnonzero(median[least:] > median[least] + _RISEN * (median[0] - median[least]))
    last = least + int(risen[0]) - 1 if len(risen) else len(median) - 1
    threshold, steepest = float(rates[last]), float(rates[int(np.diff(median[: least + 1]).argmin())])
    words = (
        f"the median loss of {seeds} seeds falls fastest at {steepest:.3g}, is least at {rates[least]:.3g} "
        + (f"and rises from {threshold:.3g} on" if len(risen) else "and does not rise up to the highest"),
        f"a tenth of that is {threshold / 10:.3g}",
    )
    return RateSearch("range", threshold / 10, threshold, rates, median[None], words)


def _smoothed(values: np.ndarray, width: int = 5) -> np.ndarray:
    """Means over neighbours, ends as far as there are any; infinite values count from where they begin."""
    finite = np.isfinite(values)
    end = len(values) if finite.all() else int(np.argmin(finite))
    kept = values[:end]
    return np.array([kept[max(0, i - width // 2) : i + width // 2 + 1].mean() for i in range(len(kept))])


def _ladder(low: float, high: float) -> list[float]:
    """1, 2, 5, 10, 20 … between two ends."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    every = [m * 10.0**d for d in decades for m in _MANTISSAS]
    return [rate for rate in every if low * 0.999 <= rate <= high * 1.001]


def _check_rows(inputs: tuple[torch.Tensor, ...], targets: torch.Tensor) -> None:
    if not all(isinstance(t, torch.Tensor) for t in (*inputs, targets)):
        raise UserError("inputs and targets must be torch tensors; torch.from_numpy makes them of arrays")
    counts = {len(t) for t in (*inputs, targets)}
    if len(counts) != 1 or 0 in counts:
        raise UserError(f"inputs and targets must have the same number of rows, at least one, but got {sorted(counts)}")
    if not all(torch.isfinite(t).all() for t in (*inputs, targets) if t.is_floating_point()):
        raise UserError("inputs and targets must be finite, but some are not")


def _check_settings(base: Mapping[str, Value]) -> None:
    """Refuse names that nothing would read."""
    recipe = Recipe({**base, "optimizer.learning_rate": 1.0})
    method = Method.of(recipe)
    words = {"batch_size", "seed", "optimizer.memory", "schedule.warmup", "regularization.schedule"}
    words |= {
        "optimizer.name",
        "schedule.name",
        *(f"optimizer.{n}" for n in OPTIMIZERS[str(base["optimizer.name"])].choices),
    }
    for name, value in recipe.items():
        if name not in words and name not in method.settings:
            raise UserError(f"there is no setting {name!r} here{nearest(name, {*words, *method.settings})}")
        if name in method.settings and isinstance(value, (bool, str)):
            raise UserError(f"{name} must be a number, but got {value!r}")


def _data(inputs: tuple[torch.Tensor, ...], targets: torch.Tensor, seed: int) -> Data:
    rows = np.arange(len(targets))
    few = np.random.default_rng(seed).choice(rows, min(_JUDGED, len(rows)), replace=False)
    return Data.of([inputs], [targets], [(rows, np.sort(few))], seed=seed)
