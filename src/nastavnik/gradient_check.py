"""Derivatives held against central differences, in double precision."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils._pytree import tree_flatten_with_path, tree_map, tree_unflatten

_STEP = 1e-5  # ε with error ε² of central differences against rounding 1e-16 / ε
_MOST = 64  # elements looked at in one tensor


@dataclass(frozen=True)
class GradientCheck:
    """What was found: the largest error of a derivative, over the size of all derivatives of its tensor, and where."""

    error: float
    where: str
    derived: float
    measured: float
    looked_at: int
    tolerance: float

    @property
    def passed(self) -> bool:
        """Whether every derivative agreed within the tolerance."""
        return self.error <= self.tolerance

    def __bool__(self) -> bool:
        return self.passed

    def __str__(self) -> str:
        word = "agree" if self.passed else "DISAGREE"
        return (
            f"derivatives {word}: largest error {self.error:.2g} at {self.where} "
            f"(derived {self.derived:.6g}, measured {self.measured:.6g}; {self.looked_at} looked at)"
        )


def check_gradients(
    module: nn.Module | Callable[..., torch.Tensor],
    inputs: torch.Tensor | Sequence[Any],
    *,
    tolerance: float = 1e-6,
    seed: int = 0,
) -> GradientCheck:
    """Compare autograd's derivatives of any module, likelihood, loss or penalty with central differences.

    Args:
        module: a module, whose parameters are checked too, or a function; left as it is. It must give the same value
            when called twice (a likelihood's own noise is no obstacle, dropout in training mode is).
        inputs: what it takes: a tensor, or a sequence of tensors and of dicts and tuples of tensors. Those of
            floating point are checked, others are passed on.
        tolerance: of the largest error over the largest derivative of the same tensor (or 1e-3, if that is larger).
        seed: of the direction that a vector of outputs is projected on, and of the elements looked at (at most 64 of
            each tensor).

    Raises:
        ValueError: the value is not finite, two calls gave different values, or there is nothing to differentiate.

    Example:
        >>> bool(check_gradients(nn.Sequential(nn.Linear(3, 2), nn.Tanh()), torch.randn(5, 3)))
        True
    """
    generator = torch.Generator().manual_seed(seed)
    given = [inputs] if isinstance(inputs, torch.Tensor) else list(inputs)
    given = tree_map(_as_double, given)
    named: dict[str, torch.Tensor] = {}
    function = module
    if isinstance(module, nn.Module):
        function = copy.deepcopy(module).double()
        named |= {f"parameter {name}": p for name, p in function.named_parameters() if p.requires_grad}
    leaves, shape = tree_flatten_with_path(given)
    values = [leaf for _, leaf in leaves]
    for i, (path, leaf) in enumerate(leaves):
        if isinstance(leaf, torch.Tensor) and leaf.is_floating_point():
            values[i] = leaf.clone(memory_format=torch.contiguous_format).requires_grad_()
            named["input " + "".join(str(key) for key in path).lstrip(".")] = values[i]
    if not named:
        raise ValueError("there is nothing to differentiate: no parameters and no inputs of floating point")
    once = function(*tree_unflatten(values, shape))
    direction = torch.randn(once.shape, generator=generator, dtype=once.dtype) if once.ndim else torch.ones(())
    direction = direction.to(once.device)

    def value() -> torch.Tensor:
        return (function(*tree_unflatten(values, shape)) * direction).sum()

    with torch.no_grad():
        if not torch.isfinite(value()):
            raise ValueError("the value is not finite, so there is nothing to compare; look at the inputs")
        if not torch.equal(value(), value()):
            raise ValueError("two calls gave different values; put the module in evaluation mode or fix its noise")
    with torch.enable_grad():
        derived = torch.autograd.grad(value(), list(named.values()), allow_unused=True)
    return _compared(value, named, derived, tolerance, generator)


def _compared(
    value: Callable[[], torch.Tensor],
    named: dict[str, torch.Tensor],
    derived: Sequence[torch.Tensor | None],
    tolerance: float,
    generator: torch.Generator,
) -> GradientCheck:
    worst = GradientCheck(0.0, "nothing", 0.0, 0.0, 0, tolerance)
    looked_at = 0
    for (name, tensor), slope in zip(named.items(), derived, strict=True):
        chosen = torch.randperm(tensor.numel(), generator=generator)[:_MOST].tolist()
        exact = [0.0 if slope is None else float(slope.reshape(-1)[i]) for i in chosen]
        measured = [_difference(value, tensor, i) for i in chosen]
        looked_at += len(chosen)
        size = max([1e-3, *map(abs, exact), *map(abs, measured)])
        for i, a, b in zip(chosen, exact, measured, strict=True):
            if not abs(a - b) / size <= worst.error:
                worst = GradientCheck(abs(a - b) / size, f"{name}[{i}]", a, b, 0, tolerance)
    return GradientCheck(worst.error, worst.where, worst.derived, worst.measured, looked_at, tolerance)


@torch.no_grad()
def _difference(value: Callable[[], torch.Tensor], tensor: torch.Tensor, i: int) -> float:
    flat = tensor.data.view(-1)
    before = float(flat[i])
    step = _STEP * max(1.0, abs(before))
    ends = []
    for sign in (1, -1):
        flat[i] = before + sign * step
        ends.append(float(value()))
    flat[i] = before
    return (ends[0] - ends[1]) / (2 * step)


def _as_double(leaf: Any) -> Any:
    return leaf.detach().double() if isinstance(leaf, torch.Tensor) and leaf.is_floating_point() else leaf
