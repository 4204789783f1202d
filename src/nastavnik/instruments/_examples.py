"""Per example: how long single rows' gradients are, and how much they disagree."""

from __future__ import annotations

import torch
from torch.func import grad, vmap

from nastavnik.instruments._norms import Tensors
from nastavnik.instruments._sight import Inputs, Sight, plain_grad

Measured = dict[str, torch.Tensor]
_KEPT = "each row's own gradient"


def gradient_noise_scale(sight: Sight) -> Measured:
    """tr Σ / |G|², in rows: a batch much smaller than this is mostly noise (McCandlish et al. 2018, B_simple).

    ``spread`` is tr Σ and ``signal`` |G|², whose means over several looks give a steadier ratio.
    Both are unbiased from n rows' own gradients g_i with mean g: tr Σ = Σ |g_i − g|² / (n − 1), |G|² = |g|² − tr Σ / n.
    Infinite where no direction is left that the rows agree on.
    """
    n = len(sight.rows[1])
    if n < 2:
        return {}
    each = row_gradients(sight)
    mean = each.mean(0)
    spread = (each - mean).square().sum() / (n - 1)
    signal = mean.square().sum() - spread / n
    scale = torch.where(signal > 0, spread / signal.clamp(min=1e-30), torch.full_like(spread, torch.inf))
    return {"": scale, "spread": spread, "signal": signal}


def row_gradient_norm(sight: Sight) -> Measured:
    """Lengths of single rows' gradients: their median and the largest."""
    lengths = row_gradients(sight).square().sum(1).sqrt()
    return {"median": lengths.median(), "largest": lengths.amax()}


def row_gradients(sight: Sight) -> torch.Tensor:
    """Each row's own gradient [n, P], in evaluation mode, so that rows do not depend on one another."""
    if _KEPT not in sight.lengths:  # two instruments ask
        sight.lengths[_KEPT] = _row_gradients(sight)
    return sight.lengths[_KEPT]


def _row_gradients(sight: Sight) -> torch.Tensor:
    inputs, targets = sight.rows
    before = sight.moment.before
    if not sight.alone:
        each = vmap(grad(sight.row_loss), in_dims=(None, 0, 0))(before, inputs, targets)
        return torch.cat([g.reshape(len(targets), -1) for g in each.values()], dim=1)
    rows = []
    for i in range(len(targets)):
        one, target = tuple(t[i] for t in inputs), targets[i]

        def own(parameters: Tensors, one: Inputs = one, target: torch.Tensor = target) -> torch.Tensor:
            return sight.row_loss(parameters, one, target)

        gradient, _ = plain_grad(own, has_aux=False)(before)
        rows.append(torch.cat([g.reshape(-1) for g in gradient.values()]))
    return torch.stack(rows)
