"""The stage a training is in, by the shape of its curve: a hypothesis, shown as one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nastavnik.trace import History

STAGES = ("start", "inflation", "compression", "stabilization", "stagnation")
_LEAST = 0.02  # of the first loss: what a start has not yet gained
_GAINS = (0.4, 0.1, 0.02)  # of all that was gained, in the last doubling of the steps: what parts the later stages


@dataclass(frozen=True)
class Stage:
    """``name`` of ``STAGES``; ``gained`` the share of the first loss that is gone; ``lately`` the share of that which
    the last doubling of the steps brought; ``since`` the first step of the stage."""

    name: str
    gained: float
    lately: float
    since: int


def stage(history: History) -> Stage | None:
    """Which stage of the S-curve the training has come to; None before there are four looks.

    The model (start, inflation, compression, stabilization, stagnation) is one author's conjecture, and its bands of
    accuracy were never measured: so the stage is read from the curve's shape alone,
    by what a doubling of the steps still brings of the training rows' loss. No rule rests on it.
    """
    steps, loss = history.steps("training rows' loss"), history.series("training rows' loss")
    if len(loss) < 4 or not np.isfinite(loss).all():
        return None
    names = [_at(steps[: i + 1], loss[: i + 1]) for i in range(3, len(loss))]
    last = names[-1]
    first = next(i for i in range(len(names)) if all(n[0] == last[0] for n in names[i:]))
    return Stage(last[0], last[1], last[2], int(steps[first + 3]))


def _at(steps: np.ndarray, loss: np.ndarray) -> tuple[str, float, float]:
    """The stage at the last of these looks; losses are smoothed over three of them."""
    kernel = np.ones(3) / 3
    smooth = np.convolve(np.pad(loss, 1, mode="edge"), kernel, mode="valid")
    gained = float(smooth[0] - smooth[-1])
    share = gained / max(abs(float(loss[0])), 1e-12)
    if share < _LEAST:
        return "start", share, 0.0
    half = smooth[max(0, int(np.searchsorted(steps, steps[-1] / 2, side="right")) - 1)]
    lately = float(half - smooth[-1]) / gained
    for name, least in zip(STAGES[1:], _GAINS, strict=False):
        if lately >= least:
            return name, share, lately
    return "stagnation", share, lately
