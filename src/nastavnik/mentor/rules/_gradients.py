"""Rules about gradients: how they fare on their way through the layers."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from nastavnik.mentor._reading import early, late, matrices, span, whole_norm
from nastavnik.mentor._rule import Advice, Sign, rule
from nastavnik.trace import History


def _relative(history: History) -> dict[str, float]:
    """By hidden layer, early in training: root mean square of the gradient over that of the weights.

    The output layer is left out: its weights begin small on purpose.
    """
    found = {}
    for layer in matrices(history)[:-1]:
        norms = early(history, "layer gradient norm", layer["name"])
        sizes = early(history, "layer weight norm", layer["name"])
        if len(norms) and np.isfinite(norms).all() and np.median(sizes) > 0:
            found[layer["name"]] = float(np.median(norms) / np.median(sizes))
    return found


def _let_through(history: History) -> Iterator[Advice]:
    yield Advice(
        "take a rectifier with the initialization it asks for",
        {"network.activation": "relu", "initialization.name": "matched"},
    )
    yield Advice("or normalize each layer", {"network.normalization": "layer"})
    yield Advice("or let each layer add to what it is given", {"network.residual": True})
    yield Advice("or fewer layers", {"network.depth": 2})
    yield Advice("or the initialization that the activation asks for", {"initialization.name": "matched"})


@rule(
    severity="error",
    title="Gradients vanish on their way to the first layers",
    source="Hochreiter 1991; Glorot & Bengio 2010; Nielsen 2015 ch. 5",
    usual=100.0,
    advise=_let_through,
    causes=(
        "rate_too_large",
        "network_paralysis",
        "undersized_initialization",
        "saturated_units",
        "dead_units",
        "constant_initialization",
        "unscaled_inputs",
        "oversized_initialization",
    ),
    hinders=True,
)
def vanishing_gradients(history: History) -> Iterator[Sign]:
    """For the size of their weights, the first layers' gradients are many times smaller than later hidden ones'.

    A layer's gradient is a product over all later layers of |w σ′|. Where that is below 1, the first layers stand still
    while the last ones learn from what chance made of the inputs. A small gradient there is not convergence (score: the
    largest relative gradient of a later hidden layer over that of the first, in the first quarter).
    """
    relative = _relative(history)
    if len(relative) > 1:
        first, *others = relative.values()
        ratio = max(others) / max(first, 1e-30)
        gains = [float(np.median(early(history, "backward gain", n))) for n in history.layers("backward gain")]
        yield Sign(
            min(ratio, 1e12),
            layer=next(iter(relative)),
            steps=span(history, "layer gradient norm"),
            evidence={"last over first": ratio, "|w σ′| by layer": [round(g, 4) for g in gains]},
        )


def _calm(history: History) -> Iterator[Advice]:
    yield Advice("clip the gradient's length to 1", {"optimizer.clip_norm": 1.0})
    yield Advice("take the initialization that the activation asks for", {"initialization.name": "matched"})
    yield Advice("or normalize each layer", {"network.normalization": "layer"})


@rule(
    severity="warning",
    title="Gradients explode",
    source="Pascanu et al. 2013; Nielsen 2015 ch. 5 (a factor of 25 a layer)",
    usual=100.0,
    advise=_calm,
    causes=(
        "rate_too_large",
        "oversized_initialization",
        "unscaled_inputs",
        "unscaled_target",
        "undefined_operation",
        "accumulated_gradients",
        "dropout_too_strong",
        "uphill_steps",
    ),
)
def exploding_gradients(history: History) -> Iterator[Sign]:
    """The gradient becomes many times longer than it was at the start, or is that much longer than the weights.

    Steps in its direction then lead anywhere (score: the longest gradient over the median of the first looks, or over a
    hundred times the length of all weights).
    """
    whole, sizes = whole_norm(history, "layer gradient norm"), whole_norm(history, "layer weight norm")
    usable = np.isfinite(whole) & np.isfinite(sizes)
    if usable.sum() > 1:
        began = float(np.median(whole[usable][:2]))
        longest = float(whole[usable].max())
        relative = float(np.median(whole[usable] / np.maximum(sizes[usable], 1e-12)))
        score = max(longest / max(whole[usable][0], 1e-12), relative)
        yield Sign(score, evidence={"longest": longest, "at the start": began})


def _patience(history: History) -> Iterator[Advice]:
    yield Advice("train longer, or give the slow layers a larger rate (optimizer.learning_rate@PATTERN)")
    yield Advice("or normalize each layer", {"network.normalization": "layer"})


@rule(
    severity="info",
    title="A layer is slow, not converged",
    source="Nielsen 2015 ch. 5 (a small gradient in early layers is not convergence)",
    usual=30.0,
    advise=_patience,
    causes=(
        "vanishing_gradients",
        "frozen_parameters",
        "network_paralysis",
        "dead_units",
        "rate_too_small",
        "undersized_initialization",
        "oversized_initialization",
        "constant_initialization",
        "unscaled_inputs",
    ),
)
def slow_layers(history: History) -> Iterator[Sign]:
    """One hidden layer moves many times less, for its size, than the others, from beginning to end.

    (score: the median over layers of how far each moves a step over its length, over that of the slowest).
    """
    moves = {}
    for layer in matrices(history)[:-1]:
        ratios = late(history, "layer update ratio", layer["name"], 0.0)
        if len(ratios) and np.isfinite(ratios).all() and np.median(ratios) > 0:
            moves[layer["name"]] = float(np.median(ratios))
    if len(moves) > 1:
        slowest = min(moves, key=lambda name: moves[name])
        yield Sign(float(np.median(list(moves.values())) / moves[slowest]), layer=slowest, evidence=moves)


RULES = (vanishing_gradients, exploding_gradients, slow_layers)
