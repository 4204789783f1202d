"""Rows one by one: how well each is predicted, how that went on through training, and how they come to the batches."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch


def appraise(
    outputs: torch.Tensor, losses: torch.Tensor, targets: torch.Tensor, classes: int
) -> dict[str, torch.Tensor]:
    """What outputs [n, o] say of rows with these targets [n]: loss, score, and each row's margin and error.

    ``classes``: 0 for numbers, whose score is R² of the first output and whose margin is minus the squared error over
    the targets' variance; otherwise the score is accuracy, the margin the target's logit less the largest other one
    (Pleiss et al. 2020; of one logit, the logit towards the target), and the error the length of (probabilities −
    one-hot target) (EL2N: Paul et al. 2021).
    """
    outputs = outputs.reshape(len(outputs), -1)
    if not classes:
        wanted = targets.reshape(len(outputs), -1)[:, 0].to(outputs.dtype)  # of several numbers, the first
        error = (outputs[:, 0] - wanted).square()
        variance = wanted.var(correction=0).clamp(min=1e-30)
        score = 1 - error.mean() / variance
        return {"loss": losses.mean(), "score": score, "margin": -error / variance, "error": error.sqrt()}
    if outputs.shape[1] == 1:
        outputs = torch.cat([torch.zeros_like(outputs), outputs], dim=1)
    targets = targets.reshape(len(outputs))
    hit = torch.nn.functional.one_hot(targets.long(), outputs.shape[1]).to(outputs.dtype)
    own = outputs.gather(1, targets.long()[:, None])[:, 0]  # no sum of products: others may be masked by -infinity
    other = outputs.masked_fill(hit.bool(), -torch.inf).amax(1)
    probabilities = torch.softmax(outputs, dim=1)
    return {
        "loss": losses.mean(),
        "score": (own > other).to(outputs.dtype).mean(),
        "margin": own - other,
        "error": (probabilities - hit).square().sum(1).sqrt(),
        "confidence": probabilities.amax(1).mean(),
    }


def area_under_margin(margins: np.ndarray) -> np.ndarray:
    """Mean of each row's margin over the moments [moments, n]; below 0 a row was mostly taken for another class."""
    return np.asarray(margins).mean(0)


def forgetting_events(margins: np.ndarray) -> np.ndarray:
    """How often each row went from right to wrong from one moment to the next (Toneva et al. 2019)."""
    right = np.asarray(margins) > 0
    return (right[:-1] & ~right[1:]).sum(0)


def calibration_error(confidence: np.ndarray, right: np.ndarray, bins: int = 15) -> float:
    """Expected calibration error: |accuracy − confidence| by bins of equal width, weighted by their rows."""
    place = np.clip((np.asarray(confidence) * bins).astype(int), 0, bins - 1)
    total = 0.0
    for b in np.unique(place):
        inside = place == b
        total += inside.mean() * abs(np.asarray(right)[inside].mean() - np.asarray(confidence)[inside].mean())
    return float(total)


def order_dispersion(batch_means: Sequence[float] | np.ndarray, batch: int, variance: float) -> float:
    """Variance of the batches' mean targets over what drawing rows at random would give: about 1 when shuffled.

    NaN with fewer than four batches or targets that do not vary.
    """
    means = np.asarray(batch_means, dtype=float)
    if len(means) < 4 or not variance > 0:
        return float("nan")
    return float(means.var(ddof=1) * batch / variance)
