"""TabM: many perceptrons that share most of their weights (Gorishniy et al. 2025, "TabM: advancing tabular deep
learning with parameter-efficient ensembling")."""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Mapping
from typing import ClassVar

import torch
from torch import nn

from nastavnik.nets._dropout import Dropout
from nastavnik.nets._family import Signature, optimizer_choice
from nastavnik.nets._mlp import FEW_INPUTS, MlpNetwork, embedding_branches
from nastavnik.nets.activations import activation_choice, make_activation
from nastavnik.recipe import Value
from nastavnik.space import Choice, Number, Space


class SharedLinear(nn.Module):
    """One matrix for all members, and vectors of each: what its inputs and outputs are multiplied by, and its bias.

    y_k = s_k ∘ (W (r_k ∘ x_k)) + b_k (Wen et al. 2020, "BatchEnsemble"). Members begin alike, but for the ``first``
    layer, whose r are random signs: so Gorishniy et al. (2025).
    """

    def __init__(self, members: int, inputs: int, outputs: int, *, first: bool) -> None:
        super().__init__()
        bound = 1 / math.sqrt(max(1, inputs))
        self.weight = nn.Parameter(torch.empty(outputs, inputs).uniform_(-bound, bound))
        signs = torch.randint(0, 2, (members, inputs)).float() * 2 - 1
        self.r = nn.Parameter(signs if first else torch.ones(members, inputs))
        self.s = nn.Parameter(torch.ones(members, outputs))
        self.bias = nn.Parameter(torch.empty(outputs).uniform_(-bound, bound).repeat(members, 1))
        self.further_products = (members - 1) * inputs * outputs  # the matrix is used once for each member

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x [rows, members, inputs] -> [rows, members, outputs]."""
        rows, members, _ = x.shape
        y = (x * self.r).reshape(rows * members, -1) @ self.weight.T
        return y.reshape(rows, members, -1) * self.s + self.bias


class TabmNetwork(MlpNetwork):
    """Features as of a perceptron → (shared linear → activation → dropout) × depth → a linear layer of each member.

    Its outputs are the members' side by side; ``members`` tells the engine how many there are.
    """

    def __init__(self, settings: Mapping[str, Value], signature: Signature) -> None:
        super().__init__({**settings, "depth": 0, "normalization": "none", "residual": False}, signature)
        width, depth, self.members = int(settings["width"]), int(settings["depth"]), int(settings["members"])
        widths = [self.features, *[width] * depth]
        self.layers = nn.ModuleList(
            SharedLinear(self.members, a, b, first=i == 0) for i, (a, b) in enumerate(itertools.pairwise(widths))
        )
        self.activations = nn.ModuleList(make_activation(settings) for _ in range(depth))
        self.dropouts = nn.ModuleList(Dropout(float(settings["dropout"])) for _ in range(depth))
        del self.output
        bound = 1 / math.sqrt(max(1, widths[-1]))
        shape = (self.members, widths[-1], signature.outputs)
        self.heads = nn.Parameter(torch.empty(shape).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(self.members, signature.outputs).uniform_(-bound, bound))

    def forward(self, numbers: torch.Tensor, categories: torch.Tensor, *fields: torch.Tensor) -> torch.Tensor:
        """numbers [rows, d], categories [rows, c], fields [rows, …] -> [rows, members * outputs]."""
        x = self.entered(numbers, categories, *fields)
        x = x[:, None].expand(x.shape[0], self.members, x.shape[1])
        for layer, activation, dropout in zip(self.layers, self.activations, self.dropouts, strict=True):
            x = dropout(activation(layer(x)))
        return (torch.einsum("nkd,kdo->nko", x, self.heads) + self.bias).flatten(1)


class Tabm:
    """TabM, whose 32 members by default cost as many perceptrons in time, and little more than one in memory."""

    name = "tabm"
    linear = False
    needs = ""
    on_request = True
    small: ClassVar[Mapping[str, Value]] = {"network.width": 16, "network.depth": 1, "network.members": 4}

    def space(self, rows: int, inputs: int, sorts: Collection[str] = ()) -> Space:
        """Widths that the number of rows can feed; rates and decay about the published ones."""
        bins = Choice.of(4, 8, 16, default=8) if rows < 2000 else Choice.of(16, 32, 64, default=16)
        searched: tuple[Value, ...] = ("none",) if inputs > FEW_INPUTS else ("none", "piecewise", "periodic")
        rate = Number(3e-4, 1e-2, log=True, default=2e-3)
        decay = Number(1e-4, 0.1, log=True, default=3e-4)
        return Space(
            {
                "network.members": Choice.of(8, 16, 32, default=32, searched=(32,)),
                "network.width": Choice.of(*((64, 128) if rows < 2000 else (128, 256, 512)), default=128),
                "network.depth": Choice.of(1, 2, 3, default=2),
                "network.embedding": Choice(embedding_branches(bins), default="none", searched=searched),
                "network.activation": activation_choice("relu", ("relu",)),
                "network.dropout": Number(0.0, 0.5, default=0.1, below=1.0),
                "optimizer.name": optimizer_choice(rate, decay),
            },
            optional={"network.scaling": Choice.of(False, True, default=False)},
        )

    def build(self, settings: Mapping[str, Value], signature: Signature) -> nn.Module:
        """One TabM network."""
        return TabmNetwork(settings, signature)
