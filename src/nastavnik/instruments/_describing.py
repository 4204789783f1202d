"""What is known of a training without training: the network's parts, the batch, the data's two parts."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from nastavnik.instruments._sight import Inputs, Sight, has_matrix, reach
from nastavnik.nets import Normalization, RandomMask, is_activation

_NORMS = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm)


def network_facts(sight: Sight) -> list[dict[str, Any]]:
    """Each layer in the order it ran: name, kind, role, units, parameters, whether they are trained.

    Of an activation that comes last, whether its values are the outputs, and between what bounds they can lie.
    """
    found: list[dict[str, Any]] = []
    outputs = sight.outputs.reshape(-1)
    said: torch.Tensor | None = None  # by the last layer with weights
    for layer in sight.layers:
        module = layer.module
        own = [p for _, p in module.named_parameters(recurse=False)]
        raw = said is not None and said.shape == layer.given.shape and bool(torch.equal(said, layer.given))
        extra: dict[str, Any] = {}
        if is_activation(module) and type(module).__name__ != "Identity":
            said = None  # there is a bend between, even where it is too small to be seen
        if is_activation(module):
            extra["steepest"] = float(layer.steepest)
        elif role_of(module) == "dropout":
            extra["rate"] = float(getattr(module, "p", getattr(module, "rate", 0.0)))
        elif has_matrix(module):
            extra["fed raw"], said = raw, layer.said
        if layer is sight.layers[-1] and (is_activation(module) or role_of(module) == "softmax"):
            same = layer.said.numel() == outputs.numel()
            extra["final"] = same and bool(torch.equal(layer.said.reshape(-1), outputs))
            extra["reach"] = reach(layer)
        found.append(
            {
                "name": layer.name,
                "kind": type(module).__name__,
                "role": role_of(module),
                "fan_in": int(layer.weight[0].numel()) if has_matrix(module) else int(layer.given[0].numel()),
                "units": int(layer.weight.shape[0]) if has_matrix(module) else int(layer.said.shape[-1]),
                "parameters": sum(p.numel() for p in own),
                "trained": sum(p.requires_grad for p in own),
                "tensors": len(own),
                **extra,
            }
        )
    return found


def looks_fresh(module: nn.Module) -> bool | None:
    """Whether a layer's matrices look as chance left them: no direction in them is longer than that of pure noise.

    The longest singular value of an [m, n] matrix of independent numbers of deviation σ is σ (√m + √n); what was
    learned stands out from it. Matrices of one value are not of chance's making; None for a layer without any.
    """
    matrices = [p.detach().float().flatten(1) for p in module.parameters(recurse=False) if p.ndim > 1]
    return all(_like_noise(m[m.any(1)]) for m in matrices) if matrices else None


def _like_noise(matrix: torch.Tensor) -> bool:
    if min(matrix.shape) < 2 or not bool(torch.isfinite(matrix).all()):
        return False
    edge = float(matrix.square().mean().sqrt()) * (matrix.shape[0] ** 0.5 + matrix.shape[1] ** 0.5)
    differ = float(matrix.std()) > 1e-6 * float(matrix.abs().max())
    return differ and float(torch.linalg.matrix_norm(matrix, 2)) < edge * (1.1 + 1 / min(matrix.shape))


def role_of(module: nn.Module) -> str:
    """weights, batch normalization, normalization, dropout, softmax, activation, or other."""
    if isinstance(module, (nn.Softmax, nn.LogSoftmax)):
        return "softmax"
    if is_activation(module):
        return "activation"
    if isinstance(module, nn.modules.batchnorm._BatchNorm) or getattr(module, "name", "") == "batch":
        return "batch normalization"
    if isinstance(module, (*_NORMS, Normalization)):
        return "normalization" if getattr(module, "name", "") != "none" else "other"
    if isinstance(module, (nn.modules.dropout._DropoutNd, RandomMask)):
        return "dropout"
    return "weights" if has_matrix(module) else "other"


def batch_facts(inputs: Inputs, targets: torch.Tensor, classes: int) -> dict[str, Any]:
    """Sizes and spreads of rows as the network is given them: columns' centres and scales, the target's.

    Pictures and series count as one column.
    """
    numbers = [t for t in inputs if t.is_floating_point() and t.ndim > 1 and t[0].numel()]
    facts: dict[str, Any] = {"rows": len(targets), "classes": classes}
    if numbers:
        x = numbers[0].detach().double().cpu()
        x = x if x.ndim == 2 else x.reshape(len(x), -1, 1)[..., 0]
        facts["finite"] = bool(torch.isfinite(x).all())
        x = x.nan_to_num(nan=0.0, posinf=0.0, neginf=0.0)
        scale, centre = x.std(0, correction=0), x.mean(0)
        alive = scale > 1e-12
        own = _sizes_where_given(x, scale)
        facts["columns"] = int(x.shape[1])
        facts["constant columns"] = int((~alive).sum())
        given = x[x != 0]  # where most are zeros, as words' counts are, what is not says how large they are
        facts["input size"] = float(given.square().mean().sqrt()) if len(given) else 0.0
        facts["largest column"] = float((centre.square() + scale.square()).sqrt().amax())
        facts["column spread"] = float(own[alive].amax() / own[alive].median()) if alive.any() else 1.0
    y = targets.detach().double().cpu().reshape(len(targets), -1)[:, 0]
    if classes:
        counts = torch.bincount(y.long()[y >= 0], minlength=classes)
        facts["class shares"] = (counts / counts.sum()).tolist()
    elif targets.is_floating_point():  # whole numbers that are no classes, such as words, have no size
        facts["target mean"], facts["target deviation"] = float(y.mean()), float(y.std(correction=0))
        facts["target range"] = [float(y.min()), float(y.max())]
        facts["whole values"] = len(y.unique()) if bool((y == y.round()).all()) and float(y.min()) in (0.0, 1.0) else 0
    return facts


def _sizes_where_given(x: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """The deviations of columns; of those that are mostly zero, the root mean square of what is not."""
    given = (x != 0).sum(0)
    size = (x.square().sum(0) / given.clamp(min=1)).sqrt()
    return torch.where(given < len(x) / 2, size, scale)


def data_facts(
    train: tuple[Inputs, torch.Tensor], validation: tuple[Inputs, torch.Tensor] | None, classes: int
) -> dict[str, Any]:
    """``batch_facts`` of the training rows, the strongest single column, and how validation rows differ from them."""
    facts = batch_facts(*train, classes)
    x, y = _table(train[0]), _targets(train[1])
    if x is not None:
        told = [told_by(x[:, j], y, classes) for j in range(x.shape[1])] if x.shape[1] <= 512 else []
        facts["told by columns"] = sorted(told, reverse=True)[:3]
        facts["telling column"] = int(np.argmax(told)) if told else -1
    if validation is not None and x is not None:
        other = _table(validation[0])
        assert other is not None
        facts["validation rows"] = len(other)
        spread = np.maximum(np.sqrt((len(x) * x.var(0) + len(other) * other.var(0)) / (len(x) + len(other))), 1e-9)
        error = np.sqrt(1 / len(x) + 1 / len(other))
        moved = np.abs(x.mean(0) - other.mean(0)) / spread
        facts["shift"] = float(moved.max(initial=0.0))
        facts["shift errors"] = float((moved / error).max(initial=0.0))
        facts["shifted column"] = int(moved.argmax()) if len(moved) else -1
        rows, held = _rows_of(*train), _rows_of(*validation)
        known = {row.tobytes() for row in rows}
        again = [row.tobytes() in known for row in held]
        facts["shared rows"] = float(np.mean(again))
        keys, counts = np.unique(rows, axis=0, return_counts=True)
        facts["repeated rows"] = float(counts[counts > 1].sum() / max(1, counts.sum())) if len(keys) else 0.0
        if any(again):
            values = max(len(np.unique(column)) for column in rows.T)
            facts["finest column"], facts["rows a value"] = values / len(keys), len(rows) / values
    return facts


def told_by(column: np.ndarray, y: np.ndarray, classes: int) -> float:
    """Share of the target's variance (of its classes' Gini variance) that up to a hundred equal parts of a column tell.

    Variances inside a part are unbiased, so that a column of noise tells about nothing however small the parts are.
    """
    parts = min(100, max(2, len(y) // 8))
    place = np.searchsorted(np.quantile(column, np.linspace(0, 1, parts + 1)[1:-1]), column, side="right")
    hot = np.eye(classes)[np.clip(y.astype(int), 0, classes - 1)] if classes else y[:, None]
    whole = hot.var(0).sum()
    if whole <= 0:
        return 0.0
    rows = np.bincount(place)
    inside = 0.0
    for values in hot.T:
        sums, squares = np.bincount(place, values), np.bincount(place, values**2)
        spread = squares - sums**2 / np.maximum(rows, 1)
        inside += float((spread * rows / np.maximum(rows - 1, 1)).sum())
    return float(np.clip(1 - inside / len(y) / whole, 0.0, 1.0))


def _table(inputs: Inputs) -> np.ndarray | None:
    numbers = [t for t in inputs if t.is_floating_point() and t.ndim > 1 and t[0].numel()]
    return np.nan_to_num(numbers[0].detach().double().cpu().reshape(len(numbers[0]), -1).numpy()) if numbers else None


def _rows_of(inputs: Inputs, targets: torch.Tensor) -> np.ndarray:
    """Whole rows [n, columns], targets last, as they are compared with each other."""
    parts = [t.detach().double().cpu().reshape(len(t), -1).numpy() for t in (*inputs, targets) if len(t)]
    return np.nan_to_num(np.column_stack(parts)).astype(np.float32)


def _targets(targets: torch.Tensor) -> np.ndarray:
    return targets.detach().double().cpu().reshape(len(targets), -1)[:, 0].numpy()
