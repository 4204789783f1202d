"""Whether the numbers of a row lie along the axes that its shape says."""

from __future__ import annotations

import numpy as np
import torch

_MOST_ROWS = 512
_MOST_CHANNELS = 64


def layout_facts(x: torch.Tensor) -> dict[str, float]:
    """How much of the differences between places the shape's own axis of channels tells, and how much another order.

    ``x`` [n, channels, height, width], or [n, a, b] whose channels may be either. Places of a row differ in their mean
    and in their spread over rows; of those the share that channels tell is taken, in the order that the shape says and
    in the one that is left when axes were read on in another shape instead of being exchanged. Empty for others.
    """
    if not x.is_floating_point() or x.ndim not in (3, 4) or len(x) < 16 or not 2 <= x.shape[1] <= _MOST_CHANNELS:
        return {}
    rows = x[:_MOST_ROWS].detach().double().cpu().reshape(min(len(x), _MOST_ROWS), -1).numpy()
    if not np.isfinite(rows).all():
        return {}
    places = np.arange(rows.shape[1])
    channels, inner = x.shape[1], rows.shape[1] // x.shape[1]
    if inner < 2 or channels == inner:
        return {}
    own, other = [places // inner], [places % channels]
    if x.ndim == 3:
        own, other = [*own, places % inner], [*other, places // channels]
    told = [rows.mean(0), np.log(rows.var(0) + 1e-12)]
    best = [max(_told(v, groups) for v in told for groups in kinds) for kinds in (own, other)]
    return {"told by own axes": best[0], "told by other axes": best[1]}


def _told(values: np.ndarray, groups: np.ndarray) -> float:
    """The share of the variance of values that groups tell, without what chance tells."""
    counts = np.bincount(groups)
    means = np.bincount(groups, values) / counts
    rest = float(((values - means[groups]) ** 2).sum()) / max(len(values) - len(counts), 1)
    whole = float(values.var(ddof=1)) if len(values) > 1 else 0.0
    return max(0.0, 1 - rest / whole) if whole > 0 else 0.0
