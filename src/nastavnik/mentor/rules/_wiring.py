"""Rules about how a network is wired: whether rows stay apart, and whether it is the same when it is used."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from nastavnik.mentor._reading import losses
from nastavnik.mentor._rule import Advice, Sign, rule
from nastavnik.trace import History

_NOT_YET = 50  # steps after which running statistics have had time to follow


def _separate(history: History) -> Iterator[Advice]:
    yield Advice("look for an axis that is taken for another: batch_first=True in recurrent and attention layers")
    yield Advice("softmax(dim=0), or view/reshape where axes should be exchanged: permute or transpose first")
    yield Advice("for hidden states [layers, n, units]: h.permute(1, 0, 2).reshape(n, -1)")


@rule(
    severity="error",
    title="What is said of a row depends on the rows beside it",
    source="Karpathy 2019, A Recipe for Training Neural Networks (gradients that leak across the batch)",
    usual=0.1,
    advise=_separate,
    measured=False,
)
def mixed_rows(history: History) -> Iterator[Sign]:
    """In evaluation mode a row is told otherwise when the rows before it are left out of the batch.

    Rows are mixed somewhere inside: an axis is taken for another, or a softmax goes along the batch. What is learned
    holds for no single row, and nothing complains, as the shapes fit. Networks that compare rows on purpose are not to
    be used one row at a time, and do so, too (score: root mean square difference over the outputs' deviation,
    f(x)[half:] against f(x[half:]); it is rounding in a network without this fault).
    """
    values = history.series("row mixing")
    if len(values):
        yield Sign(float(values.max()), evidence={"difference over the outputs' deviation": float(values.max())})


def _drop_in_training(history: History) -> Iterator[Advice]:
    yield Advice("write F.dropout(x, p, training=self.training), or take an nn.Dropout that follows model.eval()")
    yield Advice("if predictions are meant to vary (Monte Carlo dropout), take the mean of many of them")


@rule(
    severity="warning",
    title="Dropout goes on in evaluation mode",
    source="PyTorch's documentation of torch.nn.functional.dropout (training=True by default); Srivastava et al. 2014",
    usual=0.01,
    advise=_drop_in_training,
    measured=False,
)
def dropout_at_evaluation(history: History) -> Iterator[Sign]:
    """The same rows are told differently each time, although the model is in evaluation mode.

    Units are dropped by a function that does not know of model.eval(): validation and use are as noisy as training, and
    their scores are worse than the network's (score: root mean square difference of two passes over the outputs'
    deviation).
    """
    values, kind = history.series("evaluation noise"), history.facts.get("drawn in evaluation", "none")
    if len(values) and values.max() > 0 and kind != "sample":
        yield Sign(float(values.max()), evidence={"difference of two passes": float(values.max()), "draws": kind})


def _begin_anew(history: History) -> Iterator[Advice]:
    yield Advice("begin each batch with a state of zeros, unless its rows go on where those of the batch before ended")


@rule(
    severity="warning",
    title="The network carries a state from batch to batch",
    source="Zaremba et al. 2014, Recurrent neural network regularization (states of successive batches)",
    usual=0.01,
    advise=_begin_anew,
    measured=False,
)
def carried_state(history: History) -> Iterator[Sign]:
    """The same rows are told differently the second time, the same random numbers drawn.

    The network keeps something from its last call, as the last state of a recurrent layer. Where batches are drawn at
    random it is the state of other rows: what is said of a row depends on what was asked before (score: root mean
    square difference of two passes over the outputs' deviation).
    """
    values = history.series("carried state")
    if len(values):
        yield Sign(float(values.max()), evidence={"difference of two passes": float(values.max())})


def _mean_instead(history: History) -> Iterator[Advice]:
    yield Advice("if one answer is wanted, let the mean stand in for the sample when not self.training")


@rule(
    severity="info",
    title="The network draws samples in evaluation mode",
    source="Kingma & Welling 2014, Auto-encoding variational Bayes",
    usual=0.01,
    advise=_mean_instead,
    measured=False,
)
def sampled_evaluation(history: History) -> Iterator[Sign]:
    """Two evaluations of the same rows differ, as the network draws normal numbers.

    For a generator or a variational autoencoder this is as it should be; scores of single passes are noisy then (score:
    root mean square difference of two passes over the outputs' deviation).
    """
    values, kind = history.series("evaluation noise"), history.facts.get("drawn in evaluation", "none")
    if len(values) and kind == "sample":
        yield Sign(float(values.max()), evidence={"difference of two passes": float(values.max())})


def _follow(history: History) -> Iterator[Advice]:
    yield Advice("let momentum be 0.1 or more (torch counts it as the new batch's share), or train longer")
    yield Advice("see that evaluation data are prepared as training data are, and that batches are not of one class")
    yield Advice("or group or layer normalization, which keep no statistics", {"network.normalization": "layer"})


@rule(
    severity="error",
    title="Running statistics do not fit the network",
    source="Ioffe & Szegedy 2015, Batch normalization; PyTorch's documentation of BatchNorm (momentum)",
    usual=0.25,
    advise=_follow,
    causes=("tiny_batch_norm", "nonfinite", "rate_too_large", "unscaled_inputs"),
    measured=False,
)
def batch_norm_gap(history: History) -> Iterator[Sign]:
    """With its running statistics the network loses far more on a batch of training rows than with the batch's own.

    Everything else is the same, so it is the statistics: they follow too slowly (momentum), were gathered from other
    rows, or from batches too small to have any. In evaluation mode the network is another one than was trained (score:
    the difference of the two losses over what training has gained, at the last look).
    """
    running, own = history.series("loss by running statistics"), history.series("loss by batch statistics")
    steps, loss = history.steps("loss by running statistics"), losses(history)
    if not len(running) or steps[-1] < _NOT_YET:
        return
    first = float(history.series("loss by running statistics")[0])
    gap, gained = float(running[-1] - own[-1]), max(first - float(own[-1]), 0.05 * abs(first), 1e-9)
    fitted = len(loss) and np.isfinite(loss[-1]) and loss[-1] < 0.1 * loss[0]
    if np.isfinite([gap, gained]).all() and not fitted:
        evidence = {"loss by running statistics": float(running[-1]), "by the batch's own": float(own[-1])}
        yield Sign(gap / gained, evidence=evidence)


def _warm_up(history: History) -> Iterator[Advice]:
    yield Advice("let the divergence's weight rise slowly from 0, or let it spare the first nats of each dimension")
    yield Advice("check the divergence: sum over dimensions, mean over rows, on the scale of the reconstruction's sum")


@rule(
    severity="warning",
    title="The latent variables say nothing of the row",
    source="Bowman et al. 2016, Generating sentences from a continuous space (posterior collapse)",
    usual=0.5,
    advise=_warm_up,
    measured=False,
)
def posterior_collapse(history: History) -> Iterator[Sign]:
    """With the same random numbers drawn, a sampling network says nearly the same of another row.

    The divergence won over the reconstruction: the code is noise, and the decoder says the mean of all rows (score: 1 −
    ten times the change of the outputs when rows are exchanged, over the targets' deviation; at the last look).
    """
    values = history.series("rows told apart")
    if len(values) and history.steps("rows told apart")[-1] >= _NOT_YET:
        yield Sign(
            1 - 10 * float(values[-1]), evidence={"change with the row, over the targets' deviation": float(values[-1])}
        )


RULES = (mixed_rows, dropout_at_evaluation, carried_state, sampled_evaluation, batch_norm_gap, posterior_collapse)
