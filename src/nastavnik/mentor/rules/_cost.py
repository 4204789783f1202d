"""Rules about time and memory."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from nastavnik.mentor._rule import Advice, Sign, rule
from nastavnik.trace import History


def _feed(history: History) -> Iterator[Advice]:
    yield Advice(
        "prepare rows beforehand, keep them in memory, or load them with more workers (DataLoader(num_workers))"
    )


@rule(
    severity="warning",
    title="Training waits for data",
    source="SageMaker Profiler's Dataloader and IOBottleneck",
    usual=0.5,
    advise=_feed,
)
def data_wait(history: History) -> Iterator[Sign]:
    """Most of the time passes between two steps, not in them: rows are loaded, or the loop does something else there.

    (score: share of the time outside of steps, median of the looks).
    """
    outside, inside = history.series("data seconds"), history.series("step seconds")
    if len(inside) > 3 and len(outside) == len(inside):
        share = float(np.median(outside / np.maximum(outside + inside, 1e-12)))
        yield Sign(share, evidence={"share": share, "seconds a step": float(np.median(inside))})


def _longer_budget(history: History) -> Iterator[Advice]:
    yield Advice("give the fit more time (--budget), or fewer or smaller networks; then fit anew")


@rule(
    severity="error",
    title="The delivered network was cut short",
    source="nastavnik's own record: the budget ended before the training",
    usual=0.5,
    advise=_longer_budget,
    measured=False,
)
def cut_short(history: History) -> Iterator[Sign]:
    """The budget ended when the delivered network had taken less than half of its steps.

    Its scores are those of a network that is not trained; everything else here is about the same recipe trained as far
    (score: the share of the steps that it lacks).
    """
    taken, planned = history.facts.get("delivered steps"), history.facts.get("planned steps")
    if taken is not None and planned:
        yield Sign(1 - taken / planned, evidence={"steps taken": taken, "of": planned})


def _release(history: History) -> Iterator[Advice]:
    yield Advice("keep numbers, not tensors: total += loss.item(); detach what is stored from step to step")


@rule(
    severity="warning",
    title="Memory grows from step to step",
    source="mldoct's '+= loss' graph leak; SageMaker Profiler's GPUMemoryIncrease",
    usual=0.5,
    advise=_release,
)
def memory_growth(history: History) -> Iterator[Sign]:
    """The process takes more and more memory while the network stays the same.

    Most often a loss is summed with its graph (score: growth over the second half of the training, over its beginning).
    """
    values = history.series("memory")
    if len(values) > 7:
        half = values[len(values) // 2 :]
        rising = float(np.mean(np.diff(half) > 0))
        yield Sign(
            float((half[-1] - half[0]) / max(values[0], 1e-9)) if rising > 0.5 else 0.0,
            evidence={"megabytes at the start": float(values[0]), "at the end": float(values[-1])},
        )


RULES = (cut_short, data_wait, memory_growth)
