"""Rules about units: what they say, and whether anything can still change them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from nastavnik.mentor._reading import late, since, span
from nastavnik.mentor._rule import Advice, Sign, rule
from nastavnik.trace import History


def _revive(history: History) -> Iterator[Advice]:
    yield Advice("take leaky_relu, which no unit dies of", {"network.activation": "leaky_relu"})
    rate = history.facts.get("learning rate", 0.0)
    yield Advice(
        "or a third of the rate, and biases that begin at 0", {"optimizer.learning_rate": rate / 3} if rate else {}
    )


@rule(
    severity="warning",
    title="Units are dead",
    source="Maas et al. 2013; DeadRelu, torchmortem, DeepDiagnosis (0.5 to 0.9)",
    usual=0.5,
    advise=_revive,
    causes=(
        "rate_too_large",
        "unscaled_inputs",
        "oversized_initialization",
        "regularization_too_strong",
        "constant_initialization",
        "unscaled_target",
        "accumulated_gradients",
    ),
)
def dead_units(history: History) -> Iterator[Sign]:
    """A large share of a layer's units has slope zero on every row.

    No gradient reaches them any more: they stay as they are for good. One step that is too large, or biases that begin
    far below zero, are enough (score: the share, median of the second half).
    """
    for layer in history.layers("dead share"):
        values = late(history, "dead share", layer)
        if len(values):
            yield Sign(
                float(np.median(values)),
                layer=layer,
                steps=since(history, "dead share", 0.5, layer),
                evidence={
                    "share": float(np.median(values)),
                    "at the start": float(history.series("dead share", layer)[0]),
                },
            )


def _unsaturate(history: History) -> Iterator[Advice]:
    yield Advice("take the initialization that the activation asks for", {"initialization.name": "matched"})
    yield Advice("or a rectifier", {"network.activation": "relu"})
    yield Advice("or normalize each layer", {"network.normalization": "layer"})


@rule(
    severity="warning",
    title="Units are saturated",
    source="Glorot & Bengio 2010; Nielsen 2015 ch. 2",
    usual=0.5,
    advise=_unsaturate,
    causes=("rate_too_large", "unscaled_inputs", "oversized_initialization", "accumulated_gradients"),
)
def saturated_units(history: History) -> Iterator[Sign]:
    """A bounded activation is flat for most of its units and rows: its slope is below a twentieth of its steepest.

    Whatever the loss asks for, hardly anything of it passes a flat unit (score: the share, largest of the looks'
    first-half and second-half medians).
    """
    for layer in history.layers("saturated share"):
        values = history.series("saturated share", layer)
        values = values[np.isfinite(values)]
        if len(values):
            half = len(values) // 2
            score = max(float(np.median(values[: half + 1])), float(np.median(values[half:])))
            yield Sign(
                score, layer=layer, steps=since(history, "saturated share", 0.5, layer), evidence={"share": score}
            )


def _diversify(history: History) -> Iterator[Advice]:
    yield Advice("normalize each layer", {"network.normalization": "layer"})
    yield Advice("or fewer layers", {"network.depth": 2})


@rule(
    severity="warning",
    title="The network says the same of every row",
    source="Roy & Vetterli 2007 (effective rank); traintools' PlasticityProbe",
    usual=30.0,
    advise=_diversify,
    causes=(
        "constant_initialization",
        "dead_units",
        "saturated_units",
        "network_paralysis",
        "regularization_too_strong",
        "rate_too_small",
        "rate_too_large",
        "vanishing_gradients",
        "undersized_initialization",
        "bottleneck",
        "dropout_too_strong",
        "double_softmax",
        "frozen_parameters",
        "unscaled_inputs",
        "labels_without_signal",
        "no_nonlinearity",
        "squashed_outputs",
        "unpaired_rows",
        "unchanged_weights",
        "foreign_optimizer",
        "padding_heard",
        "posterior_collapse",
        "early_steps_unheard",
        "rate_vanished",
        "mixed_rows",
        "ignored_loss_term",
    ),
)
def constant_output(history: History) -> Iterator[Sign]:
    """Outputs hardly differ from row to row when the training ends.

    The network has found the one answer that is best for all rows, and lost or never found what tells them apart
    (score: the deviation over the targets' own that a network of that score would have, over the outputs' deviation).
    """
    spread = late(history, "output deviation")
    if len(spread) and np.isfinite(spread).all() and len(history.series("training rows' score")) > 3:
        wanted = 1.0 if history.facts.get("classes", 0) else history.facts.get("target deviation", 1.0)
        yield Sign(
            float(min(wanted / max(np.median(spread), 1e-9), 1e6)),
            steps=span(history, "output deviation"),
            evidence={"deviation of the outputs": float(np.median(spread))},
        )


RULES = (dead_units, saturated_units, constant_output)
