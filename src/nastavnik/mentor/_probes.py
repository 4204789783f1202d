"""What a loss takes its arguments for: known by its name, or found out by asking it."""

from __future__ import annotations

import warnings
from typing import Any

import torch

from nastavnik.mentor._live import Batch, Loss, own_copy

_EXPECTS = {  # what a loss takes the outputs for
    "CrossEntropyLoss": "logits", "cross_entropy": "logits", "BCEWithLogitsLoss": "logits",
    "binary_cross_entropy_with_logits": "logits", "MultiMarginLoss": "logits", "BCELoss": "probabilities",
    "binary_cross_entropy": "probabilities", "NLLLoss": "log probabilities", "nll_loss": "log probabilities",
    "MSELoss": "numbers", "mse_loss": "numbers", "L1Loss": "numbers", "l1_loss": "numbers", "HuberLoss": "numbers",
    "SmoothL1Loss": "numbers", "smooth_l1_loss": "numbers", "huber_loss": "numbers",
}  # fmt: skip


def loss_facts(loss_fn: Loss | None, outputs: torch.Tensor, batch: Batch, classes: int) -> dict[str, Any]:
    """What ``loss_fn`` expects, and whether it suits outputs of this shape; asked with made-up outputs.

    ``expects``: see ``expects``; a loss without a known name is asked. ``log sum``: the largest distance of a row's
    log-sum-exp from 0, where log probabilities are expected. ``unpaired``: the shapes of outputs and targets, where the
    loss hears which targets there are, but not which row they belong to.
    """
    facts: dict[str, Any] = {"expects": expects(loss_fn)}
    if loss_fn is None or batch.targets is None:
        return facts
    loss_fn = own_copy(loss_fn)
    known = batch.rebuilt(batch.inputs)[2]
    if not isinstance(known, torch.Tensor):
        return facts
    if facts["expects"] == "unknown":
        facts["expects"] = _asked(loss_fn, outputs, known, classes)
    if facts["expects"] == "log probabilities" and outputs.ndim > 1:
        facts["log sum"] = float(outputs.float().logsumexp(1).abs().amax())
    if _unpaired(loss_fn, outputs, known):
        facts["unpaired"] = [list(outputs.shape), list(known.shape)]
    return facts


def expects(loss_fn: Loss | None) -> str:
    """What a loss takes the outputs for: logits, probabilities, log probabilities, numbers, or unknown."""
    own = getattr(loss_fn, "expects", None)
    name = getattr(loss_fn, "__name__", type(loss_fn).__name__)
    return str(own) if isinstance(own, str) else _EXPECTS.get(name, "unknown")


def _asked(loss_fn: Loss, outputs: torch.Tensor, targets: torch.Tensor, classes: int) -> str:
    """What a loss of an unknown name expects of the outputs for classes."""
    if classes < 2 or outputs.ndim != 2 or outputs.shape[1] < 2 or targets.is_floating_point():
        return "unknown"
    made = _made_up(outputs)
    moved = made + torch.linspace(0.5, 2.0, len(made), dtype=made.dtype, device=made.device)[:, None]
    first, second = _value(loss_fn, made, targets), _value(loss_fn, moved, targets)
    if first is None or second is None:
        return "unknown"
    if torch.isclose(first, second, rtol=1e-4, atol=1e-5):
        return "logits"  # only a softmax inside does not mind what is added to a whole row
    likelihood = -made.gather(1, targets.reshape(-1, 1).clamp(min=0)).double().mean()
    return "log probabilities" if torch.isclose(first, likelihood, rtol=1e-4, atol=1e-5) else "unknown"


def _unpaired(loss_fn: Loss, outputs: torch.Tensor, targets: torch.Tensor) -> bool:
    """Whether targets may change places without the loss's hearing it, while other targets are heard."""
    n = len(outputs)
    if outputs.shape == targets.shape or outputs.numel() != targets.numel() or n != len(targets) or n < 4:
        return False
    made = _made_up(outputs)
    said = [_value(loss_fn, made, y) for y in (targets, targets.roll(1, 0), targets.roll(2, 0))]
    other = _value(loss_fn, made, targets[:1].expand_as(targets).clone())
    if any(v is None for v in said) or other is None:
        return False
    first, *rolled = (v for v in said if v is not None)
    same = all(torch.isclose(first, v, rtol=1e-5, atol=1e-7) for v in rolled)
    return same and not torch.isclose(first, other, rtol=1e-3, atol=1e-6)


def _made_up(outputs: torch.Tensor) -> torch.Tensor:
    """Numbers between 0.05 and 0.95, which any loss can take, without the network's part in them."""
    source = torch.Generator().manual_seed(0)
    return (0.05 + 0.9 * torch.rand(outputs.shape, generator=source)).to(outputs.device)


def _value(loss_fn: Loss, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor | None:
    """The loss; None where it takes no such thing."""
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            value = loss_fn(outputs, targets)
        except (RuntimeError, TypeError, ValueError, IndexError, AttributeError, KeyError):
            return None
    return value.double().mean() if isinstance(value, torch.Tensor) else None
