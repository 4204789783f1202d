"""Adam and its nearest relatives."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch

from nastavnik.training.optimizers._base import FirstOrder, Tensors

_EPSILON = 1e-8
_FORMULA = "m = beta1 * m + (1 - beta1) * g; v = beta2 * v + (1 - beta2) * g^2; w = w - rate * m' / (sqrt(v') + 1e-8)"


class Adam(FirstOrder):
    """Running means of the gradient and of its square, both corrected for their start at zero.

    As ``torch.optim.Adam``.
    """

    name = "adam"
    formula = f"{_FORMULA}; m' = m / (1 - beta1^t), v' = v / (1 - beta2^t); decay is added to g"
    prefer = "to repeat published work; AdamW decays better"
    source = "Kingma & Ba 2015"
    settings: ClassVar[Mapping[str, float]] = {
        "learning_rate": 1e-3,
        "weight_decay": 0.0,
        "beta1": 0.9,
        "beta2": 0.999,
    }
    slots = ("mean", "square")
    decay_scale = 0.01
    elementwise = True

    def shared(self, steps: torch.Tensor, s: Tensors) -> Tensors:
        """η m̂ / (√v̂ + ε) = (η r / (1 - β₁ᵗ)) · m / (√v + ε r) with r = √(1 - β₂ᵗ): fewer passes over the weights."""
        root = (1 - s["beta2"] ** steps).sqrt()
        return {"step": -s["learning_rate"] * root / (1 - s["beta1"] ** steps), "epsilon": _EPSILON * root}

    def rule(
        self, w: torch.Tensor, g: torch.Tensor, slots: Tensors, s: Tensors, common: Tensors
    ) -> tuple[torch.Tensor, Tensors]:
        """See ``formula``."""
        m = torch.lerp(slots["mean"], g, 1 - s["beta1"])
        v = torch.lerp(slots["square"], g * g, 1 - s["beta2"])
        return torch.addcmul(w, m / (v.sqrt() + common["epsilon"]), common["step"]), {"mean": m, "square": v}


class AdamW(Adam):
    """Adam whose weight decay shrinks the weights themselves, apart from the gradient.

    As ``torch.optim.AdamW``.
    """

    name = "adamw"
    formula = f"w = w * (1 - rate * weight_decay); then {_FORMULA}; m' = m / (1 - beta1^t), v' = v / (1 - beta2^t)"
    prefer = "by default"
    source = "Loshchilov & Hutter 2019"
    settings: ClassVar[Mapping[str, float]] = {**Adam.settings, "weight_decay": 0.01}
    coupled = False
    decay_scale = 1.0


class NAdam(FirstOrder):
    """Adam that looks ahead as Nesterov's momentum does.

    As ``torch.optim.NAdam``.
    """

    name = "nadam"
    formula = (
        "mu_t = beta1 * (1 - 0.96^(0.004 t) / 2), P_t = mu_1 ... mu_t; "
        "w = w - rate * ((1 - mu_t) / (1 - P_t) * g + mu_(t+1) / (1 - P_(t+1)) * m) / (sqrt(v') + 1e-8)"
    )
    prefer = "instead of Adam where the gradient is little noisy"
    source = "Dozat 2016"
    settings: ClassVar[Mapping[str, float]] = {**Adam.settings, "learning_rate": 2e-3, "momentum_decay": 4e-3}
    slots = ("mean", "square", "product")
    decay_scale = 0.01

    def start(self, slot: str, parameter: torch.Tensor) -> torch.Tensor:
        """The product of all momenta starts at one."""
        return parameter.new_ones(()) if slot == "product" else torch.zeros_like(parameter)

    def shared(self, steps: torch.Tensor, s: Tensors) -> Tensors:
        """This step's momentum, the next one's, and the correction of the square."""

        def momentum(t: torch.Tensor) -> torch.Tensor:
            return s["beta1"] * (1 - 0.5 * 0.96 ** (t * s["momentum_decay"]))

        return {"now": momentum(steps), "next": momentum(steps + 1), "correction": 1 - s["beta2"] ** steps}

    def rule(
        self, w: torch.Tensor, g: torch.Tensor, slots: Tensors, s: Tensors, common: Tensors
    ) -> tuple[torch.Tensor, Tensors]:
        """See ``formula``."""
        product = slots["product"] * common["now"]
        m = torch.lerp(slots["mean"], g, 1 - s["beta1"])
        v = torch.lerp(slots["square"], g * g, 1 - s["beta2"])
        of_g = (1 - common["now"]) / (1 - product)
        of_m = common["next"] / (1 - product * common["next"])
        ahead = (of_g * g + of_m * m) / ((v / common["correction"]).sqrt() + _EPSILON)
        return w - s["learning_rate"] * ahead, {"mean": m, "square": v, "product": product}


class RAdam(FirstOrder):
    """Adam that takes plain momentum steps until its mean of squares can be trusted.

    As ``torch.optim.RAdam``.
    """

    name = "radam"
    formula = (
        "r_inf = 2 / (1 - beta2) - 1, r = r_inf - 2 t beta2^t / (1 - beta2^t); r > 5: w = w - rate * m' * "
        "sqrt((r - 4)(r - 2) r_inf / ((r_inf - 4)(r_inf - 2) r)) / sqrt(v'), else w = w - rate * m'"
    )
    prefer = "instead of AdamW with a warm-up, when the warm-up's length is not to be chosen"
    source = "Liu et al. 2020"
    settings: ClassVar[Mapping[str, float]] = Adam.settings
    slots = ("mean", "square")
    decay_scale = 0.01

    def shared(self, steps: torch.Tensor, s: Tensors) -> Tensors:
        """Corrections, and whether the variance is tractable."""
        correction = 1 - s["beta2"] ** steps
        most = 2 / (1 - s["beta2"]) - 1
        r = most - 2 * steps * s["beta2"] ** steps / correction
        trusted = r > 5
        safe = torch.where(trusted, r, torch.full_like(r, 6.0))
        rectified = ((safe - 4) * (safe - 2) * most / ((most - 4) * (most - 2) * safe)).clamp(min=0).sqrt()
        step = s["learning_rate"] / (1 - s["beta1"] ** steps)
        return {"step": step, "adaptive": step * rectified * correction.sqrt(), "trusted": trusted}

    def rule(
        self, w: torch.Tensor, g: torch.Tensor, slots: Tensors, s: Tensors, common: Tensors
    ) -> tuple[torch.Tensor, Tensors]:
        """See ``formula``."""
        m = torch.lerp(slots["mean"], g, 1 - s["beta1"])
        v = torch.lerp(slots["square"], g * g, 1 - s["beta2"])
        change = torch.where(common["trusted"], common["adaptive"] * m / (v.sqrt() + _EPSILON), common["step"] * m)
        return w - change, {"mean": m, "square": v}


class Adamax(FirstOrder):
    """Adam by the largest gradient instead of the root of the mean square.

    As ``torch.optim.Adamax``.
    """

    name = "adamax"
    formula = "m = beta1 * m + (1 - beta1) * g; u = max(beta2 * u, |g| + 1e-8); w = w - rate / (1 - beta1^t) * m / u"
    prefer = "for embeddings, whose gradients are mostly zero"
    source = "Kingma & Ba 2015, section 7"
    settings: ClassVar[Mapping[str, float]] = {**Adam.settings, "learning_rate": 2e-3}
    slots = ("mean", "largest")
    decay_scale = 0.01

    def shared(self, steps: torch.Tensor, s: Tensors) -> Tensors:
        """The corrected rate."""
        return {"step": s["learning_rate"] / (1 - s["beta1"] ** steps)}

    def rule(
        self, w: torch.Tensor, g: torch.Tensor, slots: Tensors, s: Tensors, common: Tensors
    ) -> tuple[torch.Tensor, Tensors]:
        """See ``formula``."""
        m = torch.lerp(slots["mean"], g, 1 - s["beta1"])
        u = torch.maximum(s["beta2"] * slots["largest"], g.abs() + _EPSILON)
        return w - common["step"] * m / u, {"mean": m, "largest": u}
