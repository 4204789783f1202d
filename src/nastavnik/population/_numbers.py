"""The numbers that differ from network to network of one population, by their names in a recipe."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import nn

from nastavnik.errors import UserError
from nastavnik.nets import Activation, RandomMask
from nastavnik.noise import stream_of
from nastavnik.recipe import Recipe
from nastavnik.space import is_share
from nastavnik.training import NOISE, Method
from nastavnik.training.losses import TrainingLoss
from nastavnik.training.optimizers import Tensors, concerns
from nastavnik.training.stopping import Action

_RATE = "rate"
_MOST = 0.99  # of a rate or a memory that an action makes larger


def stacked_settings(
    method: Method, recipes: Sequence[Recipe], parts: int, dtype: torch.dtype, device: torch.device, draws: bool
) -> Tensors:
    """The method's numbers [K], one a network (a candidate's networks share them), and streams of noise if needed.

    ``draws``: the networks themselves draw random numbers.
    """
    settings = {
        name: torch.tensor([r.number(name, default) for r in recipes for _ in range(parts)], dtype=dtype, device=device)
        for name, default in method.settings.items()
    }
    if method.noisy or draws:
        streams = [stream_of(r.whole("seed"), "training") for r in recipes for _ in range(parts)]
        settings[NOISE] = torch.tensor(streams, dtype=torch.int32, device=device)
    return settings


def buffers_of_settings(learner: nn.Module) -> dict[str, list[str]]:
    """Settings of the network and the loss that are buffers: the recipe's name, and the buffers that hold it."""
    found: dict[str, list[str]] = {}
    for name, module in learner.named_modules():
        if isinstance(module, RandomMask):
            found.setdefault(module.setting, []).append(f"{name}.{_RATE}")
        elif isinstance(module, (Activation, TrainingLoss)):
            section = "loss." if isinstance(module, TrainingLoss) else "network."
            for key in module.settings:
                if key in dict(module.named_buffers(recurse=False)):
                    found.setdefault(section + key, []).append(f"{name}.{key}")
    return found


def change_number(
    action: Action, networks: torch.Tensor, settings: Tensors, buffers: Tensors, names: Mapping[str, Sequence[str]]
) -> None:
    """Change one number of some networks.

    Args:
        action: which, and how.
        networks: a mask [K].
        settings: the method's numbers; the one that changes is replaced, as someone may still hold the old one.
        buffers: of all networks, changed in place.
        names: settings that are buffers, and which (``buffers_of_settings``).
    """
    held = [buffers[name] for name in names.get(action.setting, ())]
    share = (bool(held) and names[action.setting][0].endswith(f".{_RATE}")) or is_share(action.setting.split(".")[-1])
    for name in [name for name in settings if name.split("@")[0] == action.setting]:  # those of some parameters too
        settings[name] = settings[name].clone()
        held.append(settings[name])
    for t in held:
        if action.value is not None:
            t[networks] = action.value
        elif isinstance(action.factor, str):
            t[networks] *= settings[action.factor][networks]
        elif action.factor is not None:
            t[networks] *= action.factor
        if share:
            t[networks] = t[networks].clamp(0, _MOST)


def check_patterns(settings: Iterable[str], parameters: Tensors) -> None:
    """Refuse a number for some parameters only (``optimizer.learning_rate@bias``) when there are none of them.

    Raises:
        UserError: no parameter is of that kind or name.
    """
    for name in settings:
        pattern = name.partition("@")[2]
        # stacked: a network's own dimensions come after the first
        if pattern and not any(concerns(pattern, n, p[0]) for n, p in parameters.items()):
            raise UserError(f"{name}: no parameter is of kind or name {pattern!r}; there is {', '.join(parameters)}")
