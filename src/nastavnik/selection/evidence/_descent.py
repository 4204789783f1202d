"""The entropy of gradient descent: restarts are draws of an implicit posterior, whose entropy every step changes.

Legend: K networks, r restarts, P weights; U(w) = -log p(D, w), H its second derivatives. A step T(w) = w - β∇U changes
the entropy of the restarts' distribution by E log |I - βH| ≃ E[-β Tr H - β² Tr HH], a lower bound while every
β·eigenvalue is below 0.68 (Maclaurin, Duvenaud & Adams 2015, eq. 13). log p(D) ≥ S(q_t) - E U(w_t).
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn
from torch.func import grad, vjp

from nastavnik.errors import UserError
from nastavnik.noise import stream_of
from nastavnik.selection.evidence import _posterior
from nastavnik.selection.evidence._curvature import check_curved
from nastavnik.selection.evidence._joint import Joint, Networks, batched
from nastavnik.selection.evidence._making import make_joint
from nastavnik.selection.evidence._posterior import standard_normal
from nastavnik.selection.evidence._preconditions import check_ready
from nastavnik.selection.evidence._record import Cost, Evidence
from nastavnik.training.likelihoods import Likelihood

_SHARE = 0.3  # of 1 / the largest eigenvalue, for a step
_LOOKS = 100  # at the curve, in a whole descent


class Curve(NamedTuple):
    """Along the descent: ``steps`` [m], ``estimate`` of the log evidence and its standard ``error``, ``entropy``,
    ``fit`` E log p(D, w); nats."""

    steps: np.ndarray
    estimate: np.ndarray
    error: np.ndarray
    entropy: np.ndarray
    fit: np.ndarray

    @property
    def turn(self) -> int:
        """The place of the largest estimate: from here on the descent overfits."""
        return int(np.nanargmax(self.estimate))


def descent_entropy(
    networks: Networks,
    x: Any,
    y: Any,
    *,
    likelihood: Likelihood | None = None,
    prior_precision: float | Mapping[str, float] = 1.0,
    per_layer: bool = False,
    restarts: int = 16,
    steps: int = 300,
    rate: float | None = None,
    noisy: bool = False,
    seed: int = 0,
    own_data: bool = False,
    dtype: torch.dtype | None = None,
) -> Any:
    """The evidence of an architecture from restarts of gradient descent, and where the descent begins to overfit.

    Each network lends its architecture; restarts begin at weights drawn from N(0, s²), s = 1 / √inputs for matrices,
    the prior's deviation at most. The estimate rises while the fit repays the entropy lost, and turns where it does
    not: a place to stop without validation rows (for fits: ``optimizer.entropy`` with ``stopping.watch=evidence``).

    Args:
        networks: a module, several of one architecture, or a population.
        x: inputs, as for ``laplace``.
        y: targets.
        likelihood: of the targets given the outputs.
        prior_precision: of the normal prior.
        per_layer: whether each parameter tensor may have a precision of its own.
        restarts: r.
        steps: of descent, on all rows.
        rate: β, at most; by default 0.3 over the largest eigenvalue. It is cut where curvature grows.
        noisy: Langevin noise of variance 2β in each step; entropy then by the entropy power inequality.
        seed: of starts and of the traces' random vectors.
        own_data: each network has rows of its own: x and y are [K, n, …].
        dtype: of the computation.

    Returns:
        One record a network: the largest estimate along the way; ``details`` has the curve, ``posterior`` the restarts'
        weights at that place.

    Raises:
        UserError: a precondition does not hold, or an option is wrong.
    """
    started = time.monotonic()
    if restarts < 2 or steps < 1 or (rate is not None and not rate > 0):
        raise UserError(f"restarts >= 2, steps >= 1 and rate > 0 must hold, but got {restarts=}, {steps=}, {rate=}")
    joint = make_joint(
        networks,
        x,
        y,
        likelihood=likelihood,
        prior_precision=prior_precision,
        per_layer=per_layer,
        own_data=own_data,
        dtype=dtype,
    )
    descent = Descent(joint, restarts, rate, noisy, seed)
    for step in range(steps):
        descent.step()
        if step % max(1, steps // _LOOKS) == 0 or step == steps - 1:
            descent.look()
    seconds = (time.monotonic() - started) / len(joint)
    records = [descent.record(k, Cost(seconds, float(4 * steps * restarts))) for k in range(len(joint))]
    return records[0] if isinstance(networks, nn.Module) else records


class Descent:
    """Restarts of K networks, their weights and their distribution's entropy; ``step`` and ``look`` as wanted."""

    @classmethod
    def of(
        cls,
        networks: Networks,
        x: Any,
        y: Any,
        *,
        likelihood: Likelihood | None = None,
        prior_precision: float | Mapping[str, float] = 1.0,
        restarts: int = 16,
        rate: float | None = None,
        noisy: bool = False,
        seed: int = 0,
    ) -> Descent:
        """Restarts that have not moved yet; see ``descent_entropy``."""
        joint = make_joint(networks, x, y, likelihood=likelihood, prior_precision=prior_precision)
        return cls(joint, restarts, rate, noisy, seed)

    def __init__(self, joint: Joint, restarts: int, rate: float | None, noisy: bool, seed: int) -> None:
        check_curved(joint)
        check_ready(joint)
        self.joint, self.restarts, self.rate, self.noisy, self.seed = joint, restarts, rate, noisy, seed
        self.many = joint.repeated(restarts)
        deviation = start_deviations(joint)  # [K, P]
        start = [
            deviation[k] * standard_normal((restarts, joint.layout.size), stream_of(seed, f"start {k}"), joint.weights)
            for k in range(len(joint))
        ]
        self.weights = torch.cat(start)
        self.entropy = deviation.log().sum(1) + 0.5 * joint.layout.size * math.log(2 * math.pi * math.e)  # [K]
        self.changes = torch.zeros(len(joint), restarts, dtype=torch.float64)  # Σ of each restart's changes
        self.taken = 0
        self.top = standard_normal((restarts, joint.layout.size), stream_of(seed, "top"), joint.weights)
        self.top = self.top.repeat(len(joint), 1)
        self.largest = torch.zeros(len(joint), dtype=joint.weights.dtype)
        for _ in range(10):
            self._see_top()
        self.curves: list[list[tuple[float, ...]]] = [[] for _ in range(len(joint))]
        self.best = self.weights.clone()
        self.heights = torch.full((len(joint),), -math.inf, dtype=torch.float64)
        self.look()

    def step(self) -> None:
        """One step of every restart."""
        k, r = len(self.joint), self.restarts
        self._see_top()
        beta = _SHARE / self.largest.clamp(min=1e-30)
        beta = beta if self.rate is None else beta.clamp(max=self.rate)
        each = beta.repeat_interleave(r)[:, None]
        noise = self._noise("trace")
        slopes, curved, twice = self._derivatives(noise)
        change = -(each * noise * curved).sum(1) - (each**2 * noise * twice).sum(1)
        change = change.double().reshape(k, r)
        self.weights = self.weights - each * slopes
        self.changes += change
        self.entropy = self.entropy + change.mean(1).to(self.entropy)
        if self.noisy:
            self.weights = self.weights + (2 * each).sqrt() * self._noise("dynamics")
            self.entropy = after_noise(self.entropy, 2 * beta, self.joint.layout.size)
        self.taken += 1

    def look(self) -> None:
        """Enter the present estimate; keep the weights where it is the largest so far."""
        many = replace(self.many, weights=self.weights)
        joint_density = (many.log_likelihoods(self.weights) + many.log_priors(self.weights)).double()
        joint_density = joint_density.reshape(len(self.joint), self.restarts)
        each = joint_density + (0 if self.noisy else self.changes)  # their spread is the estimate's doubt
        error = each.std(1) / self.restarts**0.5
        estimate = joint_density.mean(1) + self.entropy.double()
        for k in range(len(self.joint)):
            row = (self.taken, estimate[k], error[k], self.entropy[k], joint_density[k].mean())
            self.curves[k].append(tuple(float(v) for v in row))
        better = estimate > self.heights
        self.heights = torch.where(better, estimate, self.heights)
        self.best = torch.where(better.repeat_interleave(self.restarts)[:, None], self.weights, self.best)

    def curve(self, k: int) -> Curve:
        """What was entered of the k-th network so far."""
        return Curve(*(np.array(column) for column in zip(*self.curves[k], strict=True)))

    def losses(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Mean negative log likelihood of other rows, for all networks the same, by each restart [K·r] (nats a row)."""
        other = replace(self.many, inputs=(x.to(self.weights),), targets=y, own=False)
        return -other.log_likelihoods(self.weights) / len(y)

    def record(self, k: int, cost: Cost) -> Evidence:
        """What the k-th network's restarts say."""
        curve = self.curve(k)
        finite = bool(np.isfinite(curve.estimate).all())
        turned = finite and curve.turn < len(curve.steps) - 1
        noise = self.joint.noise()
        names = [name.removeprefix("network.") for name in self.joint.layout.names]
        mine = self.best.reshape(len(self.joint), self.restarts, -1)[k]
        details = {
            "turned": turned,
            "step": int(curve.steps[curve.turn]) if finite else None,
            "curve": {name: values.tolist() for name, values in curve._asdict().items()},
        }
        return Evidence(
            "descent_entropy",
            "langevin" if self.noisy else "descent",
            float(curve.estimate[curve.turn]) if finite else None,
            float(curve.error[curve.turn]) if finite else None,
            True,
            (
                "restarts are draws of one distribution, and its entropy changes by -β Tr H - β² Tr HH a step",
                "steps are short enough for that to be a lower bound (at most 0.3 over the largest eigenvalue)",
                *(() if turned else ("the estimate was still rising at the last step; more steps would raise it",)),
            ),
            dict(zip(names, self.joint.precision[k].tolist(), strict=True)),
            None if noise is None else float(noise[k]),
            cost,
            None if finite else "the descent ran away to values that are no numbers; take a smaller rate",
            details,
            _posterior.Draws(self.joint, k, mine) if finite else None,
        )

    def _noise(self, purpose: str) -> torch.Tensor:
        shape = (self.restarts, self.joint.layout.size)
        own = [
            standard_normal(shape, stream_of(self.seed, f"{purpose} {k} {self.taken}"), self.joint.weights)
            for k in range(len(self.joint))
        ]
        return torch.cat(own)

    def _derivatives(self, v: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """∇U, Hv and HHv of every restart."""
        many = self.many

        def one(w: Any, e: Any, c: Any, x: Any, y: Any, f: Any, a: Any) -> Any:
            def slope(u: torch.Tensor) -> torch.Tensor:
                return grad(lambda z: many.losses(z, c, x, y, f).sum() - many.log_prior(z, a))(u)

            found = vjp(slope, w)  # H is symmetric
            once = found[1](e)[0]
            return found[0], once, found[1](once)[0]

        return self._map(one, v)

    def _see_top(self) -> None:
        """A step of the power method towards the largest eigenvalue of each restart."""
        v = self.top / self.top.norm(dim=1, keepdim=True).clamp(min=1e-30)
        many = self.many

        def one(w: Any, e: Any, c: Any, x: Any, y: Any, f: Any, a: Any) -> Any:
            def slope(u: torch.Tensor) -> torch.Tensor:
                return grad(lambda z: many.losses(z, c, x, y, f).sum() - many.log_prior(z, a))(u)

            return vjp(slope, w)[1](e)[0]

        self.top = self._map(one, v)
        size = self.top.norm(dim=1).reshape(len(self.joint), -1)
        self.largest = torch.where(torch.isfinite(size), size, torch.zeros_like(size)).amax(1)

    def _map(self, one: Any, v: torch.Tensor) -> Any:
        many = self.many
        data = many.data_dims()
        with torch.no_grad():
            return batched(one, (0, 0, 0, data, data, 0, 0))(
                self.weights, v, many.constants, many.inputs, many.targets, many.factor, many.precision
            )


def after_noise(entropy: torch.Tensor, variance: torch.Tensor, size: int) -> torch.Tensor:
    """A lower bound on the entropy of w + ε from that of w, ε ~ N(0, variance): the entropy power inequality.

    ½ P log(e^(2 S / P) + e^(2 S(ε) / P)), S(ε) = ½ P log(2πe · variance).
    """
    own = 0.5 * size * (2 * math.pi * math.e * variance).log()
    return 0.5 * size * torch.logaddexp(2 * entropy / size, 2 * own / size)


def start_deviations(joint: Joint) -> torch.Tensor:
    """Of each weight's start [K, P]: 1 / √inputs for matrices, the prior's deviation at most."""
    prior = joint.layout.each(joint.precision).rsqrt()
    found = prior.clone()
    for name, place in joint.layout.places.items():
        shape = joint.layout.shapes[name]
        if len(shape) >= 2:
            found[:, place] = found[:, place].clamp(max=math.prod(shape[1:]) ** -0.5)
    return found
