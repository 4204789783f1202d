"""Bayesian linear regression: the one case where the evidence is known exactly, against which all others are held."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch


class LinearTruth(NamedTuple):
    """``log_evidence`` in nats; the posterior's ``mean`` [P] and ``covariance`` [P, P]; ``mean_field`` is the exact
    optimum of the mean-field bound, which lies below by ½ (Σ log A_ii - log |A|)."""

    log_evidence: float
    mean: torch.Tensor
    covariance: torch.Tensor
    mean_field: float


def linear_regression(x: torch.Tensor, y: torch.Tensor, *, noise: float, prior_precision: float) -> LinearTruth:
    """The exact evidence and posterior of y = x w + N(0, noise²), w ~ N(0, 1 / prior_precision).

    Args:
        x: design matrix [n, P], a column of ones included if there is a bias.
        y: targets [n].
        noise: standard deviation.
        prior_precision: of every weight.

    Source: Bishop 2006, eq. 3.86.
    """
    x, y = x.double(), y.double()
    n, p = x.shape
    a = x.T @ x / noise**2 + prior_precision * torch.eye(p, dtype=torch.float64)
    factor = torch.linalg.cholesky(a)
    mean = torch.cholesky_solve((x.T @ y / noise**2)[:, None], factor)[:, 0]
    logdet = 2 * factor.diagonal().log().sum()
    fit = (y - x @ mean).square().sum() / noise**2 + prior_precision * mean.square().sum()
    value = 0.5 * (p * math.log(prior_precision) - n * math.log(2 * math.pi * noise**2) - fit - logdet)
    gap = 0.5 * (a.diagonal().log().sum() - logdet)
    return LinearTruth(float(value), mean, torch.cholesky_inverse(factor), float(value - gap))
