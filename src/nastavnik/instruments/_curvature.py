"""Second order: the steepest curvature of the loss and its trace, from products with the Hessian."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np
import torch
from torch.func import grad, jvp

from nastavnik.instruments._norms import Tensors
from nastavnik.instruments._sight import Sight

Measured = dict[str, torch.Tensor]
_STEPS = 4


def curvature(sight: Sight, steps: int = _STEPS) -> Measured:
    """The Hessian's largest eigenvalue (``largest``) and an estimate of its trace (``trace``).

    Lanczos with full orthogonalization from a fixed vector of random signs: ``steps`` products with the Hessian. The
    largest eigenvalue is a lower bound that is exact when ``steps`` is the number of parameters; the trace is
    Hutchinson's estimate from that one vector, exact for a diagonal Hessian.
    """
    product, size = hessian_product(sight)
    first = next(iter(sight.moment.before.values()))
    vector = torch.from_numpy(random_signs(size) / np.float32(size**0.5)).to(device=first.device, dtype=first.dtype)
    vector = vector / vector.square().sum().sqrt()
    basis, diagonal, beside = [vector], [], []
    for step in range(min(steps, size)):
        image = product(basis[-1])
        diagonal.append((image * basis[-1]).sum())
        if step == min(steps, size) - 1:
            break
        known = torch.stack(basis)
        for _ in range(2):  # twice is enough (Kahan, Parlett)
            image = image - known.T @ (known @ image)
        length = image.square().sum().sqrt()
        beside.append(length)
        basis.append(image / length.clamp(min=1e-20))
    matrix = torch.diag(torch.stack(diagonal))
    if beside:
        off = torch.diag(torch.stack(beside), 1)
        matrix = matrix + off + off.T
    size_of = matrix.abs().amax().clamp(min=1e-30)  # scaled, and in float64: then the few eigenvalues always converge
    scaled = (matrix / size_of).double().nan_to_num(nan=0.0, posinf=0.0, neginf=0.0)
    largest = torch.linalg.eigvalsh(scaled)[-1].to(matrix.dtype) * size_of
    return {"largest": largest, "trace": diagonal[0] * size}


@lru_cache(maxsize=4)
def random_signs(size: int) -> np.ndarray:
    """The same signs for every network of this size; numpy's, as vmap would have torch's own draws its way."""
    return (2 * np.random.default_rng(0).integers(0, 2, size, dtype=np.int8) - 1).astype(np.float32)


def hessian_product(sight: Sight) -> tuple[Callable[[torch.Tensor], torch.Tensor], int]:
    """The function v [P] -> H v of the first rows' mean loss in evaluation mode, and P."""
    before = sight.moment.before
    sizes = [p.numel() for p in before.values()]

    def unflat(v: torch.Tensor) -> Tensors:
        parts = torch.split(v, sizes)
        return {name: part.reshape(before[name].shape) for name, part in zip(before, parts, strict=True)}

    def flat(tensors: Tensors) -> torch.Tensor:
        return torch.cat([tensors[name].reshape(-1) for name in before])

    if not sight.alone:
        return lambda v: flat(jvp(grad(sight.loss), (before,), (unflat(v),))[1]), sum(sizes)
    with torch.enable_grad():
        leaves = {name: p.detach().requires_grad_() for name, p in before.items()}
        found = torch.autograd.grad(sight.loss(leaves), list(leaves.values()), create_graph=True, allow_unused=True)
        curved = [(g, n) for g, n in zip(found, leaves, strict=True) if g is not None and g.requires_grad]

    def product(v: torch.Tensor) -> torch.Tensor:
        along = unflat(v)
        with torch.enable_grad():
            if not curved:
                return torch.zeros_like(v)
            slope = torch.stack([(g * along[n]).sum() for g, n in curved]).sum()  # along v; its gradient is H v
            image = torch.autograd.grad(slope, list(leaves.values()), retain_graph=True, allow_unused=True)
        return flat({n: torch.zeros_like(before[n]) if t is None else t for n, t in zip(leaves, image, strict=True)})

    return product, sum(sizes)
