"""The shapes a normal posterior's precision may have: A = s·H + diag(α), H the likelihood's curvature, α the prior's.

Legend: K networks, P weights, G groups, s [K] = 1 / factor² where the likelihood has one noise, else 1. Each structure
answers the same questions for given s and α: log |A|, the trace of A⁻¹ in each group, the variance of each weight, the
covariance of outputs whose Jacobian is given, draws. Where A is not positive they answer with what is no number.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from nastavnik.errors import UserError
from nastavnik.selection.evidence._curvature import blocks, check_curved, exact_hessian, gauss_newton, jacobian
from nastavnik.selection.evidence._joint import Joint, Layout
from nastavnik.selection.evidence._layers import Layers

MOST_FULL = 5000  # weights of a full matrix


class Structure(Protocol):
    """What every structure answers, for all K networks; ``k`` is one of them."""

    layout: Layout
    notes: tuple[str, ...]
    log_likelihood: torch.Tensor | None  # of the data at factor 1 [K], if it fell out

    def logdet(self, alpha: torch.Tensor, s: torch.Tensor) -> torch.Tensor:
        """log |A| [K]; alpha [K, G], s [K]."""
        ...

    def traces(self, alpha: torch.Tensor, s: torch.Tensor) -> torch.Tensor:
        """tr A⁻¹ of each group [K, G]."""
        ...

    def variances(self, k: int, alpha: torch.Tensor, s: torch.Tensor) -> torch.Tensor:
        """The variance of each weight [P]; alpha [G], s a scalar."""
        ...

    def spread(self, k: int, j: torch.Tensor, alpha: torch.Tensor, s: torch.Tensor) -> torch.Tensor:
        """J A⁻¹ Jᵀ [n, o, o] for j [n, o, P]."""
        ...

    def draws(self, k: int, noise: torch.Tensor, alpha: torch.Tensor, s: torch.Tensor) -> torch.Tensor:
        """Draws around zero [S, P] from standard normal noise [S, P]."""
        ...


class Full:
    """All of A."""

    def __init__(self, h: torch.Tensor, layout: Layout, notes: tuple[str, ...] = ()) -> None:
        self.h, self.layout, self.notes = h, layout, notes
        self.log_likelihood: torch.Tensor | None = None
        self._values: torch.Tensor | None = None

    @classmethod
    def of(cls, joint: Joint, *, exact: bool = False) -> Full:
        """The curvature at the joint's weights."""
        check_size(joint)
        h = exact_hessian(joint, joint.weights) if exact else gauss_newton(joint, joint.weights)
        return cls(h, joint.layout)

    def logdet(self, alpha: torch.Tensor, s: torch.Tensor) -> torch.Tensor:
        """By eigenvalues where there is one prior precision, else by Cholesky's factor."""
        if alpha.shape[1] == 1:
            return (s[:, None] * self._eigenvalues() + alpha).log().sum(1)
        found = [factor.diagonal().log().sum() * 2 for factor in self._factors(alpha, s)]
        return torch.stack(found)

    def traces(self, alpha: torch.Tensor, s: torch.Tensor) -> torch.Tensor:
        """By eigenvalues where there is one prior precision, else from the inverse."""
        if alpha.shape[1] == 1:
            return (1 / (s[:, None] * self._eigenvalues() + alpha)).sum(1, keepdim=True)
        inverses = [torch.cholesky_inverse(factor).diagonal() for factor in self._factors(alpha, s)]
        return self.layout.summed(torch.stack(inverses))

    def variances(self, k: int, alpha: torch.Tensor, s: torch.Tensor) -> torch.Tensor:
        """The diagonal of A⁻¹."""
        return torch.cholesky_inverse(self.factor(k, alpha, s)).diagonal()

    def covariance(self, k: int, alpha: torch.Tensor, s: torch.Tensor) -> torch.Tensor:
        """A⁻¹ [P, P]."""
        return torch.cholesky_inverse(self.factor(k, alpha, s))

    def spread(self, k: int, j: torch.Tensor, alpha: torch.Tensor, s: torch.Tensor) -> torch.Tensor:
        """By a triangular solution."""
        half = torch.linalg.solve_triangular(self.factor(k, alpha, s), j.reshape(-1, j.shape[-1]).T, upper=False)
        half = half.T.reshape(j.shape)
        return half @ half.mT

    def draws(self, k: int, noise: torch.Tensor, alpha: torch.Tensor, s: torch.Tensor) -> torch.Tensor:
        """L⁻ᵀ ε."""
        return torch.linalg.solve_triangular(self.factor(k, alpha, s).T, noise.T, upper=True).T

    def factor(self, k: int, alpha: torch.Tensor, s: torch.Tensor) -> torch.Tensor:
        """Cholesky's lower factor of A; not numbers where A is not positive."""
        matrix = s * self.h[k] + torch.diag(self.layout.each(alpha))
        if not bool(torch.isfinite(matrix).all()):  # which LAPACK must not see
            return torch.full_like(matrix, torch.nan)
        factor, info = torch.linalg.cholesky_ex(matrix)
        return factor if int(info) == 0 else torch.full_like(matrix, torch.nan)

    def _factors(self, alpha: torch.Tensor, s: torch.Tensor) -> list[torch.Tensor]:
        return [self.factor(k, alpha[k], s[k]) for k in range(len(alpha))]

    def _eigenvalues(self) -> torch.Tensor:
        if self._values is None:
            fine = torch.isfinite(self.h).all(-1).all(-1)
            safe = torch.where(fine[:, None, None], self.h, torch.zeros_like(self.h))
            values = torch.linalg.eigvalsh(safe)
            tiny = self.h.shape[-1] * torch.finfo(self.h.dtype).eps * values.abs().amax(1, keepdim=True)
            values = torch.where(values.abs() <= tiny, torch.zeros_like(values), values)
            self._values = torch.where(fine[:, None], values, torch.nan)
        return self._values


class Diagonal:
    """The diagonal of A alone: weights are independent."""

    def __init__(self, h: torch.Tensor, layout: Layout, log_likelihood: torch.Tensor | None = None) -> None:
        self.h, self.layout, self.log_likelihood = h, layout, log_likelihood
        self.notes: tuple[str, ...] = ("weights independent of each other",)

    @classmethod
    def of(cls, joint: Joint) -> Diagonal:
        """The exact diagonal of the Gauss–Newton matrix; no Jacobian is formed of linear layers."""
        check_curved(joint)
        layers, shared = Layers(joint), _Shared()
        h = torch.zeros_like(joint.weights)
        for k in range(len(joint)):
            _add_diagonal(joint, k, layers, shared, h[k])
        return cls(h, joint.layout, layers.log_likelihood if layers.layers else None)

    def _precision(self, alpha: torch.Tensor, s: torch.Tensor) -> torch.Tensor:
        return (s[..., None] * self.h).add_(self.layout.each(alpha))

    def logdet(self, alpha: torch.Tensor, s: torch.Tensor) -> torch.Tensor:
        """Σ log A_ii."""
        return self._precision(alpha, s).log_().sum(1, dtype=torch.float64).to(self.h.dtype)

    def traces(self, alpha: torch.Tensor, s: torch.Tensor) -> torch.Tensor:
        """Σ 1 / A_ii."""
        return self.layout.summed(1 / self._precision(alpha, s))

    def variances(self, k: int, alpha: torch.Tensor, s: torch.Tensor) -> torch.Tensor:
        """1 / A_ii."""
        return 1 / (s * self.h[k] + self.layout.each(alpha))

    def spread(self, k: int, j: torch.Tensor, alpha: torch.Tensor, s: torch.Tensor) -> torch.Tensor:
        """Σ J² / A_ii."""
        return (j * self.variances(k, alpha, s)) @ j.mT

    def draws(self, k: int, noise: torch.Tensor, alpha: torch.Tensor, s: torch.Tensor) -> torch.Tensor:
        """ε / √A_ii."""
        return noise * self.variances(k, alpha, s).sqrt()


@dataclass
class Block:
    """G ⊗ B of one parameter tensor [r, c] by eigenvectors: slopes' Σ g gᵀ and inputs' mean a aᵀ.

    ``left`` [r, r] with ``rows`` [r]; ``right`` [c, c] with ``columns`` [c]. A side of None is the identity's basis.
    """

    name: str
    left: torch.Tensor | None
    rows: torch.Tensor
    right: torch.Tensor | None
    columns: torch.Tensor

    def precision(self, alpha: torch.Tensor, s: torch.Tensor) -> torch.Tensor:
        """Eigenvalues of A [r, c]."""
        return s * self.rows[:, None] * self.columns[None, :] + alpha

    def turned(self, j: torch.Tensor, back: bool = False) -> torch.Tensor:
        """j [..., r·c] in the basis of eigenvectors, or back."""
        j = j.reshape(*j.shape[:-1], len(self.rows), len(self.columns))
        if self.left is not None:
            j = (self.left if back else self.left.T) @ j
        if self.right is not None:
            j = j @ (self.right.T if back else self.right)
        return j


class Kronecker:
    """K-FAC: each layer's block is a product of what its outputs' slopes and its inputs show; layers are independent.

    Biases have the exact block Σ g gᵀ. Parameters of other layers (normalization, embeddings) have their diagonal.
    """

    def __init__(
        self, each: Sequence[Sequence[Block]], layout: Layout, log_likelihood: torch.Tensor | None = None
    ) -> None:
        self.each, self.layout, self.log_likelihood = each, layout, log_likelihood
        self.notes: tuple[str, ...] = ("layers independent of each other, a layer's block a Kronecker product",)

    @classmethod
    def of(cls, joint: Joint) -> Kronecker:
        """The factors of all networks; those of the data itself are computed once."""
        check_curved(joint)
        layers, shared = Layers(joint), _Shared()
        each = [_blocks(joint, k, layers, shared) for k in range(len(joint))]
        return cls(each, joint.layout, layers.log_likelihood if layers.layers else None)

    def _alpha(self, name: str, alpha: torch.Tensor) -> torch.Tensor:
        return alpha[self.layout.group[self.layout.places[name].start]]

    def logdet(self, alpha: torch.Tensor, s: torch.Tensor) -> torch.Tensor:
        """Σ log of eigenvalues."""

        def one(k: int) -> torch.Tensor:
            found = [b.precision(self._alpha(b.name, alpha[k]), s[k]).log().double().sum() for b in self.each[k]]
            return torch.stack(found).sum()

        return torch.stack([one(k) for k in range(len(self.each))]).to(alpha.dtype)

    def traces(self, alpha: torch.Tensor, s: torch.Tensor) -> torch.Tensor:
        """Σ 1 / eigenvalues."""
        found = torch.zeros_like(alpha)
        for k, own in enumerate(self.each):
            for b in own:
                group = self.layout.group[self.layout.places[b.name].start]
                found[k, group] += (1 / b.precision(alpha[k, group], s[k])).double().sum().to(alpha.dtype)
        return found

    def variances(self, k: int, alpha: torch.Tensor, s: torch.Tensor) -> torch.Tensor:
        """(U² (1 / eigenvalues) V²)."""
        found = alpha.new_empty(self.layout.size)
        for b in self.each[k]:
            v = 1 / b.precision(self._alpha(b.name, alpha), s)
            v = v if b.left is None else b.left**2 @ v
            v = v if b.right is None else v @ (b.right**2).T
            found[self.layout.places[b.name]] = v.reshape(-1)
        return found

    def spread(self, k: int, j: torch.Tensor, alpha: torch.Tensor, s: torch.Tensor) -> torch.Tensor:
        """In each block's basis."""
        total = j.new_zeros((*j.shape[:2], j.shape[1]))
        for b in self.each[k]:
            turned = b.turned(j[..., self.layout.places[b.name]])
            half = (turned / b.precision(self._alpha(b.name, alpha), s).sqrt()).flatten(2)
            total += half @ half.mT
        return total

    def draws(self, k: int, noise: torch.Tensor, alpha: torch.Tensor, s: torch.Tensor) -> torch.Tensor:
        """U (ε / √eigenvalues) Vᵀ."""
        found = torch.empty_like(noise)
        for b in self.each[k]:
            place = self.layout.places[b.name]
            scaled = noise[:, place].reshape(len(noise), len(b.rows), len(b.columns))
            scaled = scaled / b.precision(self._alpha(b.name, alpha), s).sqrt()
            found[:, place] = b.turned(scaled.flatten(1), back=True).flatten(1)
        return found


_Sums = dict[str, torch.Tensor]


class _Shared:
    """What the data alone decide, computed once for all networks."""

    def __init__(self) -> None:
        self.squares: dict[tuple[str, int], torch.Tensor] = {}
        self.bases: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}


def check_size(joint: Joint) -> None:
    """Refuse a full matrix of too many weights, and a likelihood without curvature.

    Raises:
        UserError: it is too large, or there is no curvature.
    """
    check_curved(joint)
    if joint.layout.size > MOST_FULL:
        raise UserError(
            f"structure='full' is for at most {MOST_FULL} weights, but the network has {joint.layout.size}; take "
            "'kfac', 'diagonal' or 'last_layer'"
        )


def _add_diagonal(joint: Joint, k: int, layers: Layers, shared: _Shared, found: torch.Tensor) -> None:
    """One network's diagonal, added to ``found`` [P]."""
    rest = set(joint.layout.places)
    for i, portion in enumerate(layers.of(k)):
        sums = portion.squares()
        for n, g in sums.items():
            layer = portion.layers[n]
            rest -= {layer.weight, layer.bias or layer.weight}
            a = shared.squares.get((layer.weight, i))
            a = layer.inputs[:, 0].square() if a is None else a
            if layer.first and not joint.own:
                shared.squares[layer.weight, i] = a
            found[joint.layout.places[layer.weight]].view(g.shape[1], a.shape[1]).addmm_(g.T, a)
            if layer.bias is not None:
                found[joint.layout.places[layer.bias]] += g.sum(0)
    if rest:
        _add_rest(joint, k, rest, found)


def _add_rest(joint: Joint, k: int, rest: set[str], found: torch.Tensor) -> None:
    """The diagonal of parameters that are in no linear layer, from the Jacobian of the whole network."""
    only = torch.cat([torch.arange(p.start, p.stop) for n, p in joint.layout.places.items() if n in rest])
    one = joint.only(k)
    total = found.new_zeros(len(only))
    inputs, targets = joint.data_of(k)
    w, c = joint.weights[k], joint.constants_of(k)
    for rows in blocks(one, one.inputs, weights=len(only)):
        x, y = tuple(t[rows] for t in inputs), targets[rows]
        with torch.no_grad():
            j = jacobian(joint, w, c, x, only)
            half = torch.einsum("rno,nop->rnp", joint.columns(joint.outputs(w, c, x), c, y), j)
            total += half.square().sum((0, 1))
    found.index_add_(0, only, total)


def _blocks(joint: Joint, k: int, layers: Layers, shared: _Shared) -> list[Block]:
    """One network's blocks."""
    slopes: _Sums = {}
    inputs: _Sums = {}
    biases: _Sums = {}
    positions: dict[str, int] = {}
    alike: dict[str, str] = {}  # biases whose block is the left factor of their weight's
    first: set[str] = set()
    for portion in layers.of(k):
        for layer in portion.layers:
            positions[layer.weight] = layer.inputs.shape[1]
            if layer.weight not in shared.bases:
                _add(inputs, layer.weight, layer.inputs.flatten(0, 1))
            if layer.bias is not None and layer.inputs.shape[1] == 1:
                alike[layer.bias] = layer.weight
            if layer.first and not joint.own:
                first.add(layer.weight)
        for column in portion.columns:
            for layer, g in zip(portion.layers, column, strict=True):
                _add(slopes, layer.weight, g.flatten(0, 1))
                if layer.bias is not None and layer.bias not in alike:
                    _add(biases, layer.bias, g.sum(1))
    found = []
    for name, g in slopes.items():
        basis = shared.bases.get(name) or eigen(inputs[name] / (joint.rows * positions[name]))
        if name in first:
            shared.bases[name] = basis
        rows, left = eigen(g)
        found.append(Block(name, left, rows, basis[1], basis[0]))
    for name, b in biases.items():
        rows, left = eigen(b)
        found.append(Block(name, left, rows, None, rows.new_ones(1)))
    lefts = {b.name: b for b in found}
    found += [Block(n, lefts[w].left, lefts[w].rows, None, lefts[w].rows.new_ones(1)) for n, w in alike.items()]
    rest = set(joint.layout.places) - {b.name for b in found}
    if rest:
        diagonal = joint.weights.new_zeros(joint.layout.size)
        _add_rest(joint, k, rest, diagonal)
        ones = diagonal.new_ones(1)
        found += [Block(n, None, diagonal[joint.layout.places[n]], None, ones) for n in sorted(rest)]
    return found


def _add(sums: _Sums, name: str, rows: torch.Tensor) -> None:
    """Add Σ r rᵀ."""
    if name in sums:
        sums[name].addmm_(rows.T, rows)
    else:
        sums[name] = rows.T @ rows


def eigen(matrix: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Eigenvalues (none below zero) and eigenvectors of a positive matrix; not numbers where LAPACK cannot tell."""
    if not bool(torch.isfinite(matrix).all()):
        return torch.full_like(matrix[0], torch.nan), torch.full_like(matrix, torch.nan)
    values, vectors = torch.linalg.eigh(matrix.double())
    return values.clamp(min=0).to(matrix.dtype), vectors.to(matrix.dtype)
