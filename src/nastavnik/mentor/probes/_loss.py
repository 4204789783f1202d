"""What a loss takes its arguments for: known by its name, or found out by asking it."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch.nn import functional as F
from torch.utils._pytree import tree_map

from nastavnik.mentor._batch import Batch
from nastavnik.mentor._live import Loss, outputs_of, own_copy
from nastavnik.mentor._places import class_axis, table_of, untable

_EXPECTS = {  # what a loss takes the outputs for
    "CrossEntropyLoss": "logits", "cross_entropy": "logits", "BCEWithLogitsLoss": "logits",
    "binary_cross_entropy_with_logits": "logits", "MultiMarginLoss": "logits", "BCELoss": "probabilities",
    "binary_cross_entropy": "probabilities", "NLLLoss": "log probabilities", "nll_loss": "log probabilities",
    "MSELoss": "numbers", "mse_loss": "numbers", "L1Loss": "numbers", "l1_loss": "numbers", "HuberLoss": "numbers",
    "SmoothL1Loss": "numbers", "smooth_l1_loss": "numbers", "huber_loss": "numbers",
}  # fmt: skip

_ROWS = 64  # that a loss is asked about
_CLEARLY = 0.03  # of a loss: what a right answer must save
_ALIKE = 5.0  # times as fast a loss may rise to one side of its least as to another: a quantile's rises by odds


def loss_facts(loss_fn: Loss | None, outputs: torch.Tensor, batch: Batch, classes: int) -> dict[str, Any]:
    """What ``loss_fn`` expects, and whether it suits outputs of this shape; asked with made-up outputs.

    ``expects``: see ``expects``; a loss without a known name is asked. ``log sum``: the largest distance of a row's
    log-sum-exp from 0, where log probabilities are expected. ``unpaired``: the shapes of outputs and targets, where the
    loss compares all of the ones with all of the others.
    """
    facts: dict[str, Any] = {"expects": expects(loss_fn)}
    if loss_fn is None or batch.targets is None:
        return facts
    loss_fn = own_copy(loss_fn)
    known = batch.rebuilt(batch.inputs)[2]
    if not isinstance(known, torch.Tensor):
        return facts
    axis = class_axis(outputs, known)
    namesake = not str(getattr(loss_fn, "__module__", "")).startswith("torch")  # of torch's, but another's own
    if facts["expects"] == "unknown" or (facts["expects"] == "log probabilities" and namesake):
        whole = axis is not None and outputs.ndim == 2  # flattened: rows of outputs are no rows of targets
        some = slice(None) if whole else slice(_ROWS)
        facts["expects"] = _asked(loss_fn, outputs[some], known[some].clone(), classes, axis)
    if facts["expects"] == "log probabilities" and outputs.ndim > 1 and classes > 1:
        facts["log sum"] = float(table_of(axis)(outputs).float().logsumexp(1).abs().amax())
    if outputs.shape[:1] == known.shape[:1] and _unpaired(loss_fn, outputs[:_ROWS], known[:_ROWS]):
        facts["unpaired"] = [list(outputs.shape), list(known.shape)]
    return facts


def expects(loss_fn: Loss | None) -> str:
    """What a loss takes the outputs for: logits, probabilities, log probabilities, numbers, or unknown."""
    own = getattr(loss_fn, "expects", None)
    name = getattr(loss_fn, "__name__", type(loss_fn).__name__)
    return str(own) if isinstance(own, str) else _EXPECTS.get(name, "unknown")


def _asked(loss_fn: Loss, outputs: torch.Tensor, targets: torch.Tensor, classes: int, axis: int | None) -> str:
    """What a loss of an unknown name expects of the outputs for classes."""
    table = table_of(axis)(outputs)
    columns = table.shape[1] if table.ndim == 2 else 0
    if classes < 2 or columns < 2 or targets.dtype != torch.int64 or targets.numel() != len(table):
        return "unknown"
    if axis is not None:
        targets = targets.clamp(min=0)  # places without a label
    if not bool(((targets >= 0) & (targets < columns)).all()):
        return "unknown"  # rows without a label
    made = _made_up(table)
    moved = made + torch.linspace(0.5, 2.0, len(made), dtype=made.dtype, device=made.device)[:, None]
    first, second = (_value(loss_fn, untable(axis, m, outputs), targets) for m in (made, moved))
    if first is None or second is None:
        return "unknown"
    if torch.isclose(first, second, rtol=1e-4, atol=1e-5):
        return "logits"  # only a softmax inside does not mind what is added to a whole row
    likelihood = -made.gather(1, targets.reshape(-1)[:, None]).double().mean()
    return "log probabilities" if torch.isclose(first, likelihood, rtol=1e-4, atol=1e-5) else "unknown"


def scored_as(
    loss_fn: Loss | None, say: Callable[[], Any], outputs: torch.Tensor, batch: Batch, classes: int
) -> int | None:
    """How many classes outputs may be scored against, 0 for numbers; None where a score would mean nothing.

    Only where the loss is least for outputs that name the target does it matter whether they do: embeddings, logarithms
    of rates or a quantile of a target are no guesses of it. A loss of torch's is known by its name, and the model's own
    has its labels; any other is asked, with outputs made up in the place of those that the model ``say``s.
    """
    targets, axis = batch.targets, class_axis(outputs, batch.targets)
    if targets is None or (axis is None and (targets.numel() != len(targets) or len(outputs) != len(targets))):
        return classes  # nothing is scored row by row
    columns = outputs.shape[axis] if axis is not None else outputs.reshape(len(outputs), -1).shape[1]
    if classes and float(targets.max()) >= max(columns, 2):
        return None  # more classes than outputs
    known = expects(loss_fn)
    if loss_fn is None or (known != "unknown" if classes else known == "numbers"):
        return classes
    said = say()
    outputs = outputs_of(said)
    ask = partial(_instead, own_copy(loss_fn), said, outputs, batch.rebuilt(batch.inputs)[2])
    if classes:
        return classes if _wants_classes(ask, outputs, targets, axis) else None
    if not targets.is_floating_point():
        return None
    if _wants_numbers(ask, outputs, targets):
        return 0
    binary = columns == 1 and bool(((targets == 0) | (targets == 1)).all())
    return 2 if binary and _wants_classes(ask, outputs, targets, None) else None


def _instead(loss_fn: Loss, said: Any, outputs: torch.Tensor, y: Any, made: torch.Tensor) -> float:
    """The loss if the model said other outputs; NaN where it takes no such thing."""
    made = made.reshape(outputs.shape).to(outputs)
    value = _value(loss_fn, _exchanged(said, outputs, made), y)
    return float("nan") if value is None else float(value)


def _exchanged(said: Any, outputs: torch.Tensor, made: torch.Tensor) -> Any:
    """What the model said with other outputs in it; of an object that holds them a copy is changed."""
    if isinstance(said, (torch.Tensor, dict, list, tuple)) or not hasattr(said, "__dict__"):
        return tree_map(lambda leaf: made if leaf is outputs else leaf, said)
    twin = copy.copy(said)
    for name, value in vars(said).items():
        vars(twin)[name] = tree_map(lambda leaf: made if leaf is outputs else leaf, value)
    return twin


def _wants_classes(
    ask: Callable[[torch.Tensor], float], outputs: torch.Tensor, targets: torch.Tensor, axis: int | None
) -> bool:
    """Whether outputs that name the targets' classes lose clearly less than those that name any others."""
    columns = outputs.shape[axis] if axis is not None else outputs.reshape(len(outputs), -1).shape[1]
    known = targets.reshape(-1).long().clamp(min=0)

    def naming(classes: torch.Tensor) -> torch.Tensor:
        named = classes if columns == 1 else F.one_hot(classes, columns)
        return untable(axis, 0.05 + 0.9 * named.to(outputs.device).double(), outputs)

    others = range(1, min(max(columns, 2), 4))
    right, wrong = ask(naming(known)), [ask(naming((known + by) % max(columns, 2))) for by in others]
    return all(right < w - _CLEARLY * (abs(w) + abs(right)) / 2 for w in wrong)  # NaN is never less


def _wants_numbers(ask: Callable[[torch.Tensor], float], outputs: torch.Tensor, targets: torch.Tensor) -> bool:
    """Whether the loss is least where the first output is the target, and rises alike whichever way it leaves it."""
    wanted = targets.reshape(-1).double()
    spread = float(wanted.std(correction=0))
    if not spread > 0:
        return False
    stretch = (wanted - wanted.mean()) / spread

    def moved(by: torch.Tensor | float) -> float:
        made = outputs.detach().reshape(len(outputs), -1).double().clone()
        made[:, 0] = wanted + spread * by
        return ask(made)

    least = moved(0.0)
    rises = [moved(by) - least for by in (0.5, -0.5, 0.5 * stretch, -0.5 * stretch)]
    return all(r > 0 for r in rises) and max(rises) < _ALIKE * min(rises)


def _unpaired(loss_fn: Loss, outputs: torch.Tensor, targets: torch.Tensor) -> bool:
    """Whether outputs and targets of two shapes are spread to a table of all pairs, instead of row against row."""
    alike = outputs.shape == targets.shape or outputs.numel() != targets.numel()
    if alike or len(outputs) < 4 or not targets.is_floating_point():
        return False
    said, asked = _made_up(outputs), _made_up(targets, seed=1)
    table = torch.broadcast_tensors(said, asked)
    given = _value(loss_fn, said, asked)
    in_rows, in_pairs = _value(loss_fn, said.reshape(asked.shape), asked), _value(loss_fn, *table)
    if given is None or in_rows is None or in_pairs is None:
        return False
    return bool(torch.isclose(given, in_pairs, rtol=1e-5)) and not torch.isclose(given, in_rows, rtol=1e-3)


def _made_up(like: torch.Tensor, seed: int = 0) -> torch.Tensor:
    """Numbers between 0.05 and 0.95, which most losses can take, without the network's part in them."""
    source = torch.Generator().manual_seed(seed)
    return (0.05 + 0.9 * torch.rand(like.shape, generator=source)).to(like.device)


def _value(loss_fn: Loss, outputs: Any, targets: Any) -> torch.Tensor | None:
    """The loss; None where it takes no such thing, however it says so."""
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            value = loss_fn(outputs, targets)
        except Exception:
            return None
    return value.double().mean() if isinstance(value, torch.Tensor) else None
