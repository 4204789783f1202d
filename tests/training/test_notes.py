"""The worked numbers of the notes that need no long training; each test names its row.

Rows tested where their entry is: notes/003-b T16, T25 (test_regularizers), T22, T26 (test_initializers); notes/003-g
R5-R12, R17, R23, R24 (test_losses); notes/004 I9 (test_likelihoods), I17 (test_schedules); notes/003-f T15
(test_optimizers); notes/002 E6, E25-E27 (test_initializers), E24 (test_wrappers).
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from nastavnik import check_gradients
from nastavnik.nets import Mlp, Signature
from nastavnik.recipe import Value
from nastavnik.training.likelihoods import Bernoulli, Categorical, Gaussian


def neuron(weight: float, bias: float, rate: float, updates: int, quadratic: bool) -> list[float]:
    """One sigmoid neuron shown the input 1 with the target 0: its outputs before and after each update."""
    w = torch.tensor([weight, bias], dtype=torch.float64)

    def loss(w: torch.Tensor) -> torch.Tensor:
        z = w.sum()
        if quadratic:
            return 0.5 * torch.sigmoid(z) ** 2
        return Bernoulli().neg_log_likelihood(z.reshape(1, 1), torch.tensor([0]))[0]

    outputs = [float(torch.sigmoid(w.sum()))]
    for _ in range(updates):
        w = w - rate * torch.func.grad(loss)(w)
        outputs.append(float(torch.sigmoid(w.sum())))
    return outputs


def test_t1_t2_a_neuron_with_squared_error_starts_slowly_when_it_is_very_wrong() -> None:
    near = neuron(0.6, 0.9, 0.15, 300, quadratic=True)
    assert near[0] == pytest.approx(0.82, abs=0.005)
    assert near[300] == pytest.approx(0.094, abs=0.0005)
    far = neuron(2.0, 2.0, 0.15, 300, quadratic=True)
    expected = {0: 0.98, 150: 0.933, 250: 0.357, 300: 0.203}
    for update, output in expected.items():
        assert far[update] == pytest.approx(output, abs=0.005)


def test_t3_with_cross_entropy_it_is_fastest_where_it_is_most_wrong() -> None:
    for start in ((0.6, 0.9), (2.0, 2.0)):
        outputs = np.array(neuron(*start, 0.15, 300, quadratic=False))
        assert 0.01 <= outputs[300] <= 0.015
        # the weighted sum moves by η·σ(z) in each of two numbers: most at the first update
        z = np.log(outputs / (1 - outputs))
        moves = -np.diff(z)
        assert (np.diff(moves) < 0).all()
    slow = [neuron(*start, 0.005, 300, quadratic=False)[300] for start in ((0.6, 0.9), (2.0, 2.0))]
    assert slow == pytest.approx([0.42, 0.78], abs=0.005)


def test_t4_gradients_of_the_output() -> None:
    """(61) CE and sigmoid: x(σ - y); (66) δ = a - y; (68) linear and squared: a - y; (82), (84) softmax: a - y."""
    g = torch.Generator().manual_seed(0)
    x, w = torch.randn(5, generator=g, dtype=torch.float64), torch.randn(5, generator=g, dtype=torch.float64)
    for y in (0, 1):
        gradient = torch.func.grad(
            lambda w, y=y: Bernoulli().neg_log_likelihood((x @ w).reshape(1, 1), torch.tensor([y]))[0]
        )(w)
        torch.testing.assert_close(gradient, x * (torch.sigmoid(x @ w) - y))
    z = torch.randn(1, 4, generator=g, dtype=torch.float64)
    delta = torch.func.grad(lambda z: Categorical(4).neg_log_likelihood(z, torch.tensor([2])).sum())(z)
    one_hot = torch.tensor([[0, 0, 1, 0]], dtype=torch.float64)
    torch.testing.assert_close(delta, torch.softmax(z, 1) - one_hot)
    target = torch.tensor([0.7], dtype=torch.float64)
    delta = torch.func.grad(lambda z: Gaussian(1.0).double().neg_log_likelihood(z, target).sum())(z[:, :1])
    torch.testing.assert_close(delta, z[:, :1] - target)
    # B24: the Jacobian's signs; B26: z = ln a + C
    jacobian = torch.func.jacrev(lambda v: torch.softmax(v, 0))(z[0])
    assert (torch.diag(jacobian) > 0).all()
    assert (jacobian[~torch.eye(4, dtype=torch.bool)] < 0).all()
    shift = z[0] - torch.softmax(z[0], 0).log()
    assert float(shift.std()) < 1e-12


def test_t5_the_mean_slope_of_a_sigmoid() -> None:
    s = torch.linspace(0, 1, 100_001, dtype=torch.float64)
    assert float(torch.trapezoid(s * (1 - s), s)) == pytest.approx(1 / 6, abs=1e-9)


def test_t9_and_r4_numbers_of_parameters() -> None:
    # notes/003-b T9: 784-30-10 has 23,860 (100 hidden units: 79,510); notes/003-g R4: 10-1000-1 has 12,001
    for inputs, width, outputs, expected in ((784, 30, 10, 23_860), (784, 100, 10, 79_510), (10, 1000, 1, 12_001)):
        settings: dict[str, Value] = {
            "width": width, "depth": 1, "embedding": "none", "bins": 0, "activation": "sigmoid",
            "normalization": "none", "residual": False, "dropout": 0.0,
        }  # fmt: skip
        network = Mlp().build(settings, Signature(inputs, (), outputs, (9,) * inputs))
        assert sum(p.numel() for p in network.parameters()) == expected


def test_r1_rashids_worked_example() -> None:
    # notes/003-a R1; the source rounds σ(2.3) to 0.909 first
    w = torch.tensor([2.0, 3.0], dtype=torch.float64)
    o = torch.tensor([0.4, 0.5], dtype=torch.float64)
    assert float(w @ o) == pytest.approx(2.3)
    # half squared error with e = target - output = 0.8
    target = torch.sigmoid(w @ o) + 0.8
    slope = torch.func.grad(lambda w: 0.5 * (target - torch.sigmoid(w @ o)) ** 2)(w)
    assert float(slope[0]) == pytest.approx(-0.02647, abs=1e-4)
    assert float(slope[0]) == pytest.approx(-0.026502, abs=1e-6)
    assert float(w[0] - 0.1 * slope[0]) == pytest.approx(2.002647, abs=1e-5)


def test_r3_r4_sigmoid_and_vectors() -> None:
    assert float(torch.sigmoid(torch.tensor(0.0))) == 0.5
    assert (torch.tensor([2.0, 3.0]) ** 2).tolist() == [4.0, 9.0]
    assert (torch.tensor([1.0, 2.0]) * torch.tensor([3.0, 4.0])).tolist() == [3.0, 8.0]


def test_r5_r6_backpropagation_against_differences_for_any_parts() -> None:
    """notes/003-a R5, R6: also with a neuron of another function, and with a linear one; BP3 and BP4 by hand."""

    class Odd(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.cat([torch.cos(x[:, :1]) * x[:, :1], x[:, 1:]], 1)

    x = torch.randn(6, 3, generator=torch.Generator().manual_seed(0))
    for between in (nn.Sigmoid(), nn.Identity(), Odd()):
        torch.manual_seed(0)
        assert check_gradients(nn.Sequential(nn.Linear(3, 4), between, nn.Linear(4, 2)), x)
    layer = nn.Linear(3, 2)
    delta = torch.randn(6, 2)
    layer(x).backward(delta)
    assert layer.bias.grad is not None
    assert layer.weight.grad is not None
    torch.testing.assert_close(layer.bias.grad, delta.sum(0))
    torch.testing.assert_close(layer.weight.grad, delta.T @ x)


def test_r8_r9_batches_and_conventions() -> None:
    assert 60_000 // 10 == 6000
    # R9: leaving out 1/m is the same as a rate m times as large
    x, y = torch.randn(10, 3, dtype=torch.float64), torch.randn(10, dtype=torch.float64)
    a = b = torch.zeros(3, dtype=torch.float64)
    for _ in range(20):
        a = a - 0.1 * torch.func.grad(lambda w: 0.5 * ((x @ w - y) ** 2).mean())(a)
        b = b - 0.01 * torch.func.grad(lambda w: 0.5 * ((x @ w - y) ** 2).sum())(b)
    torch.testing.assert_close(a, b)


def test_r10_steepest_descent() -> None:
    g = torch.Generator().manual_seed(0)
    slope = torch.randn(8, generator=g, dtype=torch.float64)
    steps = torch.randn(5000, 8, generator=g, dtype=torch.float64)
    steps = 0.1 * steps / steps.norm(dim=1, keepdim=True)
    best = -0.1 * slope / slope.norm()
    assert (steps @ slope >= best @ slope - 1e-12).all()


def test_r11_steps_too_large_and_too_small() -> None:
    """For small steps the loss changes as the gradient says, ∇C · Δv; for a rate beyond 2/curvature it rises."""
    curvature, w = 4.0, torch.tensor(1.5, dtype=torch.float64)

    def loss(w: torch.Tensor) -> torch.Tensor:
        return 0.5 * curvature * w**2

    slope = torch.func.grad(loss)(w)
    for rate in (1e-3, 1e-5):
        change = float(loss(w - rate * slope) - loss(w))
        assert change == pytest.approx(float(-rate * slope**2), rel=2.1 * rate)
    assert loss(w - 0.51 * slope) > loss(w)
    assert loss(w - 0.49 * slope) < loss(w)


def test_r14_gates_by_perceptrons_and_an_adder_of_them() -> None:
    def nand(a: int, b: int) -> int:
        return int(-2 * a - 2 * b + 3 > 0)

    for a in (0, 1):
        for b in (0, 1):
            middle = nand(a, b)
            total = nand(nand(a, middle), nand(b, middle))
            carry = nand(middle, middle)
            assert (total, carry) == (a ^ b, a & b)
    # and learned by the perceptron's rule (Rosenblatt 1958), which ends where classes can be separated
    inputs = np.array([[a, b, 1] for a in (0, 1) for b in (0, 1)])
    for gate in (lambda a, b: a & b, lambda a, b: a | b, lambda a, b: 1 - (a & b)):
        wanted = np.array([gate(a, b) for a, b, _ in inputs])
        w = np.zeros(3)
        for _ in range(100):
            for x, y in zip(inputs, wanted, strict=True):
                w += (y - int(w @ x > 0)) * x
        assert ((inputs @ w > 0).astype(int) == wanted).all()


def test_r12_a_four_bit_output() -> None:
    # a solution the notes derive: weight +20 from every digit that has the bit, bias -10
    bits = np.array([[digit >> b & 1 for digit in range(10)] for b in range(4)])
    for digit in range(10):
        given = np.full(10, 0.01)
        given[digit] = 0.99
        said = 1 / (1 + np.exp(-(20 * bits @ given - 10)))
        assert (said.round() == bits[:, digit]).all()


def test_g_r1_linear_regions() -> None:
    """notes/003-g R1: nine units make ten segments; the zigzag put into itself makes a hundred."""
    places = np.arange(1, 10) / 10

    def zigzag(x: np.ndarray) -> np.ndarray:
        """Ten pieces of [0, 1] onto [0, 1], up and down, from nine rectifiers and a line."""
        return 10 * x + sum((-1) ** k * 20 * np.maximum(0, x - p) for k, p in enumerate(places, 1))

    def segments(values: np.ndarray) -> int:
        slopes = np.round(np.diff(values) / np.diff(grid), 3)
        return 1 + int((np.diff(slopes) != 0).sum())

    grid = np.linspace(0, 1, 100 * 7 + 1)[::7]  # every corner of both lies on it
    assert segments(zigzag(grid)) == 10
    assert segments(zigzag(zigzag(grid))) == 100


def test_e1_threshold_neurons() -> None:
    for a in (0, 1):
        for b in (0, 1):
            conjunction, disjunction = int(a + b - 1.5 > 0), int(a + b - 0.5 > 0)
            assert (conjunction, disjunction) == (a & b, a | b)
            assert int(disjunction - conjunction - 0.5 > 0) == a ^ b
            assert int(a + b - 2 * a * b - 0.5 > 0) == a ^ b
        assert int(-a + 0.5 > 0) == 1 - a


def test_e2_e3_e4_rules_of_differentiation() -> None:
    g = torch.Generator().manual_seed(0)
    x, y = (torch.randn(4, 4, generator=g, dtype=torch.float64) + 3 * torch.eye(4) for _ in range(2))
    d = torch.randn(4, 4, generator=g, dtype=torch.float64)

    def pulled(function: object, at: torch.Tensor) -> torch.Tensor:
        return torch.func.grad(lambda v: (function(v) * d).sum())(at)  # type: ignore[operator]

    torch.testing.assert_close(pulled(lambda v: v @ y, x), d @ y.T)
    torch.testing.assert_close(pulled(lambda v: x @ v, y), x.T @ d)
    torch.testing.assert_close(pulled(lambda v: v * y, x), y * d)
    torch.testing.assert_close(pulled(torch.linalg.inv, x), -torch.linalg.inv(x).T @ d @ torch.linalg.inv(x).T)
    torch.testing.assert_close(pulled(lambda v: v.T, x), d.T)
    torch.testing.assert_close(pulled(lambda v: v * v + v, x), (2 * x + 1) * d)  # used twice: gradients add up
    assert check_gradients(lambda a, b: torch.einsum("ij,jk->ik", a, b), (x, y))
    assert check_gradients(lambda v: v.sort(0).values, x)


def test_e5_reverse_mode_gives_all_partials_at_once() -> None:
    x, y = torch.tensor(0.7, dtype=torch.float64), torch.tensor(1.9, dtype=torch.float64)
    found = torch.func.grad(lambda x, y: torch.sin(x + y) / (x * y), argnums=(0, 1))(x, y)
    cos, sin = math.cos(2.6), math.sin(2.6)
    assert float(found[0]) == pytest.approx((cos * 0.7 - sin) / (0.7**2 * 1.9))
    assert float(found[1]) == pytest.approx((cos * 1.9 - sin) / (0.7 * 1.9**2))


def test_e28_e29_permuted_units_and_no_activations() -> None:
    torch.manual_seed(0)
    one, two = nn.Linear(3, 8), nn.Linear(8, 2)
    x, order = torch.randn(5, 3), torch.randperm(8)
    said = two(torch.relu(one(x)))
    mixed = torch.relu(x @ one.weight[order].T + one.bias[order]) @ two.weight[:, order].T + two.bias
    torch.testing.assert_close(mixed, said)
    torch.testing.assert_close(two(one(x)), x @ (two.weight @ one.weight).T + two.weight @ one.bias + two.bias)
