"""Networks, data and prior together: the joint density that every road to the evidence starts from.

Legend: K networks, n rows, o outputs, P weights of a network, G groups of weights. A *group* has one prior precision:
all weights are one group, or each parameter tensor is.

log p(D, w) = Σ log p(y | f(x, w)) + Σ_g ½ n_g log(α_g / 2π) - ½ α_g Σ w_g², in nats of the whole data set.
"""

from __future__ import annotations

import copy
import functools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn
from torch.func import functional_call, vmap

from nastavnik.errors import UserError
from nastavnik.nets import Conduct, Function, copied_module
from nastavnik.population import Population
from nastavnik.training.likelihoods import Likelihood, RealLikelihood
from nastavnik.training.optimizers import Tensors

LARGE = 20_000  # weights from which single precision is used unless told otherwise
_LIKELIHOOD = "likelihood."
NETWORK = "network."
Networks = nn.Module | Sequence[nn.Module] | Population


class Scored(nn.Module):
    """A network and its likelihood: outputs, the negative log likelihood of each row, or its curvature."""

    def __init__(self, network: nn.Module, likelihood: Likelihood) -> None:
        super().__init__()
        self.network, self.likelihood = network, likelihood
        self.conduct = Conduct()

    def __deepcopy__(self, memo: dict[int, Any]) -> nn.Module:
        return copied_module(self, memo)

    def forward(
        self,
        inputs: tuple[torch.Tensor, ...],
        targets: torch.Tensor | None = None,
        factor: torch.Tensor | float = 1.0,
        curvature: str | None = None,
    ) -> torch.Tensor:
        """inputs, targets [n] -> nats [n]; without targets, outputs [n, o].

        ``curvature`` "columns": R [r, n, o]; "matrix": Λ [n, o, o]. ``factor`` multiplies the noise; the curvature is
        at factor 1.
        """
        outputs = self.conduct.answer(self.network, inputs, None)
        if targets is None:
            return outputs
        if curvature == "columns":
            return self.likelihood.curvature_columns(outputs, targets)
        if curvature == "matrix":
            return self.likelihood.curvature(outputs, targets)
        return self.likelihood.neg_log_likelihood(outputs, targets, factor)


class Layout:
    """Where each parameter tensor lies in the vector of weights, and to which group it belongs."""

    def __init__(self, shapes: Mapping[str, torch.Size], *, per_layer: bool) -> None:
        self.shapes = dict(shapes)
        self.sizes = {name: math.prod(shape) for name, shape in shapes.items()}
        self.names = list(shapes) if per_layer else ["all"]
        self.size = sum(self.sizes.values())
        place, groups = 0, []
        self.places: dict[str, slice] = {}
        for i, (name, size) in enumerate(self.sizes.items()):
            self.places[name] = slice(place, place + size)
            groups.append(torch.full((size,), i if per_layer else 0))
            place += size
        self.group = torch.cat(groups)
        self.counts = torch.bincount(self.group, minlength=len(self.names)).double()

    def split(self, w: torch.Tensor) -> Tensors:
        """[P] -> tensors by name."""
        return {name: w[place].reshape(self.shapes[name]) for name, place in self.places.items()}

    def each(self, values: torch.Tensor) -> torch.Tensor:
        """One value a group [..., G] -> one a weight [..., P]."""
        if len(self.names) == 1:
            return values.expand(*values.shape[:-1], self.size)
        return values[..., self.group]

    def summed(self, values: torch.Tensor) -> torch.Tensor:
        """One value a weight [..., P] -> sums a group [..., G]."""
        if len(self.names) == 1:
            return values.sum(-1, keepdim=True)
        return torch.stack([values[..., place].sum(-1) for place in self.places.values()], dim=-1)


@dataclass(frozen=True)
class Joint:
    """K networks of one architecture with their data and priors.

    ``weights`` [K, P]; ``constants`` buffers and frozen parameters [K, …]; ``inputs`` [n, …] and ``targets`` [n, …]
    for all, or with ``own`` [K, n, …]; ``precision`` [K, G]; ``factor`` [K], of the likelihood's noise.
    """

    module: Scored
    layout: Layout
    weights: torch.Tensor
    constants: Tensors
    inputs: tuple[torch.Tensor, ...]
    targets: torch.Tensor
    own: bool
    precision: torch.Tensor
    factor: torch.Tensor

    def __len__(self) -> int:
        return len(self.weights)

    @property
    def likelihood(self) -> Likelihood:
        """Of the first network; only numbers in it may differ between networks."""
        return self.module.likelihood

    @property
    def rows(self) -> int:
        """n."""
        return self.targets.shape[1 if self.own else 0]

    @functools.cached_property
    def function(self) -> Function:
        """The module as a function of its tensors."""
        return Function(self.module)

    @property
    def has_noise(self) -> bool:
        """Whether the likelihood has one noise for all rows, which the evidence may choose."""
        return isinstance(self.likelihood, RealLikelihood) and self.likelihood.noise != "input"

    def noise(self) -> torch.Tensor | None:
        """The noise [K] in the targets' units, if there is one."""
        if not self.has_noise:
            return None
        likelihood = self.likelihood
        assert isinstance(likelihood, RealLikelihood)
        learned = likelihood.noise == "learned"
        base = self.constants["likelihood.log_noise" if learned else "likelihood.fixed_noise"]
        return self.factor * (base.exp() + 1e-4 if learned else base)

    # Of ONE network

    def outputs(self, w: torch.Tensor, constants: Tensors, inputs: tuple[torch.Tensor, ...]) -> torch.Tensor:
        """w [P], inputs [n, …] -> outputs [n, o]."""
        return self.function({**self.layout.split(w), **constants}, (inputs,))

    def losses(
        self,
        w: torch.Tensor,
        constants: Tensors,
        inputs: tuple[torch.Tensor, ...],
        targets: torch.Tensor,
        factor: torch.Tensor,
    ) -> torch.Tensor:
        """Negative log likelihood of each row [n], nats."""
        return self.function({**self.layout.split(w), **constants}, (inputs, targets, factor))

    def log_prior(self, w: torch.Tensor, precision: torch.Tensor) -> torch.Tensor:
        """log p(w): w [P], precision [G] -> nats."""
        counts = self.layout.counts.to(w)
        normal = 0.5 * (counts * (precision.log() - math.log(2 * math.pi))).sum()
        return normal - 0.5 * (precision * self.layout.summed(w * w)).sum()

    def columns(self, outputs: torch.Tensor, constants: Tensors, targets: torch.Tensor) -> torch.Tensor:
        """R [r, n, o] with Σ_r R Rᵀ = Λ, the losses' second derivatives in the outputs [n, o], at factor 1."""
        return self._of_outputs(constants, ((outputs,), targets), {"curvature": "columns"})

    def curvature(self, outputs: torch.Tensor, constants: Tensors, targets: torch.Tensor) -> torch.Tensor:
        """Λ [n, o, o]: the losses' second derivatives in the outputs [n, o], at factor 1."""
        return self._of_outputs(constants, ((outputs,), targets), {"curvature": "matrix"})

    def losses_of(self, outputs: torch.Tensor, constants: Tensors, targets: torch.Tensor) -> torch.Tensor:
        """Negative log likelihood of each row [n] from outputs [n, o], at factor 1."""
        return self._of_outputs(constants, ((outputs,), targets), {})

    def _of_outputs(self, constants: Tensors, arguments: Any, options: Any) -> torch.Tensor:
        own = {n: t for n, t in constants.items() if n.startswith(_LIKELIHOOD)}
        alone = Scored(_First(), self.likelihood)
        return functional_call(alone, own, arguments, options) if own else alone(*arguments, **options)

    def described(self, outputs: torch.Tensor, constants: Tensors, factor: torch.Tensor) -> Tensors:
        """The likelihood's description of outputs [n, o]."""
        likelihood = copy.deepcopy(self.likelihood)
        own = dict(likelihood.named_parameters()) | dict(likelihood.named_buffers())
        with torch.no_grad():
            for name, t in own.items():
                t.copy_(constants[_LIKELIHOOD + name])
        temperature = factor if self.has_noise else 1.0
        return {n: t.detach() for n, t in likelihood.describe(outputs, temperature).items()}

    # Of all K

    def data_dims(self) -> int | None:
        """in_dims of the data under vmap."""
        return 0 if self.own else None

    def log_likelihoods(self, weights: torch.Tensor) -> torch.Tensor:
        """Σ log p(y | f) of each network [K] at weights [K, P]."""

        def one(w: torch.Tensor, c: Tensors, x: Any, y: torch.Tensor, f: torch.Tensor) -> torch.Tensor:
            return -self.losses(w, c, x, y, f).sum()

        dims = (0, 0, self.data_dims(), self.data_dims(), 0)
        return batched(one, dims)(weights, self.constants, self.inputs, self.targets, self.factor)

    def log_priors(self, weights: torch.Tensor) -> torch.Tensor:
        """log p(w) of each network [K]."""
        return vmap(self.log_prior)(weights, self.precision)

    def network(self, k: int) -> nn.Module:
        """The k-th network as a module with its weights."""
        module = copy.deepcopy(self.module)
        self.put(module, k)
        return module.network.eval()

    def put(self, module: nn.Module, k: int) -> None:
        """Write the k-th network's tensors into a copy of the module."""
        own = dict(module.named_parameters()) | dict(module.named_buffers())
        with torch.no_grad():
            for name, t in {**self.layout.split(self.weights[k]), **self.constants_of(k)}.items():
                own[name].copy_(t)

    def only(self, k: int) -> Joint:
        """The k-th network alone."""
        few = slice(k, k + 1)
        return replace(
            self,
            weights=self.weights[few],
            constants={n: t[few] for n, t in self.constants.items()},
            inputs=tuple(t[few] for t in self.inputs) if self.own else self.inputs,
            targets=self.targets[few] if self.own else self.targets,
            precision=self.precision[few],
            factor=self.factor[few],
        )

    def data_of(self, k: int) -> tuple[tuple[torch.Tensor, ...], torch.Tensor]:
        """The k-th network's inputs and targets."""
        if self.own:
            return tuple(t[k] for t in self.inputs), self.targets[k]
        return self.inputs, self.targets

    def constants_of(self, k: int) -> Tensors:
        """The k-th network's buffers and frozen parameters."""
        return {n: t[k] for n, t in self.constants.items()}

    def repeated(self, times: int) -> Joint:
        """Each network ``times`` times in a row: chains, restarts."""

        def again(t: torch.Tensor) -> torch.Tensor:
            return t.repeat_interleave(times, 0)

        return replace(
            self,
            weights=again(self.weights),
            constants={n: again(t) for n, t in self.constants.items()},
            inputs=tuple(again(t) for t in self.inputs) if self.own else self.inputs,
            targets=again(self.targets) if self.own else self.targets,
            precision=again(self.precision),
            factor=again(self.factor),
        )


def flushed(t: torch.Tensor) -> torch.Tensor:
    """Without the tiniest numbers, which weigh nothing in a sum and with which processors are twenty times slower."""
    return torch.nn.functional.hardshrink(t, torch.finfo(t.dtype).eps ** 2)


class _First(nn.Module):
    """Gives its first input back."""

    def forward(self, x: torch.Tensor, *others: torch.Tensor) -> torch.Tensor:
        return x


def batched(one: Callable[..., Any], in_dims: Any, chunk: int | None = None) -> Callable[..., Any]:
    """``vmap(one)``; one after the other where vmap cannot run what the module does."""

    def run(*arguments: Any) -> Any:
        try:
            return vmap(one, in_dims=in_dims, chunk_size=chunk)(*arguments)
        except (UserError, torch.OutOfMemoryError):
            raise
        except Exception as error:  # if it is the module's own, it comes again
            if "allocate memory" in str(error):
                raise
        mapped = [argument for dim, argument in zip(in_dims, arguments, strict=True) if dim == 0]
        each = []
        for k in range(_count(mapped)):
            mine = [
                a if dim is None else _each(lambda t, k=k: t[k], a) for dim, a in zip(in_dims, arguments, strict=True)
            ]
            each.append(one(*mine))
        return _each(lambda *same: torch.stack(same), *each)

    return run


def _each(change: Callable[..., torch.Tensor], first: Any, *others: Any) -> Any:
    """The change done to every tensor of nested tuples and dicts, or to those in the same place of several."""
    if isinstance(first, dict):
        return {name: _each(change, t, *(o[name] for o in others)) for name, t in first.items()}
    if isinstance(first, (tuple, list)):
        return tuple(_each(change, t, *(o[i] for o in others)) for i, t in enumerate(first))
    return change(first, *others)


def _count(nested: Any) -> int:
    """How many lie side by side in the first tensor."""
    while not isinstance(nested, torch.Tensor):
        nested = next(v for v in (nested.values() if isinstance(nested, dict) else nested) if len(v))
    return len(nested)
