"""Rules about batches: their size and the order in which rows come."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from nastavnik.mentor._reading import moving, span
from nastavnik.mentor._rule import Advice, Sign, rule
from nastavnik.trace import History


def _shuffle(history: History) -> Iterator[Advice]:
    yield Advice("shuffle the training rows before each epoch (DataLoader(shuffle=True))")


@rule(
    severity="error",
    title="Rows are not shuffled",
    source="Bottou 2012, SGD tricks",
    usual=3.0,
    advise=_shuffle,
    hinders=True,
)
def not_shuffled(history: History) -> Iterator[Sign]:
    """Targets vary from batch to batch more than rows drawn at random would make them.

    Each batch pulls towards its own kind of rows and the next one back; what was learned last is overrepresented
    (score: variance of the batches' mean target times the batch's size over the target's variance; 1 at random).
    """
    values = history.series("order dispersion")
    values = values[np.isfinite(values)]
    if len(values) and not moving(history):  # of two players one is given real rows, then made ones
        yield Sign(
            float(np.median(values)),
            steps=span(history, "order dispersion"),
            evidence={"dispersion": float(np.median(values)), "random": 1.0},
        )


def _larger_batch(history: History) -> Iterator[Advice]:
    batch, epochs = history.facts.get("batch", 2), history.facts.get("recipe", {}).get("epochs")
    longer = {"epochs": int(epochs) * max(1, 32 // int(batch))} if isinstance(epochs, int) else {}
    yield Advice("take batches of 32 rows, and as many steps as before", {"batch_size": 32, **longer})
    yield Advice("or layer normalization, which does not look at the batch", {"network.normalization": "layer"})


@rule(
    severity="warning",
    title="Batch normalization sees only a few rows",
    source="Wu & He 2018, Group normalization",
    usual=1.0,
    advise=_larger_batch,
    measured=False,
)
def tiny_batch_norm(history: History) -> Iterator[Sign]:
    """The network has batch normalization and its batches have fewer than eight rows.

    Means and variances of a few rows are noise, and not those that evaluation uses (score: 8 over the batch's rows).
    """
    norms = [layer["name"] for layer in history.facts.get("layers", []) if layer["role"] == "batch normalization"]
    batch = history.facts.get("batch", 0)
    if norms and batch:
        yield Sign(7.99 / batch, layer=norms[0], evidence={"batch": batch, "layers": norms})


def _noise(history: History) -> Iterator[Advice]:
    yield Advice("a larger batch would make each step surer at no cost in steps; a smaller rate does the same slower")


@rule(
    severity="info",
    title="Batches are mostly noise",
    source="McCandlish et al. 2018, An empirical model of large-batch training; traintools (4 B)",
    usual=10.0,
    advise=_noise,
)
def noisy_batches(history: History) -> Iterator[Sign]:
    """The gradient noise scale of the first third is many times the batch's size.

    Most of each step is then chance. Late in a training this is usual and no fault: the gradient itself is small.
    """
    spread, signal = (history.series("gradient noise scale", part) for part in ("spread", "signal"))
    batch, first = history.facts.get("batch", 0), max(2, len(spread) // 3)
    if len(spread) > 3 and batch and np.isfinite(spread[:first]).all() and spread[:first].mean() > 0:
        scale = float(spread[:first].mean() / max(signal[:first].mean(), 1e-3 * spread[:first].mean()))
        yield Sign(scale / batch, evidence={"noise scale": scale, "batch": batch})


RULES = (not_shuffled, tiny_batch_norm, noisy_batches)
