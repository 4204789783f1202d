"""Activations, initializers, normalizations, dropouts."""

from __future__ import annotations

import math

import torch
from torch import nn

from nastavnik.gradient_check import check_gradients
from nastavnik.nets import (
    ACTIVATIONS,
    DROPOUTS,
    INITIALIZERS,
    NORMALIZATIONS,
    Activation,
    Initializer,
    Normalization,
    RandomMask,
    initialize,
    own_noise,
)
from nastavnik.recipe import Value
from nastavnik.testing._population import check_words, entered, same_as_alone

_WIDE = (400, 300)


def check_activation(kind: type[Activation]) -> None:
    """Its declared range, signs and steepest slope hold, its derivatives are right, and it trains in a population.

    Raises:
        AssertionError: it is not so.
    """
    check_words(kind)
    activation = kind().double()
    pieces = activation.expansion
    grid = torch.linspace(-30, 30, 120_001, dtype=torch.float64)
    given = grid if pieces == 1 else torch.stack([grid, *[-grid] * (pieces - 1)], dim=-1).flatten()
    said = activation(given).detach()
    assert said.dtype == torch.float64, f"{kind.name} changes the type"
    assert said.shape == grid.shape, f"{kind.name} changes the shape"
    low, high = kind.range
    assert low - 1e-6 <= said.min(), f"{kind.name} says {float(said.min()):.6g}, below its range"
    assert said.max() <= high + 1e-6, f"{kind.name} says {float(said.max()):.6g}, above its range"
    both = bool((said.min() < 0) & (said.max() > 0)) or pieces > 1
    assert both == kind.zero_centred, f"{kind.name}: zero_centred must be {both}"
    if not kind.surrogate:
        slope = (said[2:] - said[:-2]) / (grid[2:] - grid[:-2])
        steepest = float(slope.abs().max())
        assert math.isclose(steepest, kind.largest_derivative, rel_tol=2e-3), f"{kind.name}: steepest {steepest:.6g}"
        points = torch.randn(7, 4 * pieces, generator=torch.Generator().manual_seed(0)) * 2
        found = check_gradients(activation, points)
        assert found, f"{kind.name}: {found}"
    assert kind.initialization in INITIALIZERS, f"{kind.name} is matched to {kind.initialization!r}, which is none"
    own = {**dict(activation.named_buffers()), **dict(activation.named_parameters())}
    assert set(kind.settings) <= set(own), f"{kind.name}: every setting must be a buffer or a parameter"
    with entered(ACTIVATIONS, kind):
        settings: dict[str, Value] = {f"network.{name}": value for name, value in kind.settings.items()}
        varied = ("optimizer.learning_rate", *settings)
        same_as_alone({"network.activation": kind.name, **settings}, varied=varied)


def check_initializer(kind: type[Initializer]) -> None:
    """Its variance is that of its formula on a wide layer, its gain scales, biases are zero, and a seed repeats.

    Raises:
        AssertionError: it is not so.
    """
    check_words(kind)
    with entered(INITIALIZERS, kind):
        first, again, louder = (_initialized(kind, gain) for gain in (1.0, 1.0, 2.0))
    state, repeated = first.state_dict(), again.state_dict()
    assert all(torch.equal(t, repeated[name]) for name, t in state.items()), f"{kind.name} does not repeat itself"
    biases = [t for name, t in state.items() if name.endswith("bias")]
    assert all((bias == 0).all() for bias in biases), f"{kind.name} must leave biases at zero"
    weight = state["layers.0.weight"]
    ratio = float(louder.state_dict()["layers.0.weight"].std() / weight.std()) if weight.std() > 0 else 2.0
    assert math.isclose(ratio, 2.0, rel_tol=0.05), f"{kind.name}: a gain of 2 gives {ratio:.4g} times the deviation"
    expected = kind().variance(_WIDE[1], _WIDE[0])
    if expected is not None:
        error = 5 * math.sqrt(2 / weight.numel()) * expected  # five standard errors of a normal sample's variance
        found = float(weight.square().mean())
        assert abs(found - expected) <= error, f"{kind.name}: variance {found:.5g}, by the formula {expected:.5g}"


class _Wide(nn.Module):
    """A wide layer, and a residual branch."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(_WIDE[1], _WIDE[0]), nn.Linear(_WIDE[0], _WIDE[0])])
        self.activation = ACTIVATIONS["relu"]()
        self.gates = nn.Parameter(torch.ones(1))
        self.output = nn.Linear(_WIDE[0], 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.activation(self.layers[0](x))
        return self.output(h + self.gates[0] * self.activation(self.layers[1](h)))


def _initialized(kind: type[Initializer], gain: float) -> _Wide:
    examples = (torch.randn(500, _WIDE[1], generator=torch.Generator().manual_seed(1)),)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = _Wide()
        torch.manual_seed(1)
        initialize(network, {"name": kind.name, "gain": gain}, examples)
    return network


def check_normalization(kind: type[Normalization]) -> None:
    """Right derivatives in training and evaluation mode, and K networks trained together as K alone.

    Raises:
        AssertionError: it is not so.
    """
    check_words(kind)
    torch_state = torch.random.get_rng_state()
    torch.manual_seed(0)
    module = nn.Sequential(kind.layer(4, 8), kind.make(8, {}))
    torch.random.set_rng_state(torch_state)
    x = torch.randn(9, 4, generator=torch.Generator().manual_seed(0))
    for mode in (True, False):
        found = check_gradients(module.train(mode), x)
        assert found, f"{kind.name} ({'training' if mode else 'evaluation'}): {found}"
    with entered(NORMALIZATIONS, kind):
        same_as_alone({"network.normalization": kind.name, "network.residual": True})


def check_dropout(kind: type[RandomMask]) -> None:
    """Keeps the mean, does nothing at rate 0 or in evaluation, draws anew each call, and masks are a network's own.

    Raises:
        AssertionError: it is not so.
    """
    check_words(kind)
    x = torch.ones(4000, 6, dtype=torch.float64)
    layer = kind(0.3).double()
    own_noise(nn.Sequential(layer), 5)
    first, second = layer(x), layer(x)
    assert not torch.equal(first, second), f"{kind.name} draws the same mask twice"
    error = 6 * float(first.std()) / math.sqrt(len(x))  # rows are drawn apart, columns perhaps together
    assert abs(float(first.mean()) - 1) < error, f"{kind.name} changes the mean to {float(first.mean()):.4g}"
    assert torch.equal(layer.eval()(x), x), f"{kind.name} must do nothing in evaluation"
    quiet = kind(0.0).double()
    own_noise(nn.Sequential(quiet), 5)
    assert torch.allclose(quiet(x), x), f"{kind.name} must do nothing at rate 0"
    with entered(DROPOUTS, kind):
        choice: dict[str, Value] = {
            "network.dropout_kind": kind.name,
            "network.dropout": 0.2,
            "network.residual": True,
            "network.dropout_schedule": "linear",
        }
        same_as_alone(choice, varied=("network.dropout",))
