"""The family of depth 0: linear, logistic and softmax regression are its three faces."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Mapping
from typing import ClassVar

import torch
from torch import nn

from nastavnik.fields import UNKNOWN
from nastavnik.nets._encoders import Flat
from nastavnik.nets._family import Signature, optimizer_choice
from nastavnik.recipe import Value
from nastavnik.space import Number, Space


def _fields(signature: Signature) -> list[nn.Module]:
    """Pictures and arrays as numbers, a weight vector for each word of texts."""
    found: list[nn.Module] = []
    for i, entry in enumerate(signature.entries):
        examples = None if signature.examples is None else signature.examples[2 + i]
        words = entry.sort == "tokens"
        found.append(nn.Embedding(entry.levels, signature.outputs) if words else Flat(entry, examples))
    return found


def _line(inputs: int, outputs: int) -> nn.Linear:
    """A linear layer; torch warns of one without inputs, which is the constant that it should be."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return nn.Linear(inputs, outputs)


def _words(weights: nn.Embedding, places: torch.Tensor) -> torch.Tensor:
    """The sum over a text's known words, over the root of their number, as if their counts had length 1."""
    known = (places > UNKNOWN).to(weights.weight.dtype)
    return (weights(places) * known[..., None]).sum(1) / known.sum(1, keepdim=True).clamp(min=1.0).sqrt()


class LinearNetwork(nn.Module):
    """outputs = numbers · W + b + one weight vector per category value; starts at zero, which is safe here:
    the loss is convex."""

    def __init__(self, signature: Signature) -> None:
        super().__init__()
        self.fields = nn.ModuleList(_fields(signature))
        told = [entry.counted for entry in signature.entries]  # words are not counted twice
        self.ranges = tuple(r for r in signature.bags if r not in told)
        self.plain = signature.plain
        width = (
            self.plain
            + sum(b - a for a, b in self.ranges)
            + sum(flat.features for flat in self.fields if isinstance(flat, Flat))
        )
        self.weights = _line(width, signature.outputs)
        self.categories = nn.ModuleList(nn.Embedding(k, signature.outputs) for k in signature.cardinalities)
        for parameter in self.parameters():  # not what fields are centred and scaled by
            nn.init.zeros_(parameter)

    def forward(self, numbers: torch.Tensor, categories: torch.Tensor, *fields: torch.Tensor) -> torch.Tensor:
        """numbers [rows, d], categories [rows, c], fields [rows, …] -> [rows, outputs]."""
        flat = [layer(x) for layer, x in zip(self.fields, fields, strict=True) if isinstance(layer, Flat)]
        plain = [numbers if self.plain == numbers.shape[1] else numbers[:, : self.plain]]
        parts = [*plain, *(numbers[:, a:b] for a, b in self.ranges), *flat]
        total = self.weights(torch.cat(parts, dim=1) if len(parts) > 1 else parts[0])
        for layer, tokens in zip(self.fields, fields, strict=True):
            if isinstance(layer, nn.Embedding):
                total = total + _words(layer, tokens.long())
        for j, table in enumerate(self.categories):
            total = total + table(categories[:, j])
        return total


class Linear:
    """Linear models, fitted by gradient descent like everything else."""

    name = "linear"
    linear = True
    needs = ""
    small: ClassVar[Mapping[str, Value]] = {}

    def space(self, rows: int, inputs: int, sorts: Collection[str] = ()) -> Space:
        """Rate and decay only; decay may be strong, where ridge regression would be."""
        rate = Number(1e-3, 0.1, log=True, default=0.02)
        decay = Number(1e-4, 10.0, log=True, default=0.05)
        return Space({"optimizer.name": optimizer_choice(rate, decay)})

    def build(self, settings: Mapping[str, Value], signature: Signature) -> nn.Module:
        """One linear network."""
        return LinearNetwork(signature)
