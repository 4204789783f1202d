"""The arms of ``engine.py``: this engine, a plain PyTorch loop, and JAX; each trains a case's configurations.

An arm is made once and then takes steps: ``arm.steps(n)`` trains all its networks n steps further, ``arm.scores()`` are
validation accuracies (R² for a regression).
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from engine_cases import Case


def device() -> str:
    """Where the arms of torch run: a GPU where there is one."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def synchronize() -> None:
    """Wait until a GPU has done what it was told."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()


class Arm(Protocol):
    """Networks in training."""

    def steps(self, count: int) -> None:
        """Train all networks so many steps further."""
        ...

    def scores(self) -> list[float]:
        """Validation scores."""
        ...


class Engine:
    """This engine: one population."""

    def __init__(
        self,
        case: Case,
        configurations: list[dict[str, float]],
        *,
        engine: str = "auto",
        times: int = 1,
        instruments: Any = None,
        evaluations: int = 0,
        **options: Any,
    ) -> None:
        import torch

        from nastavnik.population import Data, Learner, Population
        from nastavnik.recipe import Recipe
        from nastavnik.training.likelihoods import Categorical, Gaussian

        inputs, y, valid, self.truth = case.data()
        self.case, self.valid = case, tuple(torch.from_numpy(v).to(device()) for v in valid)
        n = len(y)
        tensors = tuple(torch.from_numpy(a) for a in inputs)
        data = Data.of(
            [tensors], [torch.from_numpy(y)], [(np.arange(n), np.arange(min(n, 360)))], seed=0, device=device()
        )
        second = {"optimizer.momentum": 0.0, "optimizer.nesterov": False} if case.optimizer == "sgd" else {}
        recipes = [
            Recipe(
                {
                    "network.family": case.name,
                    "optimizer.name": case.optimizer,
                    **second,
                    **({"optimizer.momentum": c["momentum"]} if second else {}),
                    "optimizer.learning_rate": c["lr"],
                    "optimizer.weight_decay": c["wd"],
                    "network.dropout": c["dropout"],
                    "schedule.name": "constant",
                    "batch_size": case.batch,
                    "seed": k,
                }
            )
            for k, c in enumerate(configurations)
        ]
        likelihood = (lambda: Gaussian(1.0)) if case.regression else (lambda: Categorical(10))
        learners = [
            Learner.seeded(k, lambda c=c: (case.module(c["dropout"]), likelihood()))  # type: ignore[misc]
            for k, c in enumerate(configurations)
        ]
        total = case.epochs * (n // case.batch)
        self.population = Population(
            learners,
            recipes,
            data,
            total_steps=total * times,
            evaluations=evaluations * times,
            engine=engine,
            instruments=instruments or {},
            **options,
        )

    def steps(self, count: int) -> None:
        """See ``Arm``."""
        self.population.train(self.population.step + count)
        synchronize()

    def scores(self) -> list[float]:
        """See ``Arm``."""
        return score(self.case, self.population.predict(*self.valid).cpu().numpy(), self.truth)


class Loop:
    """The hand-written loop of one network over slices of tensors."""

    def __init__(self, case: Case, configuration: dict[str, float], seed: int) -> None:
        import torch

        torch.manual_seed(seed)
        inputs, y, valid, self.truth = case.data()
        self.case = case
        self.inputs, self.y = [torch.from_numpy(a).to(device()) for a in inputs], torch.from_numpy(y).to(device())
        self.valid = [torch.from_numpy(a).to(device()) for a in valid]
        self.module = case.module(configuration["dropout"]).to(device())
        given: dict[str, Any] = {"lr": configuration["lr"], "weight_decay": configuration["wd"]}
        self.optimizer: torch.optim.Optimizer = (
            torch.optim.SGD(self.module.parameters(), momentum=configuration["momentum"], **given)
            if case.optimizer == "sgd"
            else torch.optim.AdamW(self.module.parameters(), **given)
        )
        self.module.train()
        self._place = len(y)
        self._order = torch.arange(0)

    def steps(self, count: int) -> None:
        """See ``Arm``."""
        import torch
        import torch.nn.functional as F

        size = self.case.batch
        for _ in range(count):
            if self._place + size > len(self.y):
                self._order, self._place = torch.randperm(len(self.y)).to(device()), 0
            rows = self._order[self._place : self._place + size]
            self._place += size
            batch, target = [t[rows] for t in self.inputs], self.y[rows]
            self.optimizer.zero_grad()
            out = self.module(*batch)
            loss = 0.5 * F.mse_loss(out[:, 0], target) if self.case.regression else F.cross_entropy(out, target)
            loss.backward()
            self.optimizer.step()
        synchronize()

    def scores(self) -> list[float]:
        """See ``Arm``."""
        import torch

        self.module.eval()
        with torch.no_grad():
            found = score(self.case, self.module(*self.valid)[None].cpu().numpy(), self.truth)
        self.module.train()
        return found


class Jax:
    """``jax.vmap`` of one network's step under ``jax.lax.scan``, batches shared."""

    def __init__(self, case: Case, configurations: list[dict[str, float]]) -> None:
        import jax
        import jax.numpy as jnp

        self.case = case
        inputs, y, valid, self.truth = case.data()
        self.rows, self.rng = len(y), np.random.default_rng(0)
        x, targets = tuple(jnp.asarray(a) for a in inputs), jnp.asarray(y)
        self.valid = tuple(jnp.asarray(a) for a in valid)
        self.settings = {k: jnp.array([c[k] for c in configurations], jnp.float32) for k in configurations[0]}
        forward = self._forward = jax_forward(case)
        self.parameters = jax_parameters(case, len(configurations), np.random.default_rng(0))
        mean, square = (jax.tree.map(jnp.zeros_like, self.parameters) for _ in range(2))
        self.slots = (mean, square, jnp.zeros(len(configurations))) if case.optimizer == "adamw" else mean
        self.key = jax.random.key(0)

        def loss(p: Any, batch: Any, target: Any, rate: Any, key: Any) -> Any:
            out = forward(p, batch, rate, key)
            if case.regression:
                return 0.5 * ((out[:, 0] - target) ** 2).mean()
            return -jnp.take_along_axis(jax.nn.log_softmax(out), target[:, None], 1).mean()

        def step(p: Any, slots: Any, h: Any, key: Any, i: Any) -> Any:
            g = jax.grad(loss)(p, tuple(a[i] for a in x), targets[i], h["dropout"], key)
            return (_jax_sgd if case.optimizer == "sgd" else _jax_adamw)(p, slots, g, h)

        many = jax.vmap(step, (0, 0, 0, 0, None))

        def run(p: Any, slots: Any, h: Any, key: Any, plan: Any) -> Any:
            def body(carry: Any, i: Any) -> Any:
                p, slots, key = carry
                key, own = jax.random.split(key)
                p, slots = many(p, slots, h, jax.random.split(own, len(configurations)), i)
                return (p, slots, key), None

            return jax.lax.scan(body, (p, slots, key), plan)[0]

        self._run = jax.jit(run, donate_argnums=(0, 1))

    def steps(self, count: int) -> None:
        """See ``Arm``."""
        import jax

        epochs = -(-count // (self.rows // self.case.batch))
        whole = self.rows // self.case.batch * self.case.batch
        plan = np.concatenate([self.rng.permutation(self.rows)[:whole] for _ in range(epochs)])
        plan = plan.reshape(-1, self.case.batch)[:count]
        state = self._run(self.parameters, self.slots, self.settings, self.key, plan)
        self.parameters, self.slots, self.key = jax.block_until_ready(state)

    def scores(self) -> list[float]:
        """See ``Arm``."""
        import jax

        out = jax.vmap(lambda p: self._forward(p, self.valid, None, None))(self.parameters)
        return score(self.case, np.asarray(out), self.truth)


def _jax_sgd(p: Any, velocity: Any, g: Any, h: Any) -> Any:
    import jax

    velocity = jax.tree.map(lambda v, g, p: h["momentum"] * v + g + h["wd"] * p, velocity, g, p)
    return jax.tree.map(lambda p, v: p - h["lr"] * v, p, velocity), velocity


def _jax_adamw(p: Any, slots: Any, g: Any, h: Any) -> Any:
    import jax
    import jax.numpy as jnp

    mean, square, t = slots
    t = t + 1
    mean = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, mean, g)
    square = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, square, g)

    def new(p: Any, m: Any, v: Any) -> Any:
        moved = (m / (1 - 0.9**t)) / (jnp.sqrt(v / (1 - 0.999**t)) + 1e-8)
        return p * (1 - h["lr"] * h["wd"]) - h["lr"] * moved

    return jax.tree.map(new, p, mean, square), (mean, square, t)


def jax_parameters(case: Case, count: int, rng: np.random.Generator) -> Any:
    """Torch's default initialization, for ``count`` networks."""
    import jax.numpy as jnp

    def linear(a: int, b: int) -> dict[str, Any]:
        bound = a**-0.5
        return {
            "w": jnp.asarray(rng.uniform(-bound, bound, (count, a, b)), jnp.float32),
            "b": jnp.asarray(rng.uniform(-bound, bound, (count, b)), jnp.float32),
        }

    def conv(i: int, o: int) -> dict[str, Any]:
        bound = (i * 25) ** -0.5
        return {
            "w": jnp.asarray(rng.uniform(-bound, bound, (count, o, i, 5, 5)), jnp.float32),
            "b": jnp.asarray(rng.uniform(-bound, bound, (count, o)), jnp.float32),
        }

    if case.name == "digits":
        return [linear(64, 64), linear(64, 64), linear(64, 10)]
    if case.name == "mnist":
        return [linear(784, 100), linear(100, 10)]
    if case.name == "cnn":
        return [conv(1, 20), conv(20, 40), linear(640, 100), linear(100, 10)]
    table = jnp.asarray(rng.normal(size=(count, 70, 8)), jnp.float32)
    return [linear(25, 128), linear(128, 128), linear(128, 1), table]


def jax_forward(case: Case) -> Any:
    """One network's outputs; without a key nothing is dropped."""
    import jax
    import jax.numpy as jnp

    def drop(x: Any, rate: Any, key: Any) -> Any:
        return x if key is None else jnp.where(jax.random.uniform(key, x.shape) >= rate, x / (1 - rate), 0.0)

    def dense(layers: Any, x: Any, rate: Any, key: Any, dropped: int) -> Any:
        for i, layer in enumerate(layers):
            x = x @ layer["w"] + layer["b"]
            if i < len(layers) - 1:
                x = jax.nn.relu(x)
                if i < dropped and key is not None:
                    key, own = jax.random.split(key)
                    x = drop(x, rate, own)
        return x

    def block(layer: Any, x: Any) -> Any:
        x = jax.lax.conv(x, layer["w"], (1, 1), "VALID") + layer["b"][:, None, None]
        return jax.nn.relu(jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 1, 2, 2), (1, 1, 2, 2), "VALID"))

    def forward(p: Any, inputs: Any, rate: Any, key: Any) -> Any:
        if case.name == "cnn":
            x = block(p[1], block(p[0], inputs[0]))
            return dense(p[2:], x.reshape(len(x), -1), rate, None, 0)
        if case.name == "houses":
            return dense(p[:3], jnp.concatenate([inputs[0], p[3][inputs[1]]], 1), rate, key, 1)
        return dense(p, inputs[0], rate, key if case.dropout else None, 2)

    return forward


def score(case: Case, outputs: np.ndarray, truth: np.ndarray) -> list[float]:
    """Accuracy of each network, or R²."""
    if case.regression:
        rest = ((outputs[:, :, 0] - truth) ** 2).mean(1)
        return [float(v) for v in 1 - rest / truth.var()]
    return [float(v) for v in (outputs.argmax(-1) == truth).mean(1)]
