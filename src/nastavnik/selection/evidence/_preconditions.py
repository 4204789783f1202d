"""What must hold before any number is shown: the loss is one fixed function of the weights, row by row."""

from __future__ import annotations

import copy

import torch
from torch import nn
from torch.func import grad

from nastavnik.errors import UserError
from nastavnik.nets import observed
from nastavnik.selection.evidence._joint import Joint

_ROWS = 64  # looked at
_FEW = 8  # asked about again and again


def check_ready(joint: Joint) -> None:
    """Look at each network with some of its rows.

    Raises:
        UserError: two passes differ (dropout or augmentation left on), a row's loss depends on its neighbours or a pass
            changes a buffer (batch norm in training mode), or the loss is not finite.
    """
    _look(joint)
    for k in range(len(joint)):
        inputs, targets = joint.data_of(k)
        some = tuple(t[:_ROWS] for t in inputs), targets[:_ROWS]
        _check_one(joint, k, *some)
    _check_gradient(joint)


def _look(joint: Joint) -> None:
    """Note what the first network does beside being a function."""
    inputs, _ = joint.data_of(0)
    some, others = (tuple(t[rows] for t in inputs) for rows in (slice(_FEW), slice(-_FEW, None)))
    try:
        with torch.no_grad():
            _, joint.module.conduct = observed(copy.deepcopy(joint.module).network, some, others)
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"the network cannot be run on these inputs: {_first_line(error)}") from error
    with torch.no_grad():
        outputs = joint.outputs(joint.weights[0], joint.constants_of(0), some)
    _check_outputs(joint, outputs, len(some[0]), "the network")


def _check_gradient(joint: Joint) -> None:
    """See that the first network's losses can be differentiated."""
    inputs, targets = joint.data_of(0)
    some = tuple(t[:_FEW] for t in inputs)
    w, c, f = joint.weights[0], {n: t.clone() for n, t in joint.constants_of(0).items()}, joint.factor[0]
    try:
        grad(lambda v: joint.losses(v, c, some, targets[:_FEW], f).sum())(w)
    except Exception as error:
        raise UserError(
            f"torch.func cannot differentiate the network, which evidence needs: {_first_line(error)}"
        ) from error


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def _check_one(joint: Joint, k: int, inputs: tuple[torch.Tensor, ...], targets: torch.Tensor) -> None:
    constants = {n: t.clone() for n, t in joint.constants_of(k).items()}
    before = {n: t.clone() for n, t in constants.items()}
    tensors = {**joint.layout.split(joint.weights[k]), **constants}
    which = f"network {k}" if len(joint) > 1 else "the network"

    def losses(rows: int) -> torch.Tensor:
        return joint.function(tensors, (tuple(t[:rows] for t in inputs), targets[:rows]))

    with torch.no_grad():
        try:
            outputs = joint.function(tensors, (inputs,))
        except Exception as error:
            raise UserError(f"{which} cannot be run on these inputs: {_first_line(error)}") from error
        _check_outputs(joint, outputs, len(targets), which)
        first = joint.losses_of(outputs, constants, targets)
        if not bool(torch.isfinite(first).all()):
            raise UserError(f"{which} has a loss that is no finite number on some rows; it has no evidence")
        again = losses(len(targets))
        fewer = losses(max(1, len(targets) // 2))
    if not torch.equal(first, again):
        raise UserError(
            f"{which} gives another loss on a second pass over the same rows, so its evidence has no meaning; "
            f"call .eval() on it{_suspects(joint.module)}"
        )
    moved = [n for n in before if not torch.equal(tensors[n], before[n])]
    close = torch.allclose(first[: len(fewer)], fewer, rtol=1e-3, atol=1e-4)
    if moved or not close:
        why = f"changes its buffer {moved[0]!r} in a pass" if moved else "lets a row's loss depend on the other rows"
        raise UserError(f"{which} {why}; freeze batch norm by calling .eval() on it{_suspects(joint.module)}")


def _check_outputs(joint: Joint, outputs: torch.Tensor, rows: int, which: str) -> None:
    wanted = (rows, joint.likelihood.outputs)
    if tuple(outputs.shape) != wanted:
        raise UserError(
            f"{which} must give {joint.likelihood.outputs} outputs a row for {joint.likelihood.name}, "
            f"shape {wanted} here, but gave {tuple(outputs.shape)}"
        )


def _suspects(module: nn.Module) -> str:
    """Modules in training mode that behave otherwise there."""
    names = [
        f"{name.removeprefix('network.')} ({type(m).__name__})"
        for name, m in module.named_modules()
        if m.training and any(word in type(m).__name__.lower() for word in ("drop", "norm", "noise"))
    ]
    return f" (in training mode: {', '.join(names[:4])})" if names else ""
