"""Rules about single steps of the optimizer: where they go, how far, and what is left of them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from nastavnik.mentor._reading import FITTED, losses, moving, skills, span
from nastavnik.mentor._rule import Advice, Sign, rule
from nastavnik.trace import History

_EARLY = 0.6  # of the steps: a rate that is gone by then has left the training unfinished
_STILL_HIGH = 0.2  # of the first loss
_FEW = 3  # looks


def _keep_rate(history: History) -> Iterator[Advice]:
    yield Advice("step the scheduler once an epoch, or count its milestones and periods in steps")
    yield Advice("ReduceLROnPlateau: mode='min' for a loss, mode='max' for an accuracy; patience of some epochs")


@rule(
    severity="error",
    title="The learning rate was gone long before the end",
    source="PyTorch's documentation of torch.optim.lr_scheduler (how to adjust the rate)",
    usual=100.0,
    advise=_keep_rate,
    measured=False,
    hinders=True,
)
def rate_vanished(history: History) -> Iterator[Sign]:
    """Before two thirds of the steps were taken the rate had fallen to almost nothing, and the loss was still high.

    What came after moved nothing. Mostly a scheduler meant for epochs is stepped with every batch, or waits for the
    wrong direction (score: the largest rate before over the rate at that time).
    """
    rates, steps = history.series("rate"), history.steps("rate")
    total = max(history.facts.get("steps taken", 0), history.facts.get("steps", 0), 1)
    loss, known = losses(history), skills(history, "training")
    if len(rates) < _FEW or moving(history):
        return
    early = steps <= _EARLY * total
    if not early.any() or not rates[early][-1] < rates.max():
        return
    settled = len(loss) and loss[-1] < _STILL_HIGH * abs(loss[0])
    if settled or (len(known) and known[-1] > FITTED):
        return
    left = float(rates[~early].max(initial=rates[early][-1]))
    yield Sign(
        min(float(rates.max()) / max(left, 1e-30), 1e12),
        steps=(int(steps[early][-1]), int(total)),
        evidence={"largest rate": float(rates.max()), "rate from then on": left},
    )


def _descend(history: History) -> Iterator[Advice]:
    yield Advice("minimize the loss, not its negative: look for (-loss).backward(), maximize=True, a score for a loss")
    yield Advice("or tell the mentor the loss that is minimized")


@rule(
    severity="error",
    title="Steps go up the loss",
    source="Robbins & Monro 1951 (descent); PyTorch's documentation of torch.optim (maximize)",
    usual=0.5,
    advise=_descend,
    measured=False,
)
def uphill_steps(history: History) -> Iterator[Sign]:
    """The gradient that the optimizer was given points away from where the loss falls.

    Each step makes the loss of its own batch larger: a sign is wrong, or another quantity is minimized than the one the
    mentor was told of (score: minus the median cosine between the gradient used and that of the loss; -1 is right).
    """
    values = history.series("gradient agreement")
    if len(values) >= _FEW and not moving(history):
        cosine = float(np.median(values))
        yield Sign(-cosine, steps=span(history, "gradient agreement"), evidence={"cosine of the two gradients": cosine})


def _smaller_epsilon(history: History) -> Iterator[Advice]:
    yield Advice("take the usual epsilon, 1e-8; in half precision keep the optimizer's state in float32")


@rule(
    severity="warning",
    title="The optimizer's epsilon is larger than the gradients",
    source="Kingma & Ba 2015, Adam (ε = 1e-8)",
    usual=10.0,
    advise=_smaller_epsilon,
    measured=False,
    hinders=True,
)
def epsilon_too_large(history: History) -> Iterator[Sign]:
    """The constant that keeps a division from zero is many times larger than what it is added to.

    Steps then shrink with the gradient, as in plain descent with the rate over epsilon, and no longer adapt to each
    weight (score: epsilon over the root mean square of a gradient's numbers, median of the first half).
    """
    epsilon, values = history.facts.get("eps", 0.0), history.series("gradient root mean square")
    known = skills(history, "training")
    if epsilon > 1e-7 and len(values) >= _FEW and not (len(known) and known[-1] > FITTED):
        usual = float(np.median(values[: max(_FEW, len(values) // 2)]))
        yield Sign(epsilon / max(usual, 1e-30), evidence={"epsilon": epsilon, "root mean square of gradients": usual})


def _more_digits(history: History) -> Iterator[Advice]:
    yield Advice("keep the weights in float32 and let torch.autocast compute in half precision")


@rule(
    severity="error",
    title="Steps are lost in rounding",
    source="Micikevicius et al. 2018, Mixed precision training (master weights)",
    usual=0.5,
    advise=_more_digits,
    measured=False,
    hinders=True,
)
def rounded_away(history: History) -> Iterator[Sign]:
    """Weights of half precision stay the same, bit for bit, though their gradient is not zero.

    A step smaller than half of a number's last digit is no step: bfloat16 has three digits (score: the share of such
    weights that did not move, median of the looks).
    """
    values = history.series("steps lost in rounding")
    if len(values) >= _FEW:
        share = float(np.median(values))
        yield Sign(share, steps=span(history, "steps lost in rounding"), evidence={"share of the weights": share})


def _divide(history: History) -> Iterator[Advice]:
    yield Advice("divide each part's loss by their number: (loss / parts).backward(), or take the rate so much smaller")


@rule(
    severity="info",
    title="Gradients are many times those of one batch's mean",
    source="Goyal et al. 2017, Accurate, large minibatch SGD (sums and means)",
    usual=3.0,
    advise=_divide,
    causes=("accumulated_gradients",),
    measured=False,
)
def summed_gradients(history: History) -> Iterator[Sign]:
    """What the optimizer is given points along the batch's gradient, and is several times as long.

    Several backward passes were added up, or a loss is summed where a mean was meant: the rate is so many times larger
    than it looks (score: length of the gradient used over that of the loss's gradient, median; it matters for plain
    descent, and hardly for optimizers that divide by the gradient's size).
    """
    ratio, agree = history.series("gradient used"), history.series("gradient agreement")
    if len(ratio) >= _FEW and np.median(agree) > 0.5:
        yield Sign(float(np.median(ratio)), evidence={"times as long": float(np.median(ratio))})


RULES = (rate_vanished, uphill_steps, epsilon_too_large, rounded_away, summed_gradients)
