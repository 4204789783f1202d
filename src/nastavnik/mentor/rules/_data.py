"""Rules about the data: what the rows themselves say before a network has seen them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from nastavnik.mentor._reading import column_name
from nastavnik.mentor._rule import Advice, Sign, rule
from nastavnik.trace import History

_MOST_PLACES = 0.8  # of all words or pixels: what is so common hides the others
_OFTEN = 10.0  # training rows to each value of the finest column: a single column of few values tells all rows apart
_FINE = 0.5  # of different rows that one column alone tells apart: then equal rows are copies, and no chance


def _standardize(history: History) -> Iterator[Advice]:
    yield Advice(
        "bring every input column to mean 0 and deviation 1 by the training rows", {"preparation.numbers": "standard"}
    )


@rule(
    severity="error",
    title="Inputs are not scaled",
    source="LeCun et al. 1998, Efficient BackProp §4.3",
    usual=10.0,
    advise=_standardize,
    hinders=True,
)
def unscaled_inputs(history: History) -> Iterator[Sign]:
    """Some input column is far from mean 0 and deviation 1, or columns are of very different sizes.

    A unit's sum is of the size of its largest input. Large inputs saturate or blow up the first layer, and the loss's
    curvature along them is larger by the square of their size: the rate that is safe for them is too small for the
    others (score: the largest root mean square of a column, its inverse for all of them, or the ratio of the largest
    to the median deviation).
    """
    facts = history.facts
    if "input size" in facts:
        size, largest = facts["input size"], facts["largest column"]
        evidence = {"root mean square": size, "largest column": largest, "spread of columns": facts["column spread"]}
        yield Sign(max(largest, 0.5 / max(size, 1e-9), facts["column spread"] / 3), evidence=evidence)


def _scale_target(history: History) -> Iterator[Advice]:
    yield Advice(
        "train on (y − mean) / deviation of the training rows, and scale the predictions back",
        {"preparation.target": "auto"},
    )


@rule(
    severity="error",
    title="The target is not scaled",
    source="Bishop 1995 §8.2",
    usual=10.0,
    advise=_scale_target,
    hinders=True,
)
def unscaled_target(history: History) -> Iterator[Sign]:
    """The target's mean or deviation is far from 0 and 1, while a fresh network's outputs are about that size.

    The first part of the training is spent on moving the outputs to the target's place, gradients are as large as the
    target, and the rate that suits the one task does not suit the other. Outputs that begin at the target's place and
    size, as those of a network that scales them itself, have no such way to go (score: the largest of |mean|, deviation
    and the inverse of the deviation).
    """
    facts = history.facts
    for name, own in facts.get("several targets", {}).items():
        size = max(abs(own["mean"]), own["deviation"], 0.3 / max(own["deviation"], 1e-12))
        if own["deviation"] > 1e-6 * abs(own["mean"]):
            yield Sign(size, evidence={"target": name, **own})
    if "target deviation" in facts:
        mean, deviation = abs(facts["target mean"]), facts["target deviation"]
        if deviation <= 1e-6 * mean:
            return  # one value for all rows, as a generator's "real": there is nothing to scale
        if not facts.get("scored", True) or _there(history, facts["target mean"], deviation):
            return  # the outputs are of another kind, or scaled by the network
        yield Sign(max(mean, deviation, 0.3 / max(deviation, 1e-12)), evidence={"mean": mean, "deviation": deviation})


def _there(history: History, mean: float, deviation: float) -> bool:
    """Whether the first outputs lie where the target does."""
    least, most = history.series("output least")[:1], history.series("output most")[:1]
    if not len(least) or not len(most) or not np.isfinite([least[0], most[0]]).all():
        return False
    return abs((least[0] + most[0]) / 2 - mean) < 3 * deviation and 0.3 < (most[0] - least[0]) / deviation < 30


def _as_classes(history: History) -> Iterator[Advice]:
    yield Advice("if these are classes, give the network an output each and the loss their numbers: cross-entropy")


@rule(
    severity="info",
    title="The target's numbers may be classes",
    source="Bishop 2006 §4.1.3 (least squares for classification)",
    usual=0.5,
    advise=_as_classes,
    measured=False,
)
def classes_as_numbers(history: History) -> Iterator[Sign]:
    """A loss for numbers, or for one class against the rest, is given a target of a few whole numbers from 0 or 1.

    If they name classes, the loss holds class 2 to be nearer to 3 than to 0, and the outputs can say neither that two
    classes are likely nor how sure they are. For counts and grades a number is right.
    """
    facts = history.facts
    whole = facts.get("classes") == 0 and 2 < facts.get("whole values", 0) <= 20
    if whole and facts.get("expects") in ("logits", "probabilities") and facts.get("outputs", 1) == 1:
        evidence = {"different values": facts["whole values"], "the loss wants": "0 or 1"}
        yield Sign(1.0, severity="error", evidence=evidence)
    one = ("numbers", "logits", "probabilities") if facts.get("outputs", 1) == 1 else ("numbers",)
    if facts.get("classes") == 0 and facts.get("expects") in one and 2 < facts.get("whole values", 0) <= 20:
        yield Sign(1.0, evidence={"different values": facts["whole values"]})


def _weigh(history: History) -> Iterator[Advice]:
    yield Advice("weigh classes by their rarity, judge by balanced accuracy (fit --class-weights balanced)")
    yield Advice("or collect more rows of the rare classes")


@rule(
    severity="warning",
    title="One class is far more common than another",
    source="He & Garcia 2009",
    usual=10.0,
    advise=_weigh,
    measured=False,
)
def imbalanced_classes(history: History) -> Iterator[Sign]:
    """The commonest class has many times the rows of the rarest.

    Most of the gradient comes from the common class; saying it always is already a good score, and accuracy hides that
    the rare one is never found (score: rows of the commonest over rows of the rarest class).
    """
    shares = history.facts.get("class shares", [])
    if history.facts.get("places") and max(shares, default=0.0) < _MOST_PLACES:
        return  # words are never equally common
    if len(shares) > 1 and max(shares) > 0:
        yield Sign(max(shares) / max(min(shares), 1e-6), evidence={"shares": [round(s, 4) for s in shares]})


def _leave_out(history: History) -> Iterator[Advice]:
    yield Advice(
        f"ask whether {column_name(history, 'telling column')} is known before the target is; if not, leave it out"
    )


@rule(
    severity="warning",
    title="One column tells the target almost alone",
    source="Kaufman et al. 2012, Leakage in data mining; deepchecks' FeatureLabelCorrelation",
    usual=5.0,
    advise=_leave_out,
)
def leaked_target(history: History) -> Iterator[Sign]:
    """A single column leaves far less of the target untold than the next best one does.

    Such a column is often a consequence of the target, or another name for it. It will not be there when the network is
    used, and until then it makes every score too good (score: what the second column leaves untold over what the first
    leaves, of columns that tell 0.85 or more).
    """
    told, alike = history.facts.get("told by columns", []), history.facts.get("target among inputs")
    if alike:
        yield Sign(100.0, evidence={"the target is": alike})
    if len(told) > 1 and told[0] >= 0.85:
        left = max(1 - told[0], 0.005)
        yield Sign(
            (1 - told[1]) / left,
            evidence={
                "share of the target it tells": told[0],
                "the next best": told[1],
                "found in": column_name(history, "telling column"),
            },
        )


def _split_again(history: History) -> Iterator[Advice]:
    yield Advice(
        "split anew, at random or by group and time as the network will be used; then look where the rows "
        "of the two parts come from"
    )


@rule(
    severity="warning",
    title="Validation rows are not like training rows",
    source="Quionero-Candela et al. 2009, Dataset Shift",
    usual=0.5,
    advise=_split_again,
)
def shifted_parts(history: History) -> Iterator[Sign]:
    """The mean of a column differs between training and validation rows by more than chance allows.

    The network is judged where it was not taught, and its validation score says little about rows like those it was
    taught (score: the largest difference in deviations, where it is more than six standard errors).
    """
    facts = history.facts
    if facts.get("shift errors", 0.0) > 6:
        yield Sign(
            facts["shift"],
            evidence={"found in": column_name(history, "shifted column"), "standard errors": facts["shift errors"]},
        )


def _deduplicate(history: History) -> Iterator[Advice]:
    yield Advice("remove repeated rows, or split so that equal rows stay in one part")


@rule(
    severity="warning",
    title="Validation rows were trained on",
    source="deepchecks' TrainTestSamplesMix (5 %)",
    usual=0.05,
    advise=_deduplicate,
)
def shared_rows(history: History) -> Iterator[Sign]:
    """Rows of the validation part, target included, stand in the training part too.

    What was learned by heart counts as understood (score: the share of three or more of them; where columns have so few
    values that rows meet by chance, less the share of training rows that are repeated among themselves).
    """
    facts = history.facts
    if facts.get("shared rows", 0.0) * facts.get("validation rows", 0) > 2.5:
        by_chance = facts.get("finest column", 0.0) < _FINE or facts.get("rows a value", 0.0) > _OFTEN
        yield Sign(
            facts["shared rows"] - (facts["repeated rows"] if by_chance else 0.0),
            evidence={"shared": facts["shared rows"], "repeated in training": facts["repeated rows"]},
        )


def _mend_inputs(history: History) -> Iterator[Advice]:
    yield Advice("find the rows that hold NaN or infinity and mend or leave them out")


@rule(
    severity="error",
    title="Inputs hold NaN or infinity",
    source="traintools' BatchInspector",
    usual=0.5,
    advise=_mend_inputs,
    measured=False,
)
def nonfinite_inputs(history: History) -> Iterator[Sign]:
    """Some input is no finite number.

    One NaN in a batch makes every gradient of that batch NaN, and with it every weight.
    """
    if history.facts.get("finite") is False:
        yield Sign(1.0, evidence={"inputs": "not all of them finite"})


def _permute(history: History) -> Iterator[Advice]:
    yield Advice("exchange axes with permute(0, 3, 1, 2); view and reshape only read on in another shape")


@rule(
    severity="error",
    title="Numbers are read in the wrong order of axes",
    source="PyTorch's documentation of Tensor.permute and Tensor.view; Karpathy 2019, A Recipe for Training",
    usual=3.0,
    advise=_permute,
    measured=False,
)
def scrambled_inputs(history: History) -> Iterator[Sign]:
    """Inputs have their channels along another axis than their shape says.

    Where one channel differs from another, in brightness or spread, a row's numbers follow it. Here they follow the
    order that pictures [height, width, channels] have, while the shape says [channels, height, width]: the array was
    reshaped where its axes should have been exchanged, and every channel holds a scramble of all (score: variance over
    places that the other order tells, over what the order of the shape tells).
    """
    other, own = history.facts.get("told by other axes", 0.0), history.facts.get("told by own axes", 0.0)
    if other > 0.1:
        yield Sign(other / max(own, 0.02), evidence={"told by the other order": other, "by the shape's own": own})


RULES = (
    scrambled_inputs,
    unscaled_inputs,
    unscaled_target,
    classes_as_numbers,
    imbalanced_classes,
    leaked_target,
    shifted_parts,
    shared_rows,
    nonfinite_inputs,
)
