"""Forecasts of how low a network's loss will get, from how far the search's earlier networks still fell.

A forecast made at a share of the training is b - f, b being the best score so far and f the further falls of the
networks of this search that stood nearest to b at that share: their 5 %, 50 % and 95 % quantiles. Whoever is forecast
to miss even at the lowest the best networks, as many as an ensemble takes, is *condemned* and dropped: one lucky
network is not to stop all others. One in eight goes on nevertheless, so that the forecasts of condemned ones can be
scored as well.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from nastavnik.selection._candidate import Candidate
from nastavnik.selection._ensemble import MOST_PICKS

SHARES = (0.25, 0.55, 0.75)  # of a training, when forecasts are made
LEVEL = 0.9  # of a forecast's interval
_NEAREST, _FEWEST = 24, 10  # earlier networks a forecast rests on
_CONTROLS = 8  # one in so many condemned networks goes on


@dataclass(frozen=True)
class Forecast:
    """What was forecast of a candidate (by its first network's number) when a share of its training was done.

    Scores in nats per validation example; ``bar`` is the worst of the best few final scores known then.
    """

    network: int
    share: float
    low: float
    middle: float
    high: float
    bar: float
    condemned: bool
    control: bool

    def to_json(self) -> dict[str, Any]:
        """The record kept in the checkpoint."""
        return asdict(self)


def forecast(network: int, share: float, score: float, history: Sequence[Candidate]) -> Forecast | None:
    """The forecast of one candidate; None where too few have gone before or the score is no number."""
    known = [
        (dict(c.rungs)[share], c.score)
        for c in history
        if c.status in ("finished", "stopped") and share in dict(c.rungs) and math.isfinite(c.score)
    ]
    if len(known) < _FEWEST or not math.isfinite(score):
        return None
    before, final = np.array(known).T
    nearest = np.argsort(np.abs(before - score), kind="stable")[:_NEAREST]
    most, middle, least = np.quantile((before - final)[nearest], [(1 + LEVEL) / 2, 0.5, (1 - LEVEL) / 2])
    bar = float(np.sort(final)[:MOST_PICKS][-1])
    condemned = bool(score - most > bar)
    control = condemned and zlib.crc32(f"{network}".encode()) % _CONTROLS == 0
    return Forecast(
        network, share, float(score - most), float(score - middle), float(score - least), bar, condemned, control
    )


def scored_forecasts(forecasts: Sequence[Forecast], history: Sequence[Candidate]) -> dict[str, Any]:
    """How good the forecasts were, of the candidates that were trained on: coverage, error, and who was condemned.

    Of those that halving dropped nothing is known: coverage is that of the survivors and the controls.

    ``coverage`` is the share of finals inside their interval (nominally 90 %), ``error`` the median distance of the
    forecast's middle from the final score (nats), ``condemned_controls`` how many condemned ones went on and
    ``wrongly_condemned`` how many of these reached the bar after all.
    """
    finals = {c.numbers[0]: c.score for c in history if c.status in ("finished", "stopped")}
    seen = [(f, finals[f.network]) for f in forecasts if f.network in finals]
    controls = {f.network: (f, final) for f, final in seen if f.condemned}.values()
    return {
        "made": len(forecasts),
        "dropped": len({f.network for f in forecasts if f.condemned and not f.control} - finals.keys()),
        "scored": len(seen),
        "coverage": float(np.mean([f.low <= final <= f.high for f, final in seen])) if seen else None,
        "error": float(np.median([abs(f.middle - final) for f, final in seen])) if seen else None,
        "condemned_controls": len(controls),
        "wrongly_condemned": int(sum(final <= f.bar for f, final in controls)),
    }
