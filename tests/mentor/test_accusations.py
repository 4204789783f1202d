"""Healthy trainings of kinds that were once accused; and beside each what is still to be found."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from loops import ROWS, blobs, layers, surface, train
from torch import nn
from torch.nn import functional as F

from nastavnik.instruments import looks_fresh
from nastavnik.mentor import RULES, Mentor, diagnose
from nastavnik.mentor._batch import flat_batch
from nastavnik.mentor._live import held_modules
from nastavnik.mentor.probes import scored_as
from nastavnik.trace import History


def rules(found: History | Mentor) -> set[str]:
    return {f.rule for f in (diagnose(found) if isinstance(found, History) else found.findings())}


def errors(found: History | Mentor) -> list[str]:
    listed = diagnose(found) if isinstance(found, History) else found.findings()
    return [f.rule for f in listed if f.severity == "error"]


def loop(
    net: nn.Module, loss_fn: Any, x: Any, y: torch.Tensor, *, steps: int = 60, rate: float = 3e-3, **options: Any
) -> Mentor:
    """Plain steps of Adam on batches of 32 rows."""
    optimizer = torch.optim.Adam([p for p in net.parameters() if p.requires_grad], rate)
    mentor = Mentor(net, optimizer, loss_fn, **options)
    draw = torch.Generator().manual_seed(0)
    for _ in range(steps):
        some = torch.randint(0, len(y), (32,), generator=draw)
        with mentor.step(x[some], y[some]):
            optimizer.zero_grad()
            loss_fn(net(x[some]), y[some]).backward()
            optimizer.step()
    assert mentor.faults == []
    return mentor


# Outputs that live where the targets do


@pytest.mark.parametrize(
    ("last", "place", "squashed"),
    [
        (nn.Sigmoid(), torch.sigmoid, False),
        (nn.Tanh(), torch.tanh, False),
        (nn.Hardtanh(), torch.tanh, False),
        (nn.ReLU(), torch.relu, False),
        (nn.Softplus(), torch.exp, False),
        (nn.Sigmoid(), lambda y: 2 * y, True),
        (nn.Tanh(), lambda y: 2 * y, True),
        (nn.ReLU(), lambda y: y, True),
        (nn.Softplus(), lambda y: y, True),
    ],
)
@pytest.mark.parametrize("kind", ["a number", "pictures"])
def test_an_activation_at_the_end_is_right_where_the_targets_live(
    last: nn.Module, place: Callable[[torch.Tensor], torch.Tensor], squashed: bool, kind: str
) -> None:
    x, y = surface()
    y = place(y if kind == "a number" else y.repeat(1, 4).reshape(-1, 1, 2, 2))
    net = nn.Sequential(
        layers(4, 16, y[0].numel()), last, *([] if kind == "a number" else [nn.Unflatten(1, (1, 2, 2))])
    )
    assert ("squashed_outputs" in rules(loop(net, nn.MSELoss(), x, y))) == (squashed and kind == "a number") or (
        kind == "pictures"
    )
    if kind == "pictures":  # the activation itself comes last
        net = nn.Sequential(layers(4, 16, 4), nn.Unflatten(1, (1, 2, 2)), last)
        assert ("squashed_outputs" in rules(loop(net, nn.MSELoss(), x, y))) == squashed


def test_a_rectifier_that_died_at_the_end_is_found_all_the_same() -> None:
    x, y = surface()
    net = nn.Sequential(layers(4, 16, 1), nn.ReLU())
    nn.init.constant_(net[0][-1].bias, -50.0)  # type: ignore[index]
    assert "squashed_outputs" in rules(loop(net, nn.MSELoss(), x, y.abs()))


@pytest.mark.parametrize("mask", [-1e9, float("-inf")])
def test_masked_logits_are_not_squashed(mask: float) -> None:
    class Masked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = layers(4, 16, 12)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.inner(x).masked_fill(torch.arange(12) > 2, mask)

    x, y = blobs()
    assert errors(loop(Masked(), nn.CrossEntropyLoss(), x, y, train=(x[:ROWS], y[:ROWS]))) == []


# Scores that mean something


def triplets(o: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Rows of one class nearer to each other than to others, by a margin."""
    far = torch.cdist(o, o)
    same = y[:, None] == y[None]
    return F.relu(torch.where(same, far, -1e9).amax(1) - torch.where(same, 1e9, far).amin(1) + 1).mean()


class Proxies(nn.Module):
    """A loss that holds a vector for each class."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.weight = nn.Parameter(torch.randn(3, 8))

    def forward(self, o: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(F.normalize(o, dim=1) @ F.normalize(self.weight, dim=1).T * 4, y)


@pytest.mark.parametrize(
    ("loss_fn", "columns", "classes", "scored"),
    [
        (triplets, 8, 8, None),
        (Proxies(), 8, 8, None),
        (lambda o, y: F.cross_entropy(o, y, label_smoothing=0.1), 3, 3, 3),
        (lambda o, y: F.multi_margin_loss(o, y), 3, 3, 3),
        (lambda o, y: ((1 - o.softmax(1).gather(1, y[:, None])) ** 2).mean(), 3, 3, 3),
        (nn.CrossEntropyLoss(), 3, 3, 3),
        (lambda o, y: (o[:, 0] - y).square().mean(), 1, 0, 0),
        (lambda o, y: F.l1_loss(o.squeeze(1), y), 1, 0, 0),
        (lambda o, y: F.huber_loss(o.squeeze(1), y), 1, 0, 0),
        (lambda o, y: F.gaussian_nll_loss(o[:, 0], y, o[:, 1].exp()), 2, 0, 0),
        (lambda o, y: F.gaussian_nll_loss(o[:, 1], y, o[:, 0].exp()), 2, 0, None),
        (nn.PoissonNLLLoss(), 1, 0, None),
        (lambda o, y: (o.squeeze(1).exp() - y * o.squeeze(1)).mean(), 1, 0, None),
        (lambda o, y: torch.maximum(0.9 * (y - o[:, 0]), 0.1 * (o[:, 0] - y)).mean(), 1, 0, None),
        (lambda o, y: F.binary_cross_entropy_with_logits(o.squeeze(1), (y > 2).float()), 1, 0, None),
        (lambda o, y: o.square().mean(), 1, 0, None),
    ],
)
def test_a_loss_is_asked_whether_outputs_can_be_held_against_targets(
    loss_fn: Any, columns: int, classes: int, scored: int | None
) -> None:
    torch.manual_seed(0)
    outputs = torch.randn(48, columns)
    y = torch.arange(48) % 3 if classes else torch.poisson(torch.full((48,), 2.0))
    batch = flat_batch(torch.zeros(48, 1), y)
    assert scored_as(loss_fn, lambda: outputs, outputs, batch, classes) == scored


def test_a_logistic_loss_of_any_name_is_scored_by_its_classes() -> None:
    y = (torch.arange(48) % 3 == 0).float()[:, None]
    batch, outputs = flat_batch(torch.zeros(48, 1), y), torch.randn(48, 1)
    focal = lambda o, t: (F.binary_cross_entropy_with_logits(o, t, reduction="none") ** 2).mean()  # noqa: E731
    assert scored_as(focal, lambda: outputs, outputs, batch, 0) == 2
    assert scored_as(lambda o, t: (o - t).square().mean(), lambda: outputs, outputs, batch, 0) == 0


@pytest.mark.parametrize("kind", ["triplets", "features beside logits", "log rates"])
def test_what_is_no_guess_of_the_target_is_not_at_chance(kind: str) -> None:
    x, y = blobs()
    net: nn.Module = layers(4, 16, 8)
    loss_fn: Any = triplets
    if kind == "features beside logits":

        class Both(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.body, self.head = layers(4, 16), nn.Linear(16, 3)

            def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
                features = self.body(x).relu()
                return features, self.head(features)

        net, loss_fn = Both(), lambda said, y: F.cross_entropy(said[1], y) + 1e-3 * said[0].square().mean()
    elif kind == "log rates":
        torch.manual_seed(0)
        net, loss_fn = layers(4, 16, 1), nn.PoissonNLLLoss()
        y = torch.poisson((x[:, :1]).exp() + 0.2)
    mentor = loop(net, loss_fn, x, y, train=(x[:ROWS], y[:ROWS]), validation=(x[ROWS:], y[ROWS:]))
    assert errors(mentor) == []
    assert mentor.history.facts["scored"] is False
    assert len(mentor.history.series("validation rows' loss")) > 6


# Instruments that see


def test_sparse_gradients_are_seen() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Embedding(30, 6, sparse=True), nn.Flatten(), nn.Linear(12, 1))
    x, wanted = torch.randint(0, 30, (400, 2)), torch.randn(30)
    y = wanted[x].sum(1, keepdim=True)
    one, two = torch.optim.SparseAdam(net[0].parameters(), 0.03), torch.optim.Adam(net[2].parameters(), 0.03)
    mentor = Mentor(net, two, nn.MSELoss(), train=(x, y))
    for step in range(120):
        some = torch.arange(32) + 32 * (step % 12)
        with mentor.step(x[some], y[some]):
            one.zero_grad()
            two.zero_grad()
            F.mse_loss(net(x[some]), y[some]).backward()
            one.step()
            two.step()
    assert rules(mentor) & {"chance_level", "frozen_parameters", "foreign_optimizer"} == set()
    assert mentor.faults == []
    assert mentor.history.last("layer gradient norm", "0") > 0
    assert mentor.history.steps("batch loss")[-1] == 120


def test_one_output_for_three_classes_blinds_nothing() -> None:
    x, y = blobs()
    mentor = loop(layers(4, 16, 1), nn.BCEWithLogitsLoss(), x, y.float()[:, None], train=(x, y.float()[:, None]))
    assert "classes_as_numbers" in rules(mentor)
    assert mentor.history.steps("batch loss")[-1] == 60


def test_instruments_that_went_blind_say_nothing_of_the_end() -> None:
    class Tired(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(4, 3)
            self.mentor: list[Mentor | None] = [None]

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            mentor: Any = self.mentor[0]
            if mentor is not None and mentor.steps > 4 and not mentor.looking and mentor.history.facts.get("armed"):
                raise ValueError("no more")
            return self.linear(x)

    torch.manual_seed(0)
    x, y = blobs()
    found = []
    for blind in (False, True):
        net = Tired()
        optimizer = torch.optim.SGD(net.parameters(), 1e-9)
        mentor = Mentor(net, optimizer, nn.CrossEntropyLoss(), train=(x, y))
        net.mentor = [mentor if blind else None]
        mentor.history.facts["armed"] = True
        for _ in range(200):
            with mentor.step(x[:32], y[:32]):
                optimizer.zero_grad()
                F.cross_entropy(net.linear(x[:32]), y[:32]).backward()
                optimizer.step()
        found.append((rules(mentor) & {"chance_level", "rate_too_small"}, len(mentor.faults)))
    assert found[0] == ({"rate_too_small"}, 0) or found[0] == ({"rate_too_small", "chance_level"}, 0)
    assert found[1][0] == set()
    assert found[1][1] > 0


def test_the_end_is_looked_at_too() -> None:
    """Nothing is learned before the last look that was due: the rate rises late."""
    x, y = blobs()
    net = layers(4, 16, 3)
    with torch.no_grad():
        net[-1].weight.zero_()  # type: ignore[operator]
    optimizer = torch.optim.Adam(net.parameters(), 1e-9)
    mentor = Mentor(net, optimizer, nn.CrossEntropyLoss(), train=(x, y), validation=(x, y))
    before = {n: p.clone() for n, p in net.named_parameters()}
    for step in range(120):
        optimizer.param_groups[0]["lr"] = 1e-9 if step <= 77 else 0.05
        with mentor.step(x[:200], y[:200]):
            optimizer.zero_grad()
            F.cross_entropy(net(x[:200]), y[:200]).backward()
            optimizer.step()
    assert mentor.history.steps("batch loss")[-1] == 77
    after, mode = {n: p.clone() for n, p in net.named_parameters()}, net.eval().training
    assert rules(mentor) & {"chance_level", "rate_too_small", "labels_without_signal"} == set()
    assert mentor.history.steps("training rows' score")[-1] == 120
    assert net.training == mode
    assert all(torch.equal(p, after[n]) for n, p in net.named_parameters())
    assert any(not torch.equal(before[n], after[n]) for n in after)
    looks = len(mentor.history.steps("batch loss"))
    mentor.findings()
    assert len(mentor.history.steps("batch loss")) == looks  # once is enough


# Two players


def test_two_players_do_not_wait_for_each_other_nor_swing() -> None:
    torch.manual_seed(0)
    maker, judge = layers(4, 16, 2), layers(2, 16, 1)
    loss_fn = nn.BCEWithLogitsLoss()
    of_maker, of_judge = torch.optim.Adam(maker.parameters(), 1e-2), torch.optim.Adam(judge.parameters(), 1e-2)
    makers = Mentor(maker, of_maker, lambda o, t: loss_fn(judge(o), t))
    judges = Mentor(judge, of_judge, loss_fn)
    for _ in range(300):
        real, noise = torch.randn(32, 2) * 0.3 + 1, torch.randn(32, 4)
        for x, said in ((real, torch.ones(32, 1)), (maker(noise).detach(), torch.zeros(32, 1))):
            with judges.step(x, said):
                of_judge.zero_grad()
                loss_fn(judge(x), said).backward()
                of_judge.step()
        with makers.step(noise, torch.ones(32, 1)):
            of_maker.zero_grad()
            loss_fn(judge(maker(noise)), torch.ones(32, 1)).backward()
            of_maker.step()
    for mentor in (makers, judges):
        assert mentor.faults == []
        told = {"data_wait", "oscillating", "not_shuffled", "chance_level", "rate_too_large"}
        assert rules(mentor) & told == set()
    assert makers.history.series("moving loss")[1:].all()


judge_of_the_notebook = nn.Linear(2, 1)


def test_a_network_that_a_loss_calls_by_a_global_name_is_held() -> None:
    assert judge_of_the_notebook in held_modules(lambda o, t: (judge_of_the_notebook(o) - t).square().mean())


def test_a_teacher_that_stands_still_is_no_player() -> None:
    teacher, (x, y) = layers(4, 8, 3), blobs()
    mentor = loop(layers(4, 8, 3), lambda o, t: F.cross_entropy(o, t) + 0 * teacher(x[:4]).mean(), x, y)
    assert not mentor.history.series("moving loss").any()


# What is meant


@pytest.mark.parametrize("before", [True, False])
def test_frozen_layers_that_were_trained_before_are_meant(before: bool) -> None:
    torch.manual_seed(0)
    x, y = blobs()
    net = nn.Sequential(nn.Linear(4, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 3))
    if before:
        loop(net, nn.CrossEntropyLoss(), x, y, steps=300, rate=1e-2)
    for part in (net[0], net[2]):
        part.requires_grad_(False)
    assert ("frozen_parameters" in rules(loop(net, nn.CrossEntropyLoss(), x, y))) != before


def test_weights_look_fresh_until_they_have_learned() -> None:
    torch.manual_seed(0)
    fresh = [nn.Linear(4, 16), nn.Linear(64, 64), nn.Conv2d(3, 16, 3), nn.Embedding(300, 16, padding_idx=0)]
    nn.init.orthogonal_(fresh[1].weight)  # type: ignore[arg-type]
    assert all(looks_fresh(layer) for layer in fresh)
    with torch.no_grad():
        fresh[1].weight += 4.0 * torch.outer(torch.randn(64), torch.randn(64)) / 64  # type: ignore[operator]
    assert looks_fresh(fresh[1]) is False
    assert looks_fresh(nn.LayerNorm(8)) is None


def test_parameters_of_another_optimizer_are_trained() -> None:
    net, (x, y) = layers(4, 16, 3), blobs()
    one, two = torch.optim.SGD(net[0].parameters(), 0.05), torch.optim.SGD(net[2].parameters(), 0.05)
    mentor = Mentor(net, two, nn.CrossEntropyLoss())
    for _ in range(30):
        with mentor.step(x[:64], y[:64]):
            net.zero_grad()
            F.cross_entropy(net(x[:64]), y[:64]).backward()
            one.step()
            two.step()
    assert mentor.history.facts["without optimizer"] == ["0.weight", "0.bias"]
    assert "frozen_parameters" not in rules(mentor)


def test_a_filter_that_is_fixed_is_no_bad_start() -> None:
    torch.manual_seed(0)
    blur = nn.Conv2d(2, 2, 3, padding=1, groups=2, bias=False)
    nn.init.constant_(blur.weight, 1 / 9).requires_grad_(False)
    net = nn.Sequential(nn.Linear(4, 32), nn.Unflatten(1, (2, 4, 4)), blur, nn.Flatten(), nn.ReLU(), nn.Linear(32, 3))
    found = rules(loop(net, nn.CrossEntropyLoss(), *blobs()))
    assert found & {"constant_initialization", "frozen_parameters"} == set()


# Faults that did no harm


def test_what_hinders_is_no_error_where_the_rows_are_learned() -> None:
    x, y = blobs()
    severities = {}
    for rate in (1e-6, 3e-3):
        algorithm = partial(torch.optim.Adam, lr=rate)
        history = train(layers(4, 16, 16, 3), (x * 20, y), optimizer=algorithm, epochs=20)
        severities[rate] = {f.rule: f for f in diagnose(history)}["unscaled_inputs"].severity
    assert severities == {1e-6: "error", 3e-3: "warning"}


def test_a_rate_that_fits_the_rows_is_not_too_large() -> None:
    history = History({"optimizer": "Adam", "steps": 100, "layers": [{"name": "a", "role": "weights"}]})
    for step in range(12):
        history.add("training rows' loss", step, 2.0 * 0.5**step)
        history.add("training rows' score", step, min(1.0, 0.2 + 0.1 * step))
        history.add("predicted change", step, -0.1)
        history.add("actual change", step, 0.2)
        history.add("layer update ratio", step, 0.1, "a")
    assert RULES["rate_too_large"].strongest(history) is None
    history.values[("training rows' score", "")] = (list(range(12)), [0.4] * 12)
    sign = RULES["rate_too_large"].strongest(history)
    assert sign is not None
    assert sign.score > RULES["rate_too_large"].threshold


@pytest.mark.parametrize(
    ("fall", "small"), [(lambda t: 0.9 * np.exp(-6 * t) + 0.1, False), (lambda t: 1 - 0.01 * t, True)]
)
def test_a_small_rate_that_has_come_to_its_end_is_not_too_small(fall: Callable[[float], float], small: bool) -> None:
    history = History({"optimizer": "Adam", "layers": [{"name": "a", "role": "weights"}]})
    for step in range(0, 1000, 50):
        history.add("training rows' loss", step, float(fall(step / 1000)))
        history.add("training rows' score", step, 0.6)
        history.add("distance from start", step, 1e-5 * step, "a")
    sign = RULES["rate_too_small"].strongest(history)
    assert (sign is not None and sign.score > RULES["rate_too_small"].threshold) == small


def test_a_step_that_was_left_out_harms_nothing() -> None:
    history = History()
    for step in range(10):
        history.add("batch loss", step, float("nan") if step == 4 else 1.0)
    assert "nonfinite" not in rules(history)
    history.add("batch loss", 10, float("nan"))
    assert "nonfinite" in rules(history)


@pytest.mark.parametrize("kind", ["one-hot", "counts of words"])
def test_inputs_that_are_mostly_zero_are_sized_by_what_is_not(kind: str) -> None:
    rng = np.random.default_rng(0)
    word = np.minimum(rng.geometric(0.03, 2 * ROWS) - 1, 199)
    x = torch.zeros(2 * ROWS, 400)
    x[torch.arange(2 * ROWS), torch.tensor(word)] = 1.0
    if kind == "counts of words":
        x += torch.tensor(rng.poisson(np.linspace(0, 2, 400) ** 6 / 40, (2 * ROWS, 400)), dtype=torch.float32)
    y = torch.tensor(word % 3)
    assert "unscaled_inputs" not in rules(train(layers(400, 16, 3), (x, y), epochs=2))
    assert "unscaled_inputs" in rules(train(layers(400, 16, 3), (x / 255, y), epochs=2))


@pytest.mark.parametrize("itself", [True, False])
def test_a_network_that_scales_its_outputs_itself(itself: bool) -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = layers(4, 16, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return 1000 + 50 * self.inner(x) if itself else self.inner(x)

    x, y = surface()
    found = rules(loop(Scaled(), nn.MSELoss(), x, 1000 + 50 * y))
    assert ("unscaled_target" in found) != itself
