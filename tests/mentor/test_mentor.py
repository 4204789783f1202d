"""The mentor in loops of other people's: it changes nothing, stands in nobody's way, and sees what happens."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from loops import blobs, layers, train
from torch import nn

import nastavnik
from nastavnik import UserError
from nastavnik.mentor import Mentor, read_history, root_causes
from nastavnik.mentor._cadence import Cadence
from nastavnik.trace import History


def noisy_net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(4, 16), nn.BatchNorm1d(16), nn.ReLU(inplace=True), nn.Dropout(0.3), nn.Linear(16, 3)
    )  # fmt: skip


def run(net: nn.Module, mentor: Mentor | None, steps: int = 40) -> list[torch.Tensor]:
    x, y = blobs()
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3) if mentor is None else mentor.optimizer
    assert optimizer is not None
    torch.manual_seed(7)
    for _ in range(steps):
        some = torch.randint(0, 400, (32,))
        with mentor.step(x[some], y[some]) if mentor is not None else nothing():
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(x[some]), y[some]).backward()
            optimizer.step()
    return [*(t.clone() for t in net.state_dict().values()), torch.random.get_rng_state()]


class nothing:
    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None: ...


def watching(net: nn.Module, **options: Any) -> Mentor:
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    return Mentor(net, optimizer, nn.CrossEntropyLoss(), **options)


def test_the_training_takes_the_course_it_would_have_taken() -> None:
    """Weights, running statistics and torch's random state, bit by bit, with every instrument at every step."""
    bare = run(noisy_net(), None)
    net = noisy_net()
    x, y = blobs()
    mentor = watching(
        net, every=1, costs=("pass", "example", "curvature"), train=(x[:50], y[:50]), validation=(x[500:], y[500:])
    )
    watched = run(net, mentor)
    assert not mentor.faults
    assert len(mentor.history.steps("batch loss")) == 40
    for one, other in zip(bare, watched, strict=True):
        assert torch.equal(one, other)


def test_off_leaves_no_trace() -> None:
    net = noisy_net()
    mentor = watching(net, on=False)
    run(net, mentor)
    assert mentor.history.values == {}
    assert mentor.steps == 0
    assert mentor.findings() == []
    assert not any(p._post_accumulate_grad_hooks for p in net.parameters())


class Fragile(nn.Module):
    """Works for the user's own call, fails at every other."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.calls = nn.Linear(4, 3), 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        if self.calls % 2 == 0:
            raise ValueError("not again")
        return self.linear(x)


def test_its_own_faults_are_caught_and_reported() -> None:
    net = Fragile()
    mentor = watching(net, every=1)
    x, y = blobs()
    for _ in range(3):
        net.calls = 0
        with mentor.step(x[:8], y[:8]):
            net(x[:8]).sum().backward()
    assert mentor.steps == 3
    assert len(mentor.faults) == 1
    assert "not again" in mentor.faults[0]
    assert "the mentor's own fault" in str(mentor)


def test_the_users_own_errors_pass_through() -> None:
    mentor = watching(noisy_net())
    with pytest.raises(ZeroDivisionError), mentor.step(*(t[:8] for t in blobs())):
        _ = 1 / 0
    assert mentor.faults == []


def test_adding_up_batches_before_a_step_is_no_fault() -> None:
    for stray, expected in ((False, 0.0), (True, 1.0)):
        net = layers(4, 8, 3)
        mentor = watching(net, every=1)
        x, y = blobs()
        for i in range(16):
            with mentor.step(x[:16], y[:16]):
                nn.functional.cross_entropy(net(x[:16]), y[:16]).backward()
                if i % 4 == 3:
                    assert mentor.optimizer is not None
                    mentor.optimizer.step()
                    if not stray:
                        mentor.optimizer.zero_grad()
        left = mentor.history.series("leftover gradient")
        assert left.max() == expected
        assert len(mentor.history.series("layer update ratio", "0")) == 4  # only steps that moved weights


def test_frozen_unused_and_forgotten_parameters_are_told_apart() -> None:
    torch.manual_seed(0)

    class Three(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.idle, self.forgotten = nn.Linear(4, 8), nn.Linear(4, 8), nn.Linear(8, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.forgotten(torch.relu(self.used(x)))

    net = Three()
    mentor = Mentor(net, torch.optim.SGD([*net.used.parameters(), *net.idle.parameters()], 0.1), nn.CrossEntropyLoss())
    x, y = blobs()
    for _ in range(3):
        with mentor.step(x[:16], y[:16]):
            nn.functional.cross_entropy(net(x[:16]), y[:16]).backward()
    facts = mentor.history.facts
    assert facts["unused"] == ["idle.weight", "idle.bias"]
    assert facts["without optimizer"] == ["forgotten.weight", "forgotten.bias"]
    assert "frozen_parameters" in [f.rule for f in mentor.findings()]


def test_static_rules_speak_before_the_first_step() -> None:
    net = layers(4, 8, 3)
    mentor = Mentor(net, torch.optim.SGD(net[0].parameters(), 0.1), nn.CrossEntropyLoss())
    assert [f.rule for f in mentor.findings()] == ["frozen_parameters"]


def test_batches_of_any_form() -> None:
    class Named(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(4, 3)

        def forward(self, x: torch.Tensor, scale: float = 1.0, labels: Any = None) -> dict[str, torch.Tensor]:
            logits = self.linear(x) * scale
            return {"logits": logits, "loss": nn.functional.cross_entropy(logits, labels)}

    x, y = blobs()
    net = Named()
    mentor = Mentor(net, torch.optim.SGD(net.parameters(), 0.1), None, every=1)
    for i in range(4):
        batch = {"x": x[:16], "scale": 0.5, "labels": y[:16]}
        with mentor.step(batch) if i % 2 else mentor.step():
            loss = net(**batch)["loss"]
            loss.backward()
    assert mentor.faults == []
    assert mentor.history.series("batch loss")[0] == pytest.approx(float(loss.detach()))
    assert mentor.classes == 3


def test_mixed_precision() -> None:
    net = layers(4, 16, 3)
    mentor = watching(net, every=1)
    x, y = blobs()
    for _ in range(6):
        with mentor.step(x[:16], y[:16]):
            assert mentor.optimizer is not None
            mentor.optimizer.zero_grad()
            with torch.autocast("cpu", dtype=torch.bfloat16):
                loss = nn.functional.cross_entropy(net(x[:16]), y[:16])
            loss.backward()
            mentor.optimizer.step()
    assert mentor.faults == []
    assert [f.rule for f in mentor.findings() if f.severity == "error"] == []


def test_looks_are_thinned_to_the_budget() -> None:
    cadence = Cadence(["pass"], {}, budget=0.05)
    cadence.shared_at = 500
    assert cadence.due(500, looked=60.0, elapsed=1000.0) == []  # more than a twentieth of the rest
    assert cadence.after(500) == 525  # asked again later, not at every step
    cadence.shared_at = 500
    assert cadence.due(500, looked=40.0, elapsed=1000.0) == ["pass"]
    assert cadence.after(500) == 875


def test_looks_are_ever_further_apart() -> None:
    mentor = watching(layers(4, 8, 3))
    run(mentor.model, mentor, steps=60)
    assert mentor.history.steps("batch loss").tolist() == [0, 1, 2, 4, 8, 14, 25, 44]


def test_hooks_that_were_taken_off_leave_no_empty_tables_behind() -> None:
    mentor = watching(layers(4, 8, 3))
    mine: list[int] = []
    last = list(mentor.model.parameters())[-1]
    first = next(mentor.model.parameters())
    first.register_hook(lambda g: mine.append(1))  # the user's own stays
    run(mentor.model, mentor, steps=20)
    mentor.close()
    assert getattr(last, "_backward_hooks", None) is None
    assert getattr(last, "_post_accumulate_grad_hooks", None) is None
    assert len(mine) == 20


def test_a_class_of_instruments_may_have_a_cadence_of_its_own() -> None:
    mentor = watching(layers(4, 8, 3), every={"curvature": 16})
    run(mentor.model, mentor, steps=60)
    assert mentor.history.steps("curvature", "largest").tolist() == [0, 16, 32, 48]
    assert 16 not in mentor.history.steps("batch loss").tolist()
    assert mentor.faults == []


def test_what_it_refuses() -> None:
    net = layers(4, 3)
    with pytest.raises(UserError, match=r"torch\.nn\.Module"):
        Mentor("net")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="costs"):
        Mentor(net, costs=("everything",))
    with pytest.raises(UserError, match="there is no rule 'rate'"):
        Mentor(net).findings(suppress=["rate"])


def test_saved_and_read_again(tmp_path: Path) -> None:
    net = layers(4, 8, 3)
    with torch.no_grad():
        nn.init.constant_(net[0].weight, 0.1)  # type: ignore[arg-type]
    mentor = watching(net, every=2)
    run(net, mentor)
    mentor.save(tmp_path / "mine")
    assert read_history(tmp_path / "mine").values == mentor.history.values
    found = nastavnik.check(tmp_path / "mine")
    assert [f.rule for f in found.findings] == [f.rule for f in mentor.findings()]
    record = json.loads((tmp_path / "mine" / "findings.json").read_text())
    assert record["format_version"] == 1
    assert "constant_initialization" in [f["rule"] for f in record["findings"]]
    with pytest.raises(UserError, match="loop of your own"):
        nastavnik.check(tmp_path / "mine", try_rule="all")
    (tmp_path / "mine" / "history.json").write_text("{}")
    with pytest.raises(UserError, match="format"):
        nastavnik.check(tmp_path / "mine")


def test_a_history_goes_round() -> None:
    history = train(layers(4, 8, 3), blobs(), epochs=1)
    again = History.from_json(json.loads(json.dumps(history.to_json())))
    assert again.values == history.values
    assert again.facts == history.facts
    assert history.frame().groupby("instrument").size()["batch loss"] == len(history.steps("batch loss"))


@pytest.mark.parametrize(
    ("example", "bugs"),
    [
        ("mentor_loop", {"double_softmax", "accumulated_gradients", "frozen_parameters"}),
        ("mentor_lightning", {"double_softmax", "constant_initialization", "frozen_parameters"}),
        ("mentor_trainer", {"rate_too_large", "not_shuffled", "frozen_parameters"}),
        ("mentor_transformer", {"future_seen", "dropout_at_evaluation", "frozen_parameters"}),
        ("mentor_lstm", {"mixed_rows", "rate_vanished", "class_without_gradient"}),
    ],
)
@pytest.mark.filterwarnings("default")
def test_the_examples_name_all_three_bugs(
    example: str, bugs: set[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    if example in ("mentor_lightning", "mentor_trainer"):
        pytest.importorskip("lightning" if example == "mentor_lightning" else "transformers")
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "examples"))
    monkeypatch.chdir(tmp_path)
    mentor = __import__(example).main()
    assert mentor.faults == []
    assert {f.rule for f in root_causes(mentor.findings())} == bugs
