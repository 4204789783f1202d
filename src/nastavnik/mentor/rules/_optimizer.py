"""Rules about steps: too large, too small, not the ones that were meant."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from nastavnik.mentor._reading import FITTED, at, losses, matrices, skills, span, whole_norm
from nastavnik.mentor._rule import Advice, Sign, rule
from nastavnik.trace import History

_MUCH = 0.3  # of the first loss: a training that loses so much has moved
_SETTLED = 0.1  # of a loss's fall in the last third: then it is no longer on its way down
_FAR_ABOVE = 10.0  # times the first loss
_FEWEST_STEPS = 100  # before which nothing is said of how far weights have come


def overshoot(history: History) -> float:
    """1 − (actual change of the loss / change predicted by the gradient), the median over looks of the first half.

    0 while the loss is a plane on the step's way, 0.5 at its valley's floor, above 1 when the step climbed past where
    it began. Looks at which the step did not point downhill (momentum) do not count.
    """
    predicted, actual = history.series("predicted change"), history.series("actual change")
    half = max(6, int((history.steps("predicted change") <= 0.5 * history.facts.get("steps", np.inf)).sum()))
    predicted, actual = predicted[:half], actual[:half]
    downhill = predicted < -1e-12
    if downhill.sum() < 3:
        return float("nan")
    with np.errstate(all="ignore"):
        ratio = actual[downhill] / predicted[downhill]
    return float(np.median(np.where(np.isfinite(ratio), 1 - ratio, 100.0)))


def _smaller(history: History) -> Iterator[Advice]:
    rate = history.facts.get("learning rate", 0.0)
    yield Advice("take a tenth of the rate", {"optimizer.learning_rate": rate / 10} if rate else {})
    yield Advice("or a hundredth", {"optimizer.learning_rate": rate / 100} if rate else {})
    yield Advice("or a thousandth", {"optimizer.learning_rate": rate / 1000} if rate else {})
    yield Advice("clip the gradient's length to 1", {"optimizer.clip_norm": 1.0})


@rule(
    severity="error",
    title="The learning rate is too large",
    source="Nielsen 2015 ch. 1 (ΔC against ∇C·Δv) and ch. 3 (threshold search)",
    usual=1.0,
    advise=_smaller,
    causes=(
        "unscaled_inputs",
        "unscaled_target",
        "oversized_initialization",
        "undefined_operation",
        "double_softmax",
        "accumulated_gradients",
        "unpaired_rows",
        "unnormalized_outputs",
        "uphill_steps",
    ),
    hinders=True,
)
def rate_too_large(history: History) -> Iterator[Sign]:
    """Steps go past the valley they aim at, or are long for the weights they change; the loss may end above its start.

    On the way of a good step the loss is nearly a plane. A step that is too long climbs the other side. Optimizers that
    divide by the gradient's size hide it, as their gradients soon mean nothing: their first steps show it (score: the
    sum of 1 − actual / predicted change of the loss, median over the first half; four times how far the layer that
    moves most goes in an early step, over its own length; and five times what the loss ends above its start). Where the
    training rows are fitted in the end, the steps were right for all that.
    """
    if float(np.median(skills(history, "training")[-3:] if len(skills(history, "training")) else [0.0])) > FITTED:
        return
    whole = history.facts.get("optimizer") == "LBFGS"  # whose step is a search of many: how long it is says nothing
    passed = float("nan") if whole else overshoot(history)
    evidence = {"1 - actual / predicted change": passed}
    score = 0.0 if np.isnan(passed) else max(passed, 0.0)
    moves = []
    for layer in [] if whole else matrices(history):
        ratios = history.series("layer update ratio", layer["name"])[1:6]
        if len(ratios):
            moves.append(float(np.median(np.where(np.isfinite(ratios), ratios, 100.0))))
    if moves:
        evidence["largest early update ratio"] = max(moves)
        score += 4 * max(moves)
    loss = losses(history)
    if len(loss) > 4:
        far = loss[-1] > _FAR_ABOVE * abs(loss[0])  # the last look is the network as it is delivered
        ended = float(loss[-1] if far else np.median(loss[-3:]))
        grown = ended / max(abs(loss[0]), 1e-9) if np.isfinite(ended) else 100.0
        evidence["loss at the end over the start"] = grown
        score += 5 * max(min(grown, 100.0) - 1, 0.0)
    if moves or whole or not np.isnan(passed):
        yield Sign(float(score), steps=span(history, "actual change"), evidence=evidence)


def _take_steps(history: History) -> Iterator[Advice]:
    yield Advice("see that optimizer.step() is called, and zero_grad() not between backward() and step()")
    yield Advice("or the rate is so small that weights plus a step round to the same weights")


@rule(
    severity="error",
    title="The weights never change",
    source="SageMaker Debugger's UnchangedTensor; torch-audit TA500",
    usual=0.5,
    advise=_take_steps,
    measured=False,
    causes=("foreign_optimizer", "frozen_parameters"),
)
def unchanged_weights(history: History) -> Iterator[Sign]:
    """After a hundred steps and more every weight is, bit by bit, where it began.

    No step of the optimizer has arrived: it is not called, or it finds no gradients, or steps are lost in rounding.
    """
    named = history.layers("distance from start")
    far = [history.last("distance from start", layer) for layer in named]
    steps = history.steps("distance from start", named[0]) if named else np.zeros(0)
    if len(steps) > 3 and steps[-1] >= _FEWEST_STEPS and all(f == 0.0 for f in far):
        taken = "seen" if history.facts.get("stepped") else "not seen"
        yield Sign(1.0, steps=(int(steps[0]), int(steps[-1])), evidence={"steps of the optimizer": taken})


def _larger(history: History) -> Iterator[Advice]:
    rate = history.facts.get("learning rate", 0.0)
    yield Advice("take ten times the rate", {"optimizer.learning_rate": rate * 10} if rate else {})
    yield Advice("or a hundred times", {"optimizer.learning_rate": rate * 100} if rate else {})
    yield Advice("or a thousand times", {"optimizer.learning_rate": rate * 1000} if rate else {})


@rule(
    severity="error",
    title="The learning rate is too small",
    source="Nielsen 2015 ch. 1 (changes are tiny) and ch. 3; SageMaker Debugger's WeightUpdateRatio",
    usual=12.0,
    advise=_larger,
    causes=(
        "unchanged_weights",
        "vanishing_gradients",
        "constant_initialization",
        "dead_units",
        "undersized_initialization",
        "frozen_parameters",
        "gradients_clipped_away",
        "saturated_units",
        "network_paralysis",
        "regularization_too_strong",
        "unscaled_inputs",
        "double_softmax",
    ),
    hinders=True,
)
def rate_too_small(history: History) -> Iterator[Sign]:
    """The weights have hardly left their start when the training ends, and the loss was still on its way down.

    Every step did what the gradient promised; there were only too few of them for their size (score: 1 over twice the
    distance of the hidden layer that moved most, over its length at the start, times the share of the loss that is
    left).
    """
    judged = matrices(history)[:-1] or matrices(history)  # the output layer begins small
    moved = [history.last("distance from start", layer["name"]) for layer in judged]
    moved = [m for m in moved if np.isfinite(m)]
    loss = losses(history)
    enough = len(loss) >= 6 and history.steps("training rows' loss")[-1] >= _FEWEST_STEPS
    if not moved or not enough or not np.isfinite(loss).all() or not len(skills(history, "training")):
        return
    left = float(np.clip(1 - skills(history, "training")[-1], 0, 1))
    fall = float(loss[0] - loss[-1])
    if fall > _MUCH * abs(loss[0]) and at(history, "training rows' loss", 0.67) - loss[-1] < _SETTLED * fall:
        return  # it came down, and stays there
    score = left * 0.5 / max(max(moved), 1e-9)
    yield Sign(
        score,
        steps=span(history, "training rows' loss"),
        evidence={
            "largest distance from the start": max(moved),
            "share of the way from chance to perfect that is left": left,
        },
    )


def _steadier(history: History) -> Iterator[Advice]:
    rate = history.facts.get("learning rate", 0.0)
    momentum = history.facts.get("momentum", 0.0)
    if momentum > 0.95:
        yield Advice("take momentum 0.9", {"optimizer.momentum": 0.9})
        yield Advice(
            "or that and a tenth of the rate", {"optimizer.momentum": 0.9, "optimizer.learning_rate": rate / 10}
        )
    yield Advice("take a third of the rate", {"optimizer.learning_rate": rate / 3} if rate else {})
    yield Advice("let the rate fall to zero at the end", {"schedule.name": "cosine"})


@rule(
    severity="warning",
    title="The loss goes up and down",
    source="Nielsen 2015 ch. 3; AutoTrainer's oscillating loss",
    usual=0.6,
    advise=_steadier,
    causes=(
        "rate_too_large",
        "not_shuffled",
        "unscaled_inputs",
        "tiny_batch_norm",
        "oversized_initialization",
        "regularization_too_strong",
        "accumulated_gradients",
        "unpaired_rows",
        "uphill_steps",
        "mixed_rows",
    ),
)
def oscillating(history: History) -> Iterator[Sign]:
    """The training rows' loss rises from look to look nearly as much as it falls.

    Steps jump from one wall of a valley to the other, or momentum carries them past its floor again and again (score:
    sum of the rises over sum of the falls).
    """
    loss = losses(history)[1:]
    if len(loss) < 8 or not np.isfinite(loss).all():
        return
    change = np.diff(loss)
    falls = -change[change < 0].sum()
    rises = change[change > 0].sum()
    if rises > 0.02 * abs(loss[0]):
        yield Sign(float(min(rises / max(falls, 1e-12), 10.0)), evidence={"rises": float(rises), "falls": float(falls)})


def _zero(history: History) -> Iterator[Advice]:
    yield Advice("call optimizer.zero_grad() before each backward pass")


@rule(
    severity="error",
    title="Gradients of earlier steps are still there",
    source="mldoct's missing zero_grad; PyTorch's documentation of Tensor.backward (gradients are added)",
    usual=0.5,
    advise=_zero,
    measured=False,
)
def accumulated_gradients(history: History) -> Iterator[Sign]:
    """A backward pass adds to gradients that the optimizer has already used.

    Each step then goes along the sum of all gradients so far: an endless momentum that never forgets. Adding up several
    batches before one step of the optimizer is no fault and is not reported.
    """
    values = history.series("leftover gradient")
    if len(values):
        yield Sign(
            float(np.median(values)),
            steps=span(history, "leftover gradient"),
            evidence={"share of steps": float(np.mean(values))},
        )


def _unclip(history: History) -> Iterator[Advice]:
    lengths = whole_norm(history, "layer gradient norm")
    lengths = lengths[np.isfinite(lengths)]
    rare = float(f"{np.quantile(lengths, 0.9):.2g}") if len(lengths) else 1.0
    yield Advice("clip at the length that one gradient in ten exceeds", {"optimizer.clip_norm": rare})
    yield Advice("or, in effect, not at all", {"optimizer.clip_norm": 100 * rare})


@rule(
    severity="warning",
    title="Clipping leaves nothing of the gradient",
    source="Pascanu et al. 2013; traintools' GradientHealthMonitor (clip coefficient)",
    usual=30.0,
    advise=_unclip,
)
def gradients_clipped_away(history: History) -> Iterator[Sign]:
    """Gradients are many times longer than the length they are clipped to, at nearly every step.

    Clipping is for rare spikes. As a rule it is a smaller rate in disguise: the step has always the same length (score:
    median length of the gradient over the bound, or over what the optimizer was given of it; 0 with optimizers that
    divide by the gradient's size).
    """
    used, own = history.series("gradient used"), history.series("gradient agreement")
    plain = str(history.facts.get("optimizer", "")).lower() in ("sgd", "momentum", "nesterov")
    if len(used) > 3 and np.median(own) > 0.9 and plain:
        left = float(np.median(used))
        yield Sign(1 / max(left, 1e-12), evidence={"share of the gradient's length that is used": left})
    bound = history.facts.get("recipe", {}).get("optimizer.clip_norm")
    layers = history.layers("layer gradient norm")
    if not isinstance(bound, (int, float)) or not bound > 0 or not layers:
        return
    if history.facts.get("optimizer") not in ("sgd", "momentum", "nesterov"):
        return
    lengths = whole_norm(history, "layer gradient norm")
    lengths = lengths[np.isfinite(lengths)]
    if len(lengths):
        yield Sign(
            float(np.median(lengths) / bound), evidence={"median length": float(np.median(lengths)), "bound": bound}
        )


RULES = (rate_too_large, rate_too_small, unchanged_weights, oscillating, accumulated_gradients, gradients_clipped_away)
