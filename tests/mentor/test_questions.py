"""Probes: each asked of a sick network whose answer is known exactly, and of its healthy twin."""

from __future__ import annotations

import functools
import random
from typing import Any

import numpy as np
import pytest
import torch
from asked import Reader, each_word, lstm, words
from loops import blobs, layers
from torch import nn
from torch.nn import functional as F

from nastavnik import UserError
from nastavnik.instruments import layout_facts
from nastavnik.mentor import Mentor
from nastavnik.mentor._batch import flat_batch
from nastavnik.mentor._pairs import pair_facts
from nastavnik.mentor._places import class_axis, table_of, untable
from nastavnik.mentor.probes import PROBES, Asked, eight_rows, terms_of, trees_on_the_same_rows


def ask(probe: str, net: nn.Module, x: Any, y: Any, loss_fn: Any = None, **facts: Any) -> dict[str, Any]:
    tensors = {n: t.detach() for n, t in (*net.named_parameters(), *net.named_buffers())}
    return PROBES[probe](Asked(net, loss_fn or nn.CrossEntropyLoss(), flat_batch(x, y), tensors, facts))


class Mean(nn.Module):
    """Takes the batch's mean off each row, or a constant."""

    def __init__(self, of: str) -> None:
        super().__init__()
        self.of = of
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.weight * (x - (x.mean(0) if self.of == "batch" else 0.5))


def test_rows_that_know_of_each_other() -> None:
    x = torch.randn(8, 3, generator=torch.Generator().manual_seed(0))
    sick = ask("mixed_rows", Mean("batch"), x, torch.zeros(8).long())
    # f(x)[4:] - f(x[4:]) is the difference of the two means, the same in each row
    apart = (x[4:].mean(0) - x.mean(0)).square().mean().sqrt() / (x - x.mean(0))[4:].var(0, correction=0).mean().sqrt()
    assert sick["row mixing"] == pytest.approx(float(apart), rel=1e-5)
    assert ask("mixed_rows", Mean("none"), x, torch.zeros(8).long()) == {"row mixing": 0.0}


def test_a_network_that_has_time_first_is_not_accused_and_one_that_forgot_it_is() -> None:
    x = words(12, 13)
    net = Reader(functools.partial(lstm, False), 10, every=True)
    forgot = ask("mixed_rows", net, x[:, :-1], x[:, 1:], each_word)
    assert forgot["row mixing"] > 0.01  # targets follow along the second axis: that is time, and rows are mixed
    assert ask("mixed_rows", net, x[:, :-1].T, x[:, 1:].T, each_word) == {}


@pytest.mark.parametrize(("p", "kind"), [(0.5, "dropout"), (0.0, None)])
def test_twice_the_same(p: float, kind: str | None) -> None:
    class Net(nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return F.dropout(super().forward(x), p, training=True)

    told = ask("repeated", Net(4, 3), torch.randn(16, 4), torch.zeros(16).long())
    assert (told["evaluation noise"] > 0) == (kind is not None)
    assert told.get("drawn in evaluation") == kind


def test_the_batchs_statistics_against_the_running_ones() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.BatchNorm1d(2, affine=False), nn.Linear(2, 2))
    x, y = 3 * torch.randn(64, 2) + 5, torch.randint(0, 2, (64,))
    told = ask("batch_statistics", net, x, y)
    scaled = (x - x.mean(0)) / (x.var(0, correction=0) + 1e-5).sqrt()
    assert told["loss by batch statistics"] == pytest.approx(
        float(F.cross_entropy(net[1](scaled), y).detach()), rel=1e-4
    )
    assert told["loss by running statistics"] == pytest.approx(
        float(F.cross_entropy(net[1](x / (1 + 1e-5) ** 0.5), y).detach()), rel=1e-4
    )
    assert ask("batch_statistics", net.eval(), x, y) == {}  # frozen on purpose


@pytest.mark.parametrize("both", [True, False])
def test_a_step_and_the_one_behind_it(both: bool) -> None:
    x = words(16, 13)
    told = ask(
        "future_seen", Reader(functools.partial(lstm, True, both), 10, every=True), x[:, :-1], x[:, 1:], each_word
    )
    assert (told["future seen"] > 0.01) == both
    assert told["future seen"] == 0 or both


def test_where_targets_are_not_the_next_inputs_a_step_may_see_all() -> None:
    x = words(16, 12)
    assert ask("future_seen", Reader(functools.partial(lstm, True, True), 10, every=True), x, x % 3, each_word) == {}


def test_order_early_steps_and_padding() -> None:
    class Bag(nn.Module):
        def __init__(self, steps: slice = slice(None)) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.table, self.steps = nn.Embedding(10, 3), steps

        def forward(self, tokens: torch.Tensor) -> torch.Tensor:
            return self.table(tokens)[:, self.steps].sum(1)

    x, y = words(32, 15), torch.zeros(32).long()
    assert ask("order_heard", Bag(), x, y) == {"order heard": 0.0}
    assert ask("order_heard", Bag(slice(0, 3)), x, y)["order heard"] > 0.3
    told = ask("early_steps_heard", Bag(slice(10, None)), x, y)
    assert told["early steps heard"] == 0
    assert told["late steps heard"] > 0.3
    even = ask("early_steps_heard", Bag(), x, y)
    assert even["early steps heard"] == pytest.approx(even["late steps heard"], rel=0.5)
    x[torch.arange(15)[None] >= torch.arange(32)[:, None] % 8 + 7] = 0
    assert ask("padding_heard", Bag(), x, y)["padding heard"] > 0.01
    quiet = Bag()
    with torch.no_grad():
        quiet.table.weight[0] = 0
    assert ask("padding_heard", quiet, x, y) == {"padding token": 0, "padding heard": 0.0}


@pytest.mark.parametrize(("ignored", "share"), [(-100, 0.5), (0, 0.0)])
def test_how_much_of_the_loss_is_padding(ignored: int, share: float) -> None:
    x = words(32, 16)
    x[::2, 4:], x[1::2, 12:] = 0, 0  # 12 and 4 of 16: half of the places

    def loss(said: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(said.transpose(1, 2), y, ignore_index=ignored)

    assert ask("padding_heard", Reader(lstm, 10, every=True), x, x, loss)["padding in the loss"] == share


def test_a_target_that_is_an_input() -> None:
    x = torch.randn(40, 5)
    told = ask("target_among_inputs", nn.Linear(5, 1), x, (3 * x[:, 2] - 7)[:, None], nn.MSELoss())
    assert "column number 2" in told["target among inputs"]
    assert ask("target_among_inputs", nn.Linear(5, 1), x, x.sum(1, keepdim=True), nn.MSELoss()) == {}
    tokens = words(16, 12)
    net = Reader(lstm, 10, every=True)
    assert ask("target_among_inputs", net, tokens, tokens, each_word) != {}
    series = torch.randn(16, 12, 1)

    class Causal(nn.Module):
        def __init__(self, squeezed: bool) -> None:
            super().__init__()
            self.weight, self.squeezed = nn.Parameter(torch.ones(1)), squeezed

        def forward(self, t: torch.Tensor) -> torch.Tensor:
            return self.weight * (t + t.mean(1, keepdim=True) if self.squeezed else t.cumsum(1))

    assert ask("target_among_inputs", Causal(False), series, series, nn.MSELoss()) != {}
    assert ask("target_among_inputs", Causal(True), series, series, nn.MSELoss()) == {}  # as an autoencoder's


def test_classes_that_the_loss_does_not_hear() -> None:
    x, y = blobs(4)
    told = ask("silent_classes", layers(4, 4), x[:64], y[:64], nn.CrossEntropyLoss(ignore_index=2))
    assert told["silent classes"] == [2]
    assert told["silent share"] == pytest.approx(float((y[:64] == 2).float().mean()))
    weights = nn.CrossEntropyLoss(weight=torch.tensor([1.0, 0.0, 1.0, 1.0]))
    assert ask("silent_classes", layers(4, 4), x[:64], y[:64], weights)["silent classes"] == [1]
    assert ask("silent_classes", layers(4, 4), x[:64], y[:64]) == {"silent classes": []}


@pytest.mark.parametrize(
    ("end", "bounds", "softmax"),
    [
        (torch.sigmoid, [0.0, 1.0], False),
        (torch.tanh, [-1.0, 1.0], False),
        (torch.relu, [0.0, None], False),
        (lambda z: z, [None, None], False),
        (lambda z: F.log_softmax(z, 1), [None, None], False),
        (lambda z: F.softmax(z, 1), [0.0, 1.0], True),
    ],
)
def test_how_far_outputs_reach_however_the_end_is_written(end: Any, bounds: list[float | None], softmax: bool) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.last = nn.Linear(4, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return end(self.last(x))

    told = ask("reach", Net(), *(t[:64] for t in blobs()))
    assert told["sums to one"] == softmax
    assert [None if b is None else round(b, 3) for b in told["reach"]] == bounds


def test_a_loss_that_is_no_number_on_a_bound_is_found_with_its_line() -> None:
    def loss(said: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return -torch.log(said[torch.arange(len(y)), y]).mean()

    net = nn.Sequential(nn.Linear(4, 3), nn.Softmax(1))
    x, y = (t[:32] for t in blobs())
    told = ask("undefined_loss", net, x, y, loss, reach=[0.0, 1.0])
    assert told["loss undefined"]["operation"] == "log"
    assert "torch.log(said" in told["loss undefined"]["line"]
    assert ask("undefined_loss", net, x, y, lambda said, y: loss(said + 1e-6, y), reach=[0.0, 1.0]) == {}


def test_layers_that_no_module_holds() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.listed, self.named = [nn.Linear(4, 8)], {"b": nn.Linear(8, 8)}
            self.idle, self.head = [nn.Linear(4, 8)], nn.Linear(8, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(torch.relu(self.named["b"](torch.relu(self.listed[0](x)))))

    told = ask("unheld_layers", Net(), *(t[:16] for t in blobs()))
    assert set(told["unheld"]) == {f"{name}.{p}" for name in ("listed[0]", "named['b']") for p in ("weight", "bias")}
    assert ask("unheld_layers", layers(4, 8, 3), *(t[:16] for t in blobs())) == {"unheld": []}


def test_the_terms_of_a_loss_are_found_by_themselves() -> None:
    said, y = torch.randn(8, 3), torch.randn(8, 3)

    def loss() -> torch.Tensor:
        return F.mse_loss(said, y) + 0.1 * said.abs().sum() - 2 * (said * y).mean()

    terms = list(terms_of(loss).values())
    parts = [F.mse_loss(said, y), 0.1 * said.abs().sum(), -2 * (said * y).mean()]
    assert terms == pytest.approx([float(p) for p in parts], rel=1e-5)
    assert terms_of(lambda: F.mse_loss(said, y)) == {}


def test_pairs_that_were_shuffled_apart() -> None:
    x, y = blobs()
    given = flat_batch(x[:100], y[:100])
    assert pair_facts(flat_batch(x[:50], y[:50]), given) == {"pairs found": 50, "pairs broken": 0.0}
    broken = pair_facts(flat_batch(x[:50], (y[:50] + 1) % 3), given)
    assert broken == {"pairs found": 50, "pairs broken": 1.0}
    twice = flat_batch(torch.cat([x[:50], x[:50]]), torch.cat([y[:50], y[:50].flip(0)]))
    differ = float((y[:50] != y[:50].flip(0)).float().mean())
    assert pair_facts(twice, None) == {"pairs found": 50, "pairs broken": pytest.approx(differ)}
    assert pair_facts(flat_batch(x[:50], torch.arange(50)), None) == {}  # a contrastive loss numbers its rows
    pictures, masks = torch.rand(20, 1, 4, 4), (torch.rand(20, 1, 4, 4) > 0.5).float()
    part = flat_batch(pictures, masks)
    assert pair_facts(flat_batch(pictures.flip(-1), masks.flip(-1)), part)["pairs broken"] == 0
    assert pair_facts(flat_batch(pictures.flip(-1), masks), part)["pairs broken"] > 0.9


def test_the_order_of_axes() -> None:
    source = torch.Generator().manual_seed(0)
    pictures = torch.rand(64, 8, 6, 3, generator=source) * torch.tensor([0.1, 1.0, 3.0])
    right, wrong = pictures.permute(0, 3, 1, 2), pictures.reshape(64, 3, 8, 6)
    assert layout_facts(right)["told by own axes"] > 0.9 > 0.1 > layout_facts(right)["told by other axes"]
    assert layout_facts(wrong)["told by other axes"] > 0.9 > 0.1 > layout_facts(wrong)["told by own axes"]


def test_eight_rows_and_trees_as_references() -> None:
    x, y = blobs()
    net = layers(4, 16, 3)
    start = {n: p.detach().clone() for n, p in net.named_parameters()}
    able = Asked(net, nn.CrossEntropyLoss(), flat_batch(x, y), start, {}, start)
    assert eight_rows(able)["eight rows learned"] > 0.9
    assert all(torch.equal(p, start[n]) for n, p in net.named_parameters())
    stuck = Asked(net, lambda said, y: said.detach().mean() + 0 * said.sum() + 1, flat_batch(x, y), start, {}, start)
    assert eight_rows(stuck)["eight rows learned"] == pytest.approx(0.0, abs=1e-6)
    parts = flat_batch(x[:400], y[:400]), flat_batch(x[400:], y[400:])
    assert trees_on_the_same_rows(*parts, 3)["trees' score"] > 0.85


@pytest.mark.parametrize("shape", [(4, 7, 5), (4, 5, 7), (28, 5)])
def test_which_outputs_belong_to_a_target(shape: tuple[int, ...]) -> None:
    outputs, y = torch.randn(shape), torch.randint(0, 5, (4, 7))
    axis = class_axis(outputs, y)
    table = table_of(axis)(outputs)
    assert table.shape == (28, 5)
    torch.testing.assert_close(untable(axis, table, outputs), outputs)
    expected = outputs if len(shape) == 2 else outputs.movedim(2 if shape == (4, 7, 5) else 1, -1).reshape(28, 5)
    assert torch.equal(table, expected)


@pytest.mark.parametrize("flat", [False, True])
def test_a_language_model_is_scored_word_by_word(flat: bool) -> None:
    x = words(64, 13)

    class Copy(Reader):
        def forward(self, tokens: torch.Tensor) -> torch.Tensor:
            said = super().forward(tokens)
            return said if not flat else said.reshape(-1, 10)

    def loss(said: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(said.reshape(-1, 10), y.reshape(-1))

    net = Copy(lstm, 10, every=True)
    mentor = Mentor(net, None, loss, train=(x[:, :-1], x[:, 1:]))
    with mentor.step(x[:32, :-1], x[:32, 1:]):
        pass
    mentor.findings()
    right = (net(x[:, :-1]).reshape(-1, 10).argmax(1) == x[:, 1:].reshape(-1)).float().mean()
    assert mentor.faults == []
    assert mentor.classes == 10
    assert mentor.history.facts["expects"] == "logits"
    assert mentor.history.series("training rows' score")[0] == pytest.approx(float(right), abs=1e-6)


def test_data_are_looked_at_before_training() -> None:
    x, y = blobs()
    loader = [(100 * x[i : i + 32], y[i : i + 32]) for i in range(0, 320, 32)]
    mentor = Mentor(layers(4, 3), None, nn.CrossEntropyLoss())
    assert [f.rule for f in mentor.data(loader)] == ["unscaled_inputs"]
    assert mentor.data([(x[i : i + 32], y[i : i + 32]) for i in range(0, 320, 32)]) == []
    with pytest.raises(UserError, match="pair"):
        mentor.data([x])


def test_several_optimizers_over_one_model() -> None:
    net = layers(4, 8, 3)
    both = [torch.optim.SGD(net[0].parameters(), 0.1), torch.optim.Adam(net[2].parameters(), 0.01)]
    mentor = Mentor(net, both, nn.CrossEntropyLoss(), every=1)
    x, y = (t[:32] for t in blobs())
    for _ in range(4):
        with mentor.step(x, y):
            for optimizer in both:
                optimizer.zero_grad()
            nn.functional.cross_entropy(net(x), y).backward()
            for optimizer in both:
                optimizer.step()
    assert mentor.history.facts["without optimizer"] == []
    assert mentor.history.series("gradient used") == pytest.approx(1.0, abs=1e-5)
    assert mentor.faults == []


@pytest.mark.parametrize("at_once", [True, False])
def test_questions_change_nothing(at_once: bool) -> None:
    """A network that draws, carries a state, keeps lists and counts its calls: the same at once or later."""

    class Busy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.norm, self.a, self.b = nn.BatchNorm1d(4), nn.Linear(4, 8), nn.Linear(8, 3)
            self.drop, self.calls, self.seen = nn.Dropout(0.2), 0, list[float]()
            self.state: torch.Tensor | None = None

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.calls += 1
            self.seen.append(random.random() + np.random.rand())
            h = torch.relu(self.a(self.norm(x)))
            h = self.drop(h if self.state is None else h + 0.1 * self.state)
            self.state = h.detach().mean(0)
            return self.b(h)

    x, y = (t[:96] for t in blobs())
    ends = []
    for on in (True, False):
        torch.manual_seed(1)
        random.seed(1)
        np.random.seed(1)
        net = Busy()
        optimizer = torch.optim.SGD(net.parameters(), 0.1)
        mentor = Mentor(net, optimizer, nn.CrossEntropyLoss(), train=(x, y), validation=(x, y), every=2, on=on)
        mentor.loop.album.most = 0.0 if at_once else None
        for i in range(12):
            with mentor.step(x[i * 8 : i * 8 + 8], y[i * 8 : i * 8 + 8]):
                optimizer.zero_grad()
                nn.functional.cross_entropy(net(x[i * 8 : i * 8 + 8]), y[i * 8 : i * 8 + 8]).backward()
                optimizer.step()
        mentor.findings()
        assert mentor.faults == []
        drawn = (torch.rand(1), torch.tensor(np.random.rand()), torch.tensor(random.random()))
        ends.append([*net.state_dict().values(), torch.tensor([net.calls, *net.seen]), net.state, *drawn])
    assert all(torch.equal(a, b) for a, b in zip(*ends, strict=True))


def test_a_full_album_is_looked_at_at_once() -> None:
    found = []
    for most in (0.0, None):
        net = layers(4, 8, 3)
        mentor = Mentor(net, torch.optim.SGD(net.parameters(), 0.1), nn.CrossEntropyLoss(), every=1)
        mentor.loop.album.most = most
        x, y = (t[:32] for t in blobs())
        for _ in range(10):
            with mentor.step(x, y):
                assert mentor.optimizer is not None
                mentor.optimizer.zero_grad()
                nn.functional.cross_entropy(net(x), y).backward()
                mentor.optimizer.step()
        assert len(mentor.loop.album.kept) == (0 if most == 0 else 10)
        found.append(mentor.history.series("batch loss").tolist())
    assert found[0] == found[1]
