"""A blend: networks together with boosted trees, each weighed by held-out rows."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from nastavnik.boosted import Boosted, as_networks_say
from nastavnik.predictive import ClassPredictive, Moved, Predictive, mixture
from nastavnik.selection._baselines import Baseline
from nastavnik.selection._ensemble import greedy_ensemble
from nastavnik.training.likelihoods import TEMPERATURES

_PICKS = 12  # so that a share is a twelfth


@dataclass(frozen=True)
class Blend:
    """How often networks and each of the boosted trees were picked, and what they say together of held-out rows."""

    networks: int
    boosted: tuple[tuple[Boosted, int], ...]
    held_out: Predictive

    @property
    def shares(self) -> dict[str, float]:
        """By name, what each counts for."""
        votes = {"networks": self.networks, **{own.name: count for own, count in self.boosted}}
        return {name: count / sum(votes.values()) for name, count in votes.items()}


def blend(
    networks: Predictive, baselines: Sequence[Baseline], y: np.ndarray, weights: np.ndarray | None = None
) -> Blend | None:
    """The greedy blend of networks, as they are together, and baselines; None where no baseline may join.

    Trees give numbers without a width, so that the networks' distribution is moved to them; of numbers the criterion is
    nats a row and, above all, how near the mean is (``greedy_ensemble``).

    Args:
        networks: their predictions of the held-out rows.
        baselines: those with trees and answers to the same rows.
        y: the rows' targets in own units.
        weights: of the rows, with mean 1.
    """
    if not isinstance(networks, (ClassPredictive, Moved)):
        return None
    joining: list[Boosted] = []
    said: list[Predictive] = [networks]
    for baseline in baselines:
        if baseline.boosted is None or baseline.held is None or not np.isfinite(baseline.held).all():
            continue
        boosted = _calibrated(baseline.boosted, baseline.held, networks, y, weights)
        joining.append(boosted)
        said.append(as_networks_say(boosted, baseline.held, networks))
    if not joining:
        return None
    near = not isinstance(networks, ClassPredictive)
    picks = greedy_ensemble(said, y, weights, most=_PICKS, near=near)
    votes = Counter(picks)
    common = math.gcd(*votes.values())
    chosen = tuple((own, votes[i + 1] // common) for i, own in enumerate(joining) if votes[i + 1])
    return Blend(votes[0] // common, chosen, mixture([said[i] for i in votes], list(votes.values())))


def _calibrated(
    boosted: Boosted, held: np.ndarray, networks: Predictive, y: np.ndarray, weights: np.ndarray | None
) -> Boosted:
    """With the temperature that suits the held-out rows best; numbers have none."""
    if not isinstance(networks, ClassPredictive):
        return boosted
    tried = [replace(boosted, temperature=t) for t in TEMPERATURES if t >= 1]  # trees are too certain, if anything
    nats = [np.average(as_networks_say(own, held, networks).neg_log_likelihood(y), weights=weights) for own in tried]
    return tried[int(np.argmin(nats))]
