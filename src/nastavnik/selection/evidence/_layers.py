"""What single layers see and what reaches them: the parts that diagonal and Kronecker curvature are made of.

Legend: n rows, o outputs, t positions; Λ [n, o, o] the likelihood's second derivatives in the outputs, Λ = Σ_r R Rᵀ
with columns R [r, n, o]; g [n, t, out] a column's slope in a layer's output.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

from nastavnik.selection.evidence._joint import Joint
from nastavnik.training.optimizers import Tensors

_CACHED = 2**19  # numbers of one layer's slopes at a time, which a processor's cache holds
_FEW = 32  # outputs whose Λ of some thousand rows is small
_COPIES = frozenset({"CloneBackward0"})
_ELEMENTWISE = _COPIES | {
    f"{name}Backward0"
    for name in (
        *("Relu", "Tanh", "Sigmoid", "Gelu", "Silu", "Elu", "LeakyRelu", "Softplus", "Mish", "LogSigmoid"),
        *("Hardtanh", "Hardswish", "Hardsigmoid", "Sin", "Cos", "Exp", "Abs", "Neg"),
    )
}


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
    short: Callable[[], list[torch.Tensor]] | None  # Σ_r g² [n, out] of each layer without the columns

    def squares(self) -> dict[int, torch.Tensor]:
        """Σ_r g² [n, out] of the layers of one position, by their place.

        Positions would have to be added up before they are squared, so layers of several are left out.
        """
        if self.short is not None:
            return dict(enumerate(self.short()))
        plain = [i for i, layer in enumerate(self.layers) if layer.inputs.shape[1] == 1]
        sums: dict[int, torch.Tensor] = {}
        for column in self.columns:
            for i in plain:
                g = column[i][:, 0]
                sums[i] = sums[i].addcmul_(g, g) if i in sums else g.square()
        return sums


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
        self._step = 0  # rows at a time
        for name, m in self.layers.items():
            m.register_forward_hook(lambda module, given, output, name=name: self._heard(name, given[0], output))

    def of(self, k: int) -> Iterator[Portion]:
        """The k-th network's layers, some rows at a time; what is cut off here depends on the widths alone."""
        inputs, targets = self.joint.data_of(k)
        self.joint.put(self.module, k)
        self._step = self._step or self._rows(inputs)
        for start in range(0, len(targets), self._step):
            rows = slice(start, start + self._step)
            yield self._see(k, tuple(t[rows] for t in inputs), targets[rows])

    def _rows(self, inputs: tuple[torch.Tensor, ...]) -> int:
        """Rows at a time, so that a layer's slopes stay in the processor's cache."""
        self._inputs, self._outputs = {}, {}
        with torch.no_grad():
            self.module(tuple(t[:1] for t in inputs))
        self._copies = any(t._version != before for t, before in self._outputs.values())
        widest = max((t.numel() for t, _ in self._outputs.values()), default=1)
        return max(16, _CACHED // widest)

    def _heard(self, name: str, given: torch.Tensor, output: torch.Tensor) -> torch.Tensor:
        self._inputs[name] = given
        self._outputs[name] = output, output._version
        return output.clone() if self._copies else output

    def _see(self, k: int, inputs: tuple[torch.Tensor, ...], targets: torch.Tensor) -> Portion:
        joint, constants = self.joint, self.joint.constants_of(k)
        self._inputs, self._outputs = {}, {}
        with torch.enable_grad():
            outputs = self.module(inputs)
        seen, products = self._inputs, {name: t for name, (t, _) in self._outputs.items()}
        plain = outputs.detach()
        self.log_likelihood[k] -= joint.losses_of(plain, constants, targets).double().sum()

        def columns() -> Iterator[list[torch.Tensor]]:
            for column in joint.columns(plain, constants, targets) if products else ():
                found = torch.autograd.grad(
                    outputs, list(products.values()), column, retain_graph=True, materialize_grads=True
                )
                yield [_positions_out(self.layers[name], g) for name, g in zip(products, found, strict=True)]

        def short() -> list[torch.Tensor]:
            first, last = products
            weight = self.layers[last].weight.detach()
            return _short_squares(weight, joint.curvature(plain, constants, targets), products[first], seen[last])

        layers = [
            Layer(
                f"{name}.weight",
                f"{name}.bias" if f"{name}.bias" in joint.layout.places else None,
                _positions_in(self.layers[name], given.detach()),
                _is_data(given, inputs),
            )
            for name, given in seen.items()
        ]
        return Portion(layers, columns(), short if self._is_short(outputs, seen, products) else None)

    def _is_short(self, outputs: torch.Tensor, seen: Tensors, products: Tensors) -> bool:
        """Whether the network ends in hidden layer, activation, linear layer, and nothing else has weights there."""
        if len(products) != 2 or any(t.ndim != 2 for t in products.values()):
            return False
        first, last = products
        few = outputs.shape[1] <= _FEW
        return few and _leads(products[last], outputs, _COPIES) and _leads(products[first], seen[last], _ELEMENTWISE)


def _short_squares(w: torch.Tensor, curved: torch.Tensor, z: torch.Tensor, hidden: torch.Tensor) -> list[torch.Tensor]:
    """Σ_r g² [n, out] of a hidden layer z [n, h] and of the linear layer with weights w [o, h] after it.

    With slopes φ' of the activation between them, Σ_r g² = φ'² (Wᵀ Λ W)_hh: one product with all W_oh W_ph, where
    the columns would each have to be carried back.
    """
    pairs = (w[:, None] * w[None]).flatten(0, 1)  # [o·o, h]
    (slope,) = torch.autograd.grad(hidden, z, torch.ones_like(hidden))
    before = (curved.movedim(0, -1).flatten(0, 1).T @ pairs).clamp_(min=0).mul_(slope).mul_(slope)
    return [before, curved.diagonal(dim1=1, dim2=2)]


def _leads(start: torch.Tensor, end: torch.Tensor, through: frozenset[str]) -> bool:
    """Whether ``end`` was made from ``start`` by these operations alone."""
    first, node = start.grad_fn, end.grad_fn
    while node is not None and node is not first and node.name() in through:
        node = node.next_functions[0][0]
    return node is first and node is not None


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
