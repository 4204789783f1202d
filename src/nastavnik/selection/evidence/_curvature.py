"""Curvature of the likelihood: exact Hessians and generalized Gauss–Newton matrices.

Legend: n rows, o outputs, P weights. J [n, o, P] are the outputs' derivatives in the weights; Λ [n, o, o] the negative
log likelihood's second derivatives in the outputs, Λ = Σ_r R Rᵀ with R [r, n, o]. The generalized Gauss–Newton matrix
is Σ_n Jᵀ Λ J (Schraudolph 2002), in nats of the whole data set.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch.func import grad, jacrev

from nastavnik.errors import UserError
from nastavnik.selection.evidence._joint import Joint, batched
from nastavnik.training.optimizers import Tensors

_BYTES = 256 * 2**20  # of a Jacobian at a time


def check_curved(joint: Joint) -> None:
    """Refuse a likelihood without second derivatives.

    Raises:
        UserError: it has none.
    """
    if not joint.likelihood.curved:
        raise UserError(
            f"the likelihood {joint.likelihood.name} has no second derivative in the outputs, so no curvature; "
            "take langevin or description_length, or another likelihood"
        )


def backwards(
    function: Callable[[torch.Tensor], torch.Tensor], chunk: int | None = None
) -> Callable[..., torch.Tensor]:
    """``jacrev``; one output after the other where vmap cannot run a backward pass (a recurrent layer's)."""

    def derivatives(v: torch.Tensor) -> torch.Tensor:
        try:
            return jacrev(function, chunk_size=chunk)(v)
        except (UserError, torch.OutOfMemoryError):
            raise
        except Exception:  # if it is the module's own, it comes again
            return jacrev(function, chunk_size=1)(v)

    return derivatives


def jacobian(
    joint: Joint,
    w: torch.Tensor,
    constants: Tensors,
    inputs: tuple[torch.Tensor, ...],
    only: torch.Tensor | None = None,
) -> torch.Tensor:
    """J [n, o, P] of ONE network; one backward pass a row and output. ``only``: in the weights at these places."""
    start = w if only is None else w[only]

    def whole(v: torch.Tensor) -> torch.Tensor:
        return v if only is None else w.index_copy(0, only, v)

    def of_row(row: tuple[torch.Tensor, ...]) -> torch.Tensor:
        one = tuple(t[None] for t in row)
        if joint.likelihood.outputs == 1:
            return grad(lambda v: joint.outputs(whole(v), constants, one)[0, 0])(start)[None]
        return backwards(lambda v: joint.outputs(whole(v), constants, one)[0])(start)

    return batched(of_row, (0,))(inputs)


def blocks(joint: Joint, inputs: tuple[torch.Tensor, ...], networks: int = 1, weights: int = 0) -> Iterator[slice]:
    """Slices of rows whose Jacobians of so many networks, in all or so many weights, fit in memory."""
    size = (weights or joint.layout.size) * joint.likelihood.outputs * 8 * networks
    step, rows = max(1, _BYTES // size), inputs[0].shape[1 if joint.own else 0]
    return (slice(start, min(start + step, rows)) for start in range(0, rows, step))


def gauss_newton(joint: Joint, weights: torch.Tensor) -> torch.Tensor:
    """The generalized Gauss–Newton matrices [K, P, P] of all networks at weights [K, P], at factor 1."""

    def one(w: torch.Tensor, c: Tensors, x: tuple[torch.Tensor, ...], y: torch.Tensor) -> torch.Tensor:
        j = jacobian(joint, w, c, x)
        half = torch.einsum("rno,nop->rnp", joint.columns(joint.outputs(w, c, x), c, y), j).reshape(-1, len(w))
        return half.T @ half

    total = weights.new_zeros((*weights.shape, weights.shape[1]))
    few = max(1, _BYTES // (8 * weights.shape[1] ** 2))
    for start in range(0, len(weights), few):
        ks = slice(start, start + few)
        mine = {n: t[ks] for n, t in joint.constants.items()}
        for rows in blocks(joint, joint.inputs, min(few, len(weights))):
            if joint.own:
                x, y = tuple(t[ks, rows] for t in joint.inputs), joint.targets[ks, rows]
            else:
                x, y = tuple(t[rows] for t in joint.inputs), joint.targets[rows]
            dims = (0, 0, joint.data_dims(), joint.data_dims())
            with torch.no_grad():
                total[ks] += batched(one, dims)(weights[ks], mine, x, y)
    return total


def exact_hessian(joint: Joint, weights: torch.Tensor) -> torch.Tensor:
    """Second derivatives [K, P, P] of the negative log likelihood, at factor 1; they need not be positive."""

    def one(w: torch.Tensor, c: Tensors, x: tuple[torch.Tensor, ...], y: torch.Tensor) -> torch.Tensor:
        factor = torch.ones((), dtype=w.dtype)

        def total(v: torch.Tensor) -> torch.Tensor:
            return joint.losses(v, c, x, y, factor).sum()

        h = backwards(grad(total), 64)(w)
        return 0.5 * (h + h.T)

    dims = (0, 0, joint.data_dims(), joint.data_dims())
    with torch.no_grad():
        return batched(one, dims, chunk=8)(weights, joint.constants, joint.inputs, joint.targets)


def outputs_jacobians(joint: Joint, k: int, inputs: tuple[torch.Tensor, ...]) -> Iterator[torch.Tensor]:
    """The k-th network's Jacobians [rows, o, P] of some inputs, some rows at a time."""
    w, c = joint.weights[k], joint.constants_of(k)
    size = joint.layout.size * joint.likelihood.outputs * joint.weights.element_size()
    step = max(1, _BYTES // size)
    for start in range(0, len(inputs[0]), step):
        with torch.no_grad():
            yield jacobian(joint, w, c, tuple(t[start : start + step] for t in inputs))
