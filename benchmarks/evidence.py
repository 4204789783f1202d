"""How far each road to the evidence can be believed, and what it costs: the tables of docs/evidence.md.

python benchmarks/evidence.py linear --out benchmarks/results/evidence-linear.json
python benchmarks/evidence.py hidden --out benchmarks/results/evidence-hidden.json
python benchmarks/evidence.py speed --peer OTHER/bin/python --out benchmarks/results/evidence-speed.json
python benchmarks/evidence.py stopping --out benchmarks/results/evidence-stopping.json

linear: 100 draws of polynomial regression (30 rows, x uniform on -1…1, degree 1 to 4, weights N(0, 1), noise 0.3),
models of degree 0 to 6, against the exact evidence. hidden: networks of 8 tanh units on four small problems, against
long Hamiltonian Monte Carlo with 24 temperatures. speed: 64 networks 784-100-10 on 5,000 digits, interleaved with
laplace-torch in an environment of its own (``--peer``: its Python), medians of ratios. stopping: gradient descent
stopped where the entropy's evidence turns, against validation stopping, paired over 20 seeds.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from nastavnik import evidence
from nastavnik.population import Data, Learner, Population
from nastavnik.recipe import Recipe, Value
from nastavnik.training.likelihoods import Bernoulli, Categorical, Gaussian, Likelihood
from real_data import DATA

DRAWS, ROWS, NOISE, DEGREES = 100, 30, 0.3, range(7)
SEEDS = 20


# Polynomials


def powers(x: torch.Tensor, degree: int) -> torch.Tensor:
    """x [...] -> [..., degree + 1]."""
    return torch.stack([x**i for i in range(degree + 1)], dim=-1)


def polynomials() -> tuple[torch.Tensor, torch.Tensor]:
    """x and y [draws, rows]."""
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(DRAWS, ROWS, generator=generator, dtype=torch.float64) * 2 - 1
    y = torch.empty_like(x)
    for k in range(DRAWS):
        degree = 1 + k % 4
        w = torch.randn(degree + 1, generator=generator, dtype=torch.float64)
        y[k] = powers(x[k], degree) @ w + NOISE * torch.randn(ROWS, generator=generator, dtype=torch.float64)
    return x, y


def bic(networks: list[nn.Module], x: torch.Tensor, y: torch.Tensor) -> list[float]:
    """Log likelihood at its maximum less ½ P log n."""
    found = []
    for k in range(len(networks)):
        w = torch.linalg.lstsq(x[k], y[k][:, None]).solution[:, 0]
        fit = -0.5 * ((y[k] - x[k] @ w) / NOISE).square().sum() - ROWS * np.log(NOISE * np.sqrt(2 * np.pi))
        found.append(float(fit) - 0.5 * len(w) * np.log(ROWS))
    return found


def linear_roads() -> dict[str, Callable[..., Any]]:
    """Each road for all draws of one degree: (values, errors or None)."""

    def of(call: Callable[..., Any], **options: Any) -> Callable[..., Any]:
        def run(networks: list[nn.Module], x: torch.Tensor, y: torch.Tensor) -> tuple[list[Any], list[Any]]:
            found = call(networks, x, y, likelihood=Gaussian(noise=NOISE), own_data=True, **options)
            if isinstance(found[0], evidence.DescriptionLength):
                return [r.nats for r in found], [None] * len(found)
            return [r.log_evidence for r in found], [r.error for r in found]

        return run

    return {
        "laplace, full": of(evidence.laplace),
        "laplace, kfac": of(evidence.laplace, structure="kfac"),
        "laplace, diagonal": of(evidence.laplace, structure="diagonal"),
        "variational, full": of(evidence.variational, structure="full", steps=60),
        "variational, mean field": of(evidence.variational, steps=60),
        "langevin (hmc, integration)": of(evidence.langevin, leapfrog=4, chains=3, warmup=150, draws=400),
        "descent entropy": of(evidence.descent_entropy, restarts=16, steps=300),
        "descent entropy, noisy": of(evidence.descent_entropy, restarts=16, steps=300, noisy=True),
        "two-part code": of(evidence.description_length),
        "prequential code": of(evidence.description_length, code="prequential"),
        "BIC": lambda networks, x, y: (bic(networks, x, y), [None] * len(networks)),
    }


def linear() -> list[dict[str, Any]]:
    """A row for each road: its distance from the exact evidence, and how good the degrees are that it chooses."""
    x, y = polynomials()
    truths = {
        d: [evidence.linear_regression(powers(x[k], d), y[k], noise=NOISE, prior_precision=1.0) for k in range(DRAWS)]
        for d in DEGREES
    }
    exact = np.array([[truths[d][k].log_evidence for d in DEGREES] for k in range(DRAWS)])
    field = np.array([[truths[d][k].mean_field for d in DEGREES] for k in range(DRAWS)])
    rows = []
    for name, road in linear_roads().items():
        started = time.monotonic()
        values, errors = np.full(exact.shape, np.nan), np.full(exact.shape, np.nan)
        for place, d in enumerate(DEGREES):
            networks: list[nn.Module] = []
            for k in range(DRAWS):
                module = nn.Linear(d + 1, 1, bias=False).double()
                module.weight.data = truths[d][k].mean[None].clone()
                networks.append(module)
            found, doubts = road(networks, powers(x, d), y)
            values[:, place] = [np.nan if v is None else v for v in found]
            errors[:, place] = [np.nan if e is None else e for e in doubts]
        there = np.isfinite(values)
        chosen = np.where(there, values, -np.inf).argmax(1)
        regret = exact.max(1) - exact[np.arange(DRAWS), chosen]
        gap = values - exact
        row = {
            "road": name,
            "without_number": int((~there).sum()),
            "median_gap": float(np.nanmedian(gap)),
            "largest_gap": float(np.nanmax(np.abs(gap))),
            "relative": float(np.nanmax(np.abs(gap / exact))),
            "within_interval": float(np.mean(np.abs(gap[there]) <= 1.96 * errors[there])) if "hmc" in name else None,
            "mean_field_gap": float(np.nanmax(np.abs(values - field))) if "mean field" in name else None,
            "within_half_a_nat": int((regret <= 0.5).sum()),
            "mean_regret": float(regret.mean()),
            "seconds_a_model": (time.monotonic() - started) / exact.size,
        }
        rows.append(row)
        print(json.dumps(row), flush=True)
    return rows


# One hidden layer


def problems() -> dict[str, tuple[nn.Module, Likelihood, tuple[torch.Tensor, ...]]]:
    """(network, likelihood, (x, y, test x, test y)) of each fixed problem."""
    generator = torch.Generator().manual_seed(1)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    def net(inputs: int) -> nn.Module:
        return nn.Sequential(nn.Linear(inputs, 8), nn.Tanh(), nn.Linear(8, 1)).double()

    torch.manual_seed(0)
    found: dict[str, tuple[nn.Module, Likelihood, tuple[torch.Tensor, ...]]] = {}
    x = torch.rand(440, 1, generator=generator, dtype=torch.float64) * 6 - 3
    y = torch.sin(2 * x[:, 0]) + 0.2 * normal(440)
    found["sine"] = net(1), Gaussian(noise=0.2), (x[:40], y[:40], x[40:], y[40:])
    x = torch.cat([x[(x[:, 0] < -1) | (x[:, 0] > 1)][:20], x[:400]])
    y = x[:, 0] ** 3 / 9 + 0.3 * normal(420)
    found["gap"] = net(1), Gaussian(noise=0.3), (x[:20], y[:20], x[20:], y[20:])
    x = normal(460, 2)
    y = x[:, 0] * x[:, 1] + 0.3 * normal(460)
    found["product"] = net(2), Gaussian(noise=0.3), (x[:60], y[:60], x[60:], y[60:])
    x = normal(460, 2)
    label = ((x.square().sum(1) + 0.5 * normal(460)) > 1.4).long()
    found["ring"] = net(2), Bernoulli(), (x[:60], label[:60], x[60:], label[60:])
    return found


def hidden_roads(network: nn.Module, likelihood: Likelihood, x: torch.Tensor, y: torch.Tensor) -> dict[str, Any]:
    """Each road's answer on one problem, one after the other."""

    def asked(call: Callable[..., Any], **options: Any) -> Callable[[], Any]:
        return lambda: call(network, x, y, likelihood=likelihood, **options)

    walk: dict[str, Any] = {"warmup": 2000, "draws": 6000}
    return {
        "laplace, full": asked(evidence.laplace),
        "laplace, kfac": asked(evidence.laplace, structure="kfac"),
        "laplace, diagonal": asked(evidence.laplace, structure="diagonal"),
        "laplace, last layer": asked(evidence.laplace, structure="last_layer"),
        "variational, full": asked(evidence.variational, structure="full"),
        "variational, mean field": asked(evidence.variational),
        "descent entropy": asked(evidence.descent_entropy, steps=600),
        "descent entropy, noisy": asked(evidence.descent_entropy, steps=600, noisy=True),
        "sgld": asked(evidence.langevin, sampler="sgld", rate=0.01, **walk),
        "sghmc": asked(evidence.langevin, sampler="sghmc", rate=0.01, **walk),
        "constant sgd": asked(evidence.langevin, sampler="constant_sgd", batch=5, **walk),
    }


def hidden() -> list[dict[str, Any]]:
    """A row for each problem and road: the outputs' mean and deviation, the test loss, the evidence, against HMC."""
    rows = []
    for problem, (start, likelihood, (x, y, test_x, test_y)) in problems().items():
        (network, *_), _ = evidence.train(start, x, y, likelihood=likelihood, optimise=(), steps=200)
        long = evidence.langevin(network, x, y, likelihood=likelihood, warmup=800, draws=2000, seed=1)
        truth = long.posterior.outputs(test_x, draws=2000) if long.posterior else None
        answers = {"hmc, long": lambda long=long: long, **hidden_roads(network, likelihood, x, y)}
        for name, road in answers.items():
            rows.append(_hidden_row(problem, name, road(), long, truth, test_x, test_y))
            print(json.dumps(rows[-1]), flush=True)
    return rows


def _hidden_row(
    problem: str, name: str, found: Any, long: Any, truth: Any, test_x: torch.Tensor, test_y: torch.Tensor
) -> dict[str, Any]:
    row = {
        "problem": problem,
        "road": name,
        "log_evidence": found.log_evidence,
        "error": found.error,
        "against_integration": None
        if found.log_evidence is None or long.log_evidence is None
        else found.log_evidence - long.log_evidence,
        "seconds": found.cost.seconds,
        "passes": found.cost.passes,
        "problem_said": found.problem,
        "details": {k: v for k, v in found.details.items() if k in ("r_hat", "effective_size", "gradient", "step")},
    }
    if found.posterior is None or truth is None:
        return row
    own = found.posterior.outputs(test_x, draws=2000)
    deviation = truth.covariance[:, 0, 0].sqrt()
    row["mean_off"] = float(((own.mean[:, 0] - truth.mean[:, 0]) / deviation).square().mean().sqrt())
    ratio = own.covariance[:, 0, 0].clamp(min=1e-12).sqrt() / deviation
    row["deviation_ratio"] = float(ratio.log().mean().exp())
    predictive = found.posterior.predictive(test_x, draws=1000)
    y = test_y.numpy()
    row["test_nll"] = float(predictive.neg_log_likelihood(y).mean())
    interval = predictive.interval(0.95)
    row["coverage"] = None if interval is None else float(np.mean((y >= interval[0]) & (y <= interval[1])))
    return row


# Speed

_PEER = """
import sys, time, json, numpy as np, torch
from torch import nn
from laplace import Laplace
from laplace.curvature import BackPackGGN
file, x, y, count = sys.argv[1], *(np.load(f) for f in sys.argv[2:4]), int(sys.argv[4])
saved = np.load(file)
net = nn.Sequential(nn.Linear(784, 100), nn.ReLU(), nn.Linear(100, 10))
net.load_state_dict({k: torch.tensor(saved[k]) for k in net.state_dict()})
rows = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.tensor(x), torch.tensor(y)), batch_size=250)
print('ready', flush=True)
for line in sys.stdin:
    structure = line.strip()
    started = time.perf_counter()
    for _ in range(count):
        la = Laplace(net, 'classification', subset_of_weights='all', hessian_structure=structure, backend=BackPackGGN)
        la.fit(rows)
        value = float(la.log_marginal_likelihood())
    print(json.dumps({'seconds': (time.perf_counter() - started) / count, 'value': value}), flush=True)
"""


def speed(peer: str, data: Path, rounds: int = 5) -> list[dict[str, Any]]:
    """Networks a second of ours over laplace-torch's, medians over interleaved rounds."""
    import gzip
    import tempfile

    def idx(name: str, offset: int) -> np.ndarray:
        return np.frombuffer(gzip.open(data / "mnist" / name).read(), np.uint8, offset=offset)

    x = idx("train-images-idx3-ubyte.gz", 16).reshape(-1, 784)[:5000] / np.float32(255)
    y = idx("train-labels-idx1-ubyte.gz", 8)[:5000].astype(np.int64)
    file = data / "evidence" / "mnist.npz"
    saved = np.load(file)
    networks = []
    for _ in range(64):
        net = nn.Sequential(nn.Linear(784, 100), nn.ReLU(), nn.Linear(100, 10))
        net.load_state_dict({k: torch.tensor(saved[k]) for k in net.state_dict()})
        networks.append(net)
    inputs, targets = torch.tensor(x), torch.tensor(y)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        np.save(f"{folder}/x.npy", x)
        np.save(f"{folder}/y.npy", y)
        command = [peer, "-W", "ignore", "-c", _PEER, str(file), f"{folder}/x.npy", f"{folder}/y.npy", "4"]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
            assert other.stdin is not None
            assert other.stdout is not None
            other.stdout.readline()
            for ours, theirs in (("kfac", "kron"), ("diagonal", "diag")):
                ratios, own = [], []
                for i in range(rounds + 1):
                    print(theirs, file=other.stdin, flush=True)
                    peer_said = json.loads(other.stdout.readline())
                    started = time.perf_counter()
                    found = evidence.laplace(networks, inputs, targets, likelihood=Categorical(10), structure=ours)
                    seconds = (time.perf_counter() - started) / len(networks)
                    if i:  # the first round warms both up
                        ratios.append(peer_said["seconds"] / seconds)
                        own.append(seconds)
                row = {
                    "structure": ours,
                    "ratio": float(np.median(ratios)),
                    "ratios": ratios,
                    "milliseconds_a_network": 1e3 * float(np.median(own)),
                    "value": found[0].log_evidence,
                    "peer_value": peer_said["value"],
                }
                rows.append(row)
                print(json.dumps(row), flush=True)
            other.stdin.close()
    return rows


# Stopping


def regression_task(seed: int) -> tuple[list[np.ndarray], Callable[[], tuple[nn.Module, Likelihood]], float]:
    """The worked example: y = sin(3x) + N(0, 0.3²), x uniform on -1…1; a network 1-20-1; all weights have prior 1."""
    rng = np.random.default_rng(seed)
    x = rng.uniform(-1, 1, (1060, 1)).astype(np.float32)
    y = (np.sin(3 * x[:, 0]) + 0.3 * rng.normal(size=1060)).astype(np.float32)
    return [x, y], lambda: (nn.Sequential(nn.Linear(1, 20), nn.Tanh(), nn.Linear(20, 1)), Gaussian(noise=0.3)), 0.01


def digits_task(seed: int) -> tuple[list[np.ndarray], Callable[[], tuple[nn.Module, Likelihood]], float]:
    """Handwritten digits, shuffled by the seed; a network 64-16-10."""
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    order = np.random.default_rng(seed).permutation(len(y))
    rows = [(x[order] / 16).astype(np.float32), y[order]]
    return rows, lambda: (nn.Sequential(nn.Linear(64, 16), nn.Tanh(), nn.Linear(16, 10)), Categorical(10)), 0.1


TASKS: dict[str, tuple[Any, int, int, int]] = {
    "regression": (regression_task, 30, 30, 3000),  # training rows, validation rows, steps
    "digits": (digits_task, 300, 300, 1500),
}


def stopped(task: Any, seed: int, train: int, validation: int, steps: int, watch: str, everything: bool) -> np.ndarray:
    """Test loss and step of what stopping by ``watch`` delivers; ``everything``: trained on validation rows too."""
    (x, y), build, rate = task(seed)
    held = np.arange(train, train + validation)
    rows = np.arange(train + validation) if everything else np.arange(train)
    data = Data.of([(torch.from_numpy(x),)], [torch.from_numpy(y)], [(rows, held)], seed=seed)
    settings: dict[str, Value] = {
        "optimizer.name": "sgd",
        "optimizer.momentum": 0.0,
        "optimizer.learning_rate": rate,
        "optimizer.entropy": 1.0,
        "stopping.watch": watch,
        "batch_size": len(rows),
        "regularization.l2": 1.0 / len(rows),
        "seed": seed,
    }
    learner = Learner.seeded(seed, build)
    population = Population(
        [learner], [Recipe(settings)], data, total_steps=steps, evaluations=100, instruments={}, engine="compiled"
    )
    population.train(steps)
    outcome = population.harvest()[0]
    test = slice(train + validation, None)
    found = outcome.learners[0]
    with torch.no_grad():
        outputs = found.network(torch.from_numpy(x[test]))
        losses = found.likelihood.neg_log_likelihood(outputs, torch.from_numpy(y[test]))
    return np.array([float(losses.mean()), outcome.best_step])


def stopping() -> list[dict[str, Any]]:
    """Test loss by entropy less that by validation, paired over seeds, with the 95 % interval of Student's t."""
    from scipy import stats

    rows = []
    for name, (task, train, validation, steps) in TASKS.items():
        arms = {
            "validation": [stopped(task, s, train, validation, steps, "loss", False) for s in range(SEEDS)],
            "entropy": [stopped(task, s, train, validation, steps, "evidence", False) for s in range(SEEDS)],
            "entropy, all rows": [stopped(task, s, train, validation, steps, "evidence", True) for s in range(SEEDS)],
        }
        base = np.array(arms["validation"])
        for arm in ("entropy", "entropy, all rows"):
            own = np.array(arms[arm])
            gap = own[:, 0] - base[:, 0]
            half = float(stats.t.ppf(0.975, SEEDS - 1) * gap.std(ddof=1) / SEEDS**0.5)
            row = {
                "task": name,
                "arm": arm,
                "test_nll": float(own[:, 0].mean()),
                "by_validation": float(base[:, 0].mean()),
                "difference": float(gap.mean()),
                "half_width": half,
                "median_step": float(np.median(own[:, 1])),
                "median_step_by_validation": float(np.median(base[:, 1])),
            }
            rows.append(row)
            print(json.dumps(row), flush=True)
    return rows


def main() -> None:
    """One table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", choices=("linear", "hidden", "speed", "stopping"))
    parser.add_argument("--peer", help="the Python of an environment with laplace-torch")
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    if asked.table == "speed":
        if asked.peer is None:
            parser.error("speed needs --peer, the Python of an environment with laplace-torch")
        rows = speed(asked.peer, DATA)
    else:
        rows = {"linear": linear, "hidden": hidden, "stopping": stopping}[asked.table]()
    if asked.out is not None:
        asked.out.write_text(json.dumps({"format_version": 1, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
