"""Could it be learned at all? Questions that cost a little, put only where a training went badly."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch
from torch.nn.utils.stateless import _reparametrize_module

from nastavnik.mentor._batch import Batch
from nastavnik.mentor._live import in_modes, loss_of
from nastavnik.mentor.probes._asked import Asked

_ROWS = 8
_STEPS = 120
_RATE = 3e-3
_MOST_COLUMNS = 4096
_TREES = 50


def eight_rows(asked: Asked) -> dict[str, Any]:
    """Can eight rows be learned by heart, from the start, by some steps of Adam? The share of their loss that goes."""
    if not asked.start or asked.rows < 2:
        return {}
    few = asked.batch.first(_ROWS)
    if asked.outputs(few) is None or any(getattr(m, "sparse", False) for m in asked.model.modules()):
        return {}  # it takes no so few rows, or Adam does not take its gradients
    leaves = {n: t.clone().requires_grad_() for n, t in asked.start.items()}
    rest = {n: t.clone() for n, t in asked.tensors.items() if n not in leaves}
    optimizer = torch.optim.Adam(list(leaves.values()), _RATE)
    losses = []
    with torch.enable_grad(), in_modes(asked.model, dict.fromkeys(asked.model.modules(), False)):
        for _ in range(_STEPS):
            args, kwargs, y = few.rebuilt([t.clone() for t in few.inputs])
            with _reparametrize_module(asked.model, {**leaves, **rest}, tie_weights=True):
                loss = loss_of(asked.loss_fn, asked.model(*args, **kwargs), y).mean()
            if not loss.requires_grad or not bool(torch.isfinite(loss)):
                return {}
            losses.append(float(loss.detach()))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    if not losses[0] > 0:
        return {}
    return {"eight rows learned": float(1 - min(losses) / losses[0])}


def trees_on_the_same_rows(train: Batch | None, validation: Batch | None, classes: int) -> dict[str, Any]:
    """What do trees make of the same rows? Their score on the validation rows; {} where rows are no table."""
    if train is None or validation is None or train.targets is None or validation.targets is None:
        return {}
    x, held = _table(train), _table(validation)
    if x is None or held is None or x.shape[1] > _MOST_COLUMNS:
        return {}
    y, wanted = (t.detach().cpu().numpy().reshape(-1) for t in (train.targets, validation.targets))
    from sklearn.ensemble import ExtraTreesClassifier, ExtraTreesRegressor  # seconds, for whoever needs it

    make = ExtraTreesClassifier if classes else ExtraTreesRegressor
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trees = make(_TREES, random_state=0, min_samples_leaf=1 if classes else 2).fit(x, y)
        return {"trees' score": float(trees.score(held, wanted))}


def _table(rows: Batch) -> np.ndarray | None:
    parts = [t.detach().float().cpu().reshape(len(t), -1).numpy() for t in rows.numbers]
    if not parts or rows.targets is None or rows.targets.numel() != len(rows.targets):
        return None
    table = np.concatenate(parts, axis=1)
    return table if np.isfinite(table).all() else None
