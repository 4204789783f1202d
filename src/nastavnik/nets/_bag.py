"""The family of averaged word vectors for texts, joined with whatever stands beside them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import ClassVar

import torch
from torch import nn

from nastavnik.fields import Entry
from nastavnik.nets._encoders import WordMean
from nastavnik.nets._family import Signature, initialization_nodes, optimizer_choice
from nastavnik.nets._mlp import Mlp, MlpNetwork, joint_space, normalization_choice
from nastavnik.nets.activations import activation_choice
from nastavnik.recipe import Value
from nastavnik.space import Choice, Node, Number, Space


class BagNetwork(MlpNetwork):
    """Means of each text's word vectors, beside numbers and flattened pictures; then hidden layers."""

    counts = False

    def encoder(self, entry: Entry, settings: Mapping[str, Value], examples: torch.Tensor | None) -> nn.Module:
        """By the field's sort."""
        return WordMean(entry, settings) if entry.sort == "tokens" else super().encoder(entry, settings, examples)


def word_space(rows: int) -> dict[str, Node]:
    """How texts are read, of so many training rows."""
    return {
        "network.vector": Choice.of(16, 32, 64, default=32) if rows < 20_000 else Choice.of(32, 64, 128, default=64),
        "network.pairs": Choice.of(False, True, default=False),
        "network.word_dropout": Number(0.0, 0.7, default=0.5, below=1.0),
    }


class Bag:
    """Averaged embeddings: a vector for each word, their mean for a text."""

    name = "bag"
    linear = False
    needs = "tokens"
    small: ClassVar[Mapping[str, Value]] = {**Mlp.small, "network.vector": 8, "network.pairs": False}

    def space(self, rows: int, inputs: int, sorts: Collection[str] = ()) -> Space:
        """Vectors that the number of rows can feed; a hidden layer or none."""
        return Space(
            {
                **word_space(rows),
                "network.activation": activation_choice("relu", ("relu", "silu")),
                "network.normalization": normalization_choice("none"),
                "optimizer.name": optimizer_choice(),
                **joint_space(rows, inputs, pure=inputs <= 1),
            },
            optional=initialization_nodes(),
        )

    def build(self, settings: Mapping[str, Value], signature: Signature) -> nn.Module:
        """One network of averaged vectors."""
        return BagNetwork(settings, signature)
