"""Rules about the loss: whether it suits the outputs, whether all of it is heard, where it ends."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from nastavnik.mentor._reading import FITTED, late, matrices, recipe_value, skills
from nastavnik.mentor._rule import Advice, Sign, rule
from nastavnik.trace import History

_RISEN = 1.5  # times its first value: such a term is not ignored, it is paid with
_UNLEARNED = 0.1  # of the way from chance to perfect
_FLAT = 0.98  # of rows and units at which the last activation has no slope
_MASKED = -1e4  # logits below it are masked: those of what may not be chosen
_WIDE = 3.0  # logits that reach so far are sure enough
_SLACK = 0.05  # of the targets' range may lie beyond what the outputs reach


def _logits(history: History) -> Iterator[Advice]:
    yield Advice("give the loss the plain sums of the last layer (logits); it takes the softmax itself")


@rule(
    severity="error",
    title="Softmax twice",
    source="Bridle 1990; UMLAUT, mldoct",
    usual=0.5,
    advise=_logits,
    measured=False,
)
def double_softmax(history: History) -> Iterator[Sign]:
    """The outputs given to a loss that expects logits are probabilities already: positive, and a row sums to 1.

    The softmax of numbers between 0 and 1 can never be sure: of ten classes the largest is at most e / (e + 9), so the
    loss cannot come near zero and gradients stay small.
    """
    classes = history.facts.get("classes", 0)
    if history.facts.get("sums to one") and history.facts.get("expects") == "logits" and classes > 1:
        yield Sign(1.0, evidence={"outputs stay between": history.facts.get("reach"), "a row sums to": 1})
    sums, least = history.series("output sum deviation"), history.series("output least")
    if (
        classes > 1
        and len(sums)
        and history.facts.get("expects", "logits") == "logits"
        and history.facts.get("outputs", classes) > 1
    ):
        yield Sign(
            float(sums.max() < 1e-3 and least.min() >= 0),
            evidence={"largest distance of a row's sum from 1": float(sums.max())},
        )


def _same_shape(history: History) -> Iterator[Advice]:
    yield Advice("give outputs and targets one shape: outputs.squeeze(-1), or targets.unsqueeze(-1)")


@rule(
    severity="error",
    title="Every output is compared with every target",
    source="PyTorch's broadcasting rules; its warning of MSELoss that sizes differ",
    usual=0.5,
    advise=_same_shape,
    measured=False,
)
def unpaired_rows(history: History) -> Iterator[Sign]:
    """The loss is that of a table of all outputs against all targets, and not that of each row.

    Outputs and targets are of different shapes, [n, 1] and [n], and broadcasting makes that table.
    The best answer then is the mean of the targets for every row, and that is what is learned. Asked of the loss that
    the mentor was given, with made-up outputs.
    """
    shapes = history.facts.get("unpaired")
    if shapes:
        yield Sign(1.0, evidence={"outputs": str(shapes[0]), "targets": str(shapes[1])})


def _log_softmax(history: History) -> Iterator[Advice]:
    yield Advice("take CrossEntropyLoss on the plain sums (logits), or end the network with LogSoftmax")


@rule(
    severity="error",
    title="The loss is given no log probabilities",
    source="Bridle 1990; PyTorch's documentation of NLLLoss",
    usual=0.05,
    advise=_log_softmax,
    measured=False,
)
def unnormalized_outputs(history: History) -> Iterator[Sign]:
    """A loss that expects log probabilities is given numbers whose exponentials do not add up to 1.

    It is then linear in the outputs and has no lower bound: making one output larger for ever makes it fall for ever
    (score: the largest distance of a row's log-sum-exp from 0 at the first look).
    """
    if "log sum" in history.facts:
        yield Sign(history.facts["log sum"], evidence={"largest log-sum-exp of a row": history.facts["log sum"]})


def _plain_output(history: History) -> Iterator[Advice]:
    yield Advice("end the network with a linear layer; let the likelihood apply what belongs to it")


@rule(
    severity="error",
    title="The outputs are squashed",
    source="Bishop 2006 §5.2 (canonical links); AutoTrainer, DeepDiagnosis",
    usual=0.5,
    advise=_plain_output,
    measured=False,
    causes=("double_softmax", "dead_units", "constant_initialization"),
    hinders=True,
)
def squashed_outputs(history: History) -> Iterator[Sign]:
    """The last thing the network does is an activation that does not reach as far as the targets, or outputs sit on a
    bound.

    A rectifier cannot say what is negative, a sigmoid not what is above 1; beyond the bound there is no gradient that
    would bring the output back. A loss that takes logits wants numbers of any size. Where numbers are asked for that
    lie within the bounds, an activation there is right, as long as it is not flat for nearly all rows (score: 1 for an
    activation at the end, else the share of outputs on a bound less that of targets).
    """
    expected = history.facts.get("expects", "logits")
    if expected not in ("logits", "numbers"):
        return
    yield from _bounded(history, expected)
    last = (history.facts.get("layers") or [{"role": "none"}])[-1]
    harmless = ("Identity", "LogSoftmax")  # the softmax of a log-softmax is the softmax
    if last["role"] in ("activation", "softmax") and last["kind"] not in harmless and last.get("final", True):
        shares = [late(history, f"{kind} share", last["name"]) for kind in ("dead", "saturated")]
        flat = max((float(np.median(s)) for s in shares if len(s)), default=0.0)
        beyond = _beyond(history, last) if expected == "numbers" else True
        if beyond or flat > _FLAT:
            evidence = {"the last layer": last["kind"], "targets between": history.facts.get("target range")}
            yield Sign(1.0, layer=last["name"], evidence=evidence)
    stuck, asked = late(history, "output stuck"), history.series("target stuck")
    masked = expected == "logits" and bool((history.series("output least") < _MASKED).any())
    if len(stuck) and not masked and history.facts.get("rows", 0) and history.facts.get("batch", 0) >= 8:
        share = float(np.median(stuck)) - (float(np.median(asked)) if len(asked) else 0.0)
        yield Sign(share, evidence={"outputs on a bound": float(np.median(stuck))})


def _bounded(history: History, expected: str) -> Iterator[Sign]:
    """Outputs that stay between bounds whatever the last layer says, however that is written."""
    bounds = history.facts.get("reach")
    if not bounds or bounds == [None, None] or history.facts.get("sums to one"):
        return
    masked = bool((history.series("output least") < _MASKED).any())
    if expected == "logits" and not masked and "expects" in history.facts and _narrow(bounds):
        yield Sign(1.0, evidence={"outputs stay between": bounds, "the loss wants": "numbers of any size"})
    if expected == "numbers" and _beyond(history, {"reach": bounds}):
        yield Sign(1.0, evidence={"outputs stay between": bounds, "targets between": history.facts.get("target range")})


def _narrow(bounds: Sequence[float | None]) -> bool:
    """Whether logits between these bounds can hardly be sure: one side is shut near 0."""
    return any(b is not None and abs(b) < _WIDE for b in bounds)


def _beyond(history: History, layer: Mapping[str, Any]) -> bool:
    """Whether targets lie outside of what an activation can say; not where either is unknown."""
    bounds, targets = layer.get("reach"), history.facts.get("target range")
    if not bounds or not targets:
        return False
    least, most = (float("inf") * sign if b is None else b for b, sign in zip(bounds, (-1, 1), strict=True))
    slack = _SLACK * (targets[1] - targets[0])
    return bool(targets[0] < least - slack or targets[1] > most + slack)


def _weaker(history: History) -> Iterator[Advice]:
    recipe = history.facts.get("recipe", {})
    names = ("optimizer.weight_decay", "regularization.l2", "regularization.l1", "regularization.decoupled_l2")
    own = {name: float(recipe[name]) for name in names if recipe.get(name)}
    yield Advice("make the penalty a hundred times weaker", {name: value / 100 for name, value in own.items()})
    yield Advice("or ten thousand times, then look for it by factors of ten", {n: v / 1e4 for n, v in own.items()})
    yield Advice("λ is a sum over the rows in some formulas and a mean in others: rescale it with their number")


@rule(
    severity="error",
    title="Weights are pressed to nothing",
    source="Krogh & Hertz 1991; Nielsen 2015 ch. 3 (λ scales with n)",
    usual=2.0,
    advise=_weaker,
    hinders=True,
)
def regularization_too_strong(history: History) -> Iterator[Sign]:
    """Weight matrices end much shorter than they began, while the training rows are not fitted.

    The penalty pulls harder than the rows do. It often comes from a λ that was not rescaled when the number of rows
    changed: the penalty is a sum over the training set, the loss a mean (score: the largest ratio of a layer's length
    at the start to that at the end).
    """
    if not (
        history.facts.get("weight decay", 0.0) > 0 or np.nanmax(history.series("loss term", "penalty"), initial=0) > 0
    ):
        return
    known = skills(history, "training")
    if len(known) and np.isfinite(known[-1]) and known[-1] > FITTED:
        return
    for layer in matrices(history):
        norms = history.series("layer weight norm", layer["name"])
        if len(norms) > 2 and np.isfinite(norms).all():
            yield Sign(
                float(norms[0] / max(norms[-1], 1e-9)),
                layer=layer["name"],
                evidence={"length at the start": float(norms[0]), "at the end": float(norms[-1])},
            )


def _weigh_terms(history: History) -> Iterator[Advice]:
    yield Advice("weigh the terms so that their gradients are of one size, or look at the front of both")


@rule(
    severity="warning",
    title="A term of the loss is ignored",
    source="Kendall et al. 2018 (terms of unlike size)",
    usual=0.75,
    advise=_weigh_terms,
)
def ignored_loss_term(history: History) -> Iterator[Sign]:
    """One term of the loss stands where it began, while another falls.

    The sum is dominated by the other term, whose gradient is many times larger; watching the sum alone hides it
    (score: what is left of the term's first value, where another term has lost half of its own).
    """
    terms = [t for t in history.layers("loss term") if t != "penalty"]
    left = {}
    for term in terms:
        values = history.series("loss term", term)
        if len(values) >= 6 and abs(values[:2].mean()) > 1e-12:
            left[term] = float(values[-3:].mean() / values[:2].mean())
    for term, share in left.items():
        if share < _RISEN and any(other < 0.5 for name, other in left.items() if name != term):
            yield Sign(share, layer=term, evidence={"share left of its first value": share, "of all terms": left})


@rule(
    severity="warning",
    title="One of several outputs is not learned",
    source="Caruana 1997, Multitask learning; Kendall, Gal & Cipolla 2018 (weighing losses by their noise)",
    usual=0.5,
    advise=_weigh_terms,
    causes=("unscaled_target", "ignored_loss_term", "frozen_parameters"),
)
def neglected_output(history: History) -> Iterator[Sign]:
    """One output is told no better than by chance, while another of the same network is learned.

    Their losses are added up as if they had one unit; the one of the larger numbers takes all of the gradient (score:
    the best output's share of the way from chance to perfect less the worst's, at the last look).
    """
    names = [name for name, _ in history.values if name.startswith("skill of output ")]
    last = {name.removeprefix("skill of output "): max(history.last(name), 0.0) for name in names}
    if len(last) > 1:
        worst = min(last, key=lambda name: last[name])
        if last[worst] < _UNLEARNED:
            yield Sign(max(last.values()) - last[worst], layer=f"output {worst}", evidence=last)


def _less_smoothing(history: History) -> Iterator[Advice]:
    yield Advice("smooth by 0.1 at most", {"loss.label_smoothing": 0.05})


@rule(
    severity="warning",
    title="Labels are smoothed away",
    source="Szegedy et al. 2016 (0.1); Müller et al. 2019",
    usual=0.3,
    advise=_less_smoothing,
    measured=False,
)
def smoothed_away(history: History) -> Iterator[Sign]:
    """Label smoothing gives much of every row's label to the other classes.

    The network is asked to be unsure, and obeys: its probabilities are far from the frequencies they stand for.
    """
    recipe = history.facts.get("recipe", {})
    if recipe.get("loss.name") == "label_smoothing":
        yield Sign(recipe_value(history, "loss.label_smoothing", 0.05))


def _find_nan(history: History) -> Iterator[Advice]:
    rate = history.facts.get("learning rate", 0.0)
    yield Advice("take a tenth of the rate", {"optimizer.learning_rate": rate / 10} if rate else {})
    yield Advice("guard logarithms, roots and divisions in your own code with a small number")


@rule(
    severity="error",
    title="NaN or infinity",
    source="SageMaker Debugger's ExplodingTensor; Nielsen 2015 ch. 3",
    usual=0.5,
    advise=_find_nan,
    measured=False,
    causes=(
        "unnormalized_outputs",
        "undefined_operation",
        "rate_too_large",
        "unscaled_inputs",
        "unscaled_target",
        "oversized_initialization",
        "nonfinite_inputs",
        "exploding_gradients",
        "accumulated_gradients",
    ),
)
def nonfinite(history: History) -> Iterator[Sign]:
    """The loss, a gradient or a weight is no longer a finite number.

    From then on every step keeps it so; nothing recovers. The layer named is the first one in which it was seen.
    """
    begun: list[tuple[int, int, str, str]] = []
    for order, name in enumerate(("activation most", "batch loss", "layer gradient norm", "layer weight norm")):
        for layer in history.layers(name):
            bad = np.flatnonzero(~np.isfinite(history.series(name, layer)))
            if len(bad) and bad[-1] == len(history.series(name, layer)) - 1:  # a step that was left out harms nothing
                begun.append((int(history.steps(name, layer)[bad[0]]), order, layer, name))
    if begun:
        step, _, layer, name = min(begun)
        yield Sign(
            1.0,
            layer=layer,
            steps=(step, int(history.steps("batch loss")[-1])),
            evidence={"first seen in": name, **history.facts.get("first undefined", {})},
        )


def _mend_numbers(history: History) -> Iterator[Advice]:
    yield Advice("keep the logarithm, root or division away from zero; compute it from logits where there is a form")


@rule(
    severity="error",
    title="NaN without a large step before it",
    source="Blanchard, Higham & Higham 2021 (numerics of softmax and logarithm)",
    usual=0.5,
    advise=_mend_numbers,
    measured=False,
    causes=("nonfinite_inputs",),
)
def undefined_operation(history: History) -> Iterator[Sign]:
    """The loss became NaN while weights and activations were of ordinary size.

    It was not the rate: some operation was asked for a value it does not have (the logarithm or root of zero or less,
    0 / 0, infinity less infinity).
    """
    loss = history.series("batch loss")
    bad = np.flatnonzero(~np.isfinite(loss))
    if not len(bad) or np.isfinite(loss[-1]):
        return
    proved = history.facts.get("loss undefined")
    if proved:
        yield Sign(1.0, steps=(int(history.steps("batch loss")[bad[0]]),) * 2, evidence=proved)
    before = slice(0, max(1, int(bad[0])))
    moves = [history.series("layer update ratio", layer)[before] for layer in history.layers("layer update ratio")]
    largest = max((float(np.nanmax(m[np.isfinite(m)], initial=0.0)) for m in moves), default=0.0)
    grown = np.isfinite(loss[before]).all() and loss[before].max() <= 3 * abs(loss[0]) + 1e-9
    if bad[0] == 0 or (grown and largest < 0.3):
        step = int(history.steps("batch loss")[bad[0]])
        first = history.facts.get("first undefined", {})
        yield Sign(1.0, steps=(step, step), evidence={"largest update ratio before": largest, **first})


RULES = (
    double_softmax,
    unpaired_rows,
    unnormalized_outputs,
    squashed_outputs,
    regularization_too_strong,
    ignored_loss_term,
    neglected_output,
    smoothed_away,
    nonfinite,
    undefined_operation,
)
