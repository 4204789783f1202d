"""The convolutional family for pictures, joined with whatever stands beside them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import ClassVar

import torch
from torch import nn

from nastavnik.fields import Entry
from nastavnik.nets._bag import word_space
from nastavnik.nets._encoders import Convolutions, WordMean
from nastavnik.nets._family import Signature, initialization_nodes, optimizer_choice
from nastavnik.nets._mlp import Mlp, MlpNetwork, joint_space
from nastavnik.nets.activations import activation_choice
from nastavnik.recipe import Value
from nastavnik.space import Choice, Number, Space


class CnnNetwork(MlpNetwork):
    """Convolutions of each picture, means of each text's word vectors, beside the numbers; then hidden layers."""

    counts = False

    def encoder(self, entry: Entry, settings: Mapping[str, Value], examples: torch.Tensor | None) -> nn.Module:
        """By the field's sort."""
        if entry.sort == "picture":
            return Convolutions(entry, settings, examples)
        return WordMean(entry, settings) if entry.sort == "tokens" else super().encoder(entry, settings, examples)


class Cnn:
    """Convolutional networks: 3×3 convolutions in stages, each of half the size and twice the channels."""

    name = "cnn"
    linear = False
    needs = "picture"
    small: ClassVar[Mapping[str, Value]] = {**Mlp.small, "network.channels": 4, "network.stages": 2}

    def space(self, rows: int, inputs: int, sorts: Collection[str] = ()) -> Space:
        """More channels where there are more pictures; a hidden layer where something stands beside them."""
        channels = Choice.of(8, 16, 32, default=16) if rows < 5000 else Choice.of(16, 32, 48, default=32)
        return Space(
            {
                "network.channels": channels,
                "network.stages": Choice.of(2, 3, 4, default=3),
                "network.double": Choice.of(False, True, default=False),
                "network.activation": activation_choice("relu", ("relu", "silu")),
                "network.normalization": Choice.of("batch", "none", "layer", "group", default="batch"),
                "network.map_dropout": Number(0.0, 0.4, default=0.1, below=1.0),
                "optimizer.name": optimizer_choice(),
                **joint_space(rows, inputs, pure=inputs == 0),
                **(word_space(rows) if "tokens" in sorts else {}),
            },
            optional=initialization_nodes(),
        )

    def build(self, settings: Mapping[str, Value], signature: Signature) -> nn.Module:
        """One convolutional network."""
        return CnnNetwork(settings, signature)
