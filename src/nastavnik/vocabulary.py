"""The whole vocabulary as records: for ``nastavnik list`` and for the page ``docs/vocabulary.md``.

``python -m nastavnik.vocabulary`` prints that page.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from nastavnik.entry import describe, purpose
from nastavnik.errors import UserError, nearest
from nastavnik.nets import ACTIVATIONS, DROPOUTS, FAMILIES, INITIALIZERS, NORMALIZATIONS
from nastavnik.selection.samplers import SAMPLERS
from nastavnik.training.likelihoods import LIKELIHOODS
from nastavnik.training.losses import LOSSES
from nastavnik.training.optimizers import OPTIMIZERS, WRAPPERS, SecondOrder
from nastavnik.training.regularizers import REGULARIZERS
from nastavnik.training.schedules import SCHEDULES


class Kind(NamedTuple):
    """One kind of entry: its table, how a recipe names one, and what else its entries say of themselves."""

    table: Mapping[str, Any]
    setting: str
    about: str
    facts: Callable[[Any], dict[str, Any]]


def _no_facts(entry: Any) -> dict[str, Any]:
    return {}


def _activation(entry: Any) -> dict[str, Any]:
    low, high = (round(end, 4) if math.isfinite(end) else None for end in entry.range)
    return {
        "range": [low, high],
        "zero_centred": entry.zero_centred,
        "largest_derivative": round(entry.largest_derivative, 4),
        "initialization": entry.initialization,
        "learned": list(entry.learned),
        "choices": {name: list(options) for name, options in entry.choices.items()},
        "gradient": "declared" if entry.surrogate else "exact",
    }


def _optimizer(entry: Any) -> dict[str, Any]:
    return {
        "order": 2 if issubclass(entry, SecondOrder) else 1,
        "choices": {name: list(options) for name, options in entry.choices.items()},
    }


def _likelihood(entry: Any) -> dict[str, Any]:
    return {"target": entry.target, "normalized": entry.normalized}


def _loss(entry: Any) -> dict[str, Any]:
    return {"targets": list(entry.targets), "normalized": entry.name == "likelihood"}


KINDS: dict[str, Kind] = {
    "activations": Kind(ACTIVATIONS, "network.activation=NAME", "What a unit says of its weighted sum.", _activation),
    "initializers": Kind(
        INITIALIZERS,
        "initialization.name=NAME",
        "Weights before the first step. `initialization.gain` multiplies their deviation; `initialization.output` is "
        "small (half of 1/√n), zero (a softmax starts even) or same.",
        lambda entry: {"flag": entry.flag, "needs_examples": entry.needs_examples},
    ),
    "normalizations": Kind(
        NORMALIZATIONS, "network.normalization=NAME", "What keeps numbers inside a network of one size.", _no_facts
    ),
    "dropouts": Kind(
        DROPOUTS,
        "network.dropout_kind=NAME",
        "Noise in training, at the rate `network.dropout`; `network.dropout_schedule` makes it follow a schedule, "
        "`network.input_dropout` does it to inputs, `predict --passes N` leaves it on (Monte-Carlo prediction).",
        _no_facts,
    ),
    "likelihoods": Kind(
        LIKELIHOODS,
        "likelihood.name=NAME",
        "What distribution the target has given the network's outputs: normalized densities, always from logits.",
        _likelihood,
    ),
    "losses": Kind(
        LOSSES,
        "loss.name=NAME",
        "What is minimized; all but `likelihood` are no densities, and evidence refuses them.",
        _loss,
    ),
    "optimizers": Kind(
        OPTIMIZERS,
        "optimizer.name=NAME",
        "Rules that move weights. `optimizer.learning_rate@bias=0.01` (or a pattern such as `@*.output.*`) gives some "
        "parameters a number of their own. Those of order 2 say what memory they need and refuse more than "
        "`optimizer.memory` (GB).",
        _optimizer,
    ),
    "wrappers": Kind(
        WRAPPERS,
        "optimizer.NAME=VALUE",
        "What goes round a first-order optimizer; naming one puts it there, several may be named.",
        _no_facts,
    ),
    "schedules": Kind(
        SCHEDULES,
        "schedule.name=NAME",
        "The learning rate's factor over the training; `schedule.warmup` adds a share of growth before any of them.",
        _no_facts,
    ),
    "regularizers": Kind(
        REGULARIZERS,
        "regularization.NAME=VALUE",
        "What keeps a network simple; naming one switches it on, several may be named. Penalties are strengths per "
        "example, λ/n, and may be negative as an honest control; `regularization.schedule` makes them follow one "
        "epoch by epoch. Biases and normalization scales are exempt.",
        _no_facts,
    ),
    "samplers": Kind(
        SAMPLERS,
        "--sampler NAME",
        "How a search draws the next recipes from its space.",
        lambda entry: {"several_criteria": entry.several},
    ),
    "families": Kind(FAMILIES, "network.family=NAME", "Kinds of networks.", _no_facts),
}


def option(setting: str) -> str:
    """How a command line names an entry."""
    return setting if setting.startswith("--") else f"--set {setting}"


def records(kind: str) -> list[dict[str, Any]]:
    """All entries of one kind, in the order of their table.

    Raises:
        UserError: there is no such kind.
    """
    if kind not in KINDS:
        raise UserError(f"there are no {kind!r} in the vocabulary{nearest(kind, KINDS)}")
    table, _, _, facts = KINDS[kind]
    if kind == "families":
        return [{"name": name, "purpose": purpose(type(family))} for name, family in table.items()]
    return [{**describe(entry), **facts(entry)} for entry in table.values()]


def page() -> str:
    """The page of the whole vocabulary, in Markdown."""
    lines = [
        "# The vocabulary of training",
        "",
        "Generated by `python -m nastavnik.vocabulary`; the same from the command line: `nastavnik list`, "
        "`nastavnik list optimizers --json`. Every entry passes the conformance suite of its kind "
        "(`nastavnik.testing`), trains in one population with values of its own for each network, and is held against "
        "its formula or a reference in `tests/`. Numbers in parentheses are an entry's own defaults; `fit` gives "
        "rate, decay and dropout in ranges that suit the family and the data.",
        "",
    ]
    for kind, (_, setting, about, _) in KINDS.items():
        lines += [f"## {kind.capitalize()}", "", f"{about} `{option(setting)}`", ""]
        for record in records(kind):
            lines += [*_paragraph(record), ""]
    return "\n".join(lines)


def _paragraph(record: Mapping[str, Any]) -> list[str]:
    """One entry: name and purpose, then formula, numbers, facts, when to prefer it, source."""
    lines = [f"- **{record['name']}**: {record['purpose']}"]
    if "formula" not in record:
        return lines
    if record["formula"].strip():
        lines.append(f"  `{record['formula']}`.")
    numbers = [f"{name} ({value:g})" for name, value in record["settings"].items()]
    choices = record.get("choices", {}).items()
    numbers += [f"{n} ({', '.join(str(o).lower() for o in options[:6])})" for n, options in choices if len(options) > 1]
    if numbers:
        lines.append(f"  Numbers: {', '.join(numbers)}.")
    if "range" in record:
        ends = ["∞" if end is None else f"{end:g}" for end in record["range"]]
        low = "-∞" if ends[0] == "∞" else ends[0]
        centred = "zero-centred" if record["zero_centred"] else "not zero-centred"
        lines.append(
            f"  Range {low} to {ends[1]}, {centred}, steepest slope {record['largest_derivative']:g}, "
            f"initialized by {record['initialization']}; gradient {record['gradient']}."
        )
    if record.get("flag"):
        lines.append(f"  **Flagged**: {record['flag']}.")
    if "target" in record:
        lines.append(f"  For targets of kind {record['target']}.")
    lines.append(f"  Prefer it {record['prefer']}. Source: {record['source']}.")
    return lines


if __name__ == "__main__":
    print(page(), end="")
