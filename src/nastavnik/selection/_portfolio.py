"""What a search over a table begins with: recipes that a study over many other tables found to serve best.

``benchmarks/portfolio.py`` is the study; ``benchmarks/results/portfolio.json`` holds what it saw. The first recipe is
the default, about which a sampler draws before it has learned anything; the others are trained beside it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from nastavnik.nets import WAVED_INPUTS
from nastavnik.recipe import Value
from nastavnik.selection.samplers import Keys
from nastavnik.space import Choice, Node, Number, Space, default_of
from nastavnik.targets import Target

_FAMILY = "mlp"  # that the study was made with


@dataclass(frozen=True)
class Start:
    """Settings of one recipe by dotted name; ``length`` is the training's, in usual ones."""

    settings: Mapping[str, Value]
    length: float = 1.0


def _start(structure: Mapping[str, Value], numbers: tuple[float, float, float, float], length: float = 1.0) -> Start:
    rate, decay, dropout, sigma = numbers
    own: dict[str, Value] = {f"network.{name}": value for name, value in structure.items()}
    own |= {"optimizer.learning_rate": rate, "optimizer.weight_decay": decay}
    return Start({**own, "network.dropout": dropout, "network.sigma": sigma}, length)


_WAVES: dict[str, Value] = {"embedding": "periodic", "activation": "mish", "normalization": "none"}
_CLASSES = (
    _start(_WAVES, (0.02, 0.03, 0.2, 0.1)),
    _start({**_WAVES, "activation": "relu", "normalization": "batch"}, (0.003, 0.1, 0.4, 0.5), 2.0),
)
_NUMBERS = (
    _start(_WAVES, (0.005, 0.01, 0.0, 0.3)),
    _start({**_WAVES, "normalization": "batch"}, (0.02, 0.03, 0.2, 0.1), 1 / 3),
    _start(
        {"embedding": "piecewise", "edges": "quantile", "activation": "relu", "normalization": "none"},
        (0.01, 0.1, 0.1, 0.5),
    ),
)


def portfolio(target: Target, inputs: int) -> tuple[Start, ...]:
    """The first recipes for a target of this kind, the best one first; none where waves of all inputs cost too much.

    Of the study's tables one had more than 30 inputs (pixels); there numbers as they are came within 0.0002 nats of the
    best with waves.
    """
    if inputs > WAVED_INPUTS:
        return ()
    return _CLASSES if target.suits_likelihoods[0] == "class" else _NUMBERS


def centred(space: Space, start: Start) -> Space:
    """A space whose defaults are a recipe's, as far as it has them."""
    nodes: dict[str, Node] = {}
    for name, node in space.nodes.items():
        value = start.settings.get(name)
        if isinstance(node, Number):
            nodes[name] = node
            if isinstance(value, (int, float)) and node.low <= value <= node.high:
                nodes[name] = replace(node, default=value)
        else:
            default = value if value is not None and value in node.options else node.default
            branches = {option: centred(branch, start) for option, branch in node.branches.items()}
            nodes[name] = Choice(branches, default, node.searched)
    return replace(space, nodes=nodes)


def first_points(space: Space, target: Target, inputs: int) -> list[Keys]:
    """The points of the portfolio after its first one, which is the default, as far as the space has them."""
    family = space.nodes.get("network.family")
    chosen = space.fixed.get("network.family") if family is None else default_of(family)
    if chosen != _FAMILY:
        return []
    found = []
    for start in portfolio(target, inputs)[1:]:
        keys: Keys = {}

        def answer(key: str, node: Node, start: Start = start, keys: Keys = keys) -> Value:
            keys[key] = _answer(key.rsplit("/", 1)[-1], node, start)
            return keys[key]

        space.draw(answer)
        found.append(keys)
    return found


def _answer(name: str, node: Node, start: Start) -> Value:
    """A recipe's answer where it has one that the node allows, else the default."""
    value, default = start.settings.get(name), default_of(node)
    if isinstance(node, Choice):
        return value if value is not None and value in node.options else default
    if name == "epochs" and isinstance(default, int):
        value = default * start.length
    if not isinstance(value, (int, float)) or node.step is not None:
        return default
    value = min(max(value, node.low), node.high)
    return round(value) if node.integer else float(value)
