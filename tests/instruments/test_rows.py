"""Rows one by one, and what is known of data, against loops and scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, r2_score

from nastavnik.instruments import (
    appraise,
    area_under_margin,
    batch_facts,
    calibration_error,
    data_facts,
    forgetting_events,
    order_dispersion,
)


def test_appraise_classes() -> None:
    rng = np.random.default_rng(0)
    logits, y = torch.tensor(rng.normal(size=(50, 4))), torch.tensor(rng.integers(0, 4, 50))
    seen = appraise(logits, torch.ones(50), y, 4)
    assert float(seen["score"]) == pytest.approx(accuracy_score(y, logits.argmax(1)))
    for i in range(50):
        others = [float(logits[i, j]) for j in range(4) if j != int(y[i])]
        assert float(seen["margin"][i]) == pytest.approx(float(logits[i, y[i]]) - max(others))
        p = torch.softmax(logits[i], 0).numpy()
        assert float(seen["error"][i]) == pytest.approx(np.linalg.norm(p - np.eye(4)[int(y[i])]))


def test_appraise_one_logit_is_two_classes() -> None:
    z, y = torch.tensor([[2.0], [-1.0], [0.5]]), torch.tensor([1, 1, 0])
    seen = appraise(z, torch.ones(3), y, 2)
    assert seen["margin"].tolist() == pytest.approx([2.0, -1.0, -0.5])
    assert float(seen["score"]) == pytest.approx(1 / 3)


def test_appraise_numbers() -> None:
    rng = np.random.default_rng(1)
    said, y = torch.tensor(rng.normal(size=(40, 1))), torch.tensor(rng.normal(size=40))
    seen = appraise(said, torch.zeros(40), y, 0)
    assert float(seen["score"]) == pytest.approx(r2_score(y, said[:, 0]))


@given(st.lists(st.lists(st.floats(-5, 5), min_size=3, max_size=3), min_size=2, max_size=8))
def test_forgetting_and_margins_by_loops(looks: list[list[float]]) -> None:
    margins = np.array(looks)
    events = [sum(margins[t, i] > 0 and margins[t + 1, i] <= 0 for t in range(len(looks) - 1)) for i in range(3)]
    assert forgetting_events(margins).tolist() == events
    assert area_under_margin(margins).tolist() == pytest.approx(
        [sum(m[i] for m in looks) / len(looks) for i in range(3)]
    )


def test_calibration_error_by_hand() -> None:
    confidence, right = np.array([0.95, 0.95, 0.55, 0.55]), np.array([1, 0, 1, 1])
    assert calibration_error(confidence, right) == pytest.approx(0.5 * 0.45 + 0.5 * 0.45)


def test_order_dispersion_is_one_for_random_batches_and_large_for_sorted_ones() -> None:
    rng = np.random.default_rng(0)
    y = rng.normal(size=(400, 16))
    assert order_dispersion(y.mean(1), 16, float(y.var())) == pytest.approx(1.0, abs=0.2)
    y = np.sort(y.reshape(-1)).reshape(400, 16)
    assert order_dispersion(y.mean(1), 16, float(y.var())) == pytest.approx(16.0, rel=0.02)
    assert np.isnan(order_dispersion([1.0, 2.0], 16, 1.0))


def test_data_facts_know_a_leak_a_shift_and_shared_rows() -> None:
    rng = np.random.default_rng(0)
    x, y = torch.tensor(rng.normal(size=(600, 4))), torch.tensor(rng.integers(0, 3, 600))
    x[:, 2] = y + 0.01 * x[:, 2]
    held = x[:100].clone()
    held[:, 1] += 2.0
    facts = data_facts(((x,), y), ((held,), y[:100]), 3)
    assert facts["telling column"] == 2
    assert facts["told by columns"][0] > 0.95
    assert facts["told by columns"][1] < 0.1
    assert facts["shifted column"] == 1
    assert facts["shift"] == pytest.approx(2.0, abs=0.3)
    assert facts["shared rows"] == 0.0
    again = data_facts(((x,), y), ((x[:100],), y[:100]), 3)
    assert again["shared rows"] == 1.0


def test_batch_facts_of_raw_pixels() -> None:
    rng = np.random.default_rng(0)
    facts = batch_facts((torch.tensor(rng.uniform(0, 255, (64, 9))),), torch.tensor([0, 1] * 32), 2)
    assert facts["input size"] == pytest.approx(255 / 3**0.5, rel=0.05)
    assert facts["class shares"] == [0.5, 0.5]
