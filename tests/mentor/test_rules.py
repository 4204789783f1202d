"""Each rule has a sick network, of which something is known in advance, and its healthy twin."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import asked
import numpy as np
import pytest
import torch
from loops import ROWS, blobs, layers, surface, train
from torch import nn

from nastavnik.mentor import RULES, Mentor, diagnose
from nastavnik.trace import History

SGD: Callable[[float], Any] = lambda rate: lambda p: torch.optim.SGD(p, lr=rate)  # noqa: E731


def usual(**options: Any) -> History:
    """The healthy twin of most: two hidden layers, Adam, three clouds."""
    return train(layers(4, 16, 16, 3), blobs(), **options)


def number(**options: Any) -> History:
    """The same for a number."""
    return train(layers(4, 24, 24, 1, activation=nn.Tanh), surface(), epochs=options.pop("epochs", 20), **options)


def with_(history: History, **facts: Any) -> History:
    """A history with other facts."""
    history.facts |= {name.replace("_", " "): value for name, value in facts.items()}
    return history


def scaled_inputs(factor: float) -> History:
    x, y = blobs()
    return train(layers(4, 16, 16, 3), (x * factor, y))


def scaled_target(scale: float, shift: float) -> History:
    x, y = surface()
    return train(layers(4, 16, 1), (x, y * scale + shift), epochs=2)


def imbalanced(share: float) -> History:
    x, y = blobs(2)
    keep = (y == 0) | (torch.rand(len(y), generator=torch.Generator().manual_seed(0)) < share)
    x, y = torch.cat([x[keep]] * 4)[: 2 * ROWS], torch.cat([y[keep]] * 4)[: 2 * ROWS]
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    return train(layers(4, 8, 2), (x[order], y[order]), epochs=1)


def leaking(noise: float) -> History:
    x, y = surface(6)
    x = torch.cat([x, y + noise * torch.randn(y.shape, generator=torch.Generator().manual_seed(0))], dim=1)
    return train(layers(7, 8, 1), (x, y), epochs=1)


def moved(by: float) -> History:
    x, y = blobs()
    x = x.clone()
    x[ROWS:, 1] += by
    return train(layers(4, 8, 3), (x, y), epochs=1)


def shared(rows: int) -> History:
    x, y = blobs()
    x, y = x.clone(), y.clone()
    x[ROWS : ROWS + rows], y[ROWS : ROWS + rows] = x[:rows], y[:rows]
    return train(layers(4, 8, 3), (x, y), epochs=1)


def hole(value: float) -> History:
    x, y = blobs()
    x = x.clone()
    x[3, 2] = value
    return train(layers(4, 8, 3), (x, y), epochs=1)


def normed(batch: int, dropout: float = 0.0) -> History:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 16), nn.Dropout(dropout), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 3))
    return train(net, blobs(), batch=batch, epochs=2)


def noisy_gradient(labels_mean_something: bool) -> History:
    shuffle: Callable[[torch.Tensor], torch.Tensor] = lambda y: y[  # noqa: E731
        torch.randperm(len(y), generator=torch.Generator().manual_seed(0))
    ]
    return usual(
        labels=(lambda y: y) if labels_mean_something else shuffle, costs=("pass", "example"), batch=2, epochs=2
    )


def deep(depth: int, activation: Callable[[], nn.Module] = nn.Sigmoid) -> History:
    torch.manual_seed(0)
    parts: list[nn.Module] = [nn.Linear(4, 12), activation()]
    for _ in range(depth - 1):
        parts += [nn.Linear(12, 12), activation()]
    return train(nn.Sequential(*parts, nn.Linear(12, 3)), blobs(), epochs=4)


def doubled(between: nn.Module) -> History:
    torch.manual_seed(0)
    return train(nn.Sequential(nn.Linear(4, 12), between, nn.Linear(12, 12), nn.ReLU(), nn.Linear(12, 3)), blobs())


def frozen(really: bool) -> History:
    net = layers(4, 16, 16, 3)
    for p in net[2].parameters():
        p.requires_grad_(not really)
    return train(net, blobs(), epochs=3)


def narrow(units: int) -> History:
    return train(layers(8, units, 3), blobs(columns=8), epochs=2)


def dropped(rate: float) -> History:
    torch.manual_seed(0)
    return train(nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Dropout(rate), nn.Linear(16, 3)), blobs(), epochs=2)


def ending(last: nn.Module, regression: bool = False) -> History:
    if regression:
        return train(nn.Sequential(layers(4, 16, 1), last), surface(), epochs=4)
    return train(nn.Sequential(layers(4, 16, 3), last), blobs(), epochs=4)


def decayed(strength: float) -> History:
    return usual(optimizer=lambda p: torch.optim.AdamW(p, lr=3e-3, weight_decay=strength))


def two_terms(weight: float) -> History:
    """A loss of two terms: the second asks for outputs around 3, with a weight that makes it heard or not."""
    seen: dict[str, float] = {}

    def loss_fn(outputs: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        fit, other = (outputs[:, :1] - y).square().mean(), (outputs[:, 1] - 3).square().mean()
        seen.update(fit=fit.item(), other=other.item())
        return fit + weight * other

    return train(
        layers(4, 16, 2), surface(), loss_fn=loss_fn, step=lambda mentor, loss: mentor.terms(**seen), epochs=20
    )


def smoothed(share: float) -> History:
    return with_(usual(epochs=1), recipe={"loss.name": "label_smoothing", "loss.label_smoothing": share})


class Root(nn.Module):
    """Adds nothing, by way of a root whose slope at zero is infinite."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + 0 * torch.sqrt((x - x.amax(0)).abs())


class Same(nn.Module):
    """Adds nothing."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * 1.0


def rated(rate: float, epochs: int = 12) -> History:
    return usual(optimizer=SGD(rate), epochs=epochs)


def swinging(momentum: float) -> History:
    """A chain with a momentum that forgets nothing swings like a spring."""
    return train(
        layers(4, 1), surface(), optimizer=lambda p: torch.optim.SGD(p, lr=0.05, momentum=momentum), epochs=40, batch=480,
        looks=40,
    )  # fmt: skip


def accumulated(zeroed: bool) -> History:
    return usual(zeroed=zeroed, epochs=3)


def clipped(bound: float) -> History:
    history = usual(optimizer=SGD(0.05), epochs=3)
    return with_(history, recipe={"optimizer.clip_norm": bound}, optimizer="sgd")


def started(factor: float, output_too: bool = True) -> History:
    net = layers(4, 16, 16, 3)
    with torch.no_grad():
        for layer in (net[0], net[2], net[4])[: 3 if output_too else 2]:
            assert isinstance(layer, nn.Linear)
            layer.weight *= factor
    return train(net, blobs(), epochs=3)


def equal_units(equal: bool) -> History:
    net = layers(4, 16, 16, 3)
    if equal:
        nn.init.constant_(net[2].weight, 0.1)  # type: ignore[arg-type]
    return train(net, blobs(), epochs=3)


def chain(gain: float) -> History:
    """Eight tanh layers whose weights multiply what goes back by about ``gain`` each."""
    torch.manual_seed(0)
    net = layers(4, *[16] * 8, 3, activation=nn.Tanh)
    with torch.no_grad():
        for layer in net:
            if isinstance(layer, nn.Linear):
                nn.init.orthogonal_(layer.weight, gain)
    return train(net, blobs(), optimizer=SGD(0.01), epochs=2)


def spiking(rate: float) -> History:
    return train(layers(4, 24, 24, 24, 1), surface(), optimizer=SGD(rate), epochs=1, looks=20)


def slowed(factor: float) -> History:
    """One layer's rate is so many times smaller."""
    net = layers(4, 16, 16, 16, 3)

    def optimizer(parameters: Any) -> torch.optim.Optimizer:
        slow = list(net[2].parameters())
        rest = [p for p in parameters if all(p is not q for q in slow)]
        groups: list[dict[str, Any]] = [{"params": rest}, {"params": slow, "lr": 3e-3 / factor}]
        return torch.optim.Adam(groups, lr=3e-3)

    return train(net, blobs(), optimizer=optimizer, epochs=3)


def dying(bias: float) -> History:
    """Twelve of sixteen units of the first layer begin with this bias."""
    net = layers(4, 16, 16, 3)
    with torch.no_grad():
        net[0].bias[:12] = bias  # type: ignore[operator]
    return train(net, blobs(), epochs=3)


def saturated(factor: float) -> History:
    net = layers(4, 16, 3, activation=nn.Tanh)
    with torch.no_grad():
        net[0].weight *= factor  # type: ignore[operator, assignment]
    return train(net, blobs(), epochs=3)


def speechless(silent: bool) -> History:
    net = layers(4, 16, 3)
    if silent:
        nn.init.zeros_(net[2].weight)  # type: ignore[arg-type]
        nn.init.constant_(net[0].bias, -50.0)  # type: ignore[arg-type]
    return train(net, blobs(), epochs=3)


def at_the_edge(rate: float) -> History:
    """A linear model on data of curvature 2·mean x²: its steepest curvature is known."""
    x, y = surface(3)
    return train(layers(3, 1), (x, y), optimizer=SGD(rate), batch=480, epochs=40, costs=("pass", "curvature"))


def memorized(rows: int) -> History:
    return train(layers(4, 64, 64, 3), blobs_apart(0.5), train_rows=rows, epochs=40 if rows < ROWS else 6)


def confident(rows: int) -> History:
    return train(layers(4, 64, 64, 3), blobs_apart(1.5), train_rows=rows, epochs=300 if rows < ROWS else 4)


def blobs_apart(distance: float) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 2 * ROWS)
    x = rng.normal(size=(3, 4))[y] * distance + rng.normal(size=(2 * ROWS, 4))
    return torch.tensor(x, dtype=torch.float32), torch.tensor(y)


def cut_short(epochs: int) -> History:
    return usual(optimizer=SGD(0.02), epochs=epochs)


def of_chance(known: bool) -> History:
    x, y = blobs()
    if not known:
        x = torch.zeros_like(x)
    return train(layers(4, 16, 3), (x, y), epochs=4)


def stuck(own: float) -> History:
    """Others of its recipe ended at 0.2 nats; one that says nothing stays where it began."""
    return with_(speechless(own > 1), siblings=[0.2 + d for d in (0.00, 0.01, -0.01, 0.005, -0.005)])


def wrong_labels(share: float) -> History:
    def spoil(y: torch.Tensor) -> torch.Tensor:
        draw = torch.Generator().manual_seed(0)
        wrong = torch.rand(len(y), generator=draw) < share
        return torch.where(wrong, torch.randint(0, 3, y.shape, generator=draw), y)

    return usual(labels=spoil, epochs=10)


def by_heart(shuffled: bool) -> History:
    def spoil(y: torch.Tensor) -> torch.Tensor:
        return y[torch.randperm(len(y), generator=torch.Generator().manual_seed(0))] if shuffled else y

    return train(layers(4, 64, 64, 3), blobs(), labels=spoil, epochs=60)


def forgetful(rate: float) -> History:
    return train(layers(4, 16, 16, 3), blobs_apart(0.6), optimizer=SGD(rate), epochs=6, looks=40, shuffled=rate < 0.1)


def waiting(seconds: float) -> History:
    x, y = blobs()
    net = layers(4, 8, 3)
    from nastavnik.mentor import Mentor

    mentor = Mentor(net, None, nn.CrossEntropyLoss(), every=2)
    for _ in range(12):
        time.sleep(seconds)
        with mentor.step(x[:16], y[:16]):
            time.sleep(0.004)
    return mentor.history


def growing(slope: float) -> History:
    history = History()
    for step in range(12):
        history.add("memory", step * 10, 100.0 + slope * step)
    return history


def broadcast(wrong: bool) -> History:
    """Outputs [n, 1] against targets [n]: a table of all pairs, so that the mean is the best answer."""
    x, y = surface()
    torch.manual_seed(0)
    net = layers(4, 16, 1)
    x, y = x[:ROWS], y[:ROWS, 0]

    def loss_fn(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:  # its name says nothing
        return ((a if wrong else a.squeeze(1)) - b).square().mean()

    mentor = Mentor(net, None, loss_fn, every=10)
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    for step in range(60):
        some = slice(8 * step % ROWS, 8 * step % ROWS + 8)
        with mentor.step(x[some], y[some]):
            optimizer.zero_grad()
            loss_fn(net(x[some]), y[some]).backward()
            optimizer.step()
    assert not mentor.faults, mentor.faults
    return mentor.history


def log_likelihood(normalized: bool) -> History:
    torch.manual_seed(0)
    net = nn.Sequential(layers(4, 16, 3), nn.LogSoftmax(1) if normalized else nn.Identity())
    return train(net, blobs(), loss_fn=nn.NLLLoss(), epochs=2)


def other_optimizer(other: bool) -> History:
    net, else_ = layers(4, 16, 3), layers(4, 16, 3)
    return train(net, blobs(), optimizer=lambda p: torch.optim.Adam(else_.parameters() if other else p), epochs=4)


def moded(evaluation: bool) -> History:
    net = nn.Sequential(nn.Linear(4, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 3))
    net.train(not evaluation)
    return train(net, blobs(), epochs=2)


def stepped(really: bool) -> History:
    class Idle(torch.optim.SGD):
        def step(self, closure: Any = None) -> Any:
            return super().step(closure) if really else None

    return usual(optimizer=lambda p: Idle(p, lr=0.05), epochs=8)


def graded(classes: int) -> History:
    """Grades 0, 1, ... as numbers; of very many grades no one would think of classes."""
    x, y = surface()
    ranks = torch.argsort(torch.argsort(y[:, 0]))
    return train(layers(4, 16, 1), (x, (ranks * classes // len(ranks)).float()[:, None]), epochs=2)


@dataclass(frozen=True)
class Pair:
    """A sick network and its healthy twin; ``score`` what the rule must find, where it is known in advance."""

    sick: Callable[[], History]
    healthy: Callable[[], History]
    score: float | None = None


PAIRS: dict[str, Pair] = {
    "unscaled_inputs": Pair(lambda: scaled_inputs(100.0), lambda: scaled_inputs(1.0), 100.0),
    "unscaled_target": Pair(lambda: scaled_target(300.0, 1000.0), lambda: scaled_target(1.0, 0.0), 1000.0),
    "imbalanced_classes": Pair(lambda: imbalanced(0.04), lambda: imbalanced(1.0)),
    "leaked_target": Pair(lambda: leaking(0.03), lambda: leaking(3.0)),
    "shifted_parts": Pair(lambda: moved(1.5), lambda: moved(0.0), 1.5),
    "shared_rows": Pair(lambda: shared(120), lambda: shared(0), 0.25),
    "nonfinite_inputs": Pair(lambda: hole(float("nan")), lambda: hole(0.0), 1.0),
    "not_shuffled": Pair(lambda: usual(shuffled=False, epochs=4), lambda: usual(epochs=4), 16.0),
    "tiny_batch_norm": Pair(lambda: normed(2), lambda: normed(16), 3.995),
    "noisy_batches": Pair(lambda: noisy_gradient(False), lambda: noisy_gradient(True)),
    "network_paralysis": Pair(lambda: deep(6), lambda: deep(6, nn.ReLU), 4.0**6),
    "no_nonlinearity": Pair(lambda: doubled(nn.Identity()), lambda: doubled(nn.ReLU()), 1.0),
    "frozen_parameters": Pair(lambda: frozen(True), lambda: frozen(False), 1.0),
    "batch_norm_with_dropout": Pair(lambda: normed(16, 0.5), lambda: normed(16, 0.0), 0.5),
    "bottleneck": Pair(lambda: narrow(2), lambda: narrow(16), 2.0),
    "dropout_too_strong": Pair(lambda: dropped(0.9), lambda: dropped(0.2), 0.9),
    "double_softmax": Pair(lambda: ending(nn.Softmax(dim=1)), lambda: ending(nn.Identity()), 1.0),
    "unpaired_rows": Pair(lambda: broadcast(True), lambda: broadcast(False), 1.0),
    "unnormalized_outputs": Pair(lambda: log_likelihood(False), lambda: log_likelihood(True)),
    "foreign_optimizer": Pair(lambda: other_optimizer(True), lambda: other_optimizer(False), 1.0),
    "evaluation_mode": Pair(lambda: moded(True), lambda: moded(False), 1.0),
    "unchanged_weights": Pair(lambda: stepped(False), lambda: stepped(True), 1.0),
    "classes_as_numbers": Pair(lambda: graded(4), lambda: graded(100), 1.0),
    "cut_short": Pair(
        lambda: with_(History(), delivered_steps=1, planned_steps=100),
        lambda: with_(History(), delivered_steps=90, planned_steps=100),
        0.99,
    ),
    "squashed_outputs": Pair(lambda: ending(nn.ReLU(), True), lambda: ending(nn.Identity(), True), 1.0),
    "regularization_too_strong": Pair(lambda: decayed(100.0), lambda: decayed(0.01)),
    "ignored_loss_term": Pair(lambda: two_terms(0.0), lambda: two_terms(1.0)),
    "smoothed_away": Pair(lambda: smoothed(0.8), lambda: smoothed(0.05), 0.8),
    "nonfinite": Pair(lambda: rated(1e6), lambda: rated(0.05), 1.0),
    "undefined_operation": Pair(lambda: ending(Root()), lambda: ending(Same()), 1.0),
    "rate_too_large": Pair(lambda: rated(30.0), lambda: rated(0.05)),
    "rate_too_small": Pair(lambda: rated(1e-6), lambda: rated(0.05)),
    "oscillating": Pair(lambda: swinging(0.999), lambda: swinging(0.5)),
    "accumulated_gradients": Pair(lambda: accumulated(False), lambda: accumulated(True), 1.0),
    "gradients_clipped_away": Pair(lambda: clipped(1e-4), lambda: clipped(1.0)),
    "constant_initialization": Pair(lambda: equal_units(True), lambda: equal_units(False), 1.0),
    "oversized_initialization": Pair(lambda: started(10.0), lambda: started(1.0)),
    "undersized_initialization": Pair(lambda: started(0.01, False), lambda: started(1.0)),
    "vanishing_gradients": Pair(lambda: chain(0.3), lambda: chain(1.0)),
    "exploding_gradients": Pair(lambda: spiking(1.0), lambda: spiking(0.01)),
    "slow_layers": Pair(lambda: slowed(1e4), lambda: slowed(1.0)),
    "dead_units": Pair(lambda: dying(-100.0), lambda: dying(0.0), 0.75),
    "saturated_units": Pair(lambda: saturated(100.0), lambda: saturated(0.5)),
    "constant_output": Pair(lambda: speechless(True), lambda: speechless(False)),
    "edge_of_stability": Pair(lambda: at_the_edge(0.6), lambda: at_the_edge(0.1)),
    "overfitting": Pair(lambda: memorized(60), lambda: memorized(ROWS)),
    "stopped_too_early": Pair(lambda: cut_short(1), lambda: cut_short(40)),
    "chance_level": Pair(lambda: of_chance(False), lambda: of_chance(True), 1.0),
    "growing_confidence": Pair(lambda: confident(30), lambda: confident(ROWS)),
    "stuck_run": Pair(lambda: stuck(1.1), lambda: stuck(0.2)),
    "noisy_labels": Pair(lambda: wrong_labels(0.5), lambda: wrong_labels(0.0)),
    "labels_without_signal": Pair(lambda: by_heart(True), lambda: by_heart(False)),
    "forgotten_rows": Pair(lambda: forgetful(0.8), lambda: forgetful(0.02)),
    "data_wait": Pair(lambda: waiting(0.02), lambda: waiting(0.0)),
    "memory_growth": Pair(lambda: growing(20.0), lambda: growing(0.0)),
}
PAIRS |= {name: Pair(sick, healthy) for name, (sick, healthy) in asked.PAIRS.items()}


def test_every_rule_has_a_pair() -> None:
    assert set(PAIRS) == set(RULES)


@pytest.mark.parametrize("name", sorted(PAIRS))
def test_a_rule_tells_the_sick_network_from_its_healthy_twin(name: str) -> None:
    rule, pair = RULES[name], PAIRS[name]
    sick, healthy = pair.sick(), pair.healthy()
    sign = rule.strongest(sick)
    assert sign is not None
    assert sign.score >= rule.threshold, (sign, rule.threshold)
    if pair.score is not None:
        assert sign.score == pytest.approx(pair.score, rel=0.12)
    well = rule.strongest(healthy)
    assert well is None or well.score < rule.threshold, (well, rule.threshold)
    found = {f.rule: f for f in diagnose(sick)}
    assert name in found
    assert found[name].advice
    assert found[name].source


@pytest.mark.parametrize("name", sorted(RULES))
def test_a_rule_says_nothing_of_an_empty_history(name: str) -> None:
    sign = RULES[name].strongest(History())
    assert sign is None or sign.score < RULES[name].threshold


def test_a_healthy_network_has_no_errors() -> None:
    assert [f.rule for f in diagnose(usual()) if f.severity == "error"] == []
    assert [f.rule for f in diagnose(number()) if f.severity == "error"] == []
