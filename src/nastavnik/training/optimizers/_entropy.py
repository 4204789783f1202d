"""A wrapper that keeps account of what plain descent does to the entropy of restarts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch.func import grad, vjp

from nastavnik.errors import UserError
from nastavnik.noise import Noise
from nastavnik.recipe import Value
from nastavnik.training.optimizers._base import FirstOrder, Problem, Tensors, decays
from nastavnik.training.optimizers._wrapper import Wrapper


class Entropy(Wrapper):
    """Sums the change of entropy (nats) of plain descent's steps, by which ``stopping.watch=evidence`` stops.

    One random vector a step, two products with the objective's second derivatives. The value is the share that is
    counted, 0 for none.
    """

    name = "entropy"
    formula = "S = S + entropy * (-rate * v'Hv - rate^2 * v'HHv), v ~ N(0, I)"
    prefer = "to stop plain descent (sgd, momentum=0) on small data without validation rows"
    source = "Maclaurin, Duvenaud & Adams 2015"
    settings: ClassVar[Mapping[str, float]] = {"entropy": 1.0}
    noisy = True
    around: ClassVar[Mapping[str, Value]] = {"name": "sgd", "momentum": 0.0}

    def __init__(self, inner: FirstOrder | Wrapper, options: Mapping[str, Value]) -> None:
        super().__init__(inner, options)
        if isinstance(inner, Wrapper) or not hasattr(inner, "ahead") or float(options.get("momentum", 0.9)) != 0:
            raise UserError(
                "optimizer.entropy follows plain descent alone; take optimizer.name=sgd with optimizer.momentum=0 and "
                "no other wrapper inside it"
            )

    def slots_of(self, parameters: Tensors) -> Tensors:
        """The steps so far, and the sum of changes."""
        some = next(iter(parameters.values()))
        return {"count": some.new_zeros(()), "total": some.new_zeros(())}

    def step(self, problem: Problem, state: Tensors, parameters: Tensors, settings: Tensors) -> tuple[Tensors, Tensors]:
        """See ``formula``."""
        new, inner = self.inner.step(problem, state, parameters, settings)  # whose gradient is the one that is seen
        own = self.own(state)
        noise = Noise(settings["noise"], own["count"].to(torch.int32))
        v = {n: noise.normal(f"entropy {n}", p) for n, p in parameters.items()}
        pull = vjp(grad(problem.objective), parameters)[1]

        def curved(u: Tensors) -> Tensors:
            h = pull(u)[0]
            return {n: t + settings["weight_decay"] * u[n] if decays(t) else t for n, t in h.items()}

        once = curved(v)
        twice = curved(once)
        rate = settings["learning_rate"]
        change = torch.stack([-rate * (v[n] * (once[n] + rate * twice[n])).sum() for n in v]).sum()
        kept = {"count": own["count"] + 1, "total": own["total"] + settings["entropy"] * change}
        return new, self.joined(inner, kept)
