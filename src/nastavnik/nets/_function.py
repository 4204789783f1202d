"""A module as a function of its tensors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.func import functional_call


class Function:
    """Calls a module with given tensors, each by its first name however many places of the module it stands in.

    (``functional_call`` alone leaves a given tensor behind in a module that stands in two places itself.)
    """

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        tensors = (*module.named_parameters(), *module.named_buffers())
        names = {id(t): name for name, t in tensors}
        self._places = {
            f"{start}.{key}".lstrip("."): names[id(t)]
            for start, m in module.named_modules()
            for key, t in (*m._parameters.items(), *m._buffers.items())
            if t is not None
        }

    def __call__(
        self, tensors: dict[str, torch.Tensor], inputs: tuple[Any, ...], options: Mapping[str, Any] | None = None
    ) -> Any:
        """What the module says with these tensors; a buffer to which it assigns another is another in ``tensors``."""
        given = {place: tensors[name] for place, name in self._places.items() if name in tensors}
        found = functional_call(self.module, given, inputs, dict(options or {}), tie_weights=False)
        for place, t in given.items():
            if t is not tensors[self._places[place]]:
                tensors[self._places[place]] = t
        return found
