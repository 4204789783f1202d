"""A live module as instruments see it: batches of any form as tensors in a row, the module as a function of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.func import functional_call
from torch.utils._pytree import TreeSpec, tree_flatten, tree_unflatten

from nastavnik.instruments import Subject

_LABELS = ("labels", "label", "targets", "target", "y")


@dataclass(frozen=True)
class Batch:
    """What a model was given: its tensors in a row, and how to put them together again."""

    inputs: tuple[torch.Tensor, ...]
    targets: torch.Tensor | None
    leaves: tuple[Any, ...]
    spec: TreeSpec
    keywords: bool

    def rebuilt(self, inputs: Sequence[torch.Tensor]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Arguments and keywords of the model's call, of these tensors."""
        own = iter(inputs)
        leaves = [next(own) if has_rows(leaf) else leaf for leaf in self.leaves]
        tree = tree_unflatten(leaves, self.spec)
        return ((), tree) if self.keywords else (tree, {})

    def first(self, rows: int) -> Batch:
        """Its first rows."""
        cut = tuple(t[:rows] for t in self.inputs)
        own = iter(cut)
        leaves = tuple(next(own) if has_rows(leaf) else leaf for leaf in self.leaves)
        targets = None if self.targets is None else self.targets[:rows]
        return Batch(cut, targets, leaves, self.spec, self.keywords)

    @staticmethod
    def joined(batches: Sequence[Batch]) -> Batch | None:
        """Several batches of one form as one; None where there are none, or shapes differ."""
        usable = [b for b in batches if b.targets is not None]
        if not usable or len({tuple(t.shape[1:] for t in b.inputs) for b in usable}) > 1:
            return None
        inputs = tuple(torch.cat(parts) for parts in zip(*(b.inputs for b in usable), strict=True))
        targets = torch.cat([b.targets for b in usable if b.targets is not None])
        return Batch(inputs, targets, inputs, usable[0].spec, usable[0].keywords)


def flat_batch(x: Any, y: Any = None) -> Batch:
    """A batch of any form: ``x`` a tensor, or a tuple or mapping of them; targets ``y``, or what x calls labels."""
    keywords = isinstance(x, Mapping)
    tree: Any = dict(x) if keywords else x if isinstance(x, tuple) else tuple(x) if isinstance(x, list) else (x,)
    leaves, spec = tree_flatten(tree)
    inputs = tuple(leaf.detach() for leaf in leaves if has_rows(leaf))
    if y is None and isinstance(tree, dict):
        y = next((tree[name] for name in _LABELS if isinstance(tree.get(name), torch.Tensor)), None)
    if y is not None and not isinstance(y, torch.Tensor):
        y = torch.as_tensor(y)
    return Batch(inputs, None if y is None else y.detach(), tuple(leaves), spec, keywords)


def has_rows(leaf: Any) -> bool:
    """Whether a part of a batch is a tensor of rows, and no single number."""
    return isinstance(leaf, torch.Tensor) and leaf.ndim > 0


def captured(model: nn.Module) -> Callable[[], Batch | None]:
    """Take down what the model is first called with from now on; the function that comes back ends it and tells."""
    seen: list[Batch] = []

    def note(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if not seen:
            seen.append(flat_batch(kwargs) if kwargs and not args else flat_batch(args))

    handle = model.register_forward_pre_hook(note, with_kwargs=True)

    def end() -> Batch | None:
        handle.remove()
        return seen[0] if seen else None

    return end


def live_tensors(model: nn.Module, *, trained: bool) -> dict[str, torch.Tensor]:
    """Copies of the trained parameters, or of everything else, by name."""
    if trained:
        return {n: p.detach().clone() for n, p in model.named_parameters() if p.requires_grad}
    fixed = {n: p.detach() for n, p in model.named_parameters() if not p.requires_grad}
    return {**fixed, **{n: b.detach().clone() for n, b in model.named_buffers()}}


def live_subject(model: nn.Module, loss_fn: Callable[[Any, Any], torch.Tensor] | None, batch: Batch) -> Subject:
    """The model and its loss as functions of tensors, in training mode as it stands and in evaluation mode."""

    def run(tensors: dict[str, torch.Tensor], inputs: Sequence[torch.Tensor], targets: torch.Tensor) -> Any:
        args, kwargs = batch.rebuilt(inputs)
        said = functional_call(model, tensors, args, kwargs)
        if loss_fn is None:
            loss = said["loss"] if isinstance(said, Mapping) else said.loss
            outputs = said["logits"] if isinstance(said, Mapping) else said.logits
        else:
            loss, outputs = loss_fn(said, targets), said
        outputs = outputs[0] if isinstance(outputs, (tuple, list)) else outputs
        return outputs, loss.reshape(-1)

    def evaluated(tensors: dict[str, torch.Tensor], inputs: Sequence[torch.Tensor], targets: torch.Tensor) -> Any:
        modes = {module: module.training for module in model.modules()}
        for module in modes:
            module.training = False
        try:
            return run(tensors, inputs, targets)
        finally:
            for module, training in modes.items():
                module.training = training

    return Subject(model, run, evaluated, "", alone=True)


def unused_parameters(
    subject: Subject, parameters: dict[str, torch.Tensor], buffers: dict[str, torch.Tensor], batch: Batch
) -> list[str]:
    """Names of trained parameters that have no part in the loss."""
    assert batch.targets is not None
    with torch.enable_grad():
        leaves = {n: p.detach().requires_grad_() for n, p in parameters.items()}
        tensors = {**leaves, **{n: b.clone() for n, b in buffers.items()}}
        loss = subject.training(tensors, batch.inputs, batch.targets)[1].mean()
        if not loss.requires_grad:
            return list(leaves)
        found = torch.autograd.grad(loss, list(leaves.values()), allow_unused=True)
    return [name for name, g in zip(leaves, found, strict=True) if g is None]
