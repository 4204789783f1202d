"""Criteria: what may be asked of a trained network to choose by. The larger the value the better, in nats of all its
training rows (validation: of a mean training row count's worth of held-out rows).

A criterion is one function and one line in ``CRITERIA``. Where it does not apply it raises ``UserError`` with the why,
or gives no value and a problem.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch

from nastavnik.errors import UserError, nearest
from nastavnik.population import Learner
from nastavnik.selection import evidence


class Rows(NamedTuple):
    """What a criterion sees: a part's training rows and its validation rows, (inputs, targets) each."""

    train: tuple[tuple[torch.Tensor, ...], torch.Tensor]
    validation: tuple[tuple[torch.Tensor, ...], torch.Tensor]


class Answer(NamedTuple):
    """``value`` in nats, more is better, with its own ``error`` if it has one; or None and a ``problem``."""

    value: float | None
    error: float | None = None
    problem: str | None = None


class Verdict(NamedTuple):
    """An answer, and the seconds it took."""

    answer: Answer
    seconds: float


def _validation(learner: Learner, rows: Rows, seed: int) -> Answer:
    inputs, targets = rows.validation
    if len(targets) == 0:
        raise UserError("there are no validation rows")
    losses = _losses(learner, inputs, targets)
    scale = len(rows.train[1])
    return Answer(-scale * float(losses.mean()), scale * float(losses.std()) / len(losses) ** 0.5)


def _bic(learner: Learner, rows: Rows, seed: int) -> Answer:
    """Schwarz 1978: log likelihood - ½ P log n."""
    inputs, targets = rows.train
    weights = sum(p.numel() for p in learner.parameters() if p.requires_grad)
    fit = -float(_losses(learner, inputs, targets).double().sum())
    return Answer(fit - 0.5 * weights * math.log(len(targets)))


def _laplace(structure: str) -> Callable[[Learner, Rows, int], Answer]:
    def ask(learner: Learner, rows: Rows, seed: int) -> Answer:
        if structure == "full":
            _small(learner, 1500, "laplace_full")
        found = evidence.laplace(learner, *rows.train, structure=structure, optimise="prior_precision")
        return Answer(found.log_evidence, found.error, found.problem)

    return ask


def _variational(learner: Learner, rows: Rows, seed: int) -> Answer:
    _small(learner, 20_000, "variational")
    found = evidence.variational(learner, *rows.train, optimise="prior_precision", steps=200, seed=seed)
    return Answer(found.log_evidence, found.error, found.problem)


def _descent_entropy(learner: Learner, rows: Rows, seed: int) -> Answer:
    _small(learner, 2000, "descent_entropy")
    found = evidence.descent_entropy(learner, *rows.train, restarts=8, steps=200, seed=seed)
    return Answer(found.log_evidence, found.error, found.problem)


def _langevin(learner: Learner, rows: Rows, seed: int) -> Answer:
    _small(learner, 200, "langevin")
    found = evidence.langevin(learner, *rows.train, seed=seed)
    return Answer(found.log_evidence, found.error, found.problem)


def _description(code: str) -> Callable[[Learner, Rows, int], Answer]:
    def ask(learner: Learner, rows: Rows, seed: int) -> Answer:
        if code == "prequential":
            _small(learner, 20_000, "prequential")
        found = evidence.description_length(learner, *rows.train, code=code, steps=200, seed=seed)
        return Answer(found.nats, None, found.problem)

    return ask


CRITERIA: dict[str, Callable[[Learner, Rows, int], Answer]] = {
    "validation": _validation,
    "bic": _bic,
    "laplace_full": _laplace("full"),
    "laplace_kfac": _laplace("kfac"),
    "laplace_diagonal": _laplace("diagonal"),
    "laplace_last_layer": _laplace("last_layer"),
    "variational": _variational,
    "descent_entropy": _descent_entropy,
    "langevin": _langevin,
    "description_length": _description("two_part"),
    "prequential": _description("prequential"),
}
CHOOSING = {"evidence": "laplace_kfac", "description_length": "description_length"}  # what a fit may choose by


def criteria_named(text: str) -> list[str]:
    """``all``, or names with commas between.

    Raises:
        UserError: a name that is not in the table.
    """
    if text == "all":
        return list(CRITERIA)
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if name not in CRITERIA:
            raise UserError(f"--criteria cannot name {name!r}{nearest(name, CRITERIA)}")
    if not names:
        raise UserError(f"--criteria names nothing; there is all, {', '.join(CRITERIA)}")
    return names


def ask_criterion(name: str, learner: Learner, rows: Rows, *, seed: int) -> Verdict:
    """One criterion's verdict on one network; where it does not apply, the problem says why."""
    started = time.monotonic()
    try:
        answer = CRITERIA[name](learner, rows, seed)
    except UserError as error:
        answer = Answer(None, None, str(error))
    if answer.value is not None and not math.isfinite(answer.value):
        answer = Answer(None, None, "the network's loss is no finite number")
    if answer.error is not None and not math.isfinite(answer.error):
        answer = answer._replace(error=None)
    return Verdict(answer, time.monotonic() - started)


def mean_of(verdicts: Sequence[Verdict]) -> Verdict:
    """Over the folds of one candidate; a fold without a value leaves the candidate without one."""
    seconds = sum(v.seconds for v in verdicts)
    problems = [v.answer.problem for v in verdicts if v.answer.value is None]
    if problems:
        return Verdict(Answer(None, None, problems[0]), seconds)
    values = [v.answer.value for v in verdicts if v.answer.value is not None]
    errors = [v.answer.error for v in verdicts if v.answer.error is not None]
    error = math.sqrt(sum(e * e for e in errors)) / len(errors) if errors else None
    return Verdict(Answer(sum(values) / len(values), error), seconds)


def _losses(learner: Learner, inputs: tuple[torch.Tensor, ...], targets: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return learner.likelihood.neg_log_likelihood(learner.network(*inputs), targets)


def _small(learner: Any, most: int, name: str) -> None:
    count = sum(p.numel() for p in learner.network.parameters())
    if count > most:
        raise UserError(f"{name} is for at most {most} weights in a comparison, but the network has {count}")
