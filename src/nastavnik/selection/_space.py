"""The space of recipes for a table: each family's branch, and the plan of training that its size asks for."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from nastavnik.data import Columns
from nastavnik.errors import UserError, nearest
from nastavnik.nets import FAMILIES, Family
from nastavnik.recipe import Value
from nastavnik.selection._portfolio import centred, portfolio
from nastavnik.space import Choice, Node, Number, Space, around, default_of, refined
from nastavnik.targets import Target
from nastavnik.training.losses import LOSSES
from nastavnik.training.optimizers import OPTIMIZERS, WRAPPERS, SecondOrder
from nastavnik.training.regularizers import REGULARIZERS
from nastavnik.training.schedules import SCHEDULES
from nastavnik.training.stopping import parse_actions, stopping_nodes

_MOST_STEPS = 2400  # of a training, where rows do not ask for more
_MOST_ROWS = 512  # of a batch for second-order optimizers
_FULL_STEPS = 40  # epochs of such a training
_NEEDED = {"picture": "pictures", "tokens": "texts"}
_OF_WORDS: dict[str, Node] = {  # where a table holds such columns
    "preparation.categories": Choice.of("auto", "embedding", "means", default="auto"),
    "preparation.text": Choice.of("auto", "words", "none", default="auto"),
}
_LIKELIHOOD = ("likelihood.name", "likelihood.noise", "likelihood.freedom")


def table_space(
    rows: int,
    inputs: int,
    *,
    families: Sequence[Family] = (),
    target: Target,
    pinned: Mapping[str, Value] | None = None,
    given: Space | None = None,
    alternatives: Mapping[str, Value] | None = None,
    sorts: Collection[str] = (),
) -> Space:
    """What a search over a table with so many training rows and inputs draws from.

    Args:
        rows: training rows.
        inputs: prepared number inputs.
        families: the families to search; by default all of the table.
        target: what is predicted: which losses and likelihoods suit it.
        pinned: dotted names with given values (``--set``); what is pinned is not searched.
        given: a user's own space, in place of what the tree has under the same names; pinned values go before it.
        alternatives: by the name of a preparation that is not plain by default, the plain one, to be tried beside it.
        sorts: what sorts of fields the table has.

    Raises:
        UserError: a pinned or given name or value that the tree does not have.
    """
    usual = [f for f in FAMILIES.values() if not getattr(f, "on_request", False)]
    chosen = list(families) or [f for f in usual if not f.needs or f.needs in sorts]
    given = given or Space()
    pins = {**given.fixed, **(pinned or {})}
    searched = _searched(given, pins)
    _refuse_run_choices(searched)
    others = {n: v for n, v in (alternatives or {}).items() if n not in pins and n not in searched.names()}
    whole = _wants_all_rows(pins, searched)
    branches: dict[Value, Space] = {family.name: _branch(family, rows, inputs, sorts) for family in chosen}
    starts = portfolio(target, inputs)
    if "mlp" in branches and starts:
        branches["mlp"] = centred(branches["mlp"], starts[0])
    if whole:  # curvature needs small networks
        branches = {f.name: branches[f.name].pin({n: v for n, v in f.small.items() if n not in pins}) for f in chosen}
    batch = min(rows, _MOST_ROWS) if whole else 32 if rows < 1000 else 64 if rows < 5000 else 128
    batch = 256 if rows >= 10_000 and not whole else batch
    special = [family.name for family in chosen if family.needs]
    default = special[0] if special else "mlp" if "mlp" in branches else chosen[0].name
    nodes: dict[str, Node] = {
        "network.family": Choice(branches, default=default),
        "schedule.name": _with_settings("schedule", SCHEDULES, "constant" if whole else "cosine"),
        "batch_size": Number(2, 65536, log=True, integer=True, default=batch, least=2),
        "epochs": _lengths(_FULL_STEPS if whole else default_epochs(rows, batch)),
        "preparation.numbers": Choice.of("auto", "standard", "robust", "quantile", "identity", default="auto"),
        **{n: node for n, node in _OF_WORDS.items() if n in others or n in pins or n in searched.names()},
    }
    drawn = {"network.family"} if whole else {"network.family", "epochs"}
    settled = {name: default_of(node) for name, node in nodes.items() if name not in drawn}
    nodes |= _with_plain(nodes, others, settled)
    nodes["loss.name"] = _with_settings("loss", {name: LOSSES[name] for name in target.losses()}, target.usual_loss)
    settled["loss.name"] = default_of(nodes["loss.name"])
    if target.transforms():
        targets = {"preparation.target": Choice.of("auto", "identity", "log", "yeo-johnson", default="auto")}
        settled["preparation.target"] = "auto"
        nodes |= {**targets, **_with_plain(targets, others, settled)}
    if target.has_noise:
        settled["likelihood.noise"] = "learned"
    settled |= _likelihood_pins(pins, target)
    _refuse_orphans({**dict.fromkeys(searched.names(), 0.0), **pins}, whole)
    if "stopping.on_plateau" in pins:  # words of their own
        settled["stopping.on_plateau"] = pins.pop("stopping.on_plateau")
        parse_actions(str(settled["stopping.on_plateau"]))
    tree = _tree(Space(nodes, optional=_optional()), searched, settled, pins)
    return tree.with_fixed({n: v for n, v in settled.items() if n not in nodes})


def _branch(family: Family, rows: int, inputs: int, sorts: Collection[str]) -> Space:
    return family.space(rows, inputs, sorts) if sorts else family.space(rows, inputs)


def _with_plain(nodes: Mapping[str, Node], others: Mapping[str, Value], settled: dict[str, Value]) -> dict[str, Node]:
    """The choices that are left open between the default and the plain option; they are settled no more."""
    found: dict[str, Node] = {}
    for name, node in nodes.items():
        if name in others and isinstance(node, Choice):
            found[name] = Choice(node.branches, node.default, (settled.pop(name), others[name]))
    return found


def simplest(space: Space) -> Space:
    """The part of a space that holds its simplest family: the linear one where there is one."""
    node = space.nodes.get("network.family")
    if not isinstance(node, Choice):
        return space
    return space.pin({"network.family": "linear" if "linear" in node.options else node.options[0]})


def _searched(given: Space, pins: dict[str, Value]) -> Space:
    """What is left to search: of a choice that is pinned, what hangs below the pinned value."""
    nodes: dict[str, Node] = {}
    for name, node in given.nodes.items():
        if name not in pins:
            nodes[name] = node
        elif isinstance(node, Choice) and pins[name] in node.branches:
            branch = node.branches[pins[name]]
            below = _searched(Space(branch.nodes), pins)
            nodes |= below.nodes
            pins |= {n: v for n, v in branch.fixed.items() if n not in pins}
    return Space({name: node for name, node in nodes.items() if name not in pins})


def _tree(space: Space, searched: Space, settled: Mapping[str, Value], pins: Mapping[str, Value]) -> Space:
    """Pinned choices open their branches first, so that the user's space can speak of what lies below them."""
    choices = {n: v for n, v in pins.items() if "@" not in n and any(isinstance(x, Choice) for x in space.named(n))}
    own, known = set(searched.names()), set(space.names())
    opened = space.pin(choices)
    for name in own & known - set(opened.names()):
        raise UserError(f"{name} would have no effect: {space.owner_of(name)}")
    tree = refined(opened, searched)
    usual = {n: v for n, v in settled.items() if n in space.nodes and n not in own and n not in choices}
    tree = tree.pin({**usual, **{n: v for n, v in pins.items() if n not in choices}})
    live = set(tree.names(live=True))
    for name in own:
        if name not in live:
            raise UserError(f"{name} would have no effect: {space.owner_of(name)}")
    return tree


def _refuse_run_choices(searched: Space) -> None:
    """Refuse to search what a whole run shares: likelihoods of different kinds are not compared."""
    for name in searched.names():
        if name.startswith("likelihood."):
            raise UserError(f"{name} is one choice for a whole run, so that scores can be compared; give it one value")


def _wants_all_rows(pins: Mapping[str, Value], searched: Space) -> bool:
    """Whether a second-order optimizer is among those that may be drawn."""
    names = str(pins.get("optimizer.name", "")).split(",")
    node = searched.nodes.get("optimizer.name")
    names += [str(option) for option in node.options] if isinstance(node, Choice) else []
    return any(issubclass(OPTIMIZERS[name.strip()], SecondOrder) for name in names if name.strip() in OPTIMIZERS)


def _with_settings(section: str, table: Mapping[str, type[Any]], default: str) -> Choice:
    """A choice among a table's entries, each with its own numbers below it; of the default's, a search draws none."""
    branches: dict[Value, Space] = {}
    for name, entry in table.items():
        ranges: dict[str, Node] = {f"{section}.{key}": around(key, value) for key, value in entry.settings.items()}
        if name == "label_smoothing":
            branches[name] = Space({"loss.label_smoothing": Number(0.0, 0.2, default=0.05, below=1.0)})
        else:
            branches[name] = Space(optional=ranges)
    return Choice(branches, default=default)


def _optional() -> dict[str, Node]:
    """What any recipe may have beside: regularizers, wrappers of the optimizer, warm-up, stopping."""
    nodes: dict[str, Node] = {
        "schedule.warmup": Number(0.01, 0.3, default=0.1, below=1.0),
        "regularization.schedule": Choice.of(*SCHEDULES, default="constant"),
        "optimizer.memory": Number(0.1, 16.0, default=0.25),
        **stopping_nodes(),
    }
    for entry in REGULARIZERS.values():
        for key, value in entry.settings.items():
            nodes[f"regularization.{key}"] = around(key, value, signed=entry.signed)
    for wrapper in WRAPPERS.values():
        nodes |= {f"optimizer.{key}": around(key, value) for key, value in wrapper.settings.items()}
    return nodes


def _refuse_orphans(pins: Mapping[str, Value], whole: bool) -> None:
    """Refuse what would be left without effect: a further number of a wrapper or regularizer that is not named."""
    for section, table in (("optimizer", WRAPPERS), ("regularization", REGULARIZERS)):
        for name, entry in table.items():
            for key in entry.settings:
                if f"{section}.{key}" in pins and f"{section}.{name}" not in pins:
                    raise UserError(
                        f"{section}.{key} would have no effect: it belongs to {section}.{name}; pin that too"
                    )
            if section == "optimizer" and whole and f"optimizer.{name}" in pins:
                raise UserError(f"optimizer.{name} goes round first-order optimizers only, not those of second order")
    if "regularization.schedule" in pins and not any(f"regularization.{name}" in pins for name in REGULARIZERS):
        raise UserError("regularization.schedule would have no effect: no regularizer is pinned")


def _likelihood_pins(pins: dict[str, Value], target: Target) -> dict[str, Value]:
    """Take the likelihood's settings out of the pins: they are one choice for a whole run."""
    found = {name: pins.pop(name) for name in list(pins) if name.startswith("likelihood.")}
    for name, value in found.items():
        if name == "likelihood.noise":
            found[name] = _noise(value, target)
        elif name == "likelihood.freedom":
            if found.get("likelihood.name") != "student_t":
                raise UserError("likelihood.freedom belongs to likelihood.name=student_t; pin that too")
            if isinstance(value, (bool, str)) or not value > 0:
                raise UserError(f"likelihood.freedom must be a positive number, but got {value!r}")
            found[name] = float(value)
        elif name != "likelihood.name":
            raise UserError(f"there is no setting '{name}' in a recipe{nearest(name, _LIKELIHOOD)}")
    return found


def _lengths(usual: int) -> Number:
    """How long a training may be: from half of the usual to four times as long."""
    return Number(max(1, usual // 2), 4 * usual, log=True, integer=True, default=usual, least=1)


def default_epochs(rows: int, batch: int) -> int:
    """At most about 2,400 steps, fewer where rows are few, and never fewer than 15 passes over the rows."""
    steps = min(_MOST_STEPS, 250 + round(0.6 * rows))
    return max(15, round(steps / max(1, rows // batch)))


def families_named(names: Sequence[str]) -> list[Family]:
    """The families of these names.

    Raises:
        UserError: a name that is not in the table.
    """
    for name in names:
        if name not in FAMILIES:
            raise UserError(f"there is no family {name!r}{nearest(name, FAMILIES)}")
    return [FAMILIES[name] for name in names]


def families_for(names: Sequence[str], columns: Columns) -> list[Family]:
    """The families of these names, or those that suit what the columns hold.

    Raises:
        UserError: a name that is not in the table, or a family for what is not there.
    """
    sorts = {own.sort for own in columns.fields.values()}
    known = families_named(names or tuple(n for n, f in FAMILIES.items() if not getattr(f, "on_request", False)))
    fitting = [family for family in known if not family.needs or family.needs in sorts]
    if not names and "picture" in sorts:  # pixels that enter one by one say less, and are a baseline
        return [family for family in fitting if family.needs == "picture"]
    lacking = [family for family in known if family not in fitting]
    if names and lacking:
        what = _NEEDED[lacking[0].needs]
        raise UserError(f"the family {lacking[0].name} needs a column of {what}, and this table has none")
    return fitting


def _noise(value: Value, target: Target) -> Value:
    if not target.has_noise:
        what = "a class" if target.strata(np.zeros(0)) is not None else f"of kind {target.kind}"
        raise UserError(f"likelihood.noise belongs to regression; this target is {what}")
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if value in ("learned", "input") or (number and 0 < float(value) < math.inf):
        return value
    raise UserError(f"likelihood.noise must be 'learned', 'input' or a positive number, but got {value!r}")
