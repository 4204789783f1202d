"""The multilayer perceptron for tables: embeddings of numbers and categories, then hidden layers."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping
from typing import ClassVar

import torch
from torch import nn
from torch.nn import functional as F

from nastavnik.errors import UserError, nearest
from nastavnik.fields import Entry
from nastavnik.nets._dropout import BY_PROGRESS, DROPOUTS, BranchDropout, Dropout, WeightDropout
from nastavnik.nets._embedding import Periodic, PiecewiseLinear
from nastavnik.nets._encoders import Flat
from nastavnik.nets._family import Signature, initialization_nodes, optimizer_choice
from nastavnik.nets._normalization import NORMALIZATIONS, Normalization, WeightNormLinear
from nastavnik.nets._scaling import PARAMETRIZATIONS, Scaling, TangentLinear, layer_maker
from nastavnik.nets.activations import activation_choice, make_activation
from nastavnik.nets.initializers import initialize
from nastavnik.recipe import Value
from nastavnik.space import Choice, Node, Number, Space

_MOST_EMBEDDED = 8  # dimensions of a category's embedding, where it has few levels
_FEW_LEVELS = 50
_BAG = 16  # dimensions that the words of a text are brought to
FEW_INPUTS = 128  # beyond this many inputs (pixels) numbers enter as they are
WAVED_INPUTS = 32  # up to this many, numbers have waves unless told: each brings four features, and weights for them


class MlpNetwork(nn.Module):
    """Embeddings → (linear → normalization → activation → dropout) × depth → linear.

    Every field has an encoder, whose features stand beside the numbers; here pixels and arrays enter as they are, and
    texts by their counted words.

    Weights start as the activation asks for, biases from zero, the output layer small, so that the
    first predictions are close to the target's mean. With ``residual``, each hidden layer of as many
    outputs as inputs adds to what it is given, times a learned gate that starts at 1.
    """

    def __init__(self, settings: Mapping[str, Value], signature: Signature) -> None:
        super().__init__()
        width, depth = int(settings["width"]), int(settings["depth"])
        self.numbers: nn.Module = nn.Identity()
        features = signature.plain
        if settings["embedding"] == "piecewise" and signature.plain:
            bins, edges = int(settings["bins"]), str(settings.get("edges", "quantile"))
            self.numbers = PiecewiseLinear(bins, signature.distinct[: signature.plain], signature.bins(bins, edges))
            features = self.numbers.features
        elif settings["embedding"] == "periodic" and signature.plain:
            self.numbers = Periodic(signature.plain, int(settings["bins"]), float(settings["sigma"]), signature.span)
            features = self.numbers.features
        self.encoders = nn.ModuleList(
            self.encoder(entry, settings, None if signature.examples is None else signature.examples[2 + i])
            for i, entry in enumerate(signature.entries)
        )
        told = [] if self.counts else [entry.counted for entry in signature.entries]
        self.plain = signature.plain
        self.ranges = tuple(r for r in signature.bags if r not in told)
        self.bags = nn.ModuleList(nn.Linear(stop - start, _BAG, bias=False) for start, stop in self.ranges)
        features += _BAG * len(self.bags) + sum(int(getattr(e, "features", 0)) for e in self.encoders)
        sizes = [_embedding_size(k) for k in signature.cardinalities]
        self.categories = nn.ModuleList(
            nn.Embedding(k, size) for k, size in zip(signature.cardinalities, sizes, strict=True)
        )
        self.features = features + sum(sizes)
        widths = [self.features, *[width] * depth]
        self.before: nn.Module = Scaling(widths[0]) if settings.get("scaling", False) else nn.Identity()
        if "input_dropout" in settings:
            silenced = Dropout(float(settings["input_dropout"]))
            silenced.setting = "network.input_dropout"
            self.before = nn.Sequential(self.before, silenced) if isinstance(self.before, Scaling) else silenced
        normalization = _normalization(str(settings["normalization"]))
        make_layer = layer_maker(str(settings.get("parametrization", "standard")), normalization)
        self.activations = nn.ModuleList(make_activation(settings) for _ in range(depth))
        pieces = make_activation(settings).expansion
        self.layers = nn.ModuleList(make_layer(a, b * pieces) for a, b in itertools.pairwise(widths))
        self.norms = nn.ModuleList(normalization.make(width * pieces, settings) for _ in range(depth))
        kind = DROPOUTS[str(settings.get("dropout_kind", Dropout.name))]
        schedule = str(settings.get("dropout_schedule", "constant"))
        self.dropouts = nn.ModuleList(kind(float(settings["dropout"]), schedule) for _ in range(depth))
        self.residual = bool(settings["residual"])
        if self.residual:
            self.gates = nn.Parameter(torch.ones(depth))
        ntp = settings.get("parametrization", "standard") == "ntp"
        self.output = (TangentLinear if ntp else nn.Linear)(widths[-1], signature.outputs)
        initialize(self, {}, None)
        for table in self.categories:
            assert isinstance(table, nn.Embedding)
            nn.init.normal_(table.weight, std=0.3)
            with torch.no_grad():
                table.weight[0] = 0  # unseen: a neutral start, as training may never meet it
        for bag in self.bags:
            assert isinstance(bag, nn.Linear)
            nn.init.normal_(bag.weight, std=0.1)

    counts = True  # whether the counted words of texts are taken, too, where there are tokens

    def encoder(self, entry: Entry, settings: Mapping[str, Value], examples: torch.Tensor | None) -> nn.Module:
        """What makes features of one field; one without ``features`` leaves it out."""
        return nn.Identity() if entry.sort == "tokens" else Flat(entry, examples)

    def forward(self, numbers: torch.Tensor, categories: torch.Tensor, *fields: torch.Tensor) -> torch.Tensor:
        """numbers [rows, d], categories [rows, c], fields [rows, …] -> [rows, outputs]."""
        x = self.entered(numbers, categories, *fields)
        for i, layer in enumerate(self.layers):
            h = self._hidden(i, layer, x)
            x = x + self.gates[i] * h if self.residual and x.shape == h.shape else h
        return self.output(x)

    def entered(self, numbers: torch.Tensor, categories: torch.Tensor, *fields: torch.Tensor) -> torch.Tensor:
        """All inputs, encoded and side by side [rows, features]."""
        parts = [self.numbers(numbers[:, : self.plain] if self.plain < numbers.shape[1] else numbers)]
        encoded = zip(self.encoders, fields, strict=True)
        parts += [encoder(x) for encoder, x in encoded if hasattr(encoder, "features")]
        parts += [bag(numbers[:, a:b]) for bag, (a, b) in zip(self.bags, self.ranges, strict=True)]
        parts += [table(categories[:, j]) for j, table in enumerate(self.categories)]
        x = torch.cat(parts, dim=1) if len(parts) > 1 else parts[0]
        return self.before(x)

    def _hidden(self, i: int, layer: nn.Module, x: torch.Tensor) -> torch.Tensor:
        """One hidden layer; dropout of weights acts on its matrix, that of branches only where there is a bypass."""
        dropout = self.dropouts[i]
        if isinstance(dropout, WeightDropout) and dropout.training:
            assert isinstance(layer, nn.Linear)
            weight = layer.effective() if isinstance(layer, (WeightNormLinear, TangentLinear)) else layer.weight
            return self.activations[i](self.norms[i](F.linear(x, dropout(weight), layer.bias)))
        h = self.activations[i](self.norms[i](layer(x)))
        if isinstance(dropout, BranchDropout) and not (self.residual and x.shape == h.shape):
            return h
        return dropout(h)


def _embedding_size(levels: int) -> int:
    """Dimensions of a category's embedding: more levels, more of them."""
    return min(_MOST_EMBEDDED, levels) if levels <= _FEW_LEVELS else min(2 * _MOST_EMBEDDED, round(levels**0.5))


def _normalization(name: str) -> type[Normalization]:
    if name not in NORMALIZATIONS:
        raise UserError(f"network.normalization cannot be {name!r}{nearest(name, NORMALIZATIONS)}")
    return NORMALIZATIONS[name]


def normalization_choice(default: str) -> Choice:
    branches: dict[Value, Space] = {
        name: Space(optional={f"network.{key}": Choice.of(*options) for key, options in kind.choices.items()})
        for name, kind in NORMALIZATIONS.items()
    }
    # layer normalization is drawn only when asked for: compiled, its step takes several times as long
    return Choice(branches, default=default, searched=("none", "batch"))


def joint_space(rows: int, inputs: int, *, pure: bool) -> dict[str, Node]:
    """The hidden layers behind encoders: none by default where a field is all there is (``pure``)."""
    bins = Choice.of(4, 8, 16, default=8) if rows < 2000 else Choice.of(16, 32, 64, default=16)
    branches = embedding_branches(bins)
    searched: tuple[Value, ...] = ("none",) if inputs > FEW_INPUTS or pure else tuple(branches)
    return {
        "network.depth": Choice.of(0, 1, 2, default=0 if pure else 1),
        "network.width": Choice.of(32, 64, 128, default=64),
        "network.embedding": Choice(branches, default="none", searched=searched),
        "network.residual": Choice.of(False, default=False),
        "network.dropout": Number(0.0, 0.5, default=0.2, below=1.0),
    }


def embedding_branches(bins: Choice) -> dict[Value, Space]:
    """How numbers may enter; ``network.bins`` is what each becomes at most."""
    return {
        "none": Space(fixed={"network.bins": 0}),
        "piecewise": Space(
            {"network.bins": bins, "network.edges": Choice.of("quantile", "target", default="quantile")}
        ),
        "periodic": Space(
            {
                "network.bins": Choice.of(4, default=4),
                "network.sigma": Number(0.02, 2.0, log=True, default=0.1, below=100.0),
            }
        ),
    }


class Mlp:
    """Multilayer perceptrons with numeric and categorical embeddings."""

    name = "mlp"
    linear = False
    needs = ""
    small: ClassVar[Mapping[str, Value]] = {
        "network.width": 16,
        "network.depth": 1,
        "network.embedding": "none",
        "network.dropout": 0.0,
    }

    def space(self, rows: int, inputs: int, sorts: Collection[str] = ()) -> Space:
        """Widths that the number of rows can feed; waves or bins of numbers where inputs are few."""
        widths = [32, 64, 128] if rows < 1000 else [64, 128, 256] if rows < 5000 else [128, 192, 256]
        widths += [384] if rows >= 20_000 else []
        bins = Choice.of(4, 8, 16, default=8) if rows < 2000 else Choice.of(16, 32, 64, default=16)
        branches = embedding_branches(bins)
        if inputs > FEW_INPUTS:
            embedding = Choice(branches, default="none", searched=("none",))
        else:
            embedding = Choice(branches, default="periodic" if inputs <= WAVED_INPUTS else "none")
        return Space(
            {
                "network.width": Choice.of(
                    *widths, default=128 if rows >= 5000 else widths[-1] if rows >= 1000 else widths[1]
                ),
                "network.depth": Choice.of(1, 2, 3, default=2),
                "network.embedding": embedding,
                "network.activation": activation_choice("mish", ("mish", "relu", "silu")),
                "network.normalization": normalization_choice("none"),
                "network.residual": Choice.of(False, True, default=False),
                "network.dropout": Number(0.0, 0.5, default=0.3 if rows < 5000 else 0.2, below=1.0),
                "optimizer.name": optimizer_choice(),
            },
            optional={
                "network.input_dropout": Number(0.0, 0.5, default=0.1, below=1.0),
                "network.scaling": Choice.of(False, True, default=False),
                "network.parametrization": Choice.of(*PARAMETRIZATIONS, default="standard"),
                "network.dropout_kind": Choice.of(*DROPOUTS, default=Dropout.name),
                "network.dropout_schedule": Choice.of(*BY_PROGRESS, default="constant"),
                **initialization_nodes(),
            },
        )

    def build(self, settings: Mapping[str, Value], signature: Signature) -> nn.Module:
        """One multilayer perceptron."""
        return MlpNetwork(settings, signature)
