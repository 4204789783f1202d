"""What stored strengths stand for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from nastavnik.recipe import Value


@dataclass(frozen=True)
class Strength:
    """One penalty of a recipe: ``per_example`` is what is stored (λ/n), ``total`` is λ for these rows.

    ``prior_precision`` is that of the Gaussian prior a coupled L2 penalty stands for: n times the mean loss plus
    (λ/2) Σ w² is a negative log posterior where the loss is a normalized likelihood. Decoupled decay has none.
    """

    name: str
    per_example: float
    rows: int
    prior_precision: float | None
    note: str

    @property
    def total(self) -> float:
        """λ = n times the strength per example."""
        return self.per_example * self.rows


def strengths(recipe: Mapping[str, Value], rows: int, decay_is_coupled: bool | None) -> list[Strength]:
    """Every penalty on weights that a recipe has, explained.

    Args:
        recipe: dotted names to values.
        rows: training rows, n.
        decay_is_coupled: of the optimizer's own weight decay; None if it has none of its own.
    """
    found = []
    coupled = "coupled: a Gaussian prior of this precision on the weights, where the loss is a likelihood"
    decoupled = "decoupled: shrinks weights apart from the loss, so it stands for no prior"
    decay = float(recipe.get("optimizer.weight_decay", 0.0))
    if decay and decay_is_coupled is not None:
        precision = decay * rows if decay_is_coupled else None
        note = coupled if decay_is_coupled else decoupled
        found.append(Strength("optimizer.weight_decay", decay, rows, precision, note))
    notes = {
        "l1": "a Laplace prior of rate λ on the weights",
        "l2": coupled,
        "elastic_net": "a prior between Laplace's and Gauss's",
        "decoupled_l2": decoupled,
    }
    for name, note in notes.items():
        key = f"regularization.{name}"
        if key in recipe:
            value = float(recipe[key])
            precision = value * rows if name == "l2" else None
            sign = "" if value >= 0 else " (negative: a control that makes weights grow)"
            found.append(Strength(key, value, rows, precision if value >= 0 else None, note + sign))
    return found
