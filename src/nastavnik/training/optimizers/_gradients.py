"""Wrappers that change the gradient on its way to the optimizer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch

from nastavnik.noise import Noise
from nastavnik.training.optimizers._base import Tensors
from nastavnik.training.optimizers._wrapper import Wrapper, length


class ClipNorm(Wrapper):
    """Shortens a gradient that is too long as a whole, keeping its direction."""

    name = "clip_norm"
    formula = "g = g * min(1, c / |g|)"
    prefer = "for recurrent networks and whenever rare batches throw training off"
    source = "Pascanu et al. 2013"
    settings: ClassVar[Mapping[str, float]] = {"clip_norm": 1.0}

    def update(
        self, gradients: Tensors, state: Tensors, parameters: Tensors, settings: Tensors
    ) -> tuple[Tensors, Tensors]:
        """See ``formula``."""
        factor = (settings["clip_norm"] / length(gradients).clamp(min=1e-30)).clamp(max=1.0)
        return self.inner.update({n: g * factor for n, g in gradients.items()}, state, parameters, settings)


class ClipValue(Wrapper):
    """Cuts each component of the gradient."""

    name = "clip_value"
    formula = "g_i = min(c, max(-c, g_i))"
    prefer = "against single exploding components; clip_norm keeps the direction"
    source = "torch.nn.utils.clip_grad_value_"
    settings: ClassVar[Mapping[str, float]] = {"clip_value": 1.0}

    def update(
        self, gradients: Tensors, state: Tensors, parameters: Tensors, settings: Tensors
    ) -> tuple[Tensors, Tensors]:
        """See ``formula``."""
        c = settings["clip_value"]
        clipped = {n: torch.minimum(torch.maximum(g, -c), c) for n, g in gradients.items()}
        return self.inner.update(clipped, state, parameters, settings)


class ClipUnit(Wrapper):
    """Shortens each unit's gradient to a share of the length of that unit's weights (adaptive clipping)."""

    name = "clip_unit"
    formula = "g_row = g_row * min(1, c * max(|w_row|, 1e-3) / |g_row|)"
    prefer = "for deep networks without normalization"
    source = "Brock et al. 2021"
    settings: ClassVar[Mapping[str, float]] = {"clip_unit": 0.1}

    def update(
        self, gradients: Tensors, state: Tensors, parameters: Tensors, settings: Tensors
    ) -> tuple[Tensors, Tensors]:
        """See ``formula``; vectors are left alone."""
        c = settings["clip_unit"]
        clipped = {}
        for name, g in gradients.items():
            clipped[name] = g
            if g.ndim >= 2:
                most = c * _rows(parameters[name]).clamp(min=1e-3)
                clipped[name] = g * (most / _rows(g).clamp(min=1e-30)).clamp(max=1.0)
        return self.inner.update(clipped, state, parameters, settings)


class GradientNoise(Wrapper):
    """Adds normal noise that fades: a way out of poor regions early in training."""

    name = "gradient_noise"
    formula = "g = g + N(0, eta / (1 + t)^gradient_noise_decay)"
    prefer = "for very deep or awkwardly initialized networks"
    source = "Neelakantan et al. 2015"
    settings: ClassVar[Mapping[str, float]] = {"gradient_noise": 0.1, "gradient_noise_decay": 0.55}
    noisy = True

    def slots_of(self, parameters: Tensors) -> Tensors:
        """The number of steps."""
        return {"steps": next(iter(parameters.values())).new_zeros(())}

    def update(
        self, gradients: Tensors, state: Tensors, parameters: Tensors, settings: Tensors
    ) -> tuple[Tensors, Tensors]:
        """See ``formula``."""
        steps = self.own(state)["steps"]
        deviation = (settings["gradient_noise"] / (1 + steps) ** settings["gradient_noise_decay"]).sqrt()
        noise = Noise(settings["noise"], steps)
        noisy = {n: g + deviation * noise.normal(f"gradient {n}", g) for n, g in gradients.items()}
        parameters, inner = self.inner.update(noisy, state, parameters, settings)
        return parameters, self.joined(inner, {"steps": steps + 1})


class Grokfast(Wrapper):
    """Makes the slow part of the gradient larger, which brings delayed generalization forward."""

    name = "grokfast"
    formula = "s = grokfast_smoothing * s + (1 - grokfast_smoothing) * g; g = g + grokfast * s"
    prefer = "for small algorithmic data, where generalization comes long after memorization"
    source = "Lee et al. 2024"
    settings: ClassVar[Mapping[str, float]] = {"grokfast": 2.0, "grokfast_smoothing": 0.98}

    def slots_of(self, parameters: Tensors) -> Tensors:
        """The slow part of each gradient; whether it has begun."""
        some = next(iter(parameters.values()))
        return {"begun": some.new_zeros(()), **{f"slow.{n}": torch.zeros_like(p) for n, p in parameters.items()}}

    def update(
        self, gradients: Tensors, state: Tensors, parameters: Tensors, settings: Tensors
    ) -> tuple[Tensors, Tensors]:
        """See ``formula``; the slow part begins as the first gradient."""
        own = self.own(state)
        share = torch.where(own["begun"] > 0, 1 - settings["grokfast_smoothing"], torch.ones_like(own["begun"]))
        slow = {n: torch.lerp(own[f"slow.{n}"], g, share) for n, g in gradients.items()}
        changed = {n: g + settings["grokfast"] * slow[n] for n, g in gradients.items()}
        parameters, inner = self.inner.update(changed, state, parameters, settings)
        kept = {"begun": torch.ones_like(own["begun"]), **{f"slow.{n}": t for n, t in slow.items()}}
        return parameters, self.joined(inner, kept)


class Accumulate(Wrapper):
    """Moves only every n-th step, by the mean of the last n gradients: a larger batch in the memory of a small one."""

    name = "accumulate"
    formula = "every n-th step: one step of the inner optimizer with the mean of the last n gradients"
    prefer = "when the batch that trains well does not fit into memory"
    source = "common practice"
    settings: ClassVar[Mapping[str, float]] = {"accumulate": 4.0}

    def slots_of(self, parameters: Tensors) -> Tensors:
        """How many are waiting, and their sum."""
        some = next(iter(parameters.values()))
        return {"count": some.new_zeros(()), **{f"sum.{n}": torch.zeros_like(p) for n, p in parameters.items()}}

    def update(
        self, gradients: Tensors, state: Tensors, parameters: Tensors, settings: Tensors
    ) -> tuple[Tensors, Tensors]:
        """See ``formula``."""
        own = self.own(state)
        count = own["count"] + 1
        total = {n: own[f"sum.{n}"] + g for n, g in gradients.items()}
        due = count >= settings["accumulate"]
        mean = {n: t / count for n, t in total.items()}
        moved, inner = self.inner.update(mean, state, parameters, settings)
        kept = {"count": torch.where(due, torch.zeros_like(count), count)}
        kept |= {f"sum.{n}": torch.where(due, torch.zeros_like(t), t) for n, t in total.items()}
        inner = {n: torch.where(due, t, state[n]) for n, t in inner.items()}
        return {n: torch.where(due, w, parameters[n]) for n, w in moved.items()}, self.joined(inner, kept)


def _rows(t: torch.Tensor) -> torch.Tensor:
    """Length of each row, its shape kept for broadcasting."""
    return t.flatten(1).square().sum(1).sqrt().reshape(-1, *[1] * (t.ndim - 1))
