"""The FT-Transformer: every input of a row is a token, and the tokens attend to each other (Gorishniy et al. 2021,
"Revisiting deep learning models for tabular data")."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import ClassVar

import torch
from torch import nn

from nastavnik.errors import UserError
from nastavnik.nets._dropout import Dropout
from nastavnik.nets._encoders import Flat
from nastavnik.nets._family import Signature, optimizer_choice
from nastavnik.recipe import Value
from nastavnik.space import Choice, Number, Space

_HIDDEN = 4 / 3  # units of a feed-forward block for each of a token's numbers: those that the gates leave


class Tokens(nn.Module):
    """A vector of each input, the first one learned and read at the end: [rows, tokens, width].

    A number is its vector times itself plus a bias, a category a vector of its level plus a bias. The words of a text
    are one token, a picture or an array is another.
    """

    def __init__(self, signature: Signature, width: int) -> None:
        super().__init__()
        self.plain, self.ranges = signature.plain, signature.bags
        self.reading = nn.Parameter(_evenly(width))
        self.weight, self.bias = nn.Parameter(_evenly(self.plain, width)), nn.Parameter(_evenly(self.plain, width))
        self.levels = nn.ModuleList(nn.Embedding(k, width) for k in signature.cardinalities)
        for table in self.levels:
            assert isinstance(table, nn.Embedding)
            table.weight.data = _evenly(*table.weight.shape)
        self.level_bias = nn.Parameter(_evenly(len(self.levels), width))
        self.bags = nn.ModuleList(nn.Linear(stop - start, width) for start, stop in self.ranges)
        examples = signature.examples
        self.fields = nn.ModuleList(
            nn.Identity() if entry.sort == "tokens" else Flat(entry, None if examples is None else examples[2 + i])
            for i, entry in enumerate(signature.entries)
        )
        flat = [field for field in self.fields if isinstance(field, Flat)]
        self.dense = nn.ModuleList(nn.Linear(field.features, width) for field in flat)
        self.count = 1 + self.plain + len(self.levels) + len(self.bags) + len(flat)

    def forward(self, numbers: torch.Tensor, categories: torch.Tensor, *fields: torch.Tensor) -> torch.Tensor:
        """numbers [rows, d], categories [rows, c], fields [rows, …] -> [rows, tokens, width]."""
        parts = [self.reading.expand(len(numbers), 1, -1)]
        parts.append(numbers[:, : self.plain, None] * self.weight + self.bias)
        parts += [(table(categories[:, j]) + self.level_bias[j])[:, None] for j, table in enumerate(self.levels)]
        parts += [bag(numbers[:, a:b])[:, None] for bag, (a, b) in zip(self.bags, self.ranges, strict=True)]
        flat = [f(x) for f, x in zip(self.fields, fields, strict=True) if isinstance(f, Flat)]
        parts += [dense(x)[:, None] for dense, x in zip(self.dense, flat, strict=True)]
        return torch.cat(parts, dim=1)


class Attention(nn.Module):
    """Every token asks the others, by several heads side by side (Vaswani et al. 2017, "Attention is all you need")."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value, self.output = (nn.Linear(width, width) for _ in range(4))
        for layer in (self.query, self.key, self.value, self.output):
            nn.init.zeros_(layer.bias)
        self.dropout = Dropout(dropout)
        self.dropout.setting = "network.attention_dropout"

    def forward(self, asking: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        """asking [rows, a, width], tokens [rows, t, width] -> [rows, a, width]."""
        query, key, value = (
            layer(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for layer, x in ((self.query, asking), (self.key, tokens), (self.value, tokens))
        )
        shares = torch.softmax(query @ key.transpose(-1, -2) / math.sqrt(query.shape[-1]), dim=-1)
        return self.output((self.dropout(shares) @ value).transpose(1, 2).flatten(2))


class Gated(nn.Module):
    """A hidden layer half of which opens the other half: a · max(0, b) (Shazeer 2020, "GLU variants improve
    transformer")."""

    def __init__(self, width: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(width, 2 * hidden), nn.Linear(hidden, width)
        self.dropout = Dropout(dropout)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x [..., width] -> [..., width]."""
        a, b = self.first(x).chunk(2, dim=-1)
        return self.second(self.dropout(a * torch.relu(b)))


class Block(nn.Module):
    """Attention and a gated hidden layer, each beside a bypass and behind a layer normalization; the first block of a
    network does without its first one.
    """

    def __init__(self, settings: Mapping[str, Value], *, first: bool) -> None:
        super().__init__()
        width = int(settings["width"])
        self.before: nn.Module = nn.Identity() if first else nn.LayerNorm(width)
        self.attention = Attention(width, int(settings["heads"]), float(settings["attention_dropout"]))
        self.between = nn.LayerNorm(width)
        self.hidden = Gated(width, int(width * _HIDDEN), float(settings["dropout"]))

    def forward(self, tokens: torch.Tensor, asking: int) -> torch.Tensor:
        """tokens [rows, t, width] -> the first ``asking`` of them, changed."""
        normed = self.before(tokens)
        x = tokens[:, :asking] + self.attention(normed[:, :asking], normed)
        return x + self.hidden(self.between(x))


class FtTransformerNetwork(nn.Module):
    """Tokens → blocks → layer normalization → ReLU → linear, of the token that is there to be read."""

    def __init__(self, settings: Mapping[str, Value], signature: Signature) -> None:
        super().__init__()
        width, heads, depth = int(settings["width"]), int(settings["heads"]), int(settings["depth"])
        if width % heads:
            raise UserError(f"network.width must be a multiple of network.heads, but got {width} and {heads}")
        self.tokens = Tokens(signature, width)
        self.blocks = nn.ModuleList(Block(settings, first=i == 0) for i in range(depth))
        self.normalization = nn.LayerNorm(width)
        self.output = nn.Linear(width, signature.outputs)
        weights = sum(p.numel() for p in self.blocks.parameters())
        # a block's weights act on each token, and every token meets every other
        self.further_products = (self.tokens.count - 1) * weights + depth * 2 * self.tokens.count**2 * width

    def forward(self, numbers: torch.Tensor, categories: torch.Tensor, *fields: torch.Tensor) -> torch.Tensor:
        """numbers [rows, d], categories [rows, c], fields [rows, …] -> [rows, outputs]."""
        x = self.tokens(numbers, categories, *fields)
        for i, block in enumerate(self.blocks):
            x = block(x, 1 if i == len(self.blocks) - 1 else self.tokens.count)
        return self.output(torch.relu(self.normalization(x[:, 0])))


def _evenly(*shape: int) -> torch.Tensor:
    bound = shape[-1] ** -0.5
    return torch.empty(shape).uniform_(-bound, bound)


class FtTransformer:
    """The FT-Transformer, whose inputs attend to each other: its time grows with the square of their number."""

    name = "ft_transformer"
    linear = False
    needs = ""
    on_request = True
    small: ClassVar[Mapping[str, Value]] = {"network.width": 16, "network.depth": 1, "network.heads": 2}

    def space(self, rows: int, inputs: int, sorts: Collection[str] = ()) -> Space:
        """About the published default of three blocks; narrower and shallower for few rows."""
        few = rows < 5000
        rate = Number(3e-5, 1e-3, log=True, default=3e-4 if few else 1e-4)
        decay = Number(1e-6, 1e-3, log=True, default=1e-5)
        return Space(
            {
                "network.width": Choice.of(64, 96, 128, 192, default=96 if few else 192),
                "network.depth": Choice.of(1, 2, 3, default=2 if few else 3),
                "network.heads": Choice.of(8, default=8),
                "network.dropout": Number(0.0, 0.5, default=0.1, below=1.0),
                "network.attention_dropout": Number(0.0, 0.5, default=0.2, below=1.0),
                "optimizer.name": optimizer_choice(rate, decay),
            }
        )

    def build(self, settings: Mapping[str, Value], signature: Signature) -> nn.Module:
        """One FT-Transformer.

        Raises:
            UserError: a width that the heads do not divide.
        """
        return FtTransformerNetwork(settings, signature)
