"""The first layers for what is more than a number: pictures, texts as tokens, arrays. Each gives some features a row.

What an encoder must know of training rows (means, deviations) is a buffer of its own, so that all folds share one
tensor of raw pixels or tokens.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn
from torch.nn import functional as F

from nastavnik.errors import UserError, nearest
from nastavnik.fields import UNKNOWN, Entry
from nastavnik.nets._dropout import ChannelDropout, Dropout
from nastavnik.nets._normalization import NORMALIZATIONS
from nastavnik.nets._standard import Standard
from nastavnik.nets.activations import make_activation
from nastavnik.recipe import Value

_FLAT_SIDE = 32  # pixels of a side that enter one by one
_LEAST_SIDE = 4  # of a map that is still halved
_PAIRS = 2**15  # places that pairs of neighbouring words share


class Flat(nn.Module):
    """Pixels or an array as numbers; of large pictures the means of squares, so that a side has at most 32."""

    def __init__(self, entry: Entry, examples: torch.Tensor | None) -> None:
        super().__init__()
        self.standard = Standard(entry, examples)
        self.squares = 1
        self.features = entry.size
        if entry.sort == "picture":
            height, width, channels = entry.shape
            self.squares = -(-max(height, width) // _FLAT_SIDE)
            self.features = channels * -(-height // self.squares) * -(-width // self.squares)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x [rows, …] -> [rows, features]."""
        z = self.standard(x)
        if self.squares > 1:
            z = F.avg_pool2d(z, self.squares, ceil_mode=True)
        return z.flatten(1)


class Convolutions(nn.Module):
    """(3×3 convolution → normalization → activation → the larger half) × depth, then the mean over all places.

    Each stage has twice the channels of the one before, from ``channels`` on; with ``double`` it convolves twice.
    """

    def __init__(self, entry: Entry, settings: Mapping[str, Value], examples: torch.Tensor | None) -> None:
        super().__init__()
        self.standard = Standard(entry, examples)
        height, width, inputs = entry.shape
        channels, double = int(settings["channels"]), bool(settings["double"])
        name = str(settings["normalization"])
        known = [n for n, kind in NORMALIZATIONS.items() if kind.maps(channels) is not None]
        if name not in known:
            raise UserError(f"network.normalization cannot be {name!r} after convolutions{nearest(name, known)}")
        normalization = NORMALIZATIONS[name]
        self.further_products = 0  # a row's multiplications beyond one for each weight: what its time grows with
        self.stages = nn.ModuleList()
        self.halves: list[bool] = []
        for stage in range(int(settings["stages"])):
            outputs = channels * 2**stage
            layers: list[nn.Module] = []
            for start in (inputs, outputs)[: 2 if double else 1]:
                layers.append(nn.Conv2d(start, outputs, 3, padding=1, bias=not normalization.centres))
                self.further_products += 9 * start * outputs * (height * width - 1)
                layers += [normalization.maps(outputs) or nn.Identity(), make_activation(settings)]
            self.stages.append(nn.Sequential(*layers))
            self.halves.append(min(height, width) >= _LEAST_SIDE)
            if self.halves[-1]:
                height, width = height // 2, width // 2
            inputs = outputs
        self.dropout = ChannelDropout(float(settings["map_dropout"]))
        self.dropout.setting = "network.map_dropout"
        self.features = inputs

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x [rows, height, width, channels] -> [rows, features]."""
        z = self.standard(x)
        for stage, halved in zip(self.stages, self.halves, strict=True):
            z = stage(z)
            if halved:
                z = F.max_pool2d(z, 2)
        return self.dropout(z).mean((2, 3))


class WordMean(nn.Module):
    """The mean of the vectors of a text's words, and of its pairs of neighbours, which share some places by chance.

    Joulin et al. 2017, "Bag of tricks for efficient text classification". Whole words are left out at random in
    training.
    """

    def __init__(self, entry: Entry, settings: Mapping[str, Value]) -> None:
        super().__init__()
        self.features = int(settings["vector"])
        self.levels, self.pairs = entry.levels, bool(settings["pairs"]) and entry.shape[0] > 1
        self.words = nn.Embedding(entry.levels + (_PAIRS if self.pairs else 0), self.features)
        self.dropout = Dropout(float(settings["word_dropout"]))
        self.dropout.setting = "network.word_dropout"
        nn.init.normal_(self.words.weight, std=0.1)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """tokens int32 [rows, length] -> [rows, features]."""
        places = tokens.long()
        known = (places > UNKNOWN).to(self.words.weight.dtype)
        if self.pairs:
            first, second = places[:, :-1], places[:, 1:]
            both = ((first > 0) & (second > 0)).to(known.dtype)
            places = torch.cat([places, self.levels + (first * 92_821 + second * 31) % _PAIRS], dim=1)
            known = torch.cat([known, both], dim=1)
        weights = self.dropout(known)
        total = (self.words(places) * weights[..., None]).sum(1)
        return total / known.sum(1, keepdim=True).clamp(min=1.0)
