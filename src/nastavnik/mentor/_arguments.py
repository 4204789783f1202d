"""What ``Mentor`` is given, looked over before it is taken."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from nastavnik.errors import UserError
from nastavnik.instruments import COSTS
from nastavnik.mentor._batch import flat_batch


def bare(model: Any) -> Any:
    """The module inside of what ``torch.compile`` and data-parallel training wrap round it."""
    while True:
        inner = getattr(model, "_orig_mod", None)
        if inner is None and type(model).__name__ in ("DistributedDataParallel", "DataParallel"):
            inner = model.module
        if inner is None:
            return model
        model = inner


def cadences(costs: Any, every: Any) -> tuple[list[str], dict[str, Any]]:
    """The classes of instruments, and those that have a cadence of their own.

    Raises:
        UserError: the classes are no list.
    """
    if not isinstance(costs, (list, tuple)):
        raise UserError(f"costs are a list of {', '.join(COSTS)}, but got {costs!r}")
    own = dict(every) if isinstance(every, Mapping) else dict.fromkeys(costs, every) if every is not None else {}
    return [*costs, *(c for c in own if c not in costs)], own


def optimizers_of(given: Any) -> list[Any]:
    """What trains the model, as a list."""
    return [] if given is None else list(given) if isinstance(given, (list, tuple)) else [given]


def check_arguments(
    model: Any, optimizers: Sequence[Any], loss_fn: Any, costs: Sequence[str], own: Mapping[str, Any], budget: Any
) -> None:
    """Refuse what is no model, no optimizer, no loss, no class of instruments, no cadence or no share.

    Raises:
        UserError: with what was expected and what was given.
    """
    if not isinstance(model, nn.Module):
        raise UserError(f"Mentor watches a torch.nn.Module, but got {type(model).__name__}")
    for wrong in [optimizer for optimizer in optimizers if not hasattr(optimizer, "param_groups")]:
        raise UserError(
            f"Mentor takes (model, optimizer, loss_fn) in this order, but its optimizer is {type(wrong).__name__}"
        )
    if loss_fn is not None and not callable(loss_fn):
        raise UserError(f"Mentor's loss_fn is called with (outputs, targets), but got {type(loss_fn).__name__}")
    wrong = not costs or any(c not in COSTS for c in costs)
    uneven = any(not isinstance(n, int) or isinstance(n, bool) or n < 1 for n in own.values())
    if wrong or uneven or not isinstance(budget, (int, float)) or not 0 < budget <= 1:
        raise UserError(
            f"costs are a list of {', '.join(COSTS)}, 0 < budget <= 1 and every is a whole number from 1, but got "
            f"costs={list(costs)}, budget={budget}, every={dict(own)}"
        )


def check_rows(part: str, rows: Any) -> None:
    """Refuse rows that are no pair of tensors of one length."""
    if rows is None:
        return
    if not isinstance(rows, (tuple, list)) or len(rows) != 2:
        raise UserError(f"Mentor's {part} is a pair (x, y) of tensors, but got {type(rows).__name__}")
    lengths = sorted({len(t) for t in flat_batch(*rows).inputs})
    if len(lengths) != 1 or not lengths[0]:
        found = f"lengths {lengths}" if lengths else "no tensors"
        raise UserError(f"Mentor's {part} is a pair (x, y) of tensors with as many rows each, but got {found}")
