"""Rules about single rows and their labels."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from nastavnik.instruments import area_under_margin, forgetting_events
from nastavnik.mentor._reading import CLEARLY, beats_shares, chance, losses, skills
from nastavnik.mentor._rule import Advice, Sign, rule
from nastavnik.trace import History

_BROKEN = 0.3  # of the rows found again have another target
_PAIRS = 16  # rows found again from which something is said


def _relabel(history: History) -> Iterator[Advice]:
    yield Advice("look first at the rows whose label the network doubts longest: most of the wrong labels are there")
    yield Advice(
        "stop early, before they are learned by heart",
        {"epochs": max(1, int(history.facts.get("recipe", {}).get("epochs", 3)) // 3)},
    )
    yield Advice("or smooth the labels", {"loss.name": "label_smoothing", "loss.label_smoothing": 0.2})


@rule(
    severity="warning",
    title="Many training labels look wrong",
    source="Pleiss et al. 2020 (AUM); Arpit et al. 2017 (patterns are learned before noise)",
    usual=0.1,
    advise=_relabel,
    causes=("labels_without_signal",),
)
def noisy_labels(history: History) -> Iterator[Sign]:
    """The network does better on validation rows than on the rows it is trained on.

    Patterns are learned before exceptions: while the common rule is known and the wrong labels are not yet learned by
    heart, training rows contradict the network more often than others do. Wrong labels in both parts cannot be told
    from a hard task (score: the largest lead of the validation rows' skill, less two standard errors).
    """
    own, held = skills(history, "training"), skills(history, "validation")
    if len(own) < 6 or len(held) != len(own) or not np.isfinite(own).all() or not np.isfinite(held).all():
        return
    half = len(own) // 4
    lead = np.sort((held - own)[half:])[-3:].mean() if len(own) > half + 3 else 0.0
    margins = history.row_values("margin")
    evidence = {}
    if len(margins) and history.facts.get("classes"):
        evidence["share of rows whose label the network doubts"] = float((area_under_margin(margins) < 0).mean())
    rows, base = history.facts.get("validation rows", 0), chance(history)
    if held[half:].max() > 0.1:
        score = base + (1 - base) * float(np.clip(held.max(), 0, 1))
        error = np.sqrt(max(score * (1 - score), 0.01) / max(min(rows, 512), 1)) / (1 - base)
        yield Sign(
            float(lead - 2 * error),
            evidence={"lead of the validation rows": float(lead), **evidence},
        )


def _check_pairs(history: History) -> Iterator[Advice]:
    if history.facts.get("pairs broken", 0.0) > _BROKEN:
        yield Advice("shuffle inputs and targets by one permutation, and let one data set give both of a row")
        yield Advice("give both to an augmentation that moves what the target tells (masks, boxes, key points)")
        return
    yield Advice("check that inputs and targets of a row still belong together after sorting, joining, shuffling")
    yield Advice("ask whether these inputs can tell the target at all: how well does a person, or a forest, do?")


@rule(
    severity="error",
    title="The targets say nothing of the inputs",
    source="Zhang et al. 2017, Understanding deep learning requires rethinking generalization",
    usual=0.85,
    advise=_check_pairs,
    causes=("shifted_parts",),
    outcome=True,
)
def labels_without_signal(history: History) -> Iterator[Sign]:
    """The training rows are fitted better and better, while validation rows never get better than chance; or inputs
    that were fed before, or stand among the given rows, come with another target.

    What is learned are the single rows. Where the same inputs are met with other targets, it is proved that they were
    shuffled or augmented apart. Else perhaps inputs and targets were shuffled apart, or the target is not in these
    inputs, or this network cannot find it there, as where a sequence tells it long before its end (score: 1 − the mean
    skill on validation rows in the second half, or the last if it is clearly better, where that on training rows is
    higher, and neither the validation loss is less than that of saying how common each class is, nor do trees tell
    those rows; or one and the share of rows met with another target).
    """
    broken, again = history.facts.get("pairs broken", 0.0), history.facts.get("pairs found", 0)
    if broken > _BROKEN and again >= _PAIRS:
        yield Sign(1 + broken, evidence={"rows found again": again, "with another target": broken}, proof=True)
    base = chance(history)
    trees = (history.last("trees' score") - base) / max(1 - base, 1e-9)
    if beats_shares(history, "validation") or trees > CLEARLY:
        return  # there is something to be learned from these inputs
    own, held = skills(history, "training"), skills(history, "validation")
    if len(own) < 6 or len(held) != len(own) or not np.isfinite(own[-3:]).all():
        return
    held = np.nan_to_num(held)
    known = max(float(held[len(held) // 2 :].mean()), float(held[-1]) if held[-1] > CLEARLY else -1.0, -1.0)
    if own[-3:].mean() - max(known, 0.0) > 0.05:
        evidence = {"skill on training rows": float(own[-1]), "on validation rows": known}
        yield Sign(1 - known, evidence=evidence, besides=_no_better(history, trees))


def _no_better(history: History, trees: float) -> str:
    """What says, beside the scores, that validation rows cannot be told: trees, or a loss that rose."""
    if np.isfinite(trees):
        return "trees do not tell these rows either"
    held = losses(history, "validation")
    return "the validation loss ends above its start" if len(held) > 2 and np.median(held[-3:]) > held[0] else ""


def _look_at(history: History) -> Iterator[Advice]:
    yield Advice("look at these rows before judging the rest of the error: ambiguous ones, wrong ones, rare ones")


@rule(
    severity="info",
    title="Rows are learned and forgotten again",
    source="Toneva et al. 2019",
    usual=0.3,
    advise=_look_at,
    causes=("rate_too_large", "not_shuffled", "oscillating", "noisy_labels", "tiny_batch_norm", "dropout_too_strong"),
)
def forgotten_rows(history: History) -> Iterator[Sign]:
    """Many training rows go from right to wrong more than twice.

    (score: their share of the rows watched).
    """
    margins = history.row_values("margin")
    if history.facts.get("classes") and len(margins) > 6:
        events = forgetting_events(margins[4:])
        yield Sign(float((events > 2).mean()), evidence={"forgotten more than twice": float((events > 2).mean())})


RULES = (noisy_labels, labels_without_signal, forgotten_rows)
