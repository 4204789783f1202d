"""The numbers that differ from network to network of one population, by their names in a recipe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import nn

from nastavnik.noise import stream_of
from nastavnik.recipe import Recipe
from nastavnik.training import NOISE, Method
from nastavnik.training.optimizers import Tensors
from nastavnik.training.stopping import Action

_LOSS = "loss."


def stacked_settings(
    method: Method, recipes: Sequence[Recipe], parts: int, dtype: torch.dtype, device: torch.device
) -> Tensors:
    """The method's numbers [K], one a network (a candidate's networks share them), and streams of noise if needed."""
    settings = {
        name: torch.tensor([r.number(name, default) for r in recipes for _ in range(parts)], dtype=dtype, device=device)
        for name, default in method.settings.items()
    }
    if method.noisy:
        streams = [stream_of(r.whole("seed"), "training") for r in recipes for _ in range(parts)]
        settings[NOISE] = torch.tensor(streams, dtype=torch.int32, device=device)
    return settings


def buffers_of_settings(learner: nn.Module) -> dict[str, list[str]]:
    """Settings of the network and the loss that are buffers: the recipe's name, and the buffers that hold it."""
    found: dict[str, list[str]] = {}
    for name, module in learner.named_modules():
        setting = getattr(module, "setting", None)
        if isinstance(setting, str) and hasattr(module, "rate"):
            found.setdefault(setting, []).append(f"{name}.rate")
        if name.split(".")[0] in ("loss", "network"):
            section = _LOSS if name.startswith("loss") else "network."
            for key in getattr(module, "settings", {}):
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
    if action.setting in settings:
        settings[action.setting] = settings[action.setting].clone()
        held = [settings[action.setting]]
    for t in held:
        if action.value is not None:
            t[networks] = action.value
        elif isinstance(action.factor, str):
            t[networks] *= settings[action.factor][networks]
        elif action.factor is not None:
            t[networks] *= action.factor
