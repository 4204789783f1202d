"""Whatever a network, a loss or a loop does, the training takes the course it takes without a mentor."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from loops import blobs, layers
from torch import nn
from torch.utils.checkpoint import checkpoint

from nastavnik import UserError
from nastavnik.mentor import Mentor


class Recomputed(nn.Module):
    """Runs its first layers again in the backward pass."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU())
        self.last = nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(checkpoint(self.first, x, use_reentrant=False))


class OwnGenerator(nn.Module):
    """Draws its noise from generators of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Linear(4, 3)
        self.here, self.there = torch.Generator().manual_seed(0), np.random.default_rng(0)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        noise = torch.rand(x.shape, generator=self.here) + torch.from_numpy(self.there.normal(size=x.shape)).float()
        return self.last(x + 0.1 * noise)


class Overwriting(nn.Module):
    """Writes into what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(x.sub_(0.5))


def closure_of_a_module() -> Callable[[Any, Any], torch.Tensor]:
    norm = nn.BatchNorm1d(3)
    return lambda outputs, y: nn.functional.cross_entropy(norm(outputs), y)


@pytest.mark.parametrize("make", [Recomputed, OwnGenerator, Overwriting])
@pytest.mark.parametrize("loss", [nn.CrossEntropyLoss, closure_of_a_module])
def test_weights_buffers_and_rows_are_as_without_it(make: Callable[[], nn.Module], loss: Callable[[], Any]) -> None:
    ends = []
    for on in (True, False):
        torch.manual_seed(0)
        x, y = (t[:64].clone() for t in blobs())
        net, loss_fn = make(), loss()
        optimizer = torch.optim.SGD(net.parameters(), 0.1)
        rows = (x.clone(), y)
        mentor = Mentor(net, optimizer, loss_fn, train=rows, validation=(x, y), every=2, on=on)
        for _ in range(7):
            with mentor.step(x, y):
                optimizer.zero_grad()
                loss_fn(net(x), y).backward()
                optimizer.step()
        ends.append([x, rows[0], *net.state_dict().values()])
        assert mentor.faults == []
        assert not on or len(mentor.history.series("batch loss")) == 4
    assert all(torch.equal(a, b) for a, b in zip(*ends, strict=True))


class Tied(nn.Module):
    """A head that has the embedding's weights."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.head = nn.Embedding(12, 8), nn.Linear(8, 12, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.embedding(x))


def test_tied_weights_are_measured_as_the_loop_has_them() -> None:
    torch.manual_seed(0)
    net = Tied()
    optimizer = torch.optim.SGD(net.parameters(), 0.5)
    mentor = Mentor(net, optimizer, nn.CrossEntropyLoss(), every=1)
    x = torch.randint(0, 12, (32,))
    losses, lengths = [], []
    for _ in range(4):
        with mentor.step(x, x):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(net(x), x)
            loss.backward()
            losses.append(float(loss.detach()))
            assert net.head.weight.grad is not None
            lengths.append(float(net.head.weight.grad.norm()))
            optimizer.step()
    assert mentor.faults == []
    assert mentor.history.facts["unused"] == []
    assert mentor.history.series("batch loss") == pytest.approx(losses, rel=1e-5)
    assert mentor.history.series("layer gradient norm", "embedding") == pytest.approx(lengths, rel=1e-5)


class Teaching:
    """A loss that is an object, with modules among its attributes and in a partial function of its own."""

    def __init__(self) -> None:
        self.args = None
        self.norms = [nn.BatchNorm1d(3)]
        self.part = partial(lambda outputs, norm: norm(outputs), norm=nn.BatchNorm1d(3))

    def __call__(self, outputs: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return nn.functional.cross_entropy(self.part(self.norms[0](outputs)), y)


def test_modules_in_a_loss_are_left_as_they_were() -> None:
    x, y = (t[:32] for t in blobs())
    net, loss_fn = layers(4, 8, 3), Teaching()
    optimizer = torch.optim.SGD(net.parameters(), 0.1)
    mentor = Mentor(net, optimizer, loss_fn, every=1)
    for _ in range(3):
        with mentor.step(x, y):
            optimizer.zero_grad()
            loss_fn(net(x), y).backward()
            optimizer.step()
    assert mentor.faults == []
    assert int(loss_fn.norms[0].num_batches_tracked or 0) == 3
    assert int(loss_fn.part.keywords["norm"].num_batches_tracked) == 3


def test_sparse_buffers_are_no_harm() -> None:
    class Graph(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("neighbours", torch.eye(16).to_sparse())
            self.neighbours: torch.Tensor
            self.last = nn.Linear(4, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.last(torch.sparse.mm(self.neighbours, x))

    x, y = (t[:16] for t in blobs())
    net = Graph()
    mentor = Mentor(net, torch.optim.SGD(net.parameters(), 0.1), nn.CrossEntropyLoss(), every=1)
    with mentor.step(x, y):
        nn.functional.cross_entropy(net(x), y).backward()
    assert mentor.faults == []
    assert mentor.history.facts["steps"] == 1


def test_an_empty_batch_shows_nothing() -> None:
    x, y = (t[:0] for t in blobs())
    net = layers(4, 8, 3)
    mentor = Mentor(net, torch.optim.SGD(net.parameters(), 0.1), nn.CrossEntropyLoss(), every=1)
    with mentor.step(x, y):
        pass
    assert mentor.faults == []


def test_a_model_may_be_saved_and_copied_inside_a_step() -> None:
    x, y = (t[:16] for t in blobs())
    net = layers(4, 8, 3)
    mentor = Mentor(net, torch.optim.SGD(net.parameters(), 0.1), nn.CrossEntropyLoss(), every=1)
    with mentor.step(None, y):
        torch.save(net, io.BytesIO())  # before its first call, while the mentor listens for it
        twin = copy.deepcopy(net)
        nn.functional.cross_entropy(net(x), y).backward()
        assert not net._forward_pre_hooks  # heard, and off again
    twin(x)
    torch.save(twin, io.BytesIO())
    assert mentor.history.facts["steps"] == 1
    assert not mentor.faults


def test_sparse_gradients_that_are_left_over() -> None:
    net = nn.Sequential(nn.Embedding(10, 3, sparse=True))
    optimizer = torch.optim.SGD(net.parameters(), 0.1)
    mentor = Mentor(net, optimizer, lambda o, y: (o - y).square().mean(), every=1)
    x, y = torch.arange(8), torch.zeros(8, 3)
    for _ in range(6):
        with mentor.step(x, y):
            (net(x) - y).square().mean().backward()  # zero_grad is forgotten
            optimizer.step()
    assert "accumulated_gradients" in {f.rule for f in mentor.findings()}


def test_ragged_inputs_are_no_batch_and_no_harm() -> None:
    net = nn.Linear(4, 2)
    mentor = Mentor(net, torch.optim.SGD(net.parameters(), 0.1), nn.MSELoss(), every=1)
    with mentor.step():
        net(torch.nested.nested_tensor([torch.ones(2, 4), torch.ones(3, 4)], layout=torch.jagged))
    assert "nothing was looked at" in str(mentor)


@pytest.mark.parametrize("kind", ["mapping", "object"])
def test_outputs_are_found_in_what_the_model_says(kind: str) -> None:
    class Said:
        def __init__(self, scores: torch.Tensor) -> None:
            self.scores = scores

    class Talks(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = layers(4, 8, 3)

        def forward(self, x: torch.Tensor) -> Any:
            scores = self.inner(x)
            return {"scores": scores} if kind == "mapping" else Said(scores)

    def loss_fn(said: Any, y: torch.Tensor) -> torch.Tensor:
        return nn.functional.cross_entropy(said["scores"] if kind == "mapping" else said.scores, y)

    x, y = (t[:32] for t in blobs())
    net = Talks()
    optimizer = torch.optim.SGD(net.parameters(), 0.1)
    mentor = Mentor(net, optimizer, loss_fn, every=1)
    for _ in range(3):
        with mentor.step(x, y):
            optimizer.zero_grad()
            loss_fn(net(x), y).backward()
            optimizer.step()
    assert mentor.faults == []
    assert mentor.history.facts["classes"] == 3
    assert len(mentor.history.series("activation mean", "inner.1")) == 3


def test_before_any_look_it_does_not_say_that_all_is_well(tmp_path: Path) -> None:
    net = layers(4, 8, 3)
    optimizer = torch.optim.SGD(net.parameters(), 0.1)
    assert "no step was taken" in str(Mentor(net, optimizer, nn.CrossEntropyLoss()))
    assert "it is off" in str(Mentor(net, optimizer, nn.CrossEntropyLoss(), on=False))
    mentor = Mentor(net, optimizer, lambda o, y: o / torch.ones(0).item(), every=1)
    with mentor.step(*(t[:8] for t in blobs())):
        pass
    assert "its looks failed" in str(mentor)
    assert "RuntimeError" in str(mentor)


def test_what_is_saved_is_whole_and_in_a_folder_of_its_own(tmp_path: Path) -> None:
    net = layers(4, 8, 3)
    mentor = Mentor(net, torch.optim.SGD(net.parameters(), 0.1), nn.CrossEntropyLoss())
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(UserError, match="cannot be written to"):
            mentor.save(path)
    (tmp_path / "run.json").write_text("{}")
    with pytest.raises(UserError, match="folder of a run"):
        mentor.save(tmp_path)
    with pytest.raises(UserError, match="no rule 'rate'"):
        mentor.findings(suppress="rate")
    assert mentor.findings(suppress="rate_too_large") == []


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"optimizer": nn.CrossEntropyLoss()}, "in this order"),
        ({"loss_fn": 3}, "is called with"),
        ({"every": "x"}, "whole number"),
        ({"every": 1.5}, "whole number"),
        ({"every": {"pass": "a"}}, "whole number"),
        ({"budget": None}, "budget"),
        ({"costs": []}, "costs are"),
        ({"costs": "pass"}, "costs are a list"),
        ({"costs": None}, "costs are a list"),
        ({"train": (1, 2, 3)}, "a pair"),
        ({"train": (np.ones((3, 4)), np.ones(3))}, "no tensors"),
        ({"validation": (torch.ones(3, 4), torch.ones(2))}, r"lengths \[2, 3\]"),
    ],
)
def test_what_it_is_given_is_looked_over(options: dict[str, Any], says: str) -> None:
    with pytest.raises(UserError, match=says):
        Mentor(layers(4, 8, 3), **options)
