"""The stage of a training, from curves whose shape is known."""

from __future__ import annotations

import numpy as np
import pytest

from nastavnik.mentor import STAGES, stage
from nastavnik.trace import History

STEPS = sorted({0, 1, 2, 4, 8, 16, *range(25, 801, 25)})


def curve(*losses: float) -> History:
    history = History()
    for step, loss in zip(STEPS, losses, strict=False):
        history.add("training rows' loss", step, loss)
    return history


def falling(scale: float, until: int = 800) -> History:
    """exp(−step / scale)."""
    return curve(*(float(np.exp(-s / scale)) for s in STEPS if s <= until))


@pytest.mark.parametrize(
    ("history", "name"),
    [
        (curve(*[1.0] * len(STEPS)), "start"),
        (curve(*(1 - s / 4000 for s in STEPS)), "inflation"),  # a straight line: half of it in the last doubling
        (falling(250), "compression"),
        (falling(130), "stabilization"),
        (falling(40), "stagnation"),
    ],
)
def test_the_stage_of_a_known_curve(history: History, name: str) -> None:
    found = stage(history)
    assert found is not None
    assert found.name == name
    assert found.name in STAGES


def test_stages_follow_one_another() -> None:
    names = [found.name for until in STEPS[8:] if (found := stage(falling(60, until))) is not None]
    places = [STAGES.index(name) for name in names]
    assert places == sorted(places)
    assert places[-1] == 4


def test_few_looks_have_no_stage() -> None:
    assert stage(curve(1.0, 0.9, 0.8)) is None
    assert stage(curve(*[float("nan")] * 8)) is None
