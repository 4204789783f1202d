"""Wrappers against PyTorch's own utilities and against their formulas written out."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from nastavnik.errors import UserError
from nastavnik.testing._training import Bowl
from nastavnik.training.optimizers import OPTIMIZERS, WRAPPERS, FirstOrder, Optimizer, Tensors, wrapped


def make(inner: str = "sgd", /, **options: float) -> tuple[Optimizer, Tensors]:
    optimizer = wrapped(OPTIMIZERS[inner]({}), options, WRAPPERS)
    values = {
        **OPTIMIZERS[inner].settings,
        "learning_rate": 0.05,
        "weight_decay": 0.0,
        "momentum": 0.0,
        "progress": 0.0,
    }
    for name in options:
        values |= WRAPPERS[name].settings if name in WRAPPERS else {}
    settings = {n: torch.tensor(v, dtype=torch.float64) for n, v in {**values, **options}.items()}
    return optimizer, {**settings, "noise": torch.tensor(3, dtype=torch.int32)}


def first_step(**options: float) -> tuple[Bowl, Tensors, Tensors]:
    """A bowl, its gradient, and the gradient that plain descent seems to have had behind a wrapper."""
    bowl = Bowl()
    optimizer, settings = make(**options)
    new, _ = optimizer.step(bowl, optimizer.init(bowl.parameters), bowl.parameters, settings)
    g = bowl.gradients(bowl.parameters)
    return bowl, g, {n: (bowl.parameters[n] - new[n]) / 0.05 for n in new}


@pytest.mark.parametrize("most", [0.1, 1e3])
def test_clipping_by_norm_is_torchs(most: float) -> None:
    _, g, seen = first_step(clip_norm=most)
    leaves = [nn.Parameter(t.clone()) for t in g.values()]
    for leaf, t in zip(leaves, g.values(), strict=True):
        leaf.grad = t.clone()
    torch.nn.utils.clip_grad_norm_(leaves, most)
    for leaf, t in zip(leaves, seen.values(), strict=True):
        assert leaf.grad is not None
        torch.testing.assert_close(t, leaf.grad, rtol=1e-5, atol=1e-9)
    # notes/002 E24: no longer than c, direction kept
    flat, was = (torch.cat([t.flatten() for t in part.values()]) for part in (seen, g))
    assert flat.norm() <= most * (1 + 1e-12)
    assert torch.cosine_similarity(flat, was, dim=0) == pytest.approx(1)


def test_clipping_by_value_and_by_unit() -> None:
    _, g, seen = first_step(clip_value=0.05)
    torch.testing.assert_close(seen["w"], g["w"].clamp(-0.05, 0.05))
    bowl, g, seen = first_step(clip_unit=0.01)
    for row, was, w in zip(seen["w"], g["w"], bowl.parameters["w"], strict=True):
        torch.testing.assert_close(row, was * min(1.0, 0.01 * float(w.norm()) / float(was.norm())))
    torch.testing.assert_close(seen["b"], g["b"])


def test_accumulated_gradients_are_those_of_a_batch_as_large() -> None:
    bowl = Bowl()
    parts = [Bowl() for _ in range(3)]
    for i, part in enumerate(parts):
        part.x, part.y = bowl.x[10 * i : 10 * i + 10], bowl.y[10 * i : 10 * i + 10]
    optimizer, settings = make("adamw", accumulate=3)
    plain, _ = make("adamw")
    p, state = bowl.parameters, optimizer.init(bowl.parameters)
    q, other = bowl.parameters, plain.init(bowl.parameters)
    for _ in range(4):
        for i, part in enumerate(parts):
            before = p
            p, state = optimizer.step(part, state, p, settings)
            assert (i == 2) or all(torch.equal(p[n], before[n]) for n in p)
        q, other = plain.step(bowl, other, q, settings)
    for n in p:
        torch.testing.assert_close(p[n], q[n], rtol=1e-10, atol=1e-12)


def test_lookahead_is_its_papers_loop() -> None:
    bowl = Bowl()
    optimizer, settings = make(lookahead=3, lookahead_share=0.4)
    p, state = bowl.parameters, optimizer.init(bowl.parameters)
    slow = fast = bowl.parameters
    for t in range(1, 11):
        p, state = optimizer.step(bowl, state, p, settings)
        g = bowl.gradients(fast)
        fast = {n: fast[n] - 0.05 * g[n] for n in fast}
        if t % 3 == 0:
            slow = {n: slow[n] + 0.4 * (fast[n] - slow[n]) for n in slow}
            fast = slow
        for n in p:
            torch.testing.assert_close(p[n], fast[n])


def test_weight_averages() -> None:
    """The plain mean against PyTorch's; the exponential one, corrected for its start, is a weighted mean of all."""
    bowl = Bowl()
    module = nn.Linear(4, 3).double()
    mean = torch.optim.swa_utils.AveragedModel(module)
    for name, value in (("swa", 0.5), ("ema", 0.9)):
        optimizer, settings = make(**{name: value})
        p, state = bowl.parameters, optimizer.init(bowl.parameters)
        assert all(torch.equal(t, p[n]) for n, t in optimizer.evaluated(state, p, settings).items())
        weights = []
        for t in range(20):
            settings["progress"] = torch.tensor(t / 20, dtype=torch.float64)
            p, state = optimizer.step(bowl, state, p, settings)
            weights.append(p["w"])
            if name == "swa" and t >= 10:
                module.load_state_dict({"weight": p["w"].T, "bias": p["b"]})
                mean.update_parameters(module)
        found = optimizer.evaluated(state, p, settings)["w"]
        if name == "swa":
            torch.testing.assert_close(found, mean.state_dict()["module.weight"].T)
        else:
            shares = torch.tensor([0.9 ** (19 - t) for t in range(20)], dtype=torch.float64)
            torch.testing.assert_close(found, torch.einsum("t,tij->ij", shares / shares.sum(), torch.stack(weights)))


def test_sam_takes_the_gradient_at_the_worst_point_nearby() -> None:
    bowl, g, seen = first_step(sam=0.3)
    length = torch.cat([t.flatten() for t in g.values()]).norm()
    there = bowl.gradients({n: w + 0.3 * g[n] / length for n, w in bowl.parameters.items()})
    for n in there:
        torch.testing.assert_close(seen[n], there[n])


def test_grokfast_adds_the_slow_part() -> None:
    bowl = Bowl()
    optimizer, settings = make(grokfast=2.0, grokfast_smoothing=0.9)
    p, state = bowl.parameters, optimizer.init(bowl.parameters)
    q, slow = bowl.parameters, None
    for _ in range(5):
        p, state = optimizer.step(bowl, state, p, settings)
        g = bowl.gradients(q)
        slow = g if slow is None else {n: 0.9 * slow[n] + 0.1 * g[n] for n in g}
        q = {n: q[n] - 0.05 * (g[n] + 2 * slow[n]) for n in q}
    for n in p:
        torch.testing.assert_close(p[n], q[n])


def test_gradient_noise_has_its_variance_and_fades() -> None:
    class Flat(Bowl):
        def gradients(self, parameters: Tensors) -> Tensors:
            return {n: torch.zeros_like(p) for n, p in parameters.items()}

    bowl = Flat()
    bowl.parameters = {"w": torch.zeros(100, 100, dtype=torch.float64)}
    optimizer, settings = make(gradient_noise=0.3)
    p, state = bowl.parameters, optimizer.init(bowl.parameters)
    moves = []
    for _ in range(50):
        before = p
        p, state = optimizer.step(bowl, state, p, settings)
        moves.append((before["w"] - p["w"]) / 0.05)
    for t in (0, 9, 49):
        expected = 0.3 / (1 + t) ** 0.55
        assert float(moves[t].var()) == pytest.approx(expected, rel=5 * (2 / 10_000) ** 0.5)
        assert abs(float(moves[t].mean())) < 5 * (expected / 10_000) ** 0.5
    assert abs(float((moves[0] * moves[1]).mean())) < 5 * 0.3 / 100


def test_the_switch_takes_the_rate_that_adams_steps_imply() -> None:
    bowl = Bowl()
    optimizer, settings = make("adamw", switch_to_sgd=0.5, switch_memory=0.9)
    plain, _ = make("adamw")
    p, state = bowl.parameters, optimizer.init(bowl.parameters)
    q, other = bowl.parameters, plain.init(bowl.parameters)
    mean, velocity = 0.0, {n: torch.zeros_like(t) for n, t in q.items()}
    for t in range(20):
        settings["progress"] = torch.tensor(t / 20, dtype=torch.float64)
        p, state = optimizer.step(bowl, state, p, settings)
        g = bowl.gradients(q)
        if t < 10:
            new, other = plain.step(bowl, other, q, settings)
            moves = {n: new[n] - q[n] for n in q}
            along = -sum(float((moves[n] * g[n]).sum()) for n in q)
            assert along > 0
            mean = 0.9 * mean + 0.1 * sum(float((m * m).sum()) for m in moves.values()) / along / 0.05
            q = new
        else:
            velocity = {n: 0.9 * velocity[n] + g[n] for n in q}
            q = {n: q[n] - 0.1 * 0.05 * mean / (1 - 0.9**10) * velocity[n] for n in q}
        for n in p:
            torch.testing.assert_close(p[n], q[n], rtol=1e-9, atol=1e-12)


def test_several_wrappers_at_once() -> None:
    """Clipped, then averaged over two, then looked ahead, then the mean of weights: in the order of the table."""
    bowl = Bowl()
    optimizer, settings = make(clip_norm=0.5, accumulate=2, lookahead=2, ema=0.5)
    p, state = bowl.parameters, optimizer.init(bowl.parameters)
    before = copy.deepcopy(p)
    for _ in range(40):
        p, state = optimizer.step(bowl, state, p, settings)
    assert bowl.objective(optimizer.evaluated(state, p, settings)) < bowl.objective(before)
    assert optimizer.averages


def test_second_order_optimizers_are_not_wrapped() -> None:
    with pytest.raises(UserError, match=r"optimizer\.clip_norm goes round first-order optimizers only, not newton"):
        make("newton", clip_norm=1.0)
    assert isinstance(OPTIMIZERS["adamw"]({}), FirstOrder)
