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
    """Most of the time passes between two steps, not in them.

    (score: share of the time outside of steps, median of the looks).
    """
    outside, inside = history.series("data seconds"), history.series("step seconds")
    if len(inside) > 3 and len(outside) == len(inside):
        share = float(np.median(outside / np.maximum(outside + inside, 1e-12)))
        yield Sign(share, evidence={"share": share, "seconds a step": float(np.median(inside))})


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


RULES = (data_wait, memory_growth)
