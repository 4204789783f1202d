"""Several players that move in turn, each by its own part of the loss."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch

from nastavnik.training.optimizers._base import Tensors, concerns
from nastavnik.training.optimizers._wrapper import Wrapper


class Turns(Wrapper):
    """Moves parameters in turn: those of turn t on every n-th step only, the others stand still meanwhile.

    ``turns@network.critic.*`` is the turn of the parameters of that name, ``turns`` that of all others, from 0;
    ``turns_of`` is how many turns there are. Each player's moments and step number are those of its own moves.
    """

    name = "turns"
    formula = "w_t, s_t of turn t: one step of the inner optimizer where step mod n = t, else as they are"
    prefer = "where parts of a network play against each other, such as a generator and its critic"
    source = "Goodfellow et al. 2014"
    settings: ClassVar[Mapping[str, float]] = {"turns": 0.0, "turns_of": 2.0}
    by_parameter = ("turns",)

    def slots_of(self, parameters: Tensors) -> Tensors:
        """The number of steps."""
        return {"step": next(iter(parameters.values())).new_zeros(())}

    def update(
        self, gradients: Tensors, state: Tensors, parameters: Tensors, settings: Tensors
    ) -> tuple[Tensors, Tensors]:
        """See ``formula``."""
        step, players = self.own(state)["step"], settings["turns_of"]
        rounds = torch.floor(step / players)
        before = {**state, "steps": rounds} if "steps" in state else state
        moved, inner = self.inner.update(gradients, before, parameters, settings)
        now = step - rounds * players
        plays = {name: _turn(name, p, settings) == now for name, p in parameters.items()}
        kept = {}
        for key, t in inner.items():
            owner = max((name for name in parameters if key.endswith(f".{name}")), key=len, default=None)
            kept[key] = t if owner is None else torch.where(plays[owner], t, state[key])
        new = {name: torch.where(plays[name], w, parameters[name]) for name, w in moved.items()}
        return new, self.joined(kept, {"step": step + 1})


def _turn(name: str, parameter: torch.Tensor, settings: Tensors) -> torch.Tensor:
    """When a parameter moves."""
    turn = settings["turns"]
    for key, value in settings.items():
        if key.startswith("turns@") and concerns(key.partition("@")[2], name, parameter):
            turn = value
    return turn
