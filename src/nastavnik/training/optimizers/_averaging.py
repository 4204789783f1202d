"""Wrappers that average weights, or look where the step leads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch

from nastavnik.training.optimizers._base import Problem, Tensors
from nastavnik.training.optimizers._wrapper import Wrapper, length


class Lookahead(Wrapper):
    """Every k steps pulls slow weights towards the fast ones and starts again from there."""

    name = "lookahead"
    formula = "every k steps: slow = slow + lookahead_share * (fast - slow), fast = slow"
    prefer = "to make a restless optimizer steadier"
    source = "Zhang et al. 2019"
    settings: ClassVar[Mapping[str, float]] = {"lookahead": 5.0, "lookahead_share": 0.5}

    def slots_of(self, parameters: Tensors) -> Tensors:
        """Steps since the last pull, and the slow weights."""
        some = next(iter(parameters.values()))
        return {"count": some.new_zeros(()), **{f"slow.{n}": p.clone() for n, p in parameters.items()}}

    def update(
        self, gradients: Tensors, state: Tensors, parameters: Tensors, settings: Tensors
    ) -> tuple[Tensors, Tensors]:
        """See ``formula``."""
        own = self.own(state)
        fast, inner = self.inner.update(gradients, state, parameters, settings)
        count = own["count"] + 1
        due = count >= settings["lookahead"]
        kept = {"count": torch.where(due, torch.zeros_like(count), count)}
        new = {}
        for n, w in fast.items():
            slow = own[f"slow.{n}"]
            pulled = torch.where(due, torch.lerp(slow, w, settings["lookahead_share"]), slow)
            kept[f"slow.{n}"] = pulled
            new[n] = torch.where(due, pulled, w)
        return new, self.joined(inner, kept)


class Ema(Wrapper):
    """Judges and delivers an exponential mean of the weights (corrected for its start), training goes on without it.

    Batch normalization's running statistics stay those of the weights in training.
    """

    name = "ema"
    formula = "a = d * a + (1 - d) * w; evaluated at a / (1 - d^t)"
    prefer = "nearly always for long noisy trainings: it costs one copy of the weights"
    source = "Polyak & Juditsky 1992; Tarvainen & Valpola 2017"
    settings: ClassVar[Mapping[str, float]] = {"ema": 0.99}

    def slots_of(self, parameters: Tensors) -> Tensors:
        """What is left of the start, and the means."""
        some = next(iter(parameters.values()))
        return {"left": some.new_ones(()), **{f"mean.{n}": torch.zeros_like(p) for n, p in parameters.items()}}

    def update(
        self, gradients: Tensors, state: Tensors, parameters: Tensors, settings: Tensors
    ) -> tuple[Tensors, Tensors]:
        """See ``formula``."""
        own = self.own(state)
        new, inner = self.inner.update(gradients, state, parameters, settings)
        share = 1 - settings["ema"]
        kept = {"left": own["left"] * settings["ema"]}
        kept |= {f"mean.{n}": torch.lerp(own[f"mean.{n}"], w, share) for n, w in new.items()}
        return new, self.joined(inner, kept)

    @property
    def averages(self) -> bool:
        """Yes."""
        return True

    def evaluated(self, state: Tensors, parameters: Tensors, settings: Tensors) -> Tensors:
        """The corrected means; before the first step, the weights."""
        own = self.own(state)
        weight = 1 - own["left"]
        safe = torch.where(weight > 0, weight, torch.ones_like(weight))
        return {n: torch.where(weight > 0, own[f"mean.{n}"] / safe, w) for n, w in parameters.items()}


class Swa(Wrapper):
    """Judges and delivers the plain mean of the weights since a share of the training.

    Batch normalization's running statistics stay those of the weights in training.
    """

    name = "swa"
    formula = "from progress >= start: a = a + (w - a) / n; evaluated at a"
    prefer = "with a constant or cyclical rate in the last quarter: flat minima at no cost"
    source = "Izmailov et al. 2018"
    settings: ClassVar[Mapping[str, float]] = {"swa": 0.75}

    def slots_of(self, parameters: Tensors) -> Tensors:
        """How many were averaged, and their mean."""
        some = next(iter(parameters.values()))
        return {"count": some.new_zeros(()), **{f"mean.{n}": torch.zeros_like(p) for n, p in parameters.items()}}

    def update(
        self, gradients: Tensors, state: Tensors, parameters: Tensors, settings: Tensors
    ) -> tuple[Tensors, Tensors]:
        """See ``formula``."""
        own = self.own(state)
        new, inner = self.inner.update(gradients, state, parameters, settings)
        active = (settings["progress"] >= settings["swa"]).to(own["count"].dtype)
        count = own["count"] + active
        share = active / count.clamp(min=1.0)
        kept = {"count": count, **{f"mean.{n}": torch.lerp(own[f"mean.{n}"], w, share) for n, w in new.items()}}
        return new, self.joined(inner, kept)

    @property
    def averages(self) -> bool:
        """Yes."""
        return True

    def evaluated(self, state: Tensors, parameters: Tensors, settings: Tensors) -> Tensors:
        """The mean, once there is one."""
        own = self.own(state)
        return {n: torch.where(own["count"] > 0, own[f"mean.{n}"], w) for n, w in parameters.items()}


class Sam(Wrapper):
    """Takes the gradient at the worst point nearby, which leads to flat minima; two gradients a step."""

    name = "sam"
    formula = "g = gradient at w + rho * g0 / |g0|, where g0 = gradient at w"
    prefer = "when generalization matters more than twice the time"
    source = "Foret et al. 2021"
    settings: ClassVar[Mapping[str, float]] = {"sam": 0.05}

    def step(self, problem: Problem, state: Tensors, parameters: Tensors, settings: Tensors) -> tuple[Tensors, Tensors]:
        """See ``formula``."""
        here = problem.gradients(parameters)
        far = settings["sam"] / length(here).clamp(min=1e-12)
        there = problem.gradients({n: w + far * here[n] for n, w in parameters.items()})
        return self.update(there, state, parameters, settings)


class SwitchToSgd(Wrapper):
    """Goes over from an adaptive optimizer to momentum at a share of the training, at the rate the steps so far imply.

    That rate is the one at which a gradient step, projected on the optimizer's own step, has its length; its mean,
    relative to the learning rate, is kept with the memory ``switch_memory`` and corrected for its start.
    """

    name = "switch_to_sgd"
    formula = "r = -p'p / (p'g) for the step p; after the switch: v = 0.9 v + g, w = w - (1 - 0.9) * mean(r) * v"
    prefer = "when Adam is fast at first and generalizes worse than SGD at the end"
    source = "Keskar & Socher 2017"
    settings: ClassVar[Mapping[str, float]] = {"switch_to_sgd": 0.5, "switch_memory": 0.99}
    _MOMENTUM = 0.9

    def slots_of(self, parameters: Tensors) -> Tensors:
        """The mean ratio and what is left of its start, and velocities."""
        some = next(iter(parameters.values()))
        return {
            "ratio": some.new_zeros(()),
            "left": some.new_ones(()),
            **{f"velocity.{n}": torch.zeros_like(p) for n, p in parameters.items()},
        }

    def update(
        self, gradients: Tensors, state: Tensors, parameters: Tensors, settings: Tensors
    ) -> tuple[Tensors, Tensors]:
        """See ``formula``."""
        own = self.own(state)
        adaptive, inner = self.inner.update(gradients, state, parameters, settings)
        late = (settings["progress"] >= settings["switch_to_sgd"]) & (own["left"] < 1)  # and a rate is known
        rate = settings["learning_rate"].clamp(min=1e-30)
        moves = {n: w - parameters[n] for n, w in adaptive.items()}
        along = -_dot(moves, gradients)
        useful = (along > 0) & ~late
        safe = torch.where(along > 0, along, torch.ones_like(along))
        ratio = torch.where(useful, length(moves) ** 2 / safe / rate, own["ratio"])
        share = torch.where(useful, 1 - settings["switch_memory"], torch.zeros_like(ratio))
        mean = torch.lerp(own["ratio"], ratio, share)
        left = own["left"] * (1 - share)
        own_rate = rate * mean / (1 - left).clamp(min=1e-6) * (1 - self._MOMENTUM)
        kept = {"ratio": mean, "left": left}
        new = {}
        for n, w in parameters.items():
            v = torch.where(late, self._MOMENTUM * own[f"velocity.{n}"] + gradients[n], own[f"velocity.{n}"])
            kept[f"velocity.{n}"] = v
            new[n] = torch.where(late, w - own_rate * v, adaptive[n])
        return new, self.joined(inner, kept)


def _dot(a: Tensors, b: Tensors) -> torch.Tensor:
    return torch.stack([(a[n] * b[n]).sum() for n in a]).sum()
