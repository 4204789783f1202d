"""What is believed of several targets at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nastavnik.predictive._base import Predictive
from nastavnik.predictive._metrics import Weighted, mean_of

_ANY = 1.0  # a value that every target can have, where none is known


@dataclass(frozen=True)
class JointPredictive:
    """A distribution for each target, independent given the row; ``widths`` is how many columns of values each has.

    Values are [n, columns], NaN where one is not known: that says nothing of the row, and the others count as ever.
    """

    parts: tuple[Predictive, ...]
    widths: tuple[int, ...]

    def point(self) -> np.ndarray:
        """Every target's, side by side [n, columns]."""
        each = [part.point() for part in self.parts]
        return np.concatenate([p.reshape(len(p), -1).astype(np.float64) for p in each], axis=1)

    def neg_log_likelihood(self, y: np.ndarray) -> np.ndarray:
        """Nats a row [n]: the sum over the targets that are known."""
        return self.each_neg_log_likelihood(y).sum(1)

    def each_neg_log_likelihood(self, y: np.ndarray) -> np.ndarray:
        """Nats of each row's targets [n, targets]; 0 where a target is not known."""
        return np.column_stack([_known(part, own) for part, own in zip(self.parts, self.divided(y), strict=True)])

    def divided(self, y: np.ndarray) -> list[np.ndarray]:
        """Values [n, columns] target by target: [n], or [n, columns] where it has several."""
        return divided(y, self.widths)

    def interval(self, level: float) -> None:
        """Several targets have one each."""
        return None

    def quantile(self, q: float) -> None:
        """Several targets have one each."""
        return None

    def metrics(self, y: np.ndarray) -> dict[str, Weighted]:
        """nll: nats per row, all known targets together. Each target has metrics of its own."""
        return {"nll": mean_of(self.neg_log_likelihood(y))}

    def take(self, rows: np.ndarray) -> JointPredictive:
        """Some of the rows."""
        return JointPredictive(tuple(part.take(rows) for part in self.parts), self.widths)

    @classmethod
    def joined(cls, members: Sequence[JointPredictive], shares: np.ndarray | None = None) -> JointPredictive:
        """Target by target: of a mixture of products the product of each target's mixture, which leaves out how targets
        go together where members disagree.
        """
        each = zip(*(m.parts for m in members), strict=True)
        return cls(tuple(type(own[0]).joined(own, shares) for own in each), members[0].widths)

    @classmethod
    def stitched(cls, parts: Sequence[JointPredictive], order: np.ndarray) -> JointPredictive:
        """One after the other, in this order."""
        each = zip(*(part.parts for part in parts), strict=True)
        return cls(tuple(type(own[0]).stitched(own, order) for own in each), parts[0].widths)


def divided(y: np.ndarray, widths: Sequence[int]) -> list[np.ndarray]:
    """Values [n, columns] of several targets one by one, [n] where a target has one column."""
    ends = np.cumsum(widths)
    pieces = [y[:, end - width : end] for end, width in zip(ends, widths, strict=True)]
    return [piece[:, 0] if piece.shape[1] == 1 else piece for piece in pieces]


def _known(part: Predictive, y: np.ndarray) -> np.ndarray:
    known = ~np.isnan(y.reshape(len(y), -1)).any(1)
    filled = np.where(known if y.ndim == 1 else known[:, None], y, _ANY)
    return np.where(known, part.neg_log_likelihood(filled), 0.0)
