"""The space of recipes for a table: each family's branch, and the plan of training that its size asks for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from nastavnik.errors import UserError, nearest
from nastavnik.nets import FAMILIES, Family
from nastavnik.recipe import Value
from nastavnik.space import Choice, Node, Number, Space, default_of
from nastavnik.training.schedules import SCHEDULES

_MOST_STEPS = 2400  # of a training, where rows do not ask for more


def table_space(
    rows: int,
    inputs: int,
    *,
    families: Sequence[Family] = (),
    classification: bool,
    pinned: Mapping[str, Value] | None = None,
) -> Space:
    """What a search over a table with so many training rows and inputs draws from.

    Args:
        rows: training rows.
        inputs: prepared number inputs.
        families: the families to search; by default all of the table.
        classification: whether the target is a class.
        pinned: dotted names with given values (``--set``); what is pinned is not searched.

    Raises:
        UserError: a pinned name or value that the tree does not have.
    """
    chosen = list(families) or list(FAMILIES.values())
    branches: dict[Value, Space] = {family.name: family.space(rows, inputs) for family in chosen}
    batch = 32 if rows < 1000 else 64 if rows < 5000 else 128 if rows < 10_000 else 256
    default = "mlp" if "mlp" in branches else chosen[0].name
    nodes: dict[str, Node] = {
        "network.family": Choice(branches, default=default),
        "schedule.name": Choice.of(*SCHEDULES, default="cosine"),
        "batch_size": Number(2, 65536, log=True, integer=True, default=batch, least=2),
        "epochs": Number(1, 10_000, log=True, integer=True, default=default_epochs(rows, batch)),
        "preparation.numbers": Choice.of("auto", "standard", "robust", "quantile", default="auto"),
    }
    settled = {name: default_of(node) for name, node in nodes.items() if name != "network.family"}
    if classification:
        nodes["loss.label_smoothing"] = Number(0.0, 0.2, default=0.05, below=1.0)
    else:
        nodes["preparation.target"] = Choice.of("auto", "identity", "log", "yeo-johnson", default="auto")
        settled["preparation.target"] = "auto"
        settled["likelihood.noise"] = "learned"
    pins = dict(pinned or {})
    noise = pins.pop("likelihood.noise", None)
    if noise is not None:
        settled["likelihood.noise"] = _noise(noise, classification)
    tree = Space(nodes).pin({**{n: v for n, v in settled.items() if n in nodes}, **pins})
    return tree.with_fixed({n: v for n, v in settled.items() if n not in nodes})


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


def _noise(value: Value, classification: bool) -> Value:
    if classification:
        raise UserError("likelihood.noise belongs to regression; this target is a class")
    if value in ("learned", "input") or (isinstance(value, (int, float)) and value > 0):
        return value
    raise UserError(f"likelihood.noise must be 'learned', 'input' or a positive number, but got {value!r}")
