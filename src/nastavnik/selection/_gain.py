"""Whether searching on can still be expected to find something that these rows could tell from what is found."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from nastavnik.selection._candidate import Candidate

_RECENT = 48  # scores that tell what the next ones will be like
_FEWEST = 24  # before that nothing is said
_DRAWS = 500


def expected_gain(history: Sequence[Candidate], more: int, *, seed: int) -> float:
    """By how much the best score (nats) is expected to fall when so many more candidates are trained.

    The next scores are taken to be like the recent ones that were trained to their end, smoothed by a normal kernel
    (Silverman's width); infinite while too few are known.
    """
    scores = [c.score for c in history if math.isfinite(c.score)]
    recent = [c.score for c in history[-_RECENT:] if math.isfinite(c.score) and c.status in ("finished", "stopped")]
    if len(scores) < _FEWEST or len(recent) < 3 or more < 1:
        return math.inf if more > 0 else 0.0
    best, values = min(scores), np.array(recent)
    share = len(recent) / max(1, len(history[-_RECENT:]))  # the others were dropped: they were no better
    count = max(1, round(share * more))
    spread = min(float(values.std(ddof=1)), float(np.subtract(*np.quantile(values, [0.75, 0.25]))) / 1.34)
    width = 0.9 * spread * len(values) ** -0.2
    rng = np.random.default_rng(seed)
    draws = rng.choice(values, (_DRAWS, count)) + width * rng.normal(size=(_DRAWS, count))
    return float(np.clip(best - draws.min(1), 0, None).mean())


def resolution(best: Sequence[np.ndarray]) -> float:
    """The least difference in mean loss that rows can show between the first of these candidates and another.

    1.96 standard errors of the paired difference [n], of the pair that differs least: what search still finds is like
    the best, and like candidates can be told apart by less.
    """
    gaps = [best[0] - other for other in best[1:]]
    return min(1.96 * float(gap.std(ddof=1)) / len(gap) ** 0.5 for gap in gaps) if len(best[0]) > 1 else math.inf
