"""Optimizers against torch.optim, against their papers' recurrences written out, and against known optima."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from nastavnik.testing._training import Bowl
from nastavnik.training.likelihoods import LIKELIHOODS
from nastavnik.training.optimizers import OPTIMIZERS, FirstOrder, Tensors
from nastavnik.training.optimizers._second_order import made_positive, solved, symmetric_solved

RATES = (0.003, 0.01, 0.03)
DECAY = 0.1
Groups = list[dict[str, Any]]
TORCH: dict[str, tuple[dict[str, float], dict[str, Any], Callable[[Groups, float], torch.optim.Optimizer]]] = {
    "sgd": ({"momentum": 0.9}, {}, lambda g, lr: torch.optim.SGD(g, lr=lr, momentum=0.9)),
    "sgd ahead": ({"momentum": 0.9}, {"nesterov": True}, lambda g, lr: torch.optim.SGD(g, lr=lr, momentum=0.9, nesterov=True)),
    "momentum": ({"momentum": 0.8}, {}, lambda g, lr: torch.optim.SGD(g, lr=lr, momentum=0.8)),
    "nesterov": ({"momentum": 0.8}, {}, lambda g, lr: torch.optim.SGD(g, lr=lr, momentum=0.8, nesterov=True)),
    "adagrad": ({}, {}, lambda g, lr: torch.optim.Adagrad(g, lr=lr)),
    "rmsprop": ({"smoothing": 0.95}, {}, lambda g, lr: torch.optim.RMSprop(g, lr=lr, alpha=0.95)),
    "adadelta": ({"rho": 0.8}, {}, lambda g, lr: torch.optim.Adadelta(g, lr=lr, rho=0.8)),
    "adam": ({"beta1": 0.8, "beta2": 0.99}, {}, lambda g, lr: torch.optim.Adam(g, lr=lr, betas=(0.8, 0.99))),
    "adamw": ({"beta1": 0.8, "beta2": 0.99}, {}, lambda g, lr: torch.optim.AdamW(g, lr=lr, betas=(0.8, 0.99))),
    "nadam": ({"beta1": 0.8, "beta2": 0.99}, {}, lambda g, lr: torch.optim.NAdam(g, lr=lr, betas=(0.8, 0.99))),
    "radam": ({"beta1": 0.8, "beta2": 0.99}, {}, lambda g, lr: torch.optim.RAdam(g, lr=lr, betas=(0.8, 0.99))),
    "adamax": ({"beta1": 0.8, "beta2": 0.99}, {}, lambda g, lr: torch.optim.Adamax(g, lr=lr, betas=(0.8, 0.99))),
    "adafactor": ({}, {}, lambda g, lr: torch.optim.Adafactor(g, lr=lr)),
}  # fmt: skip


def problem() -> tuple[Tensors, Callable[..., torch.Tensor]]:
    """A small network that is no bowl; each step sees a quarter of the rows.

    Gradients of batches do not vanish: where they do, methods that divide by their size amplify rounding without bound.
    """
    g = torch.Generator().manual_seed(0)
    x, y = torch.randn(20, 4, generator=g).double(), torch.randn(20, 3, generator=g).double()
    start = {"w": torch.randn(4, 3, generator=g).double(), "b": torch.randn(3, generator=g).double()}

    def loss(p: Tensors, t: int | None = None) -> torch.Tensor:
        rows = slice(None) if t is None else slice(t % 4, None, 4)
        return ((torch.tanh(x[rows] @ p["w"] + p["b"]) - y[rows]) ** 2).mean()

    return start, loss


def numbers(name: str, **values: float) -> Tensors:
    settings = {**OPTIMIZERS[name].settings, "progress": 0.5, **values}
    return {key: torch.tensor(value, dtype=torch.float64) for key, value in settings.items()}


@pytest.mark.parametrize("case", list(TORCH))
def test_step_for_step_as_torch_alone_and_in_a_population(case: str) -> None:
    """Three networks with rates of their own step together; each equals torch's optimizer alone, 1e-6 over 100 steps."""
    start, loss = problem()
    values, options, theirs = TORCH[case]
    name = case.split()[0]
    optimizer = OPTIMIZERS[name](options)
    assert isinstance(optimizer, FirstOrder)
    rates = [rate * (30 if name == "adadelta" else 1) for rate in RATES]
    fixed = {k: v for k, v in numbers(name, weight_decay=DECAY, **values).items() if k != "learning_rate"}

    def step(t: int, parameters: Tensors, state: Tensors, rate: torch.Tensor) -> tuple[Tensors, Tensors]:
        gradients = torch.func.grad(loss)(parameters, t)
        return optimizer.update(gradients, state, parameters, {**fixed, "learning_rate": rate})

    stacked = {n: p.expand(3, *p.shape).clone() for n, p in start.items()}
    state = torch.vmap(optimizer.init)(stacked)
    alone, alone_state = start, optimizer.init(start)
    for t in range(100):
        stacked, state = torch.vmap(partial(step, t))(stacked, state, torch.tensor(rates, dtype=torch.float64))
        alone, alone_state = step(t, alone, alone_state, torch.tensor(rates[1], dtype=torch.float64))
    for k, rate in enumerate(rates):
        w, b = (start[n].clone().requires_grad_() for n in "wb")
        other = theirs([{"params": [w], "weight_decay": DECAY}, {"params": [b], "weight_decay": 0.0}], rate)
        for t in range(100):
            other.zero_grad()
            loss({"w": w, "b": b}, t).backward()
            other.step()
        torch.testing.assert_close(stacked["w"][k], w.detach(), rtol=1e-6, atol=1e-12)
        torch.testing.assert_close(stacked["b"][k], b.detach(), rtol=1e-6, atol=1e-12)
        if k == 1:
            torch.testing.assert_close(alone["w"], w.detach(), rtol=1e-6, atol=1e-12)


class Net(Bowl):
    """The small network as a Problem."""

    def __init__(self) -> None:
        self.start, self._loss = problem()
        super().__init__()
        self.parameters = self.start

    def objective(self, parameters: Tensors) -> torch.Tensor:
        return self._loss(parameters)


def test_lbfgs_without_a_search_is_torchs() -> None:
    net = Net()
    optimizer = OPTIMIZERS["lbfgs"]({"line_search": False, "history": 5})
    parameters, state = net.parameters, optimizer.init(net.parameters)
    w, b = (net.parameters[n].clone().requires_grad_() for n in "wb")
    theirs = torch.optim.LBFGS([w, b], lr=0.3, max_iter=1, history_size=5, tolerance_grad=0, tolerance_change=0)

    def closure() -> torch.Tensor:
        theirs.zero_grad()
        loss = net.objective({"w": w, "b": b})
        loss.backward()
        return loss

    for _ in range(100):
        parameters, state = optimizer.step(net, state, parameters, numbers("lbfgs", learning_rate=0.3))
        theirs.step(closure)
    torch.testing.assert_close(parameters["w"], w.detach(), rtol=1e-6, atol=1e-9)


# Against recurrences, written out with loops and without our helpers


def run(name: str, steps: int = 100, **values: float) -> Tensors:
    start, loss = problem()
    optimizer = OPTIMIZERS[name]({})
    assert isinstance(optimizer, FirstOrder)
    parameters, state = start, optimizer.init(start)
    settings = numbers(name, **values)
    for t in range(steps):
        parameters, state = optimizer.update(torch.func.grad(loss)(parameters, t), state, parameters, settings)
    return optimizer.evaluated(state, parameters, settings)


def test_lion_is_its_papers_algorithm() -> None:
    start, loss = problem()
    w = {n: p.numpy().copy() for n, p in start.items()}
    m = {n: np.zeros_like(p) for n, p in w.items()}
    for t in range(100):
        g = torch.func.grad(loss)({n: torch.from_numpy(p) for n, p in w.items()}, t)
        for n in w:
            c = 0.9 * m[n] + 0.1 * g[n].numpy()
            decay = 0.3 * w[n] if n == "w" else 0.0
            m[n] = 0.99 * m[n] + 0.01 * g[n].numpy()
            w[n] = w[n] - 0.004 * (np.sign(c) + decay)
    found = run("lion", learning_rate=0.004, weight_decay=0.3)
    for n in w:
        np.testing.assert_allclose(found[n], w[n], rtol=1e-9)


def test_muon_is_torchs_recurrence_in_double_precision() -> None:
    start, loss = problem()
    w, b = start["w"].clone(), start["b"].clone()
    m, mb, vb = torch.zeros_like(w), torch.zeros_like(b), torch.zeros_like(b)
    for t in range(1, 101):
        g = torch.func.grad(loss)({"w": w, "b": b}, t - 1)
        m.lerp_(g["w"], 1 - 0.95)
        u = g["w"].lerp(m, 0.95).T  # four rows, three columns: taller than wide
        u = u / u.norm().clamp(min=1e-7)
        for _ in range(5):
            gram = u @ u.T
            u = torch.addmm(u, torch.addmm(gram, gram, gram, beta=-4.7750, alpha=2.0315), u, beta=3.4445)
        w = w * (1 - 0.02 * 0.1) - 0.02 * (4 / 3) ** 0.5 * u.T
        mb = 0.95 * mb + 0.05 * g["b"]
        vb = 0.95 * vb + 0.05 * g["b"] ** 2
        b = b - 0.02 * 0.1 * (mb / (1 - 0.95**t)) / ((vb / (1 - 0.95**t)).sqrt() + 1e-8)
    found = run("muon", learning_rate=0.02, weight_decay=0.1)
    torch.testing.assert_close(found["w"], w, rtol=1e-8, atol=1e-10)
    torch.testing.assert_close(found["b"], b, rtol=1e-8, atol=1e-10)


def test_schedule_free_is_its_papers_algorithm() -> None:
    start, loss = problem()
    z = {n: p.clone() for n, p in start.items()}
    x = {n: p.clone() for n, p in start.items()}
    v = {n: torch.zeros_like(p) for n, p in start.items()}
    total = 0.0
    for t in range(1, 101):
        y = {n: 0.1 * z[n] + 0.9 * x[n] for n in z}
        g = torch.func.grad(loss)(y, t - 1)
        total += 0.02**2
        for n in z:
            v[n] = 0.999 * v[n] + 0.001 * g[n] ** 2
            decay = 0.05 * y[n] if n == "w" else 0.0
            z[n] = z[n] - 0.02 * (g[n] / ((v[n] / (1 - 0.999**t)).sqrt() + 1e-8) + decay)
            c = 0.02**2 / total
            x[n] = (1 - c) * x[n] + c * z[n]
    found = run("schedule_free_adamw", learning_rate=0.02, weight_decay=0.05)
    for n in x:
        torch.testing.assert_close(found[n], x[n], rtol=1e-8, atol=1e-10)


def test_zero_momentum_is_plain_descent_exactly() -> None:
    # notes/003-c O1
    start, loss = problem()
    w = start
    for t in range(20):
        g = torch.func.grad(loss)(w, t)
        w = {n: w[n] - 0.1 * g[n] for n in w}
    for name in ("sgd", "momentum", "nesterov"):
        found = run(name, 20, learning_rate=0.1, momentum=0.0)
        assert all(torch.equal(found[n], w[n]) for n in w)


# Known landscapes


def test_the_saddle() -> None:
    """notes/003-f T15: x² - y² from beside the ridge; who has left |y| < 1 after how many steps."""

    def gradient(p: Tensors) -> Tensors:
        return {"xy": torch.stack([2 * p["xy"][0], -2 * p["xy"][1]])}

    def steps_to_leave(name: str, rate: float, **values: float) -> int:
        optimizer = OPTIMIZERS[name]({})
        assert isinstance(optimizer, FirstOrder)
        p: Tensors = {"xy": torch.tensor([1.0, 1e-5], dtype=torch.float64)}
        state, settings = optimizer.init(p), numbers(name, learning_rate=rate, **values)
        for t in range(1, 3000):
            p, state = optimizer.update(gradient(p), state, p, settings)
            if abs(float(p["xy"][1])) > 1:
                return t
        return 3000

    slow = {
        "sgd": steps_to_leave("sgd", 0.01, momentum=0.0),
        "momentum": steps_to_leave("momentum", 0.01),
        "nesterov": steps_to_leave("nesterov", 0.01),
    }
    fast = {name: steps_to_leave(name, 0.1) for name in ("adagrad", "rmsprop", "adam")}
    fast["adadelta"] = steps_to_leave("adadelta", 30.0)
    assert slow["sgd"] > 500  # log(1e5) / log(1.02) = 581.4
    assert slow["sgd"] == 582
    assert slow["momentum"] < slow["sgd"]
    assert slow["nesterov"] < slow["sgd"]
    assert max(fast.values()) < min(slow.values())
    # a coordinate of 1e-5 is moved as fast as one of 1: from the first step on, y runs
    assert max(fast[name] for name in ("rmsprop", "adam")) < 20


def quadratic(size: int = 6) -> tuple[Bowl, torch.Tensor, torch.Tensor]:
    """½ xᵀ A x - cᵀ x, A positive definite with condition about 50, as a Problem of one vector; its minimum is A⁻¹c."""
    g = torch.Generator().manual_seed(1)
    q, _ = torch.linalg.qr(torch.randn(size, size, generator=g, dtype=torch.float64))
    a = q @ torch.diag(torch.logspace(0, 1.7, size, dtype=torch.float64)) @ q.T
    c = torch.randn(size, generator=g, dtype=torch.float64)
    bowl = Bowl()
    bowl.parameters = {"x": torch.randn(size, generator=g, dtype=torch.float64)}
    bowl.objective = lambda p: 0.5 * p["x"] @ a @ p["x"] - c @ p["x"]  # type: ignore[method-assign, assignment]
    return bowl, a, torch.linalg.solve(a, c)


def test_newton_solves_a_quadratic_in_one_step() -> None:
    # notes/003-c O2
    bowl, _, least = quadratic()
    optimizer = OPTIMIZERS["newton"]({})
    found, _ = optimizer.step(bowl, {}, bowl.parameters, numbers("newton"))
    torch.testing.assert_close(found["x"], least, rtol=1e-9, atol=1e-12)


def test_newton_on_the_saddle_goes_to_it() -> None:
    bowl = Bowl()
    bowl.parameters = {"xy": torch.tensor([1.0, 1e-5], dtype=torch.float64)}
    bowl.objective = lambda p: p["xy"][0] ** 2 - p["xy"][1] ** 2  # type: ignore[method-assign, assignment]
    found, _ = OPTIMIZERS["newton"]({}).step(bowl, {}, bowl.parameters, numbers("newton"))
    torch.testing.assert_close(found["xy"], torch.zeros(2, dtype=torch.float64), atol=1e-12, rtol=0)


def test_bfgs_finds_the_inverse_hessian_of_a_quadratic() -> None:
    """With exact searches along lines, n steps and the last update give A⁻¹ (Nocedal & Wright 2006, theorem 6.4)."""
    bowl, a, least = quadratic()
    optimizer = OPTIMIZERS["bfgs"]({})
    p, state = bowl.parameters, optimizer.init(bowl.parameters)
    for _ in range(8):
        p, state = optimizer.step(bowl, state, p, numbers("bfgs"))
    torch.testing.assert_close(p["x"], least, rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(state["inverse"], torch.linalg.inv(a), rtol=1e-3, atol=1e-3)


def test_conjugate_gradients_need_as_many_steps_as_dimensions() -> None:
    bowl, _, least = quadratic()
    optimizer = OPTIMIZERS["conjugate_gradient"]({})
    p, state = bowl.parameters, optimizer.init(bowl.parameters)
    distances = []
    for _ in range(7):
        p, state = optimizer.step(bowl, state, p, numbers("conjugate_gradient"))
        distances.append(float((p["x"] - least).norm()))
    assert distances[5] < 1e-5 * distances[0]


@pytest.mark.parametrize("name", ["bfgs", "lbfgs", "conjugate_gradient", "levenberg_marquardt", "gauss_newton"])
def test_curvature_reaches_the_bottom_of_a_regression(name: str) -> None:
    bowl = Bowl()
    optimizer = OPTIMIZERS[name]({})
    p, state = bowl.parameters, optimizer.init(bowl.parameters)
    values = {"damping": 0.0} if name == "gauss_newton" else {}
    for _ in range(1 if name == "gauss_newton" else 60):  # least squares: Gauss–Newton is Newton, one step
        p, state = optimizer.step(bowl, state, p, numbers(name, **values))
    assert float(bowl.objective(p) - bowl.least) < 1e-9
    torch.testing.assert_close(p["w"], bowl.solution[:4], rtol=1e-4, atol=1e-5)


def test_levenberg_marquardt_never_goes_uphill() -> None:
    net = Net()

    def outputs(p: Tensors) -> torch.Tensor:
        return torch.tanh(net.x[:20] @ p["w"] + p["b"])

    net.outputs = outputs  # type: ignore[method-assign, assignment]
    net.y = net.y[:20]
    net._loss = lambda p: net.losses_of(net.outputs(p), p).mean()
    optimizer = OPTIMIZERS["levenberg_marquardt"]({})
    p, state = net.parameters, optimizer.init(net.parameters)
    values = [float(net.objective(p))]
    for _ in range(30):
        p, state = optimizer.step(net, state, p, numbers("levenberg_marquardt"))
        values.append(float(net.objective(p)))
    assert all(b <= a for a, b in itertools.pairwise(values))
    assert values[-1] < 0.9 * values[0]


def test_lbfgsb_reaches_scipys_optimum_within_bounds() -> None:
    bowl, a, least = quadratic()
    low, high = -0.05, 0.1
    optimizer = OPTIMIZERS["lbfgsb"]({})
    p, state = bowl.parameters, optimizer.init(bowl.parameters)
    for _ in range(60):
        p, state = optimizer.step(bowl, state, p, numbers("lbfgsb", lower=low, upper=high))
    c = (a @ least).numpy()
    theirs = minimize(
        lambda x: 0.5 * x @ a.numpy() @ x - c @ x,
        np.zeros(6),
        jac=lambda x: a.numpy() @ x - c,
        method="L-BFGS-B",
        bounds=[(low, high)] * 6,
        options={"ftol": 1e-15, "gtol": 1e-10},
    )
    assert (np.isclose(theirs.x, low) | np.isclose(theirs.x, high)).any(), "no bound is active: the test says nothing"
    np.testing.assert_allclose(p["x"].numpy(), theirs.x, atol=1e-6)


@pytest.mark.parametrize("fisher", ["full", "blocks"])
def test_natural_gradient_is_its_formula(fisher: str) -> None:
    bowl = Bowl()
    settings = numbers("natural_gradient", learning_rate=0.1, damping=0.01)
    found, _ = OPTIMIZERS["natural_gradient"]({"fisher": fisher}).step(bowl, {}, bowl.parameters, settings)
    rows = []
    for i in range(30):  # gradients row by row: r xᵀ for the weights, r for the biases
        r = (bowl.x[i] @ bowl.parameters["w"] + bowl.parameters["b"] - bowl.y[i]).numpy()
        rows.append(np.concatenate([np.outer(bowl.x[i].numpy(), r).ravel(), r]))
    rows_, g = np.array(rows), np.mean(rows, axis=0)
    f = rows_.T @ rows_ / 30
    if fisher == "blocks":
        f[:12, 12:] = f[12:, :12] = 0
    step = np.linalg.solve(f + 0.01 * np.eye(15), g)
    start = np.concatenate([bowl.parameters["w"].numpy().ravel(), bowl.parameters["b"].numpy()])
    whole = torch.cat([found["w"].flatten(), found["b"]]).numpy()
    np.testing.assert_allclose(whole, start - 0.1 * step, rtol=1e-9)


def test_natural_gradient_in_the_smaller_space_is_the_same() -> None:
    """Five rows, fifteen parameters: Woodbury's way against the full matrix."""
    bowl = Bowl(rows=5)
    settings = numbers("natural_gradient", learning_rate=1.0, damping=0.05)
    found, _ = OPTIMIZERS["natural_gradient"]({}).step(bowl, {}, bowl.parameters, settings)
    rows = torch.func.jacrev(lambda p: bowl.row_losses(p))(bowl.parameters)
    r = torch.cat([rows["w"].reshape(5, -1), rows["b"]], 1)
    f = r.T @ r / 5 + 0.05 * torch.eye(15, dtype=torch.float64)
    step = torch.linalg.solve(f, r.mean(0))
    torch.testing.assert_close(found["w"], bowl.parameters["w"] - step[:12].reshape(4, 3), rtol=1e-8, atol=1e-10)


# Settings of some parameters


def test_settings_by_kind_and_by_name() -> None:
    start, loss = problem()
    optimizer = OPTIMIZERS["sgd"]({})
    assert isinstance(optimizer, FirstOrder)
    g = torch.func.grad(loss)(start)

    def step(**special: float) -> Tensors:
        settings = numbers("sgd", learning_rate=0.1) | {
            k.replace("_at_", "@"): torch.tensor(v, dtype=torch.float64) for k, v in special.items()
        }
        return optimizer.update(g, optimizer.init(start), start, settings)[0]

    by_kind, by_name = (
        step(learning_rate_at_bias=0.5, learning_rate_at_scale=0.5),
        step(**{"learning_rate_at_[b]": 0.5}),
    )
    for found in (by_kind, by_name):
        torch.testing.assert_close(found["w"], start["w"] - 0.1 * g["w"])
        torch.testing.assert_close(found["b"], start["b"] - 0.5 * g["b"])


# What a population must survive


def test_a_singular_or_unreal_system_stops_one_network_alone() -> None:
    """LAPACK's LU never came back from an exactly singular matrix of this size in a batch."""
    g = torch.Generator().manual_seed(0)
    m = torch.randn(5, 200, 200, generator=g, dtype=torch.float64)
    m = m @ m.mT
    m[1], m[2], m[3] = 0, torch.nan, torch.ones(200, 200, dtype=torch.float64)
    right = torch.randn(5, 200, generator=g, dtype=torch.float64)
    for solve, survivors in ((solved, [0, 4]), (symmetric_solved, [0, 1, 3, 4])):
        found = torch.vmap(solve)(m, right)
        assert torch.isfinite(found).all(1).nonzero().flatten().tolist() == survivors
        torch.testing.assert_close(m[0] @ found[0], right[0], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("rows", [30, 5])
def test_penalties_are_part_of_the_curvature(rows: int) -> None:
    """With L2, one Gauss-Newton step is ridge regression's solution; natural gradients do not run away."""
    bowl = Bowl(rows=rows)
    ridge = 0.7
    plain = bowl.objective
    bowl.penalty = lambda p: 0.5 * ridge * p["w"].square().sum()  # type: ignore[method-assign, assignment]
    bowl.objective = lambda p: plain(p) + bowl.penalty(p)  # type: ignore[method-assign, assignment]
    found, _ = OPTIMIZERS["gauss_newton"]({}).step(bowl, {}, bowl.parameters, numbers("gauss_newton", damping=1e-12))
    whole = torch.cat([bowl.x, torch.ones(rows, 1, dtype=torch.float64)], 1)
    prior = torch.diag(torch.tensor([ridge] * 4 + [0.0], dtype=torch.float64))
    expected = torch.linalg.solve(whole.T @ whole / rows + prior, whole.T @ bowl.y / rows)
    torch.testing.assert_close(found["w"], expected[:4], rtol=1e-6, atol=1e-8)
    p = bowl.parameters
    for _ in range(200):
        p, _ = OPTIMIZERS["natural_gradient"]({}).step(bowl, {}, p, numbers("natural_gradient"))
    assert bowl.objective(p) < bowl.objective(bowl.parameters)


def test_curvature_made_positive() -> None:
    g = torch.Generator().manual_seed(0)
    p = torch.softmax(torch.randn(50, 6, generator=g, dtype=torch.float64) * 5, 1)
    softmax = torch.diag_embed(p) - p[:, :, None] * p[:, None, :]
    torch.testing.assert_close(made_positive(softmax), softmax, rtol=1e-9, atol=1e-12)  # it is positive already
    other = torch.randn(50, 4, 4, generator=g, dtype=torch.float64)
    other = other + other.mT
    assert float(torch.linalg.eigvalsh(made_positive(other)).min()) > -1e-9
    torch.testing.assert_close(made_positive(torch.tensor([[[-2.0]], [[3.0]]])), torch.tensor([[[0.0]], [[3.0]]]))


def test_gauss_newton_uses_the_positive_part_of_a_likelihoods_curvature() -> None:
    """Student's t bends the other way for outliers: the step must still lead downhill."""
    bowl = Bowl()
    likelihood = LIKELIHOODS["student_t"].make(0, {"noise": 0.3, "freedom": 3.0}).double()
    bowl.losses_of = lambda z, p: likelihood.neg_log_likelihood(z[:, :1], bowl.y[:, 0])  # type: ignore[method-assign, assignment]
    p = bowl.parameters
    before = bowl.objective(p)
    for _ in range(20):
        p, _ = OPTIMIZERS["gauss_newton"]({}).step(bowl, {}, p, numbers("gauss_newton", learning_rate=0.3, damping=0.1))
    assert bowl.objective(p) < before


def test_schedule_free_without_momentum_still_averages() -> None:
    found, steps = run("schedule_free_adamw", 30, learning_rate=0.05, beta1=0.0), []
    start, loss = problem()
    optimizer = OPTIMIZERS["schedule_free_adamw"]({})
    assert isinstance(optimizer, FirstOrder)
    p, state = start, optimizer.init(start)
    for t in range(30):
        gradient = torch.func.grad(loss)(p, t)
        p, state = optimizer.update(gradient, state, p, numbers("schedule_free_adamw", learning_rate=0.05, beta1=0.0))
        steps.append(state["fast.w"])
    torch.testing.assert_close(found["w"], torch.stack(steps).mean(0))


@pytest.mark.parametrize("name", ["adam", "adamw"])
def test_all_parameters_in_one_row_take_the_same_steps(name: str) -> None:
    from nastavnik.training.optimizers import OPTIMIZERS, FirstOrder, updated_at_once

    optimizer = OPTIMIZERS[name]({})
    assert isinstance(optimizer, FirstOrder)
    generator = torch.Generator().manual_seed(0)
    shapes = {"a.weight": (5, 3), "a.bias": (5,), "noise": (), "b.weight": (2, 5), "table": (4, 2, 3)}
    one = {n: torch.randn(shape, generator=generator) for n, shape in shapes.items()}
    other, settings = dict(one), {n: torch.tensor(v) for n, v in {**optimizer.settings, "weight_decay": 0.1}.items()}
    states = [optimizer.init(one), optimizer.init(other)]
    for _ in range(4):
        gradients = {n: torch.randn(shape, generator=generator) for n, shape in shapes.items()}
        one, states[0] = optimizer.update(gradients, states[0], one, settings)
        other, states[1] = updated_at_once(optimizer, gradients, states[1], other, settings)
    assert list(one) == list(other)
    assert list(states[0]) == list(states[1])
    for n in shapes:
        assert torch.equal(one[n], other[n]), n
    for key, value in states[0].items():
        assert torch.equal(value, states[1][key]), key
