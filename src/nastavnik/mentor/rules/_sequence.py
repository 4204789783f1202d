"""Rules about sequences: what a step may see, whether order and early steps are heard, what padding does."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from nastavnik.mentor._reading import skills
from nastavnik.mentor._rule import Advice, Sign, rule
from nastavnik.trace import History

_POOR = 0.3  # of the way from chance to perfect: below, something was not learned
_GONE = 1e-3  # of the last steps' influence


def _poor(history: History) -> bool:
    """Whether the network is near chance on what it is judged by: on validation rows, without them on its own."""
    known = skills(history, "validation") if len(skills(history, "validation")) else skills(history, "training")
    return bool(len(known)) and bool(np.nan_to_num(known[-1], nan=-1.0) < _POOR)


def _mask(history: History) -> Iterator[Advice]:
    yield Advice("give attention a causal mask (generate_square_subsequent_mask; is_causal=True), the right way up")
    yield Advice("in recurrent layers bidirectional=False, in convolutions padding on the left only")


@rule(
    severity="error",
    title="A step sees what it is to foretell",
    source="Vaswani et al. 2017, Attention is all you need §3.2.3 (masking)",
    usual=0.01,
    advise=_mask,
    measured=False,
)
def future_seen(history: History) -> Iterator[Sign]:
    """The targets are the next inputs, and outputs change when later inputs do.

    The network copies the answer instead of foretelling it: its loss is far too good, and worth nothing where the next
    input is not there yet, as in generation (score: root mean square difference of the first half's outputs, over their
    deviation, when the second half's inputs are exchanged; exactly 0 behind a causal mask).
    """
    values = history.series("future seen")
    if len(values):
        yield Sign(float(values.max()), evidence={"change of the first half's outputs": float(values.max())})


def _positions(history: History) -> Iterator[Advice]:
    yield Advice("add positions to the embeddings (learned or sinusoidal), before the first attention layer")
    yield Advice("or do not take the mean over steps before a recurrent or convolutional layer has seen their order")


@rule(
    severity="warning",
    title="The order of the steps is not heard",
    source="Vaswani et al. 2017, Attention is all you need §3.5 (positional encoding)",
    usual=0.5,
    advise=_positions,
    measured=False,
)
def order_unheard(history: History) -> Iterator[Sign]:
    """Outputs stay the same when the steps of a sequence are shuffled, and the rows are hardly told better than chance.

    Attention and means know no order by themselves. For a bag of words that is right; where the order tells the target,
    it cannot be learned (score: 1 where shuffling changes nothing but rounding).
    """
    values = history.series("order heard")
    if len(values) and _poor(history):
        most = float(values.max())
        yield Sign(float(most < 1e-3), evidence={"change when steps are shuffled": most})


def _remember(history: History) -> Iterator[Advice]:
    yield Advice("take an LSTM or GRU with the forget gate's bias at 1, attention, or the mean over all steps")
    yield Advice("see that the state is not reset or detached on the way, and that the last real step is read")


@rule(
    severity="warning",
    title="Early steps have no influence",
    source="Bengio, Simard & Frasconi 1994; Hochreiter & Schmidhuber 1997, Long short-term memory",
    usual=1.0,
    advise=_remember,
    causes=("mixed_rows", "squashed_outputs", "constant_initialization"),
    measured=False,
)
def early_steps_unheard(history: History) -> Iterator[Sign]:
    """What is said of a row hardly changes with its first steps, and the rows are hardly told better than chance.

    Through many steps the influence of the first ones, and their gradient, shrinks to nothing; what they tell cannot be
    learned (score: a thousandth of the last third's influence over the first third's).
    """
    early, late = history.series("early steps heard"), history.series("late steps heard")
    if len(early) and len(late) and _poor(history) and late[-1] > 0:
        evidence = {"change with the first third": float(early[-1]), "with the last third": float(late[-1])}
        yield Sign(min(_GONE * float(late[-1]) / max(float(early[-1]), 1e-12), 1e6), evidence=evidence)


def _leave_padding(history: History) -> Iterator[Advice]:
    yield Advice("pack padded sequences (pack_padded_sequence), or read the last real step instead of [:, -1]")
    yield Advice("give attention its key_padding_mask, and take means over real steps only")


@rule(
    severity="warning",
    title="Padding changes what is said",
    source="PyTorch's documentation of pack_padded_sequence and of MultiheadAttention's key_padding_mask",
    usual=0.3,
    advise=_leave_padding,
    measured=False,
)
def padding_heard(history: History) -> Iterator[Sign]:
    """The same row is told otherwise with less padding behind it, and the rows are hardly told better than chance.

    The network reads the filling as words: a state that has run over it forgets, a mean is thinned by it, and a row's
    answer depends on the longest row beside it (score: root mean square difference over the outputs' deviation).
    """
    values = history.series("padding heard")
    if len(values) and _poor(history):
        yield Sign(float(values[-1]), evidence={"padding token": history.facts.get("padding token")})


def _ignore(history: History) -> Iterator[Advice]:
    yield Advice("leave padding out of the loss: ignore_index=… with the padding's number, or -100 in the targets")


@rule(
    severity="warning",
    title="Most of the loss is padding",
    source="PyTorch's documentation of CrossEntropyLoss (ignore_index)",
    usual=0.3,
    advise=_ignore,
    measured=False,
)
def padding_in_loss(history: History) -> Iterator[Sign]:
    """Many of the targets that the loss counts stand where a row has ended.

    Saying the padding token is soon learned and makes loss and accuracy look good, while the real words get a small
    part of the gradient (score: the share of padding among the targets that the loss hears).
    """
    values = history.series("padding in the loss")
    if len(values):
        evidence = {"share of the targets": float(values[-1]), "padding token": history.facts.get("padding token")}
        yield Sign(float(values[-1]), evidence=evidence)


RULES = (future_seen, order_unheard, early_steps_unheard, padding_heard, padding_in_loss)
