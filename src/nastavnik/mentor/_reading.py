"""What several rules ask of a history."""

from __future__ import annotations

from typing import Any

import numpy as np

from nastavnik.trace import History

FITTED = 0.97  # of the way from chance to perfect: such training rows are fitted
_TINY = 1e-12
CLEARLY = 0.2  # of the way from chance to perfect: no chance, even if it was still there a look before
_WELL = 0.9  # of the way from chance to perfect
_LESS = 0.97  # of the loss of saying the classes' shares: what is below knows more than them
_SEEN = 0.5  # of the steps taken: with looks up to there, something may be said of how a training went


def matrices(history: History) -> list[dict[str, Any]]:
    """The layers that have a weight matrix, in the order they run."""
    return [layer for layer in history.facts.get("layers", []) if layer["role"] == "weights"]


def hidden(history: History) -> list[str]:
    """Names of those before the last."""
    return [layer["name"] for layer in matrices(history)[:-1]]


def column_name(history: History, fact: str) -> str:
    """The column whose number a fact tells: by its name, by the number where columns have no names."""
    number, names = history.facts.get(fact), history.facts.get("column names", [])
    if number is None:
        return "that column"
    return f"column {names[number]!r}" if 0 <= number < len(names) else f"column number {number}, counted from 0"


def chance(history: History) -> float:
    """The score of saying the same of every row: the share of the commonest class; 0 for R²."""
    return max(history.facts.get("class shares", [0.0]), default=0.0)


def moving(history: History) -> bool:
    """Whether the loss rests on another network that is trained as well: what it was says nothing of what it is now."""
    moved = history.series("moving loss")
    return bool(len(moved)) and float(np.median(moved)) > 0.5


def seen(history: History) -> bool:
    """Whether how the training went can be read from its losses: looks went on long enough, and the loss stood still.

    Instruments may have gone blind on the way, by a fault of their own.
    """
    steps, taken = history.steps("batch loss"), history.facts.get("steps taken", 0)
    return not moving(history) and not (len(steps) and steps[-1] + 1 < _SEEN * taken)


def fared_well(history: History) -> float | None:
    """The skill on the rows of the part that is known worse, at the end, where it is nearly all there is to have."""
    known = [np.nan_to_num(skills(history, part)[-3:], nan=-1.0) for part in ("training", "validation")]
    least = min((float(np.median(k)) for k in known if len(k)), default=0.0)
    return least if len(known[0]) and least >= _WELL else None


def skills(history: History, part: str) -> np.ndarray:
    """The score of one part's rows as a share of the way from chance (0) to perfect (1), look by look."""
    if not seen(history):
        return np.zeros(0)
    base = chance(history)
    return (history.series(f"{part} rows' score") - base) / max(1 - base, _TINY)


def losses(history: History, part: str = "training") -> np.ndarray:
    """The loss of one part's rows, look by look."""
    return history.series(f"{part} rows' loss") if seen(history) else np.zeros(0)


def beats_shares(history: History, part: str) -> bool:
    """Whether a part's rows lost clearly less, at three looks in a row, than saying how common each class is would."""
    shares = np.array(history.facts.get("class shares", []))
    held = losses(history, part)
    if not len(shares) or len(held) < 3 or history.facts.get("expects") not in ("logits", "log probabilities"):
        return False
    known = shares[shares > 0]
    least = np.lib.stride_tricks.sliding_window_view(held, 3).max(1).min()
    return bool(least < _LESS * float(-(known * np.log(known)).sum()))


def at(history: History, instrument: str, share: float, layer: str = "") -> float:
    """The value at the last look within the first ``share`` of the training; NaN where nothing was measured."""
    steps, values = history.steps(instrument, layer), history.series(instrument, layer)
    if not len(values):
        return float("nan")
    return float(values[max(0, np.searchsorted(steps, share * steps[-1], side="right") - 1)])


def late(history: History, instrument: str, layer: str = "", share: float = 0.5) -> np.ndarray:
    """The values of the later part of the training."""
    steps, values = history.steps(instrument, layer), history.series(instrument, layer)
    taken = history.facts.get("steps taken", 0)
    if len(steps) and steps[-1] + 1 < _SEEN * taken:
        return np.zeros(0)  # they end before it
    return values[steps >= share * steps[-1]] if len(values) else values


def early(history: History, instrument: str, layer: str = "", share: float = 0.25) -> np.ndarray:
    """The values of the first part of the training, at least three looks."""
    steps, values = history.steps(instrument, layer), history.series(instrument, layer)
    return values[: max(3, int((steps <= share * steps[-1]).sum()))] if len(values) else values


def whole_norm(history: History, instrument: str) -> np.ndarray:
    """The length over all layers of what is measured layer by layer, at the looks that all of them share."""
    layers = history.layers(instrument)
    if not layers:
        return np.zeros(0)
    shared = set.intersection(*(set(history.steps(instrument, layer).tolist()) for layer in layers))
    total = np.zeros(len(shared))
    with np.errstate(over="ignore", invalid="ignore"):
        for layer in layers:
            steps = history.steps(instrument, layer).tolist()
            own = dict(zip(steps, history.series(instrument, layer).tolist(), strict=True))
            total += np.array([own[step] for step in sorted(shared)]) ** 2
    return np.sqrt(total)


def span(history: History, instrument: str, layer: str = "") -> tuple[int, int] | None:
    """The first and the last step of an instrument."""
    steps = history.steps(instrument, layer)
    return (int(steps[0]), int(steps[-1])) if len(steps) else None


def since(history: History, instrument: str, threshold: float, layer: str = "") -> tuple[int, int] | None:
    """From the first step at which a series reached a threshold."""
    steps, values = history.steps(instrument, layer), history.series(instrument, layer)
    reached = np.flatnonzero(values >= threshold)
    return (int(steps[reached[0]]), int(steps[-1])) if len(reached) else None


def recipe_value(history: History, name: str, default: float) -> float:
    """A number of the recipe."""
    value = history.facts.get("recipe", {}).get(name, default)
    return float(value) if isinstance(value, (int, float)) else default
