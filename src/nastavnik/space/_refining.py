"""A tree with another's nodes in place of its own: what a user's space says of a family's default."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from nastavnik.errors import UserError, nearest
from nastavnik.recipe import Value
from nastavnik.space._space import MOST_WHOLE, Choice, Node, Number, Space, as_number, one_of

_Wanted = Mapping[str, "Node | Value"]


def refined(space: Space, given: Space) -> Space:
    """``space`` with what ``given`` says under the same names, wherever they stand; the rest as it was.

    A choice keeps the options that ``given`` names, and what ``given`` hangs below an option holds in that branch only.

    Raises:
        UserError: a name or option the tree does not have, or one that stands in no branch that can be chosen.
    """
    known = set(space.names())
    for name in given.names():
        if name not in known:
            raise UserError(f"there is no setting '{name}' in a recipe{nearest(name, sorted(known))}")
    used: set[str] = set()
    found = _refined(space, {**given.nodes, **given.fixed}, used)
    for name in given.names():
        if name not in used:
            raise UserError(f"{name} would have no effect where the space puts it: it belongs to another branch")
    return found


def _refined(space: Space, wanted: _Wanted, used: set[str]) -> Space:
    nodes: dict[str, Node] = {}
    fixed = dict(space.fixed)
    optional = {name: node for name, node in space.optional.items() if name not in wanted}
    for name in fixed.keys() & wanted.keys():
        raise UserError(f"{name} is settled as {fixed[name]!r} and cannot be searched; leave it out")
    for name, node in {**space.nodes, **{n: v for n, v in space.optional.items() if n in wanted}}.items():
        if name not in wanted:
            nodes[name] = _below(node, wanted, {}, used) if isinstance(node, Choice) else node
            continue
        used.add(name)
        asked = wanted[name]
        if isinstance(asked, (Number, Choice)):
            nodes[name] = _replaced(name, asked, node, wanted, used)
        elif isinstance(node, Number):
            fixed[name] = as_number(name, asked, node)
        else:
            value = one_of(name, asked, list(node.branches))
            chosen = _refined(node.branches[value], wanted, used) if value in node.branches else Space()
            fixed |= {name: value, **chosen.fixed}
            nodes |= chosen.nodes
            optional |= chosen.optional
    return Space(nodes, fixed, optional)


def _below(node: Choice, wanted: _Wanted, own: Mapping[Value, _Wanted], used: set[str]) -> Choice:
    drawn = set(node.options)
    branches = {
        value: _refined(branch, {**wanted, **own.get(value, {})}, used) if value in drawn else branch
        for value, branch in node.branches.items()
    }
    return Choice(branches, node.default, node.searched)


def _replaced(name: str, asked: Node, node: Node, wanted: _Wanted, used: set[str]) -> Node:
    if isinstance(asked, Number):
        return _number(name, asked, node)
    if isinstance(node, Number):
        if any(branch.nodes or branch.fixed for branch in asked.branches.values()):
            raise UserError(f"{name} is a number here; nothing can hang below its values")
        return Choice.of(*(as_number(name, value, node) for value in asked.options), default=asked.default)
    options = {one_of(name, value, list(node.branches)): branch for value, branch in asked.branches.items()}
    whole = Choice(
        {**node.branches, **{value: Space() for value in options if value not in node.branches}},
        asked.default if asked.default is not None else node.default if node.default in options else None,
        tuple(options),
    )
    own: dict[Value, _Wanted] = {value: {**b.nodes, **b.fixed} for value, b in options.items()}
    return _below(whole, wanted, own, used)


def _number(name: str, asked: Number, node: Node) -> Number:
    """The asked range, if the tree's node may take its ends."""
    try:
        if isinstance(node, Choice):
            if not all(isinstance(v, int) and not isinstance(v, bool) for v in node.branches):
                raise UserError(f"it is a choice of {', '.join(map(str, node.branches))}; write a list of options")
            if not 1 <= asked.low <= asked.high <= MOST_WHOLE:
                raise UserError(
                    f"it must be a whole number from 1 to {MOST_WHOLE:,}, but got {asked.low:g} to {asked.high:g}"
                )
            return replace(asked, integer=True)
        found = replace(asked, integer=node.integer or asked.integer, below=node.below, least=node.least)
    except UserError as error:
        raise UserError(f"{name}: {error}") from error
    for end in (asked.low, asked.high, *(() if asked.default is None else (asked.default,))):
        as_number(name, int(end) if node.integer and end == int(end) else end, node)
    return found
