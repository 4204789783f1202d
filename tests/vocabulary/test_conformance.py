"""Every entry of every table passes the suite of its kind."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import pytest
import torch

from nastavnik import testing
from nastavnik.nets import ACTIVATIONS, DROPOUTS, INITIALIZERS, NORMALIZATIONS, Activation
from nastavnik.training.likelihoods import LIKELIHOODS, Gaussian
from nastavnik.training.losses import LOSSES
from nastavnik.training.optimizers import OPTIMIZERS, WRAPPERS, FirstOrder, Tensors
from nastavnik.training.regularizers import REGULARIZERS
from nastavnik.training.schedules import SCHEDULES

SUITES: list[tuple[dict[str, Any], Any]] = [
    (ACTIVATIONS, testing.check_activation),
    (INITIALIZERS, testing.check_initializer),
    (NORMALIZATIONS, testing.check_normalization),
    (DROPOUTS, testing.check_dropout),
    (LIKELIHOODS, testing.check_likelihood),
    (LOSSES, testing.check_loss),
    (OPTIMIZERS, testing.check_optimizer),
    (WRAPPERS, testing.check_wrapper),
    (SCHEDULES, testing.check_schedule),
    (REGULARIZERS, testing.check_regularizer),
]
CASES = [(suite, entry) for table, suite in SUITES for entry in table.values()]


@pytest.mark.parametrize(("suite", "entry"), CASES, ids=[f"{suite.__name__[6:]}-{e.name}" for suite, e in CASES])
def test_every_entry_passes_its_suite(suite: Any, entry: Any) -> None:
    table = next(table for table, known in SUITES if known is suite)
    assert table[entry.name] is entry
    suite(entry)


class _Words:
    name = "wrong"
    formula = "-"
    prefer = "never"
    source = "-"


class _Uphill(FirstOrder, _Words):
    """Goes the wrong way."""

    settings: ClassVar[Mapping[str, float]] = {"learning_rate": 0.01, "weight_decay": 0.0}

    def rule(
        self, w: torch.Tensor, g: torch.Tensor, slots: Tensors, s: Tensors, common: Tensors
    ) -> tuple[torch.Tensor, Tensors]:
        return w + s["learning_rate"] * g, {}


class _InPlace(_Uphill):
    """Changes its argument."""

    def rule(
        self, w: torch.Tensor, g: torch.Tensor, slots: Tensors, s: Tensors, common: Tensors
    ) -> tuple[torch.Tensor, Tensors]:
        return w.sub_(s["learning_rate"] * g), {}


class _Bent(Activation, _Words):
    """Says its steepest slope wrong."""

    range = (0.0, float("inf"))
    zero_centred = False
    largest_derivative = 2.0
    initialization = "he"

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(x)


class _Unnormalized(Gaussian, _Words):
    """Forgets the constant."""

    def standard(self, z: torch.Tensor) -> torch.Tensor:
        return 0.5 * z**2


@pytest.mark.parametrize(
    ("suite", "entry", "complaint"),
    [
        (testing.check_optimizer, _Uphill, "went uphill on a bowl"),
        (testing.check_optimizer, _InPlace, "changed its argument w in place"),
        (testing.check_activation, _Bent, "steepest 1"),
        (testing.check_likelihood, _Unnormalized, r"sums to 2\.50663"),
    ],
)
def test_the_suites_find_what_is_wrong(suite: Any, entry: Any, complaint: str) -> None:
    with pytest.raises(AssertionError, match=complaint):
        suite(entry)
