"""How a fit divides its time: what is refused, what is kept for the finish, and what a busy machine changes."""

from __future__ import annotations

import math
import os

from nastavnik.dataset import Dataset
from nastavnik.errors import UserError
from nastavnik.recipe import Recipe
from nastavnik.runs import Clock, FitRequest
from nastavnik.selection import Workbench, simplest
from nastavnik.space import Space

BASELINE_SHARE = 0.4  # of a budget of time, at most, beside the training
_FINISH_SECONDS = 2.8  # choice, evaluation, importance and report on a machine that does nothing else
_FINISH_SHARE = 0.02
_SECONDS_A_ROW = 2e-4
_BLEND_SECONDS = 2.5  # for weighing boosted trees and asking them
_SECONDS_A_FOLD = 0.3  # for the predictions of all that may be delivered
REPORT_SECONDS = 1.5  # of them
CLOSING_SECONDS = 0.4  # the end of the process
_TRAINING_SECONDS = 1.2  # of the first training, beside its steps
_SECONDS_A_STEP = 2e-3
MOST_FINAL = 0.3  # of a budget for the final training after cross-validation
_BUSY = 1.5  # times as slow


def refuse_too_short(clock: Clock, dataset: Dataset, bench: Workbench, space: Space) -> None:
    """Refuse a budget that one training of the simplest family and the finish would break, before anything is written.

    Raises:
        UserError: with the least budget, as this machine is now.
    """
    if clock.budget is None:
        return
    recipe = Recipe({**simplest(space).default(), "seed": 0})
    batch = bench.data.batch_size(recipe.whole("batch_size"))
    steps = recipe.whole("epochs") * bench.data.steps_per_epoch(batch)
    begun = clock.elapsed
    rows = len(dataset.split.validation) + len(dataset.split.test)
    finish = (1 + _FINISH_SHARE) * (_FINISH_SECONDS + _SECONDS_A_ROW * rows)
    rest = clock.slowness * (_TRAINING_SECONDS + 0.5 * steps * _SECONDS_A_STEP + finish)
    if clock.budget < begun + rest:
        raise UserError(
            f"a budget of {clock.budget:g} s is too short: {begun:.1f} s went into starting and reading, and one "
            f"training, its test and the report take about {rest:.1f} s on this machine as it is now; "
            f"give --budget {math.ceil(begun + 1.2 * rest)}s or more"
        )


def reserved(clock: Clock, dataset: Dataset, request: FitRequest) -> float:
    """Seconds kept for evaluation, importance and report, as this machine is now, and for trying advice."""
    if clock.budget is None:
        return 0.0
    folds = dataset.split.folds or ()
    rows = len(dataset.split.test) + sum(len(own) for _, own in dataset.split.parts)
    seconds = (_FINISH_SECONDS + _SECONDS_A_ROW * rows + _SECONDS_A_FOLD * len(folds)) * clock.slowness
    seconds += _BLEND_SECONDS * clock.slowness if request.deliver in ("blend", "best") else 0.0
    return seconds + (_FINISH_SHARE + request.advice) * clock.budget


def calm(clock: Clock, request: FitRequest) -> None:
    """One thread on a busy machine, unless asked otherwise: OpenMP's threads would spin while they wait for each other.

    The command line lets them wait passively; a library cannot, once torch is there.
    """
    import torch

    passive = os.environ.get("OMP_WAIT_POLICY", "").lower() == "passive"
    if request.threads is None and not passive and clock.slowness > _BUSY and torch.get_num_threads() > 1:
        torch.set_num_threads(1)
