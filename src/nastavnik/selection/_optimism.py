"""The optimism of "best of N": what the winner of a search would score on rows that did not choose it.

The leave-one-out bootstrap over the whole choice (Efron & Tibshirani 1997; Tsamardinos et al. 2018): rows are drawn
with repeats, the candidate that is best on them wins the draw, and each row is scored by the winners of those draws it
had no part in. No network is trained anew. What a network's best moment owes to the same rows is not corrected.

Legend: N candidates, n rows, B draws.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_DRAWS = 400
_Z = 1.96


@dataclass(frozen=True)
class Optimism:
    """A score of the winner as the rows that chose it show it, and corrected, with its 95 % interval.

    ``candidates`` took part; ``apparent`` and ``corrected`` are means over rows; their difference is the optimism.
    """

    candidates: int
    apparent: float
    corrected: float
    low: float
    high: float

    def to_json(self) -> dict[str, float | int]:
        """Plain numbers."""
        return dict(self.__dict__)


def optimism(choosing: np.ndarray, scoring: np.ndarray | None = None, *, seed: int = 0) -> Optimism:
    """Correct the winner's score for having won.

    Args:
        choosing: losses [N, n] of every candidate on every held-out row; the least mean wins.
        scoring: what is reported of the winner [N, n], if it is not the same: errors, say.
        seed: of the draws.

    Candidates with a loss that is not finite take no part.

    Raises:
        ValueError: there is no candidate or fewer than two rows.
    """
    choosing = np.asarray(choosing, dtype=float)
    scoring = choosing if scoring is None else np.asarray(scoring, dtype=float)
    finite = np.isfinite(choosing).all(-1) & np.isfinite(scoring).all(-1)
    choosing, scoring = choosing[finite], scoring[finite]
    count, rows = choosing.shape
    if count == 0 or rows < 2:
        raise ValueError(f"at least one candidate and two rows are needed, got {choosing.shape}")
    winner = int(choosing.mean(1).argmin())
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(rows, np.full(rows, 1 / rows), size=_DRAWS).astype(np.float32)  # [B, n]
    winners = (drawn @ choosing.T.astype(np.float32)).argmin(1)  # [B]
    out = drawn == 0
    times = out.sum(0)
    seen = times > 0
    sums = np.zeros(rows)
    for k in np.unique(winners):
        sums += out[winners == k].sum(0) * scoring[k]
    each = sums[seen] / times[seen]  # [n]: each row by winners that never saw it
    # the interval is as wide as one candidate's: the average over winners of many draws varies less than any of them
    half = _Z * _deviation(scoring[winner]) / rows**0.5
    corrected = float(each.mean())
    return Optimism(count, float(scoring[winner].mean()), corrected, corrected - half, corrected + half)


def _deviation(values: np.ndarray) -> float:
    """Of one row's score; of yes or no with two of each added, since no error in n rows is no proof of none."""
    if np.isin(values, (0.0, 1.0)).all():
        share = (float(values.sum()) + 2) / (len(values) + 4)  # Agresti & Coull 1998
        return (share * (1 - share)) ** 0.5
    return float(values.std(ddof=1))
