"""Have the chains met, and how many independent draws are they worth?

Legend: m chains, s draws of each, q quantities. Split R-hat and effective sample size by Vehtari et al. 2021 (ranks
made normal for R-hat; Geyer's initial monotone sequence for the autocorrelation time).
"""

from __future__ import annotations

import numpy as np

R_HAT = 1.05  # above which chains have not met


def r_hat(draws: np.ndarray) -> np.ndarray:
    """Rank-normalized split R-hat [q] of draws [m, s, q]; near 1 where the chains agree. Also of their spread."""
    halves = _split(draws)
    folded = np.abs(halves - np.median(halves, axis=(0, 1)))
    return np.maximum(_plain_r_hat(_ranked(halves)), _plain_r_hat(_ranked(folded)))


def effective_size(draws: np.ndarray) -> np.ndarray:
    """How many independent draws tell as much about the mean [q] as draws [m, s, q] do."""
    halves = _split(draws)
    m, s, _ = halves.shape
    centred = halves - halves.mean(1, keepdims=True)
    size = 2 ** int(np.ceil(np.log2(2 * s)))
    spectrum = np.fft.rfft(centred, size, axis=1)
    covariance = np.fft.irfft(spectrum * spectrum.conj(), size, axis=1)[:, :s] / s  # [m, lag, q]
    within = covariance[:, 0].mean(0) * s / (s - 1)
    between = halves.mean(1).var(0, ddof=1) if m > 1 else np.zeros_like(within)
    total = within * (s - 1) / s + between
    moving = total > 0
    safe = np.where(moving, total, 1.0)
    rho = 1 - (within - covariance.mean(0) * s / (s - 1)) / safe  # [lag, q]
    rho[0] = 1.0
    pairs = rho[: 2 * (s // 2)].reshape(-1, 2, rho.shape[1]).sum(1)
    positive = np.cumprod(pairs > 0, axis=0).astype(bool)
    monotone = np.minimum.accumulate(np.where(positive, pairs, np.inf), axis=0)
    time = -1 + 2 * np.where(positive, monotone, 0.0).sum(0)
    time = np.maximum(time, 1 / np.log10(m * s))
    return np.where(moving, m * s / time, 1.0)


def _split(draws: np.ndarray) -> np.ndarray:
    """Each chain as two halves."""
    half = draws.shape[1] // 2
    return np.concatenate([draws[:, :half], draws[:, -half:]])


def _plain_r_hat(draws: np.ndarray) -> np.ndarray:
    s = draws.shape[1]
    within = draws.var(1, ddof=1).mean(0)
    between = draws.mean(1).var(0, ddof=1)
    still = within <= 0
    ratio = np.sqrt((within * (s - 1) / s + between) / np.where(still, 1.0, within))
    return np.where(still, np.where(between > 0, np.inf, 1.0), ratio)


def _ranked(draws: np.ndarray) -> np.ndarray:
    """Normal scores of the ranks among all draws."""
    from scipy.special import ndtri
    from scipy.stats import rankdata

    flat = draws.reshape(-1, draws.shape[2])
    ranks = rankdata(flat, axis=0)
    return ndtri((ranks - 0.375) / (len(flat) + 0.25)).reshape(draws.shape)
