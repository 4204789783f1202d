"""What one look at ONE network sees: its layers at work on a batch, its gradients, and the step it took."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.func import grad

from nastavnik.instruments._norms import Moment, Tensors
from nastavnik.nets import is_activation

Inputs = tuple[torch.Tensor, ...]
Losses = Callable[[Tensors, Inputs, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]


@dataclass(frozen=True)
class Subject:
    """A network that is watched, as functions of its tensors.

    ``training`` and ``evaluation`` take (tensors, inputs, targets) and give (outputs [n, …], losses [n]), each in its
    mode; ``network`` is the module that runs in training mode, whose parts are looked at. ``prefix`` is what its
    tensors are called before its own names (``"network."``). ``alone``: differentiate by autograd's own tape, which
    runs what ``torch.func`` cannot, but not under ``vmap``. ``wearing`` gives a context in which the network itself has
    these parameters, for what runs again in the backward pass (activation checkpointing).
    """

    network: nn.Module
    training: Losses
    evaluation: Losses
    prefix: str = ""
    alone: bool = False
    wearing: Callable[[Tensors], AbstractContextManager[Any]] = nullcontext


class Layer(NamedTuple):
    """One part of a network at work: ``given`` and ``said`` are a batch's rows.

    ``slope`` is an activation's derivative element by element; ``steepest`` the largest it can have if the activation
    is bounded, else 0. Both are empty for what is no activation; ``weight``, the matrix that the layer used, is empty
    for what has none.
    """

    name: str
    module: nn.Module
    given: torch.Tensor
    said: torch.Tensor
    slope: torch.Tensor
    steepest: torch.Tensor
    weight: torch.Tensor


class Sight(NamedTuple):
    """Everything an instrument may read.

    ``moment``: the batch's gradients, and the parameters before and after the step it was used for; ``start``: those
    the training began with; ``layers`` in the order they ran; ``outputs`` [n, …], ``targets`` [n, …], ``losses`` [n]
    before the step and ``losses_after`` it on the same rows with the same noise; ``loss`` and ``row_losses`` are the
    mean loss and the rows' losses in evaluation mode as functions of the parameters, of the first ``rows`` rows.
    """

    moment: Moment
    start: Tensors
    layers: tuple[Layer, ...]
    outputs: torch.Tensor
    targets: torch.Tensor
    losses: torch.Tensor
    losses_after: torch.Tensor
    loss: Callable[[Tensors], torch.Tensor]
    row_loss: Callable[[Tensors, Inputs, torch.Tensor], torch.Tensor]
    rows: tuple[Inputs, torch.Tensor]
    alone: bool
    prefix: str
    lengths: dict[str, torch.Tensor]  # what was asked for once: of each layer's parameters, of rows

    @property
    def activations(self) -> list[Layer]:
        """The layers that are activations."""
        return [layer for layer in self.layers if is_activation(layer.module)]

    @property
    def weighted(self) -> list[Layer]:
        """The layers that have a matrix of weights and say numbers: linear and convolutional ones."""
        return [layer for layer in self.layers if has_matrix(layer.module)]


_UNBOUNDED = (
    nn.ReLU, nn.LeakyReLU, nn.PReLU, nn.ELU, nn.SELU, nn.CELU, nn.GELU, nn.SiLU, nn.Mish, nn.Softplus, nn.Hardswish,
)  # fmt: skip


def has_matrix(module: nn.Module) -> bool:
    """Whether a module maps numbers by a weight matrix of its own."""
    weight = getattr(module, "weight", None)
    return isinstance(weight, torch.Tensor) and weight.ndim >= 2 and not isinstance(module, nn.Embedding)


def look(
    subject: Subject,
    before: Tensors,
    after: Tensors,
    start: Tensors,
    buffers: Tensors,
    inputs: Inputs,
    targets: torch.Tensor,
    *,
    rows: int = 32,
    passes: bool = True,
) -> Sight:
    """Run the network once forward and backward, and once forward after its step; nothing is changed.

    Args:
        subject: the network.
        before: its trained parameters.
        after: the same after a step on this batch.
        start: the same when training began.
        buffers: everything else it needs; copied before use.
        inputs: a batch.
        targets: its targets.
        rows: how many of its rows the per-example and second-order instruments see.
        passes: False runs nothing: what is left serves the per-example and second-order instruments alone.
    """
    seen: list[Layer] = []

    def mean_loss(parameters: Tensors) -> tuple[torch.Tensor, Any]:
        seen.clear()
        with _seeing(subject, seen):
            outputs, losses = subject.training({**parameters, **_copied(buffers)}, inputs, targets)
        parts = tuple(tuple(layer)[2:] for layer in seen)
        return losses.mean(), (outputs, losses, parts)

    layers: tuple[Layer, ...] = ()
    outputs = losses = later = targets.new_zeros(0)
    gradients: Tensors = {}
    if passes:
        if subject.alone:
            own = plain_grad(mean_loss, wearing=subject.wearing)
        else:
            own = grad(mean_loss, has_aux=True)
        gradients, (outputs, losses, parts) = own(before)
        layers = tuple(
            Layer(layer.name, layer.module, *(t.detach() for t in part))
            for layer, part in zip(seen, parts, strict=True)
        )
        later = subject.training({**after, **_copied(buffers)}, inputs, targets)[1].detach()
    few = (tuple(t[:rows] for t in inputs), targets[:rows])

    def loss(parameters: Tensors) -> torch.Tensor:
        return subject.evaluation({**parameters, **_copied(buffers)}, *few)[1].mean()

    def row_loss(parameters: Tensors, one: Inputs, target: torch.Tensor) -> torch.Tensor:
        return subject.evaluation({**parameters, **_copied(buffers)}, tuple(t[None] for t in one), target[None])[
            1
        ].mean()

    moment = Moment(gradients, before, after)
    return Sight(
        moment, start, layers, outputs.detach(), targets, losses.detach(), later, loss, row_loss, few,
        subject.alone, subject.prefix, {},
    )  # fmt: skip


@contextmanager
def _seeing(subject: Subject, seen: list[Layer]) -> Iterator[None]:
    """Write down what the layers are given and say while the network runs."""
    network = subject.network
    inside = {id(p) for m in network.modules() if is_activation(m) for p in m.modules() if p is not m}
    kept: dict[int, torch.Tensor] = {}  # what an activation is about to write over

    def before(module: nn.Module, given: tuple[Any, ...]) -> None:
        kept[id(module)] = given[0].detach().clone()

    def hook(name: str) -> Callable[[nn.Module, tuple[Any, ...], Any], None]:
        def see(module: nn.Module, given: tuple[Any, ...], said: Any) -> None:
            said = said[0] if isinstance(said, (tuple, list)) else said
            if not (given and isinstance(given[0], torch.Tensor) and isinstance(said, torch.Tensor)):
                return
            own = kept.pop(id(module), given[0])
            if is_activation(module):
                slopes = (_slope(module, own, said, subject.alone), _steepest(module, own, said, subject.alone))
            else:
                slopes = (said.new_zeros(0), said.new_zeros(0))
            weight: Any = module.weight if has_matrix(module) else said.new_zeros(0)
            seen.append(Layer(name, module, own, said.clone() if id(module) in writers else said, *slopes, weight))

        return see

    watched = {
        name: module
        for name, module in network.named_modules()
        if id(module) not in inside and (is_activation(module) or _is_leaf(module))
    }
    writers = {id(m) for m in watched.values() if getattr(m, "inplace", False)}
    overwritten = bool(writers)
    handles = [module.register_forward_hook(hook(name)) for name, module in watched.items()]
    handles += [m.register_forward_pre_hook(before) for m in watched.values() if id(m) in writers]
    if overwritten:  # what a layer says is written over by the activation behind it
        writers |= {id(m) for m in watched.values()}
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _slope(module: nn.Module, given: torch.Tensor, said: torch.Tensor, alone: bool) -> torch.Tensor:
    """The activation's derivative at what it was given, element by element."""
    if said.shape != given.shape:  # a maxout: the winner has slope 1
        return torch.ones_like(said)
    if not alone:
        return grad(lambda z: module.forward(z.clone()).sum())(given.detach())
    keep = torch.autograd.graph.saved_tensors_hooks(lambda t: t, lambda t: t)  # no checkpointing around this
    with torch.enable_grad(), keep:
        leaf = given.detach().clone().requires_grad_()
        return torch.autograd.grad(module.forward(leaf.clone()).sum(), leaf)[0]


def _steepest(module: nn.Module, given: torch.Tensor, said: torch.Tensor, alone: bool) -> torch.Tensor:
    """The largest slope of a bounded activation, found on a grid; 0 for one that is not bounded."""
    if said.shape != given.shape or isinstance(module, _UNBOUNDED):
        return said.new_zeros(())
    grid = torch.linspace(-6, 6, 121, dtype=given.dtype, device=given.device)
    shape = (121, *[1] * (given.ndim - 1))
    with torch.no_grad():
        far = module.forward(torch.tensor([-1e4, 1e4], dtype=grid.dtype, device=grid.device).reshape(2, *shape[1:]))
    slopes = _slope(module, grid.reshape(shape), grid.reshape(shape), alone)
    return torch.where((far.abs() < 100).all(), slopes.abs().amax(), torch.zeros_like(slopes.amax()))


def reach(layer: Layer) -> list[float | None] | None:
    """The least and the most that an activation or a softmax can say, None where there is no bound; None if unknown."""
    module = layer.module
    if isinstance(module, nn.Softmax):
        return [0.0, 1.0]
    if isinstance(module, (nn.LogSoftmax, nn.PReLU)) or layer.said.shape != layer.given.shape:
        return None
    with torch.no_grad():
        far = torch.tensor([-1e4, 1e4], dtype=layer.given.dtype, device=layer.given.device)
        said = module.forward(torch.cat([far, torch.linspace(-6, 6, 121, dtype=far.dtype, device=far.device)]))
    return [None if abs(bound) > 100 else bound for bound in (float(said.min()), float(said.max()))]


def _is_leaf(module: nn.Module) -> bool:
    return next(module.children(), None) is None


def _copied(tensors: Tensors) -> Tensors:
    return {name: t.clone() for name, t in tensors.items()}


def plain_grad(
    objective: Callable[[Tensors], Any],
    has_aux: bool = True,
    wearing: Callable[[Tensors], AbstractContextManager[Any]] = nullcontext,
) -> Callable[[Tensors], tuple[Tensors, Any]]:
    """``torch.func.grad`` by autograd's own tape: several times less to do for each operation, but not under vmap.

    Parameters without part in the loss get zeros; sparse gradients are made dense, as lengths are taken of them.
    """

    def gradients(parameters: Tensors) -> tuple[Tensors, Any]:
        with torch.enable_grad():
            leaves = {name: p.detach().requires_grad_() for name, p in parameters.items()}
            with wearing(leaves):
                loss, extra = objective(leaves) if has_aux else (objective(leaves), None)
                found = torch.autograd.grad(loss, list(leaves.values()), allow_unused=True)
        return {
            name: torch.zeros_like(leaf) if g is None else g.to_dense() if g.is_sparse else g
            for (name, leaf), g in zip(leaves.items(), found, strict=True)
        }, extra

    return gradients


def owners(names: Mapping[str, Any], prefix: str) -> dict[str, list[str]]:
    """Parameter names by the layer that owns them, the prefix taken off; what has none is left out."""
    found: dict[str, list[str]] = {}
    for name in names:
        if name.startswith(prefix):
            layer = name[len(prefix) :].rpartition(".")[0]
            found.setdefault(layer or name[len(prefix) :], []).append(name)
    return found
