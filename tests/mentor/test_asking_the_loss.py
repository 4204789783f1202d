"""What a loss expects, found by asking it; and healthy loops of kinds that rules once accused."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from loops import ROWS, blobs, layers, surface, train
from torch import nn
from torch.nn import functional as F

from nastavnik.instruments import data_facts
from nastavnik.mentor import Mentor, diagnose
from nastavnik.mentor._batch import flat_batch
from nastavnik.mentor.probes import loss_facts
from nastavnik.trace import History


def facts(loss_fn: Any, outputs: torch.Tensor, y: torch.Tensor, classes: int = 0) -> dict[str, Any]:
    return loss_facts(loss_fn, outputs, flat_batch(torch.zeros(len(y), 1), y), classes)


@pytest.mark.parametrize(
    ("loss_fn", "expected"),
    [
        (nn.CrossEntropyLoss(), "logits"),
        (lambda o, y: F.cross_entropy(o, y, label_smoothing=0.1), "logits"),
        (lambda o, y: F.nll_loss(F.log_softmax(o, 1), y), "logits"),
        (lambda o, y: F.nll_loss(o, y), "log probabilities"),
        (lambda o, y: (o.softmax(1) - F.one_hot(y, 3)).square().sum(), "logits"),
        (lambda o, y: (o - F.one_hot(y, 3)).square().sum(), "unknown"),
        (lambda o, y: o.no_such_thing, "unknown"),
        (lambda o, y: F.nll_loss(o, torch.where(y > 2, y, y), ignore_index=255), "log probabilities"),
    ],
)
def test_what_a_loss_expects_of_classes_is_asked(loss_fn: Any, expected: str) -> None:
    assert facts(loss_fn, torch.zeros(12, 3), torch.arange(12) % 3, 3)["expects"] == expected


@pytest.mark.parametrize(
    ("loss_fn", "outputs", "targets", "unpaired"),
    [
        (nn.MSELoss(), (12, 1), (12,), True),
        (nn.L1Loss(), (12,), (12, 1), True),
        (lambda o, y: (o - y).square().mean(), (12, 1), (12,), True),
        (nn.MSELoss(), (12, 1), (12, 1), False),
        (lambda o, y: (o.squeeze(1) - y).square().mean(), (12, 1), (12,), False),
        (lambda o, y: o.square().mean(), (12, 1), (12,), False),  # does not ask for targets
        (lambda o, y: F.mse_loss(o.reshape(y.shape), y), (12, 1), (12,), False),
        (lambda o, y: F.l1_loss(o.squeeze(1), y), (12, 1), (12,), False),
        (lambda o, y: F.smooth_l1_loss(o.squeeze(1), y + 5), (12, 1), (12,), False),
        (lambda o, y: F.mse_loss(o.squeeze(1), y + 2e5), (12, 1), (12,), False),
        (lambda o, y: (o.squeeze(1).sort().values - y.sort().values).square().mean(), (12, 1), (12,), False),
    ],
)
def test_a_loss_that_compares_all_with_all(
    loss_fn: Any, outputs: tuple[int, ...], targets: tuple[int, ...], unpaired: bool
) -> None:
    found = facts(loss_fn, torch.zeros(outputs), torch.linspace(-1, 2, 12).square().reshape(targets))
    assert found.get("unpaired") == ([list(outputs), list(targets)] if unpaired else None)


def test_labels_that_are_left_out_and_losses_that_refuse() -> None:
    labels = torch.tensor([0, 1, 255, 2, 1, 0])
    assert facts(lambda o, y: F.nll_loss(o, y, ignore_index=255), torch.zeros(6, 3), labels, 3)["expects"] == "unknown"

    def refusing(o: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        assert float(o.min()) < 0
        return o.mean()

    assert facts(refusing, torch.zeros(6, 3), labels % 3, 3)["expects"] == "unknown"


def test_a_namesake_of_torchs_loss_is_asked_like_any_other() -> None:
    def nll_loss(o: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return (0.5 * (o - y).square()).mean()

    found = facts(nll_loss, torch.randn(12, 1), torch.randn(12, 1))
    assert found["expects"] == "unknown"
    assert "log sum" not in found


def rules(history: History) -> set[str]:
    return {finding.rule for finding in diagnose(history)}


def test_softmax_twice_is_found_in_a_loss_without_a_name() -> None:
    net = nn.Sequential(layers(4, 16, 3), nn.Softmax(1))
    assert "double_softmax" in rules(train(net, blobs(), loss_fn=lambda o, y: F.cross_entropy(o, y), epochs=4))


def test_a_log_softmax_before_cross_entropy_is_harmless() -> None:
    net = nn.Sequential(layers(4, 16, 3), nn.LogSoftmax(1))
    assert not rules(train(net, blobs(), epochs=8)) & {"squashed_outputs", "double_softmax", "unnormalized_outputs"}


def test_one_target_for_all_rows_is_no_fault() -> None:
    """A generator's loss asks that all its rows be taken for real."""
    x, y = surface()
    found = rules(train(layers(4, 16, 1), (x, torch.ones_like(y)), loss_fn=nn.BCEWithLogitsLoss(), classes=0))
    assert not found & {"unscaled_target", "chance_level", "leaked_target"}


def test_lbfgs_is_not_judged_by_the_length_of_its_steps() -> None:
    x, y = (t[:ROWS] for t in blobs())
    net = layers(4, 16, 3)
    optimizer = torch.optim.LBFGS(net.parameters(), max_iter=5, line_search_fn="strong_wolfe")
    mentor = Mentor(net, optimizer, nn.CrossEntropyLoss(), train=(x, y), every=1)

    def closure() -> float:
        optimizer.zero_grad()
        loss = F.cross_entropy(net(x), y)
        loss.backward()
        return float(loss.detach())

    for _ in range(12):
        with mentor.step(x, y):
            optimizer.step(closure)
    assert F.cross_entropy(net(x), y) < 0.2
    assert "rate_too_large" not in rules(mentor.history)


def test_copies_on_both_sides_are_seen_though_training_rows_repeat_as_well() -> None:
    x, y = (t[:400] for t in surface())
    copies = torch.cat([torch.arange(400), torch.randint(0, 400, (300,), generator=torch.Generator().manual_seed(0))])
    order = copies[torch.randperm(700, generator=torch.Generator().manual_seed(1))]
    train_rows, held = order[:500], order[500:]
    found = data_facts(((x[train_rows],), y[train_rows]), ((x[held],), y[held]), 0)
    assert found["shared rows"] > 0.3
    assert found["finest column"] == 1.0
    assert "shared_rows" in rules(History(found))


def test_patterns_that_come_again_are_no_copies() -> None:
    patterns = torch.randint(0, 2, (60, 30), generator=torch.Generator().manual_seed(0)).float()
    which = torch.randint(0, 60, (700,), generator=torch.Generator().manual_seed(1))
    x, y = patterns[which], patterns[which, :1]
    found = data_facts(((x[:500],), y[:500]), ((x[500:],), y[500:]), 0)
    assert found["shared rows"] == 1.0
    assert "shared_rows" not in rules(History(found))


def test_rows_of_few_values_meet_by_chance() -> None:
    draw = torch.Generator().manual_seed(0)
    x = torch.randint(0, 3, (700, 3), generator=draw).float()
    y = x.sum(1, keepdim=True) % 2
    found = data_facts(((x[:500],), y[:500]), ((x[500:],), y[500:]), 0)
    assert found["shared rows"] > 0.9
    assert found["finest column"] < 0.2
    assert "shared_rows" not in rules(History(found))


def test_a_single_column_of_few_values_holds_no_copies() -> None:
    draw = torch.Generator().manual_seed(0)
    x = torch.randint(0, 30, (3000, 1), generator=draw).float()
    y = (torch.rand(3000, generator=draw) < 0.5).long()
    found = data_facts(((x[:2000],), y[:2000]), ((x[2000:],), y[2000:]), 2)
    assert found["shared rows"] == 1.0
    assert "shared_rows" not in rules(History(found))
    fine = torch.arange(500)[torch.randint(0, 500, (3000,), generator=draw)][:, None].float()  # each six times over
    copied = data_facts(((fine[:2000],), y[:2000]), ((fine[2000:],), y[2000:]), 2)
    assert "shared_rows" in rules(History(copied))


def test_words_tell_rows_apart() -> None:
    numbers, words = torch.ones(40, 1), torch.arange(40)[:, None]
    y = torch.zeros(40, 1)
    found = data_facts(((numbers[:20], words[:20]), y[:20]), ((numbers[20:], words[20:]), y[20:]), 0)
    assert found["shared rows"] == 0.0
