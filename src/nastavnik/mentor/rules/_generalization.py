"""Rules about what is held out: whether what was learned holds for other rows, and whether it was learned at all."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from nastavnik.mentor._reading import CLEARLY, at, beats_shares, chance, losses, skills, span
from nastavnik.mentor._rule import Advice, Sign, rule
from nastavnik.trace import History

_MUCH = 0.2  # of the first loss: with less left, nothing was stopped
_WELL_FITTED = 0.95
_FEWEST_STEPS = 100  # before which a loss that stands still says nothing
_SLIGHT = 0.02  # of the loss at the start: rises and falls below it say nothing
_BLOCKERS = (
    "rate_too_large",
    "rate_too_small",
    "nonfinite",
    "undefined_operation",
    "constant_initialization",
    "dead_units",
    "vanishing_gradients",
    "network_paralysis",
    "saturated_units",
    "regularization_too_strong",
    "unscaled_inputs",
    "unscaled_target",
    "double_softmax",
    "squashed_outputs",
    "not_shuffled",
    "frozen_parameters",
    "labels_without_signal",
    "stopped_too_early",
    "dropout_too_strong",
    "oversized_initialization",
    "bottleneck",
    "undersized_initialization",
    "accumulated_gradients",
    "no_nonlinearity",
    "tiny_batch_norm",
    "constant_output",
    "unpaired_rows",
    "unnormalized_outputs",
    "unchanged_weights",
    "foreign_optimizer",
    "evaluation_mode",
    "mixed_rows",
    "scrambled_inputs",
    "order_unheard",
    "early_steps_unheard",
    "shifted_labels",
    "class_without_gradient",
    "rate_vanished",
    "uphill_steps",
    "epsilon_too_large",
    "rounded_away",
    "batch_norm_gap",
    "future_seen",
    "padding_heard",
    "classes_as_numbers",
)


def _regularize(history: History) -> Iterator[Advice]:
    steps, values = history.steps("validation rows' loss"), losses(history, "validation")
    epochs = history.facts.get("recipe", {}).get("epochs")
    if isinstance(epochs, int) and len(values) > 2 and np.isfinite(values).all():
        best = max(1, round(epochs * float(steps[int(values.argmin())]) / max(1, steps[-1])))
        if best < epochs:
            yield Advice("stop where the validation rows were best", {"epochs": best})
    yield Advice("drop half of the units", {"network.dropout": 0.5})
    yield Advice("let weights decay", {"optimizer.weight_decay": 0.1})
    yield Advice("or more rows: the gap closes with them")


@rule(
    severity="warning",
    title="Overfitting",
    source="Nielsen 2015 ch. 3",
    usual=0.3,
    advise=_regularize,
    causes=(
        "noisy_labels",
        "labels_without_signal",
        "rate_too_large",
        "shifted_parts",
        "oversized_initialization",
        "unscaled_inputs",
        "unscaled_target",
        "not_shuffled",
        "tiny_batch_norm",
        "accumulated_gradients",
        "unnormalized_outputs",
        "unpaired_rows",
    ),
)
def overfitting(history: History) -> Iterator[Sign]:
    """Much of what is learned of the training rows does not hold for validation rows, or their loss rises again.

    What is learned are these rows and not what they have in common. On small algorithmic data the validation rows may
    follow much later (delayed generalization); look on a logarithmic axis of steps before stopping there (score: the
    validation rows' loss above the training rows' at the end, over the fall of the training rows' loss; or, if that is
    more, the validation loss's rise from its best over its fall before).
    """
    held, own = losses(history, "validation"), losses(history)
    if len(held) < 6 or len(own) != len(held) or not np.isfinite(held).all() or not np.isfinite(own).all():
        return
    best, learned = int(held.argmin()), float(own[0] - own[-1])
    rise, fall = float(np.median(held[-3:]) - held[best]), float(held[0] - held[best])
    if learned > 0.05 * abs(own[0]) and skills(history, "validation").max(initial=0) > 0.05:
        slight = _SLIGHT * abs(held[0])
        gap = float(np.median(held[-3:]) - np.median(own[-3:]))
        steps = history.steps("validation rows' loss")
        score = max(gap / learned, rise / fall if fall > 0 and own[-1] <= own[best] and rise > slight else 0.0)
        yield Sign(
            score,
            steps=(int(steps[best]), int(steps[-1])),
            evidence={"best at step": int(steps[best]), "rise since": rise, "gap at the end": gap, "learned": learned},
        )


def _longer(history: History) -> Iterator[Advice]:
    epochs = history.facts.get("recipe", {}).get("epochs")
    rate = history.facts.get("learning rate", 0.0)
    yield Advice("train four times as long", {"epochs": epochs * 4} if isinstance(epochs, int) else {})
    yield Advice("or sixteen times", {"epochs": epochs * 16} if isinstance(epochs, int) else {})
    yield Advice("or with three times the rate", {"optimizer.learning_rate": rate * 3} if rate else {})


@rule(
    severity="warning",
    title="Stopped too early",
    source="Nielsen 2015 ch. 3; SageMaker Debugger's LossNotDecreasing turned round",
    usual=0.1,
    advise=_longer,
    causes=(
        "rate_too_small",
        "network_paralysis",
        "vanishing_gradients",
        "constant_initialization",
        "regularization_too_strong",
        "frozen_parameters",
        "dropout_too_strong",
        "dead_units",
        "unscaled_inputs",
        "undersized_initialization",
        "gradients_clipped_away",
        "double_softmax",
        "not_shuffled",
        "unscaled_target",
        "unchanged_weights",
        "unnormalized_outputs",
        "evaluation_mode",
    ),
)
def stopped_too_early(history: History) -> Iterator[Sign]:
    """The validation rows' loss was still falling when the training ended.

    More steps would have made it better (score: its fall in the last third of the steps, over the whole fall). Without
    validation rows the training rows' loss is read: half of its fall in the last third counts as much.
    """
    held = losses(history, "validation")
    own = losses(history)
    if not len(held) and len(own) >= 6 and np.isfinite(own).all():
        first, last = at(history, "training rows' loss", 0.67) - own[-1], float(own[0] - own[-1])
        fitted = skills(history, "training")
        if last > 0 and own[-1] > _MUCH * abs(own[0]) and not (len(fitted) and fitted[-1] > _WELL_FITTED):
            evidence = {"fall in the last third": first, "whole fall": last}
            yield Sign(first / last / 2, steps=span(history, "training rows' loss"), evidence=evidence)
    if len(held) < 6 or not np.isfinite(held).all():
        return
    middle, end = at(history, "validation rows' loss", 0.67), float(np.median(held[-2:]))
    fall = float(held[0] - end)
    if fall > 0:
        yield Sign(
            (middle - end) / fall,
            steps=span(history, "validation rows' loss"),
            evidence={"fall in the last third": middle - end, "whole fall": fall},
        )


def _suspects(history: History) -> Iterator[Advice]:
    rate = history.facts.get("learning rate", 0.0)
    yield Advice("the rate, ten times smaller", {"optimizer.learning_rate": rate / 10} if rate else {})
    yield Advice("the rate, ten times larger", {"optimizer.learning_rate": rate * 10} if rate else {})
    yield Advice("the penalty", {"optimizer.weight_decay": 0.0})
    yield Advice("too few units", {"network.width": 128})
    yield Advice("several hidden layers", {"network.depth": 3})
    yield Advice("the coding of the target: are inputs and targets of one row still together?")
    yield Advice("more epochs", {"epochs": int(history.facts.get("recipe", {}).get("epochs", 10)) * 4})
    yield Advice("a batch of another size", {"batch_size": 32})
    yield Advice("another initialization", {"initialization.name": "matched"})


@rule(
    severity="error",
    title="No better than chance",
    source="Nielsen 2015 ch. 3 (the ordered list of suspects)",
    usual=0.95,
    advise=_suspects,
    causes=_BLOCKERS,
    outcome=True,
)
def chance_level(history: History) -> Iterator[Sign]:
    """Even on the training rows the network does no better than saying the same of every row.

    Either nothing is learned or there is nothing to learn. Where no other rule names the cause, try the suspects in
    their order, one at a time (score: 1 − the training rows' score as a share of the way from chance to perfect).
    """
    known = skills(history, "training")
    if history.facts.get("places") and beats_shares(history, "training"):
        return  # the commonest word is hard to beat, and the loss tells that much is known beside it
    if len(known) > 2:
        known = np.nan_to_num(known, nan=0.0)
        skill = float(known[-1] if known[-1] > CLEARLY else np.median(known[-3:]))
        evidence = {"skill": skill}
        for name, words in (("trees' score", "trees' score on validation rows"), ("eight rows learned",) * 2):
            if len(history.series(name)):
                evidence[words] = history.last(name)
        steps = span(history, "training rows' score")
        yield Sign(1 - max(skill, 0.0), steps=steps, evidence=evidence, besides=_learnable(history))


def _learnable(history: History) -> str:
    """What says, beside a score at chance, that nothing is learned: trees learn it, eight rows are not, or the loss."""
    trees = (history.last("trees' score") - chance(history)) / max(1 - chance(history), 1e-9)
    if trees > CLEARLY:
        return "trees learn it from the same rows"
    if history.last("eight rows learned") < 0.5:
        return "eight rows are not learned by heart either"
    steps, held = history.steps("training rows' loss"), losses(history)
    if len(held) < 3 or steps[-1] < _FEWEST_STEPS or beats_shares(history, "training"):
        return ""
    if history.facts.get("class shares") and history.facts.get("expects") in ("logits", "log probabilities"):
        return "the loss has not come clearly below what saying how common each class is would give"
    return "the loss has hardly fallen" if np.median(held[-3:]) > (1 - _SLIGHT) * held[0] else ""


def _calibrate(history: History) -> Iterator[Advice]:
    yield Advice("smooth the labels a little", {"loss.name": "label_smoothing", "loss.label_smoothing": 0.05})
    yield Advice("or take one temperature for all logits, found on validation rows (nastavnik does by itself)")


@rule(
    severity="info",
    title="The same mistakes with growing confidence",
    source="Guo et al. 2017",
    usual=0.1,
    advise=_calibrate,
    causes=("overfitting", "noisy_labels", "labels_without_signal", "rate_too_large", "shifted_parts"),
)
def growing_confidence(history: History) -> Iterator[Sign]:
    """The validation rows' loss rises while their accuracy stays: loss and accuracy disagree.

    No more rows are wrong than before, but the wrong ones are wrong with more certainty. Choose by what matters for the
    use (score: the loss's rise from its best over its fall before, where accuracy has not fallen by three hundredths).
    """
    held, score = losses(history, "validation"), history.series("validation rows' score")
    if not history.facts.get("classes", 0) or len(held) < 6 or len(score) != len(held) or not np.isfinite(held).all():
        return
    best = int(held.argmin())
    fall = held[0] - held[best]
    if fall > _SLIGHT * abs(held[0]) and score[-1] > score[best] - 0.03:
        yield Sign(
            float((np.median(held[-3:]) - held[best]) / fall),
            evidence={"accuracy then": float(score[best]), "accuracy now": float(score[-1])},
        )


def _again(history: History) -> Iterator[Advice]:
    yield Advice("start again from another seed; judge recipes by several seeds")


@rule(
    severity="warning",
    title="A stuck run",
    source="Nielsen 2015 ch. 3 (runs that get stuck)",
    usual=4.0,
    advise=_again,
)
def stuck_run(history: History) -> Iterator[Sign]:
    """This network ended far worse than others of the same recipe from other seeds.

    The recipe is not to blame, the start is (score: its distance from the median of the others, over their median
    absolute deviation times 1.48 and three hundredths of what they have learned).
    """
    others = np.array(history.facts.get("siblings", []), dtype=float)
    others = others[np.isfinite(others)]
    own, began = history.last("validation rows' loss"), losses(history, "validation")
    if len(others) >= 4 and len(began):
        usual = float(np.median(others))
        spread = 1.4826 * float(np.median(np.abs(others - usual))) + 0.03 * max(float(began[0]) - usual, 0.0) + 1e-9
        worse = (own if np.isfinite(own) else 1e9) - usual
        yield Sign(worse / spread, evidence={"own loss": own, "median of the others": usual})


RULES = (overfitting, stopped_too_early, chance_level, growing_confidence, stuck_run)
