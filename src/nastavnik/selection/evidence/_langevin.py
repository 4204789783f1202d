"""Sampling: chains of weights, and the evidence by integrating over temperatures.

Legend: T temperatures 0 = t_0 < … < t_N = 1, posterior at t: p(w) p(D|w)^t / Z_t. log p(D) = ∫ E_t[log p(D|w)] dt, and
d/dt E_t = Var_t[log p(D|w)] (Gelman & Meng 1998; Friel, Hurn & Wyse 2014).
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from nastavnik.errors import UserError, nearest
from nastavnik.selection.evidence import _posterior
from nastavnik.selection.evidence._diagnostics import R_HAT, effective_size, r_hat
from nastavnik.selection.evidence._joint import Joint, Networks, batched
from nastavnik.selection.evidence._making import make_joint
from nastavnik.selection.evidence._preconditions import check_ready
from nastavnik.selection.evidence._record import Cost, Evidence
from nastavnik.selection.evidence._samplers import SAMPLERS, Chains, Draws, Plan
from nastavnik.training.likelihoods import Likelihood

_POWER = 5  # t_i = (i / N)^5: most temperatures near the prior, where the fit changes fastest
_MOST = 20_000  # weights
_FAR = 1e100  # beyond which nothing can be believed, and squares overflow
_WATCHED = 64  # outputs whose chains are looked at


def langevin(
    networks: Networks,
    x: Any,
    y: Any,
    *,
    likelihood: Likelihood | None = None,
    sampler: str = "hmc",
    prior_precision: float | Mapping[str, float] = 1.0,
    per_layer: bool = False,
    chains: int = 4,
    warmup: int = 300,
    draws: int = 500,
    leapfrog: int = 6,
    rate: float | None = None,
    batch: int | None = None,
    temperatures: int = 24,
    seed: int = 0,
    own_data: bool = False,
    dtype: torch.dtype | None = None,
) -> Any:
    """Draw weights from the posterior of small networks; with ``hmc`` also the evidence, by thermodynamic integration.

    All chains of all networks and temperatures run as one population. Chains begin around the given weights, spread by
    Laplace's approximation, in whose units steps are measured.

    Args:
        networks: a module, several of one architecture, or a population.
        x: inputs, as for ``laplace``.
        y: targets.
        likelihood: of the targets given the outputs.
        sampler: "hmc" (all rows, exact in the limit: the gold standard), "sgld", "sghmc", or "constant_sgd" (needs
            ``batch``), whose steps are all taken, with an error that falls with the rate.
        prior_precision: of the normal prior around zero.
        per_layer: whether each parameter tensor may have a precision of its own.
        chains: at each temperature.
        warmup: steps before anything is kept.
        draws: kept of each chain.
        leapfrog: gradient steps of one proposal of hmc; 1 is Langevin dynamics with Metropolis' correction.
        rate: the step's length; by default hmc finds it in the warm-up, constant_sgd derives it, others take 0.02.
        batch: rows a step, of samplers with stochastic gradients; all by default.
        temperatures: of the integration; 1 for draws alone.
        seed: of everything random.
        own_data: each network has rows of its own: x and y are [K, n, …].
        dtype: of the computation.

    Returns:
        One record a network, its posterior the draws. There is no number, and ``problem`` says why, where chains have
        not met (R-hat above 1.05), or where the sampler gives draws only.

    Raises:
        UserError: a precondition does not hold, or an option is wrong.
    """
    started = time.monotonic()
    plan = _checked(Plan(sampler, chains, warmup, draws, leapfrog, rate, batch, seed), temperatures)
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
    if joint.layout.size > _MOST:
        raise UserError(f"langevin is for at most {_MOST} weights, but the network has {joint.layout.size}")
    if batch is not None and batch > joint.rows:
        raise UserError(f"batch must be at most the {joint.rows} rows there are, but got {batch}")
    check_ready(joint)
    ladder = torch.ones(1, dtype=torch.float64)
    if sampler == "hmc" and temperatures > 1:
        ladder = torch.linspace(0, 1, temperatures, dtype=torch.float64) ** _POWER
    found = Chains(joint, ladder, plan).run()
    seconds = (time.monotonic() - started) / len(joint)
    cost = Cost(seconds, float(found.steps * len(ladder) * chains * (1.0 if batch is None else batch / joint.rows)))
    records = [_record(joint, k, found, ladder.numpy(), plan, cost) for k in range(len(joint))]
    return records[0] if isinstance(networks, nn.Module) else records


class Integral(NamedTuple):
    """``value`` in nats, ``sampling`` its standard error from the draws, ``spacing`` what the ladder may hide."""

    value: float
    sampling: float
    spacing: float

    @property
    def error(self) -> float:
        """Both together, as a standard error."""
        return float(np.hypot(self.sampling, self.spacing))


def integrate(ladder: np.ndarray, fits: np.ndarray) -> Integral:
    """∫ E_t[log p(D|w)] dt from draws of log p(D|w) [T, C, S], by the trapezoid rule corrected by the variances.

    On each interval of length h: h (E_0 + E_1) / 2 - h² (V_1 - V_0) / 12, which is exact for cubics; the error of the
    spacing is judged by leaving out every other temperature.
    """
    mean = fits.mean((1, 2))
    variance = fits.var((1, 2), ddof=1)
    size = np.array([effective_size(f[:, :, None])[0] for f in fits])
    value = _corrected(ladder, mean, variance)
    steps = np.diff(ladder)
    share = np.zeros_like(ladder)  # of each mean in the integral
    share[:-1] += steps / 2
    share[1:] += steps / 2
    bend = np.zeros_like(ladder)  # of each variance
    bend[:-1] += steps**2 / 12
    bend[1:] -= steps**2 / 12
    centred = fits - mean[:, None, None]
    fourth = (centred**4).mean((1, 2))
    third = (centred**3).mean((1, 2))
    # both are means over the same draws: of f, and of its squared distance from the mean
    spread = share**2 * variance + bend**2 * (fourth - variance**2).clip(min=0) + 2 * share * bend * third
    sampling = float(np.sqrt((spread.clip(min=0) / size).sum()))
    coarse = np.arange(len(ladder) - 1, -1, -2)[::-1]
    coarse = np.union1d(coarse, [0])
    rough = _corrected(ladder[coarse], mean[coarse], variance[coarse])
    return Integral(value, sampling, abs(value - rough) / 7)


def _corrected(ladder: np.ndarray, mean: np.ndarray, variance: np.ndarray) -> float:
    h = np.diff(ladder)
    return float((h * (mean[1:] + mean[:-1]) / 2 - h**2 * (variance[1:] - variance[:-1]) / 12).sum())


def _record(joint: Joint, k: int, found: Draws, ladder: np.ndarray, plan: Plan, cost: Cost) -> Evidence:
    """What the k-th network's chains say."""
    weights = found.weights[k, 0]  # [C, S, P]
    fits = found.log_likelihood[k].double().numpy()  # [T, C, S]
    watched = np.concatenate([fits[-1][:, :, None], _outputs(joint, k, weights)], axis=2)
    finite = bool((np.abs(fits) < _FAR).all() and (np.abs(watched) < _FAR).all())  # false for what is no number
    hats = r_hat(watched) if finite else np.array([np.inf])
    sizes = effective_size(watched) if finite else np.array([0.0])
    worst = float(hats.max())
    others = float(max((r_hat(f[:, :, None])[0] for f in fits), default=1.0)) if finite else np.inf
    details: dict[str, Any] = {
        "r_hat": worst,
        "effective_size": float(sizes.min()),
        "accepted": float(found.accepted[k, -1]),
        "draws": int(weights.shape[0] * weights.shape[1]),
    }
    problem = None
    value = error = None
    if not finite:
        problem = "chains ran away to values that are no numbers; take a smaller rate, or sampler='hmc'"
    elif plan.chains == 1 or worst > R_HAT or not others <= R_HAT:
        hat = worst if worst > R_HAT else others
        problem = (
            "one chain cannot show that it has arrived; take chains=4"
            if plan.chains == 1
            else f"the chains have not met (R-hat {hat:.3f}, above {R_HAT}); take more warmup and draws"
        )
    elif len(ladder) == 1:
        problem = (
            f"{plan.sampler} at one temperature gives draws, not evidence; take sampler='hmc' with temperatures=24"
        )
    else:
        integral = integrate(ladder, fits)
        value, error = integral.value, integral.error
        details |= {"sampling_error": integral.sampling, "spacing_error": integral.spacing}
    noise = joint.noise()
    names = [name.removeprefix("network.") for name in joint.layout.names]
    usable = finite and worst <= R_HAT
    return Evidence(
        "langevin",
        plan.sampler,
        value,
        error,
        False,
        (
            "the chains reached every mode that matters (R-hat cannot see a mode no chain has found)",
            *(("steps are all taken: the draws' error falls with the rate",) if plan.sampler != "hmc" else ()),
        ),
        dict(zip(names, joint.precision[k].tolist(), strict=True)),
        None if noise is None else float(noise[k]),
        cost,
        problem,
        details,
        _posterior.Draws(joint, k, weights.flatten(0, 1)) if usable else None,
    )


def _outputs(joint: Joint, k: int, weights: torch.Tensor) -> np.ndarray:
    """Outputs of some rows at each draw [C, S, q]: what weights are cannot be compared, as units may change places."""
    inputs, _ = joint.data_of(k)
    some = torch.linspace(0, joint.rows - 1, min(joint.rows, _WATCHED // joint.likelihood.outputs + 1)).long()
    rows = tuple(x[some] for x in inputs)
    with torch.no_grad():
        found = batched(joint.outputs, (0, None, None), chunk=1024)(weights.flatten(0, 1), joint.constants_of(k), rows)
    return found.double().numpy().reshape(*weights.shape[:2], -1)


def _checked(plan: Plan, temperatures: int) -> Plan:
    if plan.sampler not in SAMPLERS:
        raise UserError(f"sampler cannot be {plan.sampler!r}{nearest(plan.sampler, SAMPLERS)}")
    for name, least in (("chains", 1), ("draws", 8), ("leapfrog", 1), ("warmup", 0)):
        if getattr(plan, name) < least:
            raise UserError(f"{name} must be at least {least}, but got {getattr(plan, name)}")
    if temperatures < 1 or temperatures in (2, 3, 4):
        raise UserError(f"temperatures must be 1 (draws alone) or at least 5, but got {temperatures}")
    if plan.rate is not None and not plan.rate > 0:
        raise UserError(f"rate must be positive, but got {plan.rate}")
    if plan.sampler == "hmc" and plan.batch is not None:
        raise UserError("hmc sees all rows at each step; leave batch out, or take sampler='sgld'")
    if plan.sampler == "constant_sgd" and plan.batch is None:
        raise UserError("constant_sgd lives on the noise of batches; give batch=, such as batch=32")
    if plan.batch is not None and plan.batch < 1:
        raise UserError(f"batch must be at least 1, but got {plan.batch}")
    return plan
