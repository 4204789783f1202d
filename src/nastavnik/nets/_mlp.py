"""The multilayer perceptron for tables: embeddings of numbers and categories, then hidden layers."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import torch
from torch import nn

from nastavnik.nets._dropout import Dropout
from nastavnik.nets._embedding import PiecewiseLinear
from nastavnik.nets._family import Signature, activation, optimizer_choice
from nastavnik.recipe import Value
from nastavnik.space import Choice, Number, Space

_MOST_EMBEDDED = 8  # dimensions of a category's embedding
_FEW_INPUTS = 128  # beyond this many inputs (pixels) numbers enter as they are


class MlpNetwork(nn.Module):
    """Embeddings → (linear → normalization → activation → dropout) × depth → linear.

    Weights start from He's normal initialization (He et al. 2015; notes/001 U10), biases from zero, the output
    layer small, so that the first predictions are close to the target's mean (notes/004 I10).
    """

    def __init__(self, settings: Mapping[str, Value], signature: Signature) -> None:
        super().__init__()
        width, depth = int(settings["width"]), int(settings["depth"])
        self.residual = bool(settings["residual"])
        self.activate = activation(str(settings["activation"]))
        self.numbers: nn.Module = nn.Identity()
        features = signature.numbers
        if settings["embedding"] == "piecewise" and signature.numbers:
            self.numbers = PiecewiseLinear(int(settings["bins"]), signature.distinct, signature.examples)
            features = self.numbers.features
        sizes = [min(_MOST_EMBEDDED, k) for k in signature.cardinalities]
        self.categories = nn.ModuleList(
            nn.Embedding(k, size) for k, size in zip(signature.cardinalities, sizes, strict=True)
        )
        widths = [features + sum(sizes), *[width] * depth]
        centred = settings["normalization"] == "batch"  # it takes away any bias before it
        self.layers = nn.ModuleList(nn.Linear(a, b, bias=not centred) for a, b in itertools.pairwise(widths))
        self.norms = nn.ModuleList(_normalization(str(settings["normalization"]), width) for _ in range(depth))
        self.dropouts = nn.ModuleList(Dropout(float(settings["dropout"])) for _ in range(depth))
        self.output = nn.Linear(widths[-1], signature.outputs)
        self._initialize()

    def _initialize(self) -> None:
        for layer in self.layers:
            assert isinstance(layer, nn.Linear)
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        for table in self.categories:
            assert isinstance(table, nn.Embedding)
            nn.init.normal_(table.weight, std=0.3)
            with torch.no_grad():
                table.weight[0] = 0  # unseen: a neutral start, as training may never meet it
        nn.init.normal_(self.output.weight, std=0.5 * self.output.in_features**-0.5)
        nn.init.zeros_(self.output.bias)

    def forward(self, numbers: torch.Tensor, categories: torch.Tensor) -> torch.Tensor:
        """numbers [rows, d], categories [rows, c] -> [rows, outputs]."""
        parts = [self.numbers(numbers)]
        parts += [table(categories[:, j]) for j, table in enumerate(self.categories)]
        x = torch.cat(parts, dim=1) if len(parts) > 1 else parts[0]
        for layer, norm, dropout in zip(self.layers, self.norms, self.dropouts, strict=True):
            h = dropout(self.activate(norm(layer(x))))
            x = x + h if self.residual and x.shape == h.shape else h
        return self.output(x)


def _normalization(name: str, width: int) -> nn.Module:
    if name == "batch":
        return nn.BatchNorm1d(width)
    return nn.LayerNorm(width) if name == "layer" else nn.Identity()


class Mlp:
    """Multilayer perceptrons with numeric and categorical embeddings."""

    name = "mlp"
    linear = False

    def space(self, rows: int, inputs: int) -> Space:
        """Widths that the number of rows can feed; piecewise-linear embeddings where inputs are few."""
        widths = [32, 64, 128] if rows < 1000 else [64, 128, 256] if rows < 5000 else [128, 192, 256, 384]
        bins = Choice.of(4, 8, 16, default=8) if rows < 2000 else Choice.of(16, 32, 64, default=16)
        normalization = "none" if rows < 5000 else "batch"
        plain, piecewise = Space(fixed={"network.bins": 0}), Space({"network.bins": bins})
        if inputs > _FEW_INPUTS:
            embedding = Choice({"none": plain, "piecewise": piecewise}, default="none", searched=("none",))
        else:
            default = "none" if rows < 2000 else "piecewise"
            embedding = Choice({"none": plain, "piecewise": piecewise}, default=default)
        return Space(
            {
                "network.width": Choice.of(*widths, default=widths[-1] if 1000 <= rows < 5000 else widths[1]),
                "network.depth": Choice.of(1, 2, 3, default=2),
                "network.embedding": embedding,
                "network.activation": Choice.of(
                    "relu", "silu", "gelu", "tanh", default="relu", searched=("relu", "silu")
                ),
                "network.normalization": Choice.of("none", "layer", "batch", default=normalization),
                "network.residual": Choice.of(False, True, default=False),
                "network.dropout": Number(0.0, 0.5, default=0.3 if rows < 5000 else 0.2, below=1.0),
                "optimizer.name": optimizer_choice(),
            }
        )

    def build(self, settings: Mapping[str, Value], signature: Signature) -> nn.Module:
        """One multilayer perceptron."""
        return MlpNetwork(settings, signature)
