"""All instruments that look at a network, by what they cost, and the one call that runs them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch

from nastavnik.instruments import _curvature, _examples, _layers, _losses
from nastavnik.instruments._norms import Tensors
from nastavnik.instruments._sight import Inputs, Sight, Subject, look

Measured = dict[str, torch.Tensor]
COSTS = ("pass", "example", "curvature")


@dataclass(frozen=True)
class Observed:
    """An instrument that reads a ``Sight``: its cost class, and its unit or range in words."""

    cost: str
    unit: str
    measure: Callable[[Sight], Measured]


OBSERVED: dict[str, Observed] = {
    "batch loss": Observed("pass", "nats or the loss's own unit", _losses.batch_loss),
    "predicted change": Observed("pass", "as the loss", _losses.predicted_change),
    "actual change": Observed("pass", "as the loss", _losses.actual_change),
    "output deviation": Observed("pass", "as the outputs", _losses.output_deviation),
    "output least": Observed("pass", "as the outputs", _losses.output_least),
    "output most": Observed("pass", "as the outputs", _losses.output_most),
    "output sum deviation": Observed("pass", "0 and more", _losses.output_sum_deviation),
    "output stuck": Observed("pass", "0 to 1", _losses.output_stuck),
    "layer gradient norm": Observed("pass", "loss a unit of weight", _layers.layer_gradient_norm),
    "layer weight norm": Observed("pass", "0 and more", _layers.layer_weight_norm),
    "layer update ratio": Observed("pass", "0 and more, a step", _layers.layer_update_ratio),
    "distance from start": Observed("pass", "0 and more", _layers.distance_from_start),
    "sign persistence": Observed("pass", "0 to 1", _layers.sign_persistence),
    "activation mean": Observed("pass", "as the activation", _layers.activation_mean),
    "activation deviation": Observed("pass", "as the activation", _layers.activation_deviation),
    "activation least": Observed("pass", "as the activation", _layers.activation_least),
    "activation most": Observed("pass", "as the activation", _layers.activation_most),
    "dead share": Observed("pass", "0 to 1", _layers.dead_share),
    "saturated share": Observed("pass", "0 to 1", _layers.saturated_share),
    "effective rank": Observed("pass", "0 to 1", _layers.effective_rank),
    "backward gain": Observed("pass", "times a layer", _layers.backward_gain),
    "weight scale": Observed("pass", "0 and more", _layers.weight_scale),
    "unit spread": Observed("pass", "0 and more", _layers.unit_spread),
    "gradient noise scale": Observed("example", "rows", _examples.gradient_noise_scale),
    "row gradient norm": Observed("example", "loss a unit of weight", _examples.row_gradient_norm),
    "curvature": Observed("curvature", "loss a squared unit of weight", _curvature.curvature),
}


def observe(
    subject: Subject,
    before: Tensors,
    after: Tensors,
    start: Tensors,
    buffers: Tensors,
    inputs: Inputs,
    targets: torch.Tensor,
    *,
    costs: Iterable[str] = COSTS,
    rows: int = 32,
) -> dict[str, Measured]:
    """What the instruments of these cost classes see of one network: numbers by instrument and layer.

    See ``look`` for the arguments.
    """
    sight = look(subject, before, after, start, buffers, inputs, targets, rows=rows)
    return measured(sight, costs)


def measured(sight: Sight, costs: Iterable[str] = COSTS) -> dict[str, Measured]:
    """What the instruments of these cost classes see in one look."""
    chosen = set(costs)
    return {name: known.measure(sight) for name, known in OBSERVED.items() if known.cost in chosen}
