"""One hook pass: how signals, gradients, weights and updates stand in each layer of ONE network."""

from __future__ import annotations

import torch
from torch import nn

from nastavnik.instruments._norms import Tensors
from nastavnik.instruments._sight import Layer, Sight, has_matrix, owners

Measured = dict[str, torch.Tensor]
_TINY = 1e-30
_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_FLAT = 0.05  # of the steepest slope: an activation that is flatter hardly passes a gradient on


def layer_gradient_norm(sight: Sight) -> Measured:
    """Length of the gradient of each layer's parameters."""
    return _by_layer(sight, sight.moment.gradients)


def layer_weight_norm(sight: Sight) -> Measured:
    """Length of each layer's parameters before the step."""
    if not sight.lengths:
        sight.lengths.update(_by_layer(sight, sight.moment.before))
    return dict(sight.lengths)


def layer_update_ratio(sight: Sight) -> Measured:
    """Length of the step over the length of the parameters it changed, by layer."""
    moves = _by_layer(sight, {n: sight.moment.after[n] - w for n, w in sight.moment.before.items()})
    sizes = layer_weight_norm(sight)
    return {layer: move / (sizes[layer] + 1e-12) for layer, move in moves.items()}


def distance_from_start(sight: Sight) -> Measured:
    """How far each layer's parameters are from where they began, over the length they had there."""
    began = {n: sight.start.get(n, w) for n, w in sight.moment.before.items()}  # what was unfrozen later begins then
    moves = _by_layer(sight, {n: w - began[n] for n, w in sight.moment.before.items()})
    sizes = _by_layer(sight, began)
    return {layer: move / (sizes[layer] + 1e-12) for layer, move in moves.items()}


def sign_persistence(sight: Sight) -> Measured:
    """Share of each layer's parameters that have the sign they began with; zeros at the start do not count."""
    found = {}
    for layer, names in owners(sight.moment.before, sight.prefix).items():
        pairs = [(sight.start.get(n, sight.moment.before[n]), sight.moment.before[n]) for n in names]
        counted = torch.stack([torch.count_nonzero(began) for began, _ in pairs]).sum()
        kept = torch.stack([torch.count_nonzero(began * now > 0) for began, now in pairs]).sum()
        dtype = sight.losses.dtype
        found[layer] = kept.to(dtype) / counted.clamp(min=1).to(dtype)
    return found


def activation_mean(sight: Sight) -> Measured:
    """Mean over rows and units of what each activation says."""
    return {layer.name: layer.said.mean() for layer in sight.activations}


def activation_deviation(sight: Sight) -> Measured:
    """Root of the variance over rows and units of what each activation says."""
    return {layer.name: layer.said.var(correction=0).sqrt() for layer in sight.activations}


def activation_least(sight: Sight) -> Measured:
    """The smallest value each activation says."""
    return {layer.name: layer.said.amin() for layer in sight.activations}


def activation_most(sight: Sight) -> Measured:
    """The largest value each activation says."""
    return {layer.name: layer.said.amax() for layer in sight.activations}


def dead_share(sight: Sight) -> Measured:
    """Share of an activation's units whose slope is zero on every row of the batch: no gradient reaches them."""
    found = {}
    for layer in sight.activations:
        alive = _units(sight, layer, layer.slope.abs()).amax(0) > 0
        found[layer.name] = 1 - alive.to(layer.said.dtype).mean()
    if not found:  # activations that are no modules: what the later layers are given
        for layer in sight.weighted[1:]:
            found[layer.name] = (_units(sight, layer, layer.given.abs()).amax(0) == 0).to(layer.given.dtype).mean()
    return found


def saturated_share(sight: Sight) -> Measured:
    """Share of (row, unit) where a bounded activation is flat: its slope below a twentieth of its steepest."""
    found = {}
    for layer in sight.activations:
        found[layer.name] = (layer.slope.abs() < _FLAT * layer.steepest).to(layer.said.dtype).mean()
    return found


def effective_rank(sight: Sight) -> Measured:
    """How many directions what an activation says spreads over, as a share of the most there can be.

    The participation ratio (Σ s²)² / Σ s⁴ of the singular values s, without centring, over the smaller of rows and
    units: 1 where all directions are used alike, near 0 where rows differ along one only. From the Gram matrix alone,
    tr² / ‖·‖², as eigenvalues of degenerate matrices may not converge.
    """
    found = {}
    for layer in sight.activations:
        units = _units(sight, layer, layer.said)
        rows, width = units.shape
        if min(rows, width) < 2:
            continue
        units = units / units.abs().amax().clamp(min=_TINY)
        gram = units @ units.T if rows <= width else units.T @ units
        ratio = gram.diagonal().sum().square() / gram.square().sum().clamp(min=_TINY)
        found[layer.name] = ratio / min(rows, width)
    return found


def backward_gain(sight: Sight) -> Measured:
    """|w σ′|: how many times longer a random error signal is after going back through a layer.

    √(Σ_jk w_jk² mean σ′(z_k)² / units) for the matrix w [units j, inputs k] and the activation before it; |w σ′| itself
    in a chain of single units (Nielsen 2015 ch. 5: the gradients of early layers are products
    of it).
    """
    found, fed = {}, None
    for layer in sight.layers:
        if len(layer.slope):
            fed = layer
        elif has_matrix(layer.module) and fed is not None:
            weight = layer.weight
            weight = weight.flatten(2) if weight.ndim > 2 else weight
            slopes = _units(sight, fed, fed.slope).square().mean(0)
            inputs = weight.shape[1]
            if weight.ndim == 3:  # a convolution: each input channel, over its kernel
                weight = weight.square().sum(2).sqrt()
            if len(slopes) == inputs:
                found[layer.name] = ((weight.square() * slopes).sum() / len(weight)).sqrt()
    return found


def weight_scale(sight: Sight) -> Measured:
    """Root mean square of each weight matrix times √inputs: about 1.4 by He's rule, 1 by LeCun's."""
    found = {}
    for layer in sight.weighted:
        weight = layer.weight
        found[layer.name] = weight.square().mean().sqrt() * (weight[0].numel() ** 0.5)
    return found


def unit_spread(sight: Sight) -> Measured:
    """How much units of a layer differ: deviation between rows of its matrix over its root mean square, 0 if equal."""
    found = {}
    for layer in sight.weighted:
        weight = layer.weight.flatten(1)
        if len(weight) > 1:
            size = weight.square().mean().sqrt()
            found[layer.name] = (weight - weight.mean(0)).square().mean().sqrt() / (size + _TINY)
    return found


def _units(sight: Sight, layer: Layer, t: torch.Tensor) -> torch.Tensor:
    """[rows, units] of what an activation says: behind a convolution each place is a row and each channel a unit."""
    before = None
    for other in sight.layers:
        if other is layer:
            break
        before = other if has_matrix(other.module) else before
    if t.ndim > 2 and before is not None and isinstance(before.module, _CONVOLUTIONS):
        t = t.movedim(1, -1)
    return t.reshape(-1, t.shape[-1]) if t.ndim > 1 else t.reshape(len(t), 1)


def _by_layer(sight: Sight, tensors: Tensors) -> Measured:
    return {
        layer: torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(tensors[n]) for n in names]))
        for layer, names in owners(sight.moment.before, sight.prefix).items()
    }
