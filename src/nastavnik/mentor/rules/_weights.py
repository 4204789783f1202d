"""Rules about weights: how they begin."""

from __future__ import annotations

from collections.abc import Iterator

from nastavnik.mentor._reading import hidden, matrices
from nastavnik.mentor._rule import Advice, Sign, rule
from nastavnik.trace import History


def _start_again(history: History) -> Iterator[Advice]:
    yield Advice(
        "take the initialization that the activation asks for",
        {"initialization.name": "matched", "initialization.gain": 1.0},
    )


@rule(
    severity="error",
    title="All units of a layer begin alike",
    source="Rumelhart, Hinton & Williams 1986; Nielsen 2015 ch. 1",
    usual=0.5,
    advise=_start_again,
    measured=False,
    hinders=True,
)
def constant_initialization(history: History) -> Iterator[Sign]:
    """Every unit of a hidden layer begins with the same weights.

    Equal units with equal ways on get equal gradients and stay equal: the layer is one unit wide, however many it has.
    Zeros that part at once (adapters that begin silent) are no fault and are not reported, nor are filters that are
    meant to stay as they are.
    """
    trained = {layer["name"] for layer in matrices(history) if layer["trained"]}
    for name in [name for name in hidden(history) if name in trained]:
        spread, scale = history.series("unit spread", name), history.series("weight scale", name)
        if len(spread) and spread[0] < 1e-6 and (scale[0] > 0 or spread[-1] < 1e-6):
            yield Sign(1.0, layer=name, steps=(0, 0), evidence={"difference between units": float(spread[0])})


@rule(
    severity="warning",
    title="Weights begin too large",
    source="He et al. 2015, Glorot & Bengio 2010",
    usual=4.0,
    advise=_start_again,
)
def oversized_initialization(history: History) -> Iterator[Sign]:
    """A layer's weights begin several times larger than keeps the size of what passes through it.

    Each layer multiplies: rectifiers blow the signal up, bounded units saturate (score: the root mean square of the
    weights times √inputs; 1.4 by He's rule, 1 by LeCun's).
    """
    for name in [layer["name"] for layer in matrices(history)]:
        scale = history.series("weight scale", name)
        if len(scale):
            yield Sign(float(scale[0]), layer=name, steps=(0, 0), evidence={"rms · √inputs": float(scale[0])})


@rule(
    severity="warning",
    title="Weights begin too small",
    source="Glorot & Bengio 2010 (a third of the variance is left by a layer)",
    usual=5.0,
    advise=_start_again,
    causes=("constant_initialization",),
)
def undersized_initialization(history: History) -> Iterator[Sign]:
    """Hidden layers' weights begin far smaller than keeps the size of what passes through them.

    What passes several such layers is the same for every row but for a trace, and gradients going back as well.
    Networks with normalization undo it and are not judged (score: 1 over the root mean square of the
    weights times √inputs).
    """
    if any("normalization" in layer["role"] for layer in history.facts.get("layers", [])):
        return
    for name in hidden(history):
        scale = history.series("weight scale", name)
        if len(scale) and scale[0] > 0:
            yield Sign(1 / float(scale[0]), layer=name, steps=(0, 0), evidence={"rms · √inputs": float(scale[0])})


RULES = (constant_initialization, oversized_initialization, undersized_initialization)
