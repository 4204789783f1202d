"""Curvature of the likelihood: exact Hessians, generalized Gauss–Newton matrices, and what layers contribute.

Legend: n rows, o outputs, P weights. J [n, o, P] are the outputs' derivatives in the weights; Λ [n, o, o] the negative
log likelihood's second derivatives in the outputs, Λ = Σ_r R Rᵀ with R [r, n, o]. The generalized Gauss–Newton matrix
is Σ_n Jᵀ Λ J (Schraudolph 2002), in nats of the whole data set.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import nn
from torch.func import grad, jacrev
from torch.nn import functional as F

from nastavnik.errors import UserError
from nastavnik.selection.evidence._joint import Joint, batched
from nastavnik.training.optimizers import Tensors

_BYTES = 256 * 2**20  # of a Jacobian at a time
_CACHED = 2**19  # numbers of one layer's slopes at a time, which a processor's cache holds


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
        return jacrev(lambda v: joint.outputs(whole(v), constants, one)[0])(start)

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

        h = jacrev(grad(total), chunk_size=64)(w)
        return 0.5 * (h + h.T)

    dims = (0, 0, joint.data_dims(), joint.data_dims())
    with torch.no_grad():
        return batched(one, dims, chunk=8)(weights, joint.constants, joint.inputs, joint.targets)


@dataclass
class Layer:
    """One layer and what it was given of some rows: ``inputs`` [n, t, in], t positions (1 for a table).

    ``first``: whether its input is the data itself.
    """

    weight: str
    bias: str | None
    inputs: torch.Tensor
    first: bool


@dataclass
class Portion:
    """Some rows of one network: its layers, and the slopes of R's columns in their outputs."""

    layers: list[Layer]
    columns: Iterator[list[torch.Tensor]]  # for each column of R, each layer's [n, t, out]


class Layers:
    """What the linear and convolutional layers of networks see, if the posterior is over their weights.

    One forward pass, and one backward pass a column of R down to the layers' outputs; no weight's gradient is formed.
    """

    def __init__(self, joint: Joint) -> None:
        self.joint, self.module = joint, copy.deepcopy(joint.module).requires_grad_()
        self.layers = {
            name: m for name, m in self.module.named_modules() if is_product(m) and name in plain_products(joint)
        }
        self.log_likelihood = joint.weights.new_zeros(len(joint), dtype=torch.float64)  # of what was seen, at factor 1
        self._inputs: dict[str, torch.Tensor] = {}
        self._outputs: dict[str, tuple[torch.Tensor, int]] = {}
        self._copies = False  # where a module changes a layer's output in place
        for name, m in self.layers.items():
            m.register_forward_hook(lambda module, given, output, name=name: self._heard(name, given[0], output))

    def of(self, k: int) -> Iterator[Portion]:
        """The k-th network's layers, some rows at a time; what is cut off here depends on the widths alone."""
        inputs, targets = self.joint.data_of(k)
        self.joint.put(self.module, k)
        for rows in torch.arange(len(targets)).split(self._rows(inputs)):
            place = slice(int(rows[0]), int(rows[-1]) + 1)
            yield self._see(k, tuple(t[place] for t in inputs), targets[place])

    def _rows(self, inputs: tuple[torch.Tensor, ...]) -> int:
        """Rows at a time, so that a layer's slopes stay in the processor's cache."""
        self._inputs, self._outputs = {}, {}
        with torch.no_grad():
            self.module(tuple(t[:1] for t in inputs))
        self._copies = any(t._version != before for t, before in self._outputs.values())
        widest = max((t.numel() for t, _ in self._outputs.values()), default=1)
        return max(16, _CACHED // widest)

    def _heard(self, name: str, given: torch.Tensor, output: torch.Tensor) -> torch.Tensor:
        self._inputs[name] = given.detach()
        self._outputs[name] = output, output._version
        return output.clone() if self._copies else output

    def _see(self, k: int, inputs: tuple[torch.Tensor, ...], targets: torch.Tensor) -> Portion:
        joint, constants = self.joint, self.joint.constants_of(k)
        self._inputs, self._outputs = {}, {}
        with torch.enable_grad():
            outputs = self.module(inputs)
        seen, products = self._inputs, {name: t for name, (t, _) in self._outputs.items()}
        r = joint.columns(outputs.detach(), constants, targets)
        self.log_likelihood[k] -= joint.losses_of(outputs.detach(), constants, targets).double().sum()

        def columns() -> Iterator[list[torch.Tensor]]:
            for column in r if products else ():
                found = torch.autograd.grad(
                    outputs, list(products.values()), column, retain_graph=True, materialize_grads=True
                )
                yield [_positions_out(self.layers[name], g) for name, g in zip(products, found, strict=True)]

        layers = [
            Layer(
                f"{name}.weight",
                f"{name}.bias" if f"{name}.bias" in joint.layout.places else None,
                _positions_in(self.layers[name], given),
                _is_data(given, inputs),
            )
            for name, given in seen.items()
        ]
        return Portion(layers, columns())


def _is_data(given: torch.Tensor, inputs: tuple[torch.Tensor, ...]) -> bool:
    """Whether a layer's input is the network's first input itself, flattened or not."""
    x = inputs[0]
    return given.data_ptr() == x.data_ptr() and given.numel() == x.numel() and given.dtype == x.dtype


def plain_products(joint: Joint) -> dict[str, int]:
    """Linear and convolutional layers that a pass calls once, with an input whose first axis is the rows.

    Their inputs' dimensions by name. Layers whose weights another module shares, that are called more than once or not
    at all, or that see rows and positions mixed, are left out.
    """
    module = copy.deepcopy(joint.module)
    owners: dict[int, int] = {}
    for _, p in module.named_parameters(remove_duplicate=False):
        owners[id(p)] = owners.get(id(p), 0) + 1
    calls: dict[str, list[torch.Tensor]] = {}
    candidates = {
        name: m
        for name, m in module.named_modules()
        if is_product(m)
        and f"{name}.weight" in joint.layout.places
        and all(owners[id(p)] == 1 for p in m.parameters(recurse=False))
    }
    for name, m in candidates.items():
        m.register_forward_hook(lambda m, given, output, name=name: calls.setdefault(name, []).append(given[0]))
    inputs, _ = joint.data_of(0)
    sizes = sorted({1, min(2, len(inputs[0]))})
    with torch.no_grad():
        for rows in sizes:
            module(tuple(t[:rows] for t in inputs))
    found = {}
    for name, seen in calls.items():
        if len(seen) == len(sizes) and all(len(t) == rows for t, rows in zip(seen, sizes, strict=True)):
            found[name] = seen[0].ndim
    return found


def is_product(module: nn.Module) -> bool:
    """Whether a module multiplies its input by a matrix of weights."""
    if isinstance(module, nn.Conv2d):
        return module.groups == 1 and module.padding_mode == "zeros" and not isinstance(module.padding, str)
    return type(module) is nn.Linear


def _positions_in(module: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """[n, t, in]."""
    if isinstance(module, nn.Conv2d):
        assert not isinstance(module.padding, str)
        return F.unfold(x, module.kernel_size, module.dilation, module.padding, module.stride).mT
    return x.reshape(len(x), -1, x.shape[-1])


def _positions_out(module: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """[n, t, out]."""
    return x.flatten(2).mT if isinstance(module, nn.Conv2d) else x.reshape(len(x), -1, x.shape[-1])


def outputs_jacobians(joint: Joint, k: int, inputs: tuple[torch.Tensor, ...]) -> Iterator[torch.Tensor]:
    """The k-th network's Jacobians [rows, o, P] of some inputs, some rows at a time."""
    w, c = joint.weights[k], joint.constants_of(k)
    size = joint.layout.size * joint.likelihood.outputs * joint.weights.element_size()
    step = max(1, _BYTES // size)
    for start in range(0, len(inputs[0]), step):
        with torch.no_grad():
            yield jacobian(joint, w, c, tuple(t[start : start + step] for t in inputs))
