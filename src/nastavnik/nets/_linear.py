"""The family of depth 0: linear, logistic and softmax regression are its three faces (notes/004 I4, I8, I9)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import nn

from nastavnik.nets._family import Signature, optimizer_choice
from nastavnik.recipe import Value
from nastavnik.space import Number, Space


class LinearNetwork(nn.Module):
    """outputs = numbers · W + b + one weight vector per category value; starts at zero, which is safe here:
    the loss is convex."""

    def __init__(self, signature: Signature) -> None:
        super().__init__()
        self.weights = nn.Linear(signature.numbers, signature.outputs)
        self.categories = nn.ModuleList(nn.Embedding(k, signature.outputs) for k in signature.cardinalities)
        for parameter in self.parameters():
            nn.init.zeros_(parameter)

    def forward(self, numbers: torch.Tensor, categories: torch.Tensor) -> torch.Tensor:
        """numbers [rows, d], categories [rows, c] -> [rows, outputs]."""
        total = self.weights(numbers)
        for j, table in enumerate(self.categories):
            total = total + table(categories[:, j])
        return total


class Linear:
    """Linear models, fitted by gradient descent like everything else."""

    name = "linear"
    linear = True
    small: ClassVar[Mapping[str, Value]] = {}

    def space(self, rows: int, inputs: int) -> Space:
        """Rate and decay only; decay may be strong, where ridge regression would be."""
        rate = Number(1e-3, 0.1, log=True, default=0.02)
        decay = Number(1e-4, 10.0, log=True, default=0.05)
        return Space({"optimizer.name": optimizer_choice(rate, decay)})

    def build(self, settings: Mapping[str, Value], signature: Signature) -> nn.Module:
        """One linear network."""
        return LinearNetwork(signature)
