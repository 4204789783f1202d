"""Initializers, what signals do through them, and normalization, against formulas and the notes' numbers."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from nastavnik import initial_variances
from nastavnik.errors import UserError
from nastavnik.nets import (
    ACTIVATIONS,
    INITIALIZERS,
    NORMALIZATIONS,
    Mlp,
    Signature,
    WeightNormLinear,
    initialize,
    make_activation,
    monte_carlo,
    own_noise,
)
from nastavnik.nets._dropout import Dropout
from nastavnik.recipe import Value

WIDTH, DEPTH = 256, 6


def deep(activation: str, name: str, **settings: Value) -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layers: list[nn.Module] = []
        for _ in range(DEPTH):
            layers += [nn.Linear(WIDTH, WIDTH), make_activation({"activation": activation})]
        network = nn.Sequential(*layers, nn.Linear(WIDTH, 3))
        x = torch.randn(500, WIDTH)
        initialize(network, {"name": name, **settings}, (x,))
    return network


def variances(activation: str, name: str, **settings: Value) -> list[float]:
    x = torch.randn(400, WIDTH, generator=torch.Generator().manual_seed(1))
    report = initial_variances(deep(activation, name, **settings), x)
    return [layer.forward for layer in report[:DEPTH]]


def test_variances_go_through_layers_as_the_lectures_say() -> None:
    # notes/001 U8: U[±1/√n] gives a third a layer; U[±√3/√n] (variance 1/n) keeps it
    decaying = variances("identity", "uniform_fan_in")
    assert decaying[-1] / decaying[0] == pytest.approx(3 ** -(DEPTH - 1), rel=0.2)
    kept = variances("identity", "lecun")
    assert kept[-1] == pytest.approx(1, rel=0.2)
    # notes/002 E6: Glorot keeps it where inputs and outputs are as many, He keeps it through relu (as 2: half is zero)
    assert variances("identity", "glorot")[-1] == pytest.approx(1, rel=0.2)
    he = variances("relu", "he")
    assert he[-1] / he[0] == pytest.approx(1, rel=0.35)
    faded = variances("relu", "lecun")
    assert faded[-1] / faded[0] == pytest.approx(2 ** -(DEPTH - 1), rel=0.5)


def test_backward_variance_is_kept_by_the_other_he() -> None:
    network = nn.Sequential(
        nn.Linear(400, 100), nn.ReLU(), nn.Linear(100, 400), nn.ReLU(), nn.Linear(400, 100), nn.ReLU()
    )
    x = torch.randn(300, 400, generator=torch.Generator().manual_seed(1))
    ratios = {}
    push = torch.randn(300, 100, generator=torch.Generator().manual_seed(2))

    def pushed(outputs: torch.Tensor) -> torch.Tensor:
        """A loss that pushes outputs to either side, whatever they are."""
        return (outputs * push).sum()

    for name in ("he", "he_fan_out"):
        torch.manual_seed(0)
        initialize(network, {"name": name, "output": "same"}, None)
        report = initial_variances(network, x, loss=pushed)
        ratios[name] = report[0].backward / report[1].backward
    # the gradient goes from 400 units to 100: each of these gets 400 terms, halved by relu
    assert ratios["he_fan_out"] == pytest.approx(1, rel=0.3)
    assert ratios["he"] == pytest.approx(4, rel=0.4)


def test_sums_of_the_book() -> None:
    # notes/003-b T22: 1,000 inputs, half of them on; weights and bias N(0, 1): √501; weights N(0, 1/n), bias N(0, 1): √1.5
    x = torch.zeros(1000)
    x[:500] = 1
    for name, expected in (("unit_normal", math.sqrt(501)), ("lecun", math.sqrt(1.5))):
        torch.manual_seed(0)
        layer = nn.Sequential(nn.Linear(1000, 20_000), nn.Linear(20_000, 1, bias=False))
        initialize(layer, {"name": name}, None)
        z = layer[0](x).detach() + torch.randn(20_000)
        assert float(z.std()) == pytest.approx(expected, rel=5 / math.sqrt(2 * 20_000))


def test_limits_of_uniform_fan_in() -> None:
    # notes/003-a R2: 3 links ±0.577, 784 inputs ±1/28, 100 inputs ±0.1
    for inputs, limit in ((3, 3**-0.5), (784, 1 / 28), (100, 0.1)):
        torch.manual_seed(0)
        network = nn.Sequential(nn.Linear(inputs, 5000), nn.Linear(5000, 1))
        initialize(network, {"name": "uniform_fan_in"}, None)
        weight = network.state_dict()["0.weight"]
        assert float(weight.abs().max()) == pytest.approx(limit, rel=1e-2)
        assert float(weight.min()) < 0


def test_data_makes_unit_variance() -> None:
    for name in ("lsuv", "data"):
        torch.manual_seed(0)
        network = nn.Sequential(nn.Linear(30, 80), nn.Tanh(), nn.Linear(80, 80), nn.Tanh(), nn.Linear(80, 2))
        x = torch.randn(500, 30) * 4 + 1
        initialize(network, {"name": name}, (x,))
        for layer in initial_variances(network, x)[:2]:
            assert layer.forward == pytest.approx(1, rel=0.1)
    # with as many rows as units, each unit answers most to its own row
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(20, 50), nn.ReLU(), nn.Linear(50, 2))
    examples = torch.randn(50, 20)
    initialize(network, {"name": "data"}, (examples,))
    first = network[0]
    assert isinstance(first, nn.Linear)
    answers = (examples - examples.mean(0)) / (examples - examples.mean(0)).norm(dim=1, keepdim=True)
    assert (first(answers).argmax(1) == torch.arange(50)).float().mean() > 0.9


def test_orthogonal_keeps_lengths() -> None:
    network = deep("identity", "orthogonal", output="same")
    x = torch.randn(10, WIDTH)
    torch.testing.assert_close(network[:-1](x).norm(dim=1), x.norm(dim=1), rtol=1e-4, atol=1e-4)


def test_outputs_at_zero_and_zeros_flagged() -> None:
    network = deep("relu", "he", output="zero")
    assert float(network(torch.randn(5, WIDTH)).detach().abs().max()) == 0
    even = torch.softmax(network(torch.randn(5, WIDTH)), 1)
    torch.testing.assert_close(even, torch.full((5, 3), 1 / 3))
    dead = deep("relu", "zeros")
    assert INITIALIZERS["zeros"].flag
    assert all(layer.constant for layer in initial_variances(dead, torch.randn(5, WIDTH))[:DEPTH])


def test_symmetry_is_never_broken() -> None:
    # notes/003-a R18, notes/001 U7: equal weights stay equal
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))
    for p in network.parameters():
        nn.init.constant_(p, 0.3)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    x, y = torch.randn(20, 3), torch.randn(20, 1)
    for _ in range(50):
        optimizer.zero_grad()
        ((network(x) - y) ** 2).mean().backward()
        optimizer.step()
    hidden = network.state_dict()["0.weight"]
    assert torch.allclose(hidden, hidden[:1].expand_as(hidden))
    assert not torch.allclose(hidden, torch.full_like(hidden, 0.3))


def test_matched_to_the_activation_unless_told() -> None:
    expected = {"relu": 2 / WIDTH, "tanh": 1 / WIDTH, "selu": 1 / WIDTH, "sin": 2 / WIDTH}
    for activation, variance in expected.items():
        weight = deep(activation, "matched")[0].weight
        assert isinstance(weight, torch.Tensor)
        assert float(weight.detach().var()) == pytest.approx(variance, rel=0.05)
    told = deep("tanh", "he")[0].weight
    assert isinstance(told, torch.Tensor)
    assert float(told.detach().var()) == pytest.approx(2 / WIDTH, rel=0.05)


def mlp(**settings: Value) -> nn.Module:
    plain: dict[str, Value] = {
        "width": 16, "depth": 3, "embedding": "none", "bins": 0, "activation": "relu", "normalization": "none",
        "residual": True, "dropout": 0.0,
    }  # fmt: skip
    torch.manual_seed(0)
    return Mlp().build({**plain, **settings}, Signature(16, (), 2, (9,) * 16))


def test_residual_branches_that_say_nothing() -> None:
    network = mlp()
    initialize(network, {"name": "zero_residual"}, None)
    x, none = torch.randn(7, 16), torch.zeros(7, 0, dtype=torch.long)
    torch.testing.assert_close(network(x, none), network.output(x))  # type: ignore[operator]
    network(x, none).square().mean().backward()
    gates = dict(network.named_parameters())["gates"].grad
    assert gates is not None
    assert (gates.abs() > 0).all()
    with pytest.raises(UserError, match="needs residual branches"):
        initialize(mlp(residual=False), {"name": "zero_residual"}, None)


def test_unknown_names_are_refused() -> None:
    for settings, complaint in (
        ({"name": "hee"}, "initialization.name cannot be 'hee'; did you mean 'he'"),
        ({"output": "none"}, "initialization.output cannot be 'none'"),
        ({"name": "lsuv"}, "initialization.name=lsuv needs training rows"),
    ):
        with pytest.raises(UserError, match=complaint):
            initialize(nn.Linear(2, 2), settings, None)


# Normalization


def test_normalizations_are_torchs() -> None:
    x = torch.randn(40, 16, generator=torch.Generator().manual_seed(0)) * 3 + 1
    batch = NORMALIZATIONS["batch"].make(16, {})(x)
    # notes/002 E26
    np.testing.assert_allclose(batch.mean(0).detach(), 0, atol=1e-6)
    np.testing.assert_allclose(batch.var(0, correction=0).detach(), 1, atol=1e-4)
    torch.testing.assert_close(NORMALIZATIONS["layer"].make(16, {})(x), F.layer_norm(x, (16,)))
    torch.testing.assert_close(NORMALIZATIONS["group"].make(16, {"groups": 4})(x), F.group_norm(x, 4))
    torch.testing.assert_close(NORMALIZATIONS["rms"].make(16, {})(x), F.rms_norm(x, (16,), eps=1e-6))
    linear = WeightNormLinear(16, 5)
    reference = torch.nn.utils.parametrizations.weight_norm(nn.Linear(16, 5))
    with torch.no_grad():
        reference.parametrizations.weight.original0.copy_(linear.length[:, None])
        reference.parametrizations.weight.original1.copy_(linear.weight)
        reference.bias.copy_(linear.bias)
    torch.testing.assert_close(linear(x), reference(x))
    assert NORMALIZATIONS["group"].make(6, {"groups": 8}).num_groups == 1  # groups of four at least


def test_running_statistics_are_those_of_training() -> None:
    norm = NORMALIZATIONS["batch"].make(3, {})
    x = torch.randn(1000, 3, generator=torch.Generator().manual_seed(0)) * 2 + 5
    for _ in range(60):
        norm(x)
    found = norm.eval()(x)
    np.testing.assert_allclose(found.mean(0).detach(), 0, atol=0.02)
    np.testing.assert_allclose(found.var(0).detach(), 1, atol=0.02)


# Activations


def test_activations_are_torchs() -> None:
    x = torch.linspace(-6, 6, 241, dtype=torch.float64)
    theirs: dict[str, Any] = {
        "relu": F.relu, "silu": F.silu, "gelu": F.gelu, "tanh": torch.tanh, "leaky_relu": F.leaky_relu,
        "prelu": lambda x: F.prelu(x, torch.tensor([0.25], dtype=torch.float64)), "elu": F.elu, "selu": F.selu,
        "mish": F.mish, "softplus": F.softplus, "sigmoid": torch.sigmoid, "hard_sigmoid": F.hardsigmoid,
        "softsign": F.softsign, "arctan": torch.atan, "identity": lambda x: x, "sin": torch.sin,
        "scaled_tanh": lambda x: 1.7159 * torch.tanh(2 * x / 3), "tanh_linear": lambda x: torch.tanh(x) + 0.1 * x,
        "step": lambda x: (x > 0).double(),
    }  # fmt: skip
    assert set(theirs) | {"maxout", "blend"} == set(ACTIVATIONS)
    for name, function in theirs.items():
        torch.testing.assert_close(ACTIVATIONS[name]().double()(x), function(x), rtol=1e-7, atol=1e-7)
    torch.testing.assert_close(
        ACTIVATIONS["maxout"]()(torch.tensor([[1.0, 3.0, -2.0, -5.0]])), torch.tensor([[3.0, -2.0]])
    )


def test_identities_of_activations() -> None:
    x = torch.linspace(-8, 8, 101, dtype=torch.float64)
    # notes/003-c O3; notes/002 E27
    torch.testing.assert_close(torch.sigmoid(x), (1 + torch.tanh(x / 2)) / 2)
    slope = torch.func.vmap(torch.func.grad(lambda v: ACTIVATIONS["softplus"]()(v)))(x)
    torch.testing.assert_close(slope, torch.sigmoid(x))
    # LeCun's tanh maps ±1 to ±1
    assert float(ACTIVATIONS["scaled_tanh"]()(torch.tensor(1.0))) == pytest.approx(1, abs=1e-4)
    # the step's declared gradient
    s = torch.func.vmap(torch.func.grad(lambda v: ACTIVATIONS["step"]().double()(v)))(x)
    torch.testing.assert_close(s, 4 * torch.sigmoid(4 * x) * (1 - torch.sigmoid(4 * x)))


def test_a_blend_goes_from_one_to_the_other() -> None:
    blend = make_activation({"activation": "blend", "blend_from": "sigmoid", "blend_to": "relu", "blend_until": 0.5})
    x = torch.linspace(-3, 3, 7)
    for progress, share in ((0.0, 0.0), (0.25, 0.5), (0.5, 1.0), (0.9, 1.0)):
        blend.training_progress.fill_(progress)  # type: ignore[operator]
        torch.testing.assert_close(blend(x), (1 - share) * torch.sigmoid(x) + share * torch.relu(x))
    with pytest.raises(UserError, match=r"network\.blend_from and network\.blend_to cannot be 'blend'"):
        make_activation({"activation": "blend", "blend_to": "blend"})


# Dropout


def test_halved_weights_are_the_mean_of_half_dropped_networks() -> None:
    # notes/003-b T26, notes/002 E25: exact in expectation for a linear read-out
    layer, read = Dropout(0.5), torch.randn(30, generator=torch.Generator().manual_seed(0))
    own_noise(nn.Sequential(layer), 0)
    h = torch.rand(1, 30, generator=torch.Generator().manual_seed(1)).expand(20_000, 30)
    means = layer(h) @ read
    plain = (0.5 * read) @ (2 * h[0])  # doubled weights in training, halved at inference: the book's two halves
    assert float(means.mean()) == pytest.approx(float(plain), abs=5 * float(means.std()) / math.sqrt(20_000))


def test_the_rate_follows_its_schedule() -> None:
    layer = Dropout(0.6, schedule="linear")
    own_noise(nn.Sequential(layer), 0)
    x = torch.ones(2000, 10)
    for progress in (0.0, 0.5, 1.0):
        layer.training_progress.fill_(progress)
        assert float((layer(x) == 0).float().mean()) == pytest.approx(0.6 * (1 - progress), abs=0.02)
    with pytest.raises(ValueError, match="schedule must be one of"):
        Dropout(0.1, schedule="sideways")


def test_dropout_left_on_draws_anew_and_is_put_back() -> None:
    network = nn.Sequential(nn.Linear(4, 50), Dropout(0.5), nn.Linear(50, 1))
    own_noise(network, 3)
    network.eval()
    x = torch.randn(6, 4)
    with monte_carlo(network), torch.no_grad():
        passes = torch.stack([network(x) for _ in range(400)])
    assert float(passes.std(0).mean()) > 0
    torch.testing.assert_close(network(x), network(x))
    error = 5 * passes.std(0) / 20
    assert ((passes.mean(0) - network(x)).abs() < error).all()  # linear after the mask: the mean is the plain pass
