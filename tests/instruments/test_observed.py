"""Each instrument against a computation by brute force in float64: loops over rows, layers, parameters."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from nastavnik.instruments import COSTS, OBSERVED, Sight, Subject, look, observe
from nastavnik.instruments._curvature import curvature, random_signs

Tensors = dict[str, torch.Tensor]
ROWS, RATE = 7, 0.3


class World:
    """A small network, a batch, a step: everything in float64."""

    def __init__(self) -> None:
        torch.manual_seed(3)
        self.net = nn.Sequential(
            nn.Linear(3, 5), nn.Sigmoid(), nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 2)
        ).double()  # fmt: skip
        layers: list[Any] = list(self.net)
        with torch.no_grad():
            layers[0].weight[0] *= 60  # a saturated unit
            layers[2].bias += 1.5
            layers[2].bias[1] = -50.0  # a dead one
        self.x, self.y = torch.randn(ROWS, 3, dtype=torch.float64), torch.tensor([0, 1, 1, 0, 1, 0, 0])
        self.before = {n: p.detach().clone() for n, p in self.net.named_parameters()}
        self.start = {n: p + 0.3 * torch.randn_like(p) for n, p in self.before.items()}
        loss = F.cross_entropy(self.net(self.x), self.y)
        grads = torch.autograd.grad(loss, list(self.net.parameters()))
        self.grads = dict(zip(self.before, grads, strict=True))
        self.after = {n: p - RATE * self.grads[n] for n, p in self.before.items()}

    def subject(self, alone: bool) -> Subject:
        net = copy.deepcopy(self.net)

        def call(
            tensors: Tensors, inputs: tuple[torch.Tensor, ...], y: torch.Tensor
        ) -> tuple[torch.Tensor, torch.Tensor]:
            said = torch.func.functional_call(net, tensors, inputs)
            return said, F.cross_entropy(said, y, reduction="none")

        return Subject(net, call, call, "", alone)

    def sight(self, alone: bool = False) -> Sight:
        return look(self.subject(alone), self.before, self.after, self.start, {}, (self.x,), self.y, rows=ROWS)

    def outputs(self, parameters: Tensors) -> torch.Tensor:
        w = parameters
        first = torch.sigmoid(self.x @ w["0.weight"].T + w["0.bias"])
        second = torch.relu(first @ w["2.weight"].T + w["2.bias"])
        return second @ w["4.weight"].T + w["4.bias"]

    def loss(self, parameters: Tensors) -> torch.Tensor:
        outputs = self.outputs(parameters)
        return -torch.log_softmax(outputs, 1)[range(ROWS), self.y].mean()

    def hidden(self) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
        """By activation: what it is given and says."""
        w = self.before
        given = self.x @ w["0.weight"].T + w["0.bias"]
        first = 1 / (1 + torch.exp(-given))
        second = first @ w["2.weight"].T + w["2.bias"]
        return {"1": (given, first), "3": (second, second.clamp(min=0))}

    def slopes(self) -> dict[str, torch.Tensor]:
        hidden = self.hidden()
        said = hidden["1"][1]
        return {"1": said * (1 - said), "3": (hidden["3"][0] > 0).double()}

    def flat(self, tensors: Tensors) -> torch.Tensor:
        return torch.cat([tensors[n].reshape(-1) for n in self.before])

    def hessian(self) -> torch.Tensor:
        sizes = [p.numel() for p in self.before.values()]

        def of(v: torch.Tensor) -> torch.Tensor:
            parts = torch.split(v, sizes)
            return self.loss({n: t.reshape(self.before[n].shape) for n, t in zip(self.before, parts, strict=True)})

        return torch.autograd.functional.hessian(of, self.flat(self.before))

    def row_gradients(self) -> np.ndarray:
        """By central differences, row by row and parameter by parameter."""
        rows = []
        for i in range(ROWS):
            own = []
            for name, p in self.before.items():
                for j in range(p.numel()):
                    values = []
                    for sign in (1, -1):
                        moved = {n: t.clone() for n, t in self.before.items()}
                        moved[name].view(-1)[j] += sign * 1e-6
                        values.append(-torch.log_softmax(self.outputs(moved), 1)[i, self.y[i]].item())
                    own.append((values[0] - values[1]) / 2e-6)
            rows.append(own)
        return np.array(rows)


Truth = Callable[[World], dict[str, float]]
LAYERS = {"0": ("0.weight", "0.bias"), "2": ("2.weight", "2.bias"), "4": ("4.weight", "4.bias")}


def by_layer(measure: Callable[[World, str], float]) -> Truth:
    def truth(w: World) -> dict[str, float]:
        return {
            layer: math.sqrt(sum(measure(w, n) ** 2 for n in names)) for layer, names in LAYERS.items()
        }  # fmt: skip

    return truth


def ratio(top: Truth, bottom: Truth) -> Truth:
    return lambda w: {layer: value / bottom(w)[layer] for layer, value in top(w).items()}


def of_said(measure: Callable[[torch.Tensor], torch.Tensor]) -> Truth:
    return lambda w: {layer: float(measure(said)) for layer, (_, said) in w.hidden().items()}


def signs_kept(w: World) -> dict[str, float]:
    found = {}
    for layer, names in LAYERS.items():
        pairs = [
            (a, b) for n in names
            for a, b in zip(w.start[n].reshape(-1).tolist(), w.before[n].reshape(-1).tolist(), strict=True)
        ]  # fmt: skip
        found[layer] = sum((a > 0) == (b > 0) for a, b in pairs) / len(pairs)
    return found


def participation(said: torch.Tensor) -> torch.Tensor:
    values = torch.linalg.svdvals(said) ** 2
    return values.sum() ** 2 / (values**2).sum() / min(said.shape)


def backward_gain(w: World) -> dict[str, float]:
    found = {}
    for layer, fed in (("2", "1"), ("4", "3")):
        weight, slope = w.before[f"{layer}.weight"], w.slopes()[fed]
        total = 0.0
        for j in range(weight.shape[0]):
            for k in range(weight.shape[1]):
                total += sum(float(weight[j, k] * slope[i, k]) ** 2 for i in range(ROWS)) / ROWS
        found[layer] = math.sqrt(total / weight.shape[0])
    return found


def unit_spread(w: World) -> dict[str, float]:
    found = {}
    for layer in LAYERS:
        m = w.before[f"{layer}.weight"].numpy()
        found[layer] = math.sqrt(np.mean([np.var(m[:, k]) for k in range(m.shape[1])])) / math.sqrt(np.mean(m**2))
    return found


def noise_scale(w: World) -> dict[str, float]:
    rows = w.row_gradients()
    mean = rows.mean(0)
    spread = sum(float((g - mean) @ (g - mean)) for g in rows) / (ROWS - 1)
    signal = float(mean @ mean) - spread / ROWS
    return {"": spread / signal if signal > 0 else math.inf, "spread": spread, "signal": signal}


def row_norms(w: World) -> dict[str, float]:
    lengths = sorted(float(np.linalg.norm(g)) for g in w.row_gradients())
    return {"median": lengths[ROWS // 2], "largest": lengths[-1]}


def stuck(w: World) -> dict[str, float]:
    values = w.outputs(w.before).reshape(-1).tolist()
    return {"": max(values.count(min(values)), values.count(max(values))) / len(values)}


TRUTH: dict[str, Truth] = {
    "batch loss": lambda w: {"": float(w.loss(w.before))},
    "predicted change": lambda w: {"": -RATE * float(w.flat(w.grads) @ w.flat(w.grads))},
    "actual change": lambda w: {"": float(w.loss(w.after) - w.loss(w.before))},
    "output deviation": lambda w: {"": float(np.sqrt(np.mean([np.var(c) for c in w.outputs(w.before).numpy().T])))},
    "output least": lambda w: {"": min(w.outputs(w.before).reshape(-1).tolist())},
    "output most": lambda w: {"": max(w.outputs(w.before).reshape(-1).tolist())},
    "output sum deviation": lambda w: {"": max(abs(sum(row) - 1) for row in w.outputs(w.before).tolist())},
    "output stuck": stuck,
    "layer gradient norm": by_layer(lambda w, n: float(w.grads[n].norm())),
    "layer weight norm": by_layer(lambda w, n: float(w.before[n].norm())),
    "layer update ratio": ratio(
        by_layer(lambda w, n: float((w.after[n] - w.before[n]).norm())), by_layer(lambda w, n: float(w.before[n].norm()))
    ),
    "distance from start": ratio(
        by_layer(lambda w, n: float((w.before[n] - w.start[n]).norm())), by_layer(lambda w, n: float(w.start[n].norm()))
    ),
    "sign persistence": signs_kept,
    "activation mean": of_said(torch.mean),
    "activation deviation": of_said(lambda t: t.reshape(-1).std(correction=0)),
    "activation least": of_said(torch.min),
    "activation most": of_said(torch.max),
    "dead share": lambda w: {n: float(np.mean([bool((s[:, k] == 0).all()) for k in range(s.shape[1])]))
                             for n, s in w.slopes().items()},
    "saturated share": lambda w: {"1": float((w.slopes()["1"] < 0.05 * 0.25).double().mean()), "3": 0.0},
    "effective rank": of_said(participation),
    "backward gain": backward_gain,
    "weight scale": lambda w: {n: math.sqrt(float((w.before[f"{n}.weight"] ** 2).mean()) * w.before[f"{n}.weight"].shape[1])
                               for n in LAYERS},
    "unit spread": unit_spread,
    "gradient noise scale": noise_scale,
    "row gradient norm": row_norms,
}  # fmt: skip


@pytest.fixture(scope="module")
def world() -> World:
    return World()


def test_every_instrument_has_its_truth() -> None:
    assert set(TRUTH) | {"curvature"} == set(OBSERVED)
    assert {known.cost for known in OBSERVED.values()} == set(COSTS)


@pytest.mark.parametrize("alone", [False, True])
@pytest.mark.parametrize("name", sorted(TRUTH))
def test_an_instrument_equals_brute_force(world: World, name: str, alone: bool) -> None:
    seen = OBSERVED[name].measure(world.sight(alone))
    truth = TRUTH[name](world)
    assert list(seen) == list(truth)
    tolerance = 1e-4 if OBSERVED[name].cost == "example" else 1e-9  # central differences, rounding
    for layer, value in truth.items():
        assert float(seen[layer]) == pytest.approx(value, rel=tolerance, abs=1e-12), layer


def test_the_planted_ones_are_seen(world: World) -> None:
    sight = world.sight()
    assert float(OBSERVED["dead share"].measure(sight)["3"]) >= 0.25
    assert float(OBSERVED["saturated share"].measure(sight)["1"]) >= 0.1


@pytest.mark.parametrize("alone", [False, True])
def test_curvature_equals_the_whole_hessian(world: World, alone: bool) -> None:
    hessian = world.hessian()
    size = len(hessian)
    seen = curvature(world.sight(alone), steps=size)
    assert float(seen["largest"]) == pytest.approx(float(torch.linalg.eigvalsh(hessian)[-1]), rel=1e-6)
    signs = random_signs(size).astype(np.float64)
    assert float(seen["trace"]) == pytest.approx(float(signs @ hessian.numpy() @ signs), rel=1e-8)


def test_a_few_products_come_near_the_largest_eigenvalue(world: World) -> None:
    truth = float(torch.linalg.eigvalsh(world.hessian())[-1])
    assert float(curvature(world.sight())["largest"]) == pytest.approx(truth, rel=0.05)


def test_hutchinson_is_unbiased() -> None:
    hessian = World().hessian().numpy()
    draws = np.random.default_rng(1).choice((-1.0, 1.0), (20_000, len(hessian)))
    estimates = np.einsum("ni,ij,nj->n", draws, hessian, draws)
    assert estimates.mean() == pytest.approx(np.trace(hessian), abs=4 * estimates.std() / math.sqrt(len(draws)))


def test_only_the_asked_cost_classes_look(world: World) -> None:
    seen = observe(
        world.subject(False), world.before, world.after, world.start, {}, (world.x,), world.y, costs=("curvature",)
    )
    assert list(seen) == ["curvature"]


def test_a_chain_of_single_units_has_the_factor_of_the_book() -> None:
    """notes/003-d T9: w = 100, biases such that every z is 0: each factor w σ′(z) is 25."""
    net = nn.Sequential(nn.Linear(1, 1), nn.Sigmoid(), nn.Linear(1, 1), nn.Sigmoid(), nn.Linear(1, 1)).double()
    layers: list[Any] = list(net)
    with torch.no_grad():
        for i, said in ((0, 1.0), (2, 0.5), (4, 0.5)):
            layers[i].weight.fill_(100.0)
            layers[i].bias.fill_(-100.0 * said)

    def call(tensors: Tensors, inputs: tuple[torch.Tensor, ...], y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        said = torch.func.functional_call(net, tensors, inputs)
        return said, (said - y).square()[:, 0]

    own = {n: p.detach() for n, p in net.named_parameters()}
    one = torch.ones(2, 1, dtype=torch.float64)
    sight = look(Subject(net, call, call), own, own, own, {}, (one,), one)
    gains = OBSERVED["backward gain"].measure(sight)
    assert [float(v) for v in gains.values()] == pytest.approx([25.0, 25.0])
    biases = [float(g) for n, g in sight.moment.gradients.items() if n.endswith("bias")]
    assert biases[0] / biases[2] == pytest.approx(625.0)
    assert biases[1] / biases[2] == pytest.approx(25.0)


@pytest.mark.parametrize("activation", [nn.ReLU(inplace=True), nn.LeakyReLU(0.3, inplace=True), nn.ELU(inplace=True)])
def test_an_activation_that_writes_over_its_input_is_seen_as_it_was(activation: nn.Module) -> None:
    torch.manual_seed(0)
    plain = copy.deepcopy(activation)
    plain.inplace = False  # type: ignore[assignment]
    seen = []
    for own in (activation, plain):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(3, 4), own, nn.Linear(4, 1))

        def call(
            tensors: Tensors, inputs: tuple[torch.Tensor, ...], y: torch.Tensor, net: nn.Module = net
        ) -> tuple[torch.Tensor, torch.Tensor]:
            said = torch.func.functional_call(net, tensors, inputs)
            return said, (said - y).square()[:, 0]

        weights = {n: p.detach() for n, p in net.named_parameters()}
        x = torch.randn(6, 3, generator=torch.Generator().manual_seed(1))
        subject = Subject(net, call, call, "", alone=True)
        found = observe(subject, weights, weights, weights, {}, (x,), x[:, :1], costs=("pass",))
        seen.append({f"{n}/{layer}": float(v) for n, values in found.items() for layer, v in values.items()})
    assert seen[0] == pytest.approx(seen[1])


@pytest.mark.parametrize("kind", ["series", "tokens"])
def test_units_are_channels_behind_a_convolution_and_the_last_dimension_elsewhere(kind: str) -> None:
    """Two of five units never speak; which dimension holds units depends on the layer before."""
    torch.manual_seed(0)
    first: nn.Module = nn.Conv1d(3, 5, 1) if kind == "series" else nn.Linear(3, 5)
    net = nn.Sequential(first, nn.ReLU())
    with torch.no_grad():
        assert isinstance(first.bias, torch.Tensor)
        first.bias[:2] = -100.0
        first.bias[2:] = 100.0
    x = torch.randn(4, 3, 7) if kind == "series" else torch.randn(4, 7, 3)

    def call(tensors: Tensors, inputs: tuple[torch.Tensor, ...], y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        said = torch.func.functional_call(net, tensors, inputs)
        return said, said.flatten(1).mean(1)

    own = {n: p.detach() for n, p in net.named_parameters()}
    sight = look(Subject(net, call, call), own, own, own, {}, (x,), torch.zeros(4))
    assert float(OBSERVED["dead share"].measure(sight)["1"]) == pytest.approx(0.4)
