"""When to stop, and what to do instead: best-so-far with patience, on a linear or a logarithmic axis of steps."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from nastavnik.errors import UserError, nearest
from nastavnik.recipe import Recipe
from nastavnik.space import Choice, Node, Number

RULES = ("patience", "log_steps", "never")
WATCHED = ("loss", "metric", "evidence")


class Action(NamedTuple):
    """A change of one number of a training: ``factor`` times as large, or set to ``value``.

    ``factor`` may be the name of another setting, so that it differs from network to network.
    """

    setting: str
    factor: float | str | None = None
    value: float | None = None


@dataclass(frozen=True)
class Stopping:
    """A rule that looks at evaluations of validation rows.

    ``rule``: "patience" stops after ``patience`` evaluations without a better one (Nielsen 2015: 10 at first, 20 or 50
    when a network is better known); "log_steps" when ``factor`` times as many steps as the best
    moment took have passed, for generalization that comes late (grokking: Power et al. 2022); "never" not at all.
    ``watch``: "loss"; "metric": the share of errors, or the root mean square error of real targets; or "evidence": what
    the training rows and the entropy of the descent say, without validation rows (needs ``optimizer.entropy``).
    ``actions`` are done on a plateau instead of stopping, at most ``most`` times.
    """

    rule: str = "patience"
    patience: int | None = None
    factor: float = 2.0
    watch: str = "loss"
    actions: tuple[Action, ...] = ()
    most: int = 3

    @classmethod
    def of(cls, recipe: Recipe, patience: int | None) -> Stopping:
        """Read a recipe's stopping section; ``patience`` is what holds where it says nothing.

        Raises:
            UserError: an action that cannot be read, or evidence is watched without the entropy it needs.
        """
        given = recipe.section("stopping")
        actions = parse_actions(str(given.get("on_plateau", "")))
        if recipe.get("schedule.name") == "plateau":
            actions += (Action("optimizer.learning_rate", "schedule.factor"),)
            patience = None if patience is None else max(2, patience // 2)
        rule = str(given.get("rule", "patience"))
        waits = given.get("patience", 10 if actions and patience is None else patience)
        if given.get("watch") == "evidence" and "optimizer.entropy" not in recipe:
            raise UserError("stopping.watch=evidence needs the entropy of the descent; pin optimizer.entropy=1 too")
        return cls(
            rule,
            None if waits is None else int(waits),
            float(given.get("factor", cls.factor)),
            str(given.get("watch", "loss")),
            actions,
            int(given.get("most", cls.most)),
        )

    def stale(self, waited: np.ndarray, best_step: np.ndarray, step: int, every: int = 1) -> np.ndarray:
        """Which candidates [C] have gone too long without a better evaluation.

        Args:
            waited: evaluations since the best one.
            best_step: when that was.
            step: now.
            every: steps between two evaluations; those that came faster while the end was near do not count for more.
        """
        if self.rule == "never" or (self.rule == "patience" and self.patience is None):
            return np.zeros(len(waited), dtype=bool)
        if self.rule == "patience":
            assert self.patience is not None
            return (waited >= self.patience) & (step - best_step >= self.patience * every)
        return (waited > 0) & (step > self.factor * np.maximum(best_step, 1))


def parse_actions(text: str) -> tuple[Action, ...]:
    """``"optimizer.learning_rate*0.5; network.dropout=0.3"`` as actions.

    Raises:
        UserError: a part without a sign or a number.
    """
    actions = []
    for part in filter(None, (p.strip() for p in text.split(";"))):
        sign = "=" if "=" in part else "*"
        name, found, number = (word.strip() for word in part.rpartition(sign))  # a pattern may hold stars
        try:
            value = float(number)
        except ValueError:
            value = math.nan
        if not found or not name or not math.isfinite(value):
            raise UserError(
                f"stopping.on_plateau {part!r} is no NAME*FACTOR or NAME=VALUE, such as optimizer.learning_rate*0.5"
            )
        actions.append(Action(name, value) if sign == "*" else Action(name, value=value))
    return tuple(actions)


def stopping_nodes() -> dict[str, Node]:
    """What a space may pin under ``stopping``."""
    return {
        "stopping.rule": Choice.of(*RULES),
        "stopping.patience": Number(10, 50, integer=True, default=10, least=1),
        "stopping.factor": Number(1.5, 10.0, default=2.0, least=1.0),
        "stopping.watch": Choice.of(*WATCHED),
        "stopping.most": Number(1, 10, integer=True, default=3, least=1),
    }


def check_known(actions: tuple[Action, ...], known: Mapping[str, object]) -> None:
    """Refuse an action on what is no number of the training.

    Raises:
        UserError: it is none.
    """
    for action in actions:
        if action.setting not in known:
            raise UserError(
                f"stopping.on_plateau names {action.setting!r}, which is no number of this training"
                f"{nearest(action.setting, known)}"
            )
