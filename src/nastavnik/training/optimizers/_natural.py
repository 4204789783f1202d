"""Natural gradient: steps of equal length in what the network says, not in its weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch.func import jacrev

from nastavnik.recipe import Value
from nastavnik.training.optimizers._base import Problem, Tensors
from nastavnik.training.optimizers._second_order import CHUNK, Flat, SecondOrder, penalty_curvature, solved


class NaturalGradient(SecondOrder):
    """Gradient descent measured by the Fisher information: here the second moment of the rows' own gradients.

    ``fisher`` is "full", or "blocks": one block for each parameter tensor. This *empirical* Fisher uses the targets
    seen, not the model's own; near a good fit both agree. The model's Fisher is ``gauss_newton``.
    """

    name = "natural_gradient"
    formula = "F = mean over rows of g_i g_i'; w = w - rate * (F + damping * I)^-1 g"
    prefer = "to study geometry on small networks; gauss_newton where the model's own Fisher is wanted"
    source = "Amari 1998; Kunstner et al. 2019 on the empirical Fisher"
    settings: ClassVar[Mapping[str, float]] = {"learning_rate": 0.1, "damping": 1e-2, "memory": 0.25}
    choices: ClassVar[Mapping[str, tuple[Value, ...]]] = {"fisher": ("full", "blocks")}

    def init(self, parameters: Tensors) -> Tensors:
        """Nothing is remembered."""
        return {}

    def step(self, problem: Problem, state: Tensors, parameters: Tensors, settings: Tensors) -> tuple[Tensors, Tensors]:
        """See ``formula``."""
        flat = Flat(parameters)
        x, g = flat.join(parameters), flat.join(problem.gradients(parameters))
        rows = jacrev(lambda v: problem.row_losses(flat.split(v)), chunk_size=CHUNK)(x)  # [n, P]
        sizes = [len(x)] if self.options["fisher"] == "full" else list(flat.sizes.values())
        damping = penalty_curvature(problem, flat, x).clamp(min=0) + settings["damping"].clamp(min=1e-12)
        parts = zip(torch.split(rows, sizes, dim=1), torch.split(g, sizes), torch.split(damping, sizes), strict=True)
        moves = [_natural(part, own, damp) for part, own, damp in parts]
        return flat.split(x - settings["learning_rate"] * torch.cat(moves)), {}

    def bytes(self, parameters: int, rows: int, outputs: int, itemsize: int = 4) -> int:
        """The rows' gradients, and the smaller of the two Gram matrices."""
        return itemsize * (3 * rows * parameters + 3 * min(rows, parameters) ** 2)


def _natural(rows: torch.Tensor, g: torch.Tensor, damping: torch.Tensor) -> torch.Tensor:
    """(RᵀR / n + D)⁻¹ g with a diagonal D [P], in the smaller of the two spaces (Woodbury)."""
    n, size = rows.shape
    if size <= n:
        return solved(rows.T @ rows / n + torch.diag(damping), g)
    scaled = rows / damping
    inner = rows @ scaled.T / n + torch.eye(n, dtype=rows.dtype, device=rows.device)
    return g / damping - scaled.T @ solved(inner, scaled @ g) / n
