"""Curvature learned from gradients: conjugate gradients, BFGS, L-BFGS and L-BFGS with bounds.

Symbols: x the parameters as a vector [P], g the gradient, s and y the last changes of x and g, rho = 1 / (y's).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch

from nastavnik.errors import UserError
from nastavnik.recipe import Value
from nastavnik.training.optimizers._base import Problem, Tensors
from nastavnik.training.optimizers._second_order import Flat, Line, SecondOrder, downhill

_LEAST = 1e-10  # of y's for an update to be kept


class ConjugateGradient(SecondOrder):
    """Directions that do not undo each other, for the memory of two vectors (Polak and Ribière, with restarts)."""

    name = "conjugate_gradient"
    formula = "b = max(0, g'(g - g0) / (g0'g0)); d = -g + b * d0; w = w + t * d, t by a search along the line"
    prefer = "for all rows at once when even L-BFGS takes too much memory"
    source = "Polak & Ribière 1969"
    settings: ClassVar[Mapping[str, float]] = {"learning_rate": 1.0, "memory": 0.25}

    def init(self, parameters: Tensors) -> Tensors:
        """The last gradient and direction, and the fall the last step promised."""
        x = Flat(parameters).join(parameters)
        return {"g": torch.zeros_like(x), "d": torch.zeros_like(x), "promise": x.new_zeros(())}

    def step(self, problem: Problem, state: Tensors, parameters: Tensors, settings: Tensors) -> tuple[Tensors, Tensors]:
        """See ``formula``."""
        flat = Flat(parameters)
        x, g = flat.join(parameters), flat.join(problem.gradients(parameters))
        before = state["g"]
        past = before @ before
        share = torch.where(past > 0, (g @ (g - before)) / torch.where(past > 0, past, torch.ones_like(past)), past)
        d = downhill(-g + share.clamp(min=0) * state["d"], g)
        line = Line(problem, flat, x, g, d)
        size = g.abs().sum().clamp(min=1e-30)
        # as much fall as the last step promised (Nocedal & Wright 2006, 3.60); at first a step of length one
        usual = torch.where(state["promise"] < 0, state["promise"] / line.slope.clamp(max=-1e-30), 1 / size)
        t = line.search(settings["learning_rate"] * usual)
        return flat.split(line.at(t)), {"g": g, "d": d, "promise": t * line.slope}

    def bytes(self, parameters: int, rows: int, outputs: int, itemsize: int = 4) -> int:
        """A few vectors."""
        return 6 * itemsize * parameters


class Bfgs(SecondOrder):
    """Builds the inverse Hessian from changes of the gradient, and searches along its direction."""

    name = "bfgs"
    formula = "C = (I - rho s y') C (I - rho y s') + rho s s'; w = w - t * C g, t by a search along the line"
    prefer = "for up to a few thousand parameters and all rows at once"
    source = "Broyden, Fletcher, Goldfarb, Shanno 1970"
    settings: ClassVar[Mapping[str, float]] = {"learning_rate": 1.0, "memory": 0.25}

    def init(self, parameters: Tensors) -> Tensors:
        """The inverse Hessian, the last point and gradient, and how many steps were taken."""
        x = Flat(parameters).join(parameters)
        eye = torch.eye(len(x), dtype=x.dtype, device=x.device)
        return {"inverse": eye, "x": x.clone(), "g": torch.zeros_like(x), "steps": x.new_zeros(())}

    def step(self, problem: Problem, state: Tensors, parameters: Tensors, settings: Tensors) -> tuple[Tensors, Tensors]:
        """See ``formula``."""
        flat = Flat(parameters)
        x, g = flat.join(parameters), flat.join(problem.gradients(parameters))
        s, y = x - state["x"], g - state["g"]
        ys = y @ s
        kept = (ys > _LEAST) & (state["steps"] > 0)
        safe = torch.where(kept, ys, torch.ones_like(ys))
        c = state["inverse"]
        # before the first update, the identity in the right units (Nocedal & Wright 2006, 6.20)
        scale = torch.where(kept & (state["steps"] < 2), ys / (y @ y).clamp(min=1e-30), torch.ones_like(ys))
        c = c * scale
        cy = c @ y
        # the product of the formula, written out
        new = c - (torch.outer(s, cy) + torch.outer(cy, s)) / safe + torch.outer(s, s) * (1 + (y @ cy) / safe) / safe
        c = torch.where(kept, new, c)
        d = downhill(-(c @ g), g)
        line = Line(problem, flat, x, g, d)
        first = (1 / g.abs().sum().clamp(min=1e-30)).clamp(max=1.0)
        t = line.search(settings["learning_rate"] * torch.where(state["steps"] > 0, torch.ones_like(first), first))
        return flat.split(line.at(t)), {"inverse": c, "x": x, "g": g, "steps": state["steps"] + 1}

    def bytes(self, parameters: int, rows: int, outputs: int, itemsize: int = 4) -> int:
        """The inverse Hessian and the terms of its update."""
        return 5 * itemsize * parameters**2


class _Pairs:
    """The last m pairs (s, y) and what they say of the inverse Hessian; ``rho`` is 0 where there is no pair yet."""

    @staticmethod
    def init(x: torch.Tensor, history: int) -> Tensors:
        return {
            "s": x.new_zeros((history, len(x))),
            "y": x.new_zeros((history, len(x))),
            "rho": x.new_zeros(history),
            "scale": x.new_ones(()),
            "x": x.clone(),
            "g": torch.zeros_like(x),
            "steps": x.new_zeros(()),
        }

    @staticmethod
    def pushed(state: Tensors, x: torch.Tensor, g: torch.Tensor) -> Tensors:
        """The state with the newest pair at the end, if it is one to learn from."""
        s, y = x - state["x"], g - state["g"]
        ys = y @ s
        kept = (ys > _LEAST) & (state["steps"] > 0)
        rho = 1 / torch.where(kept, ys, torch.ones_like(ys))

        def shifted(old: torch.Tensor, new: torch.Tensor) -> torch.Tensor:
            return torch.where(kept, torch.cat([old[1:], new[None]]), old)

        return {
            "s": shifted(state["s"], s),
            "y": shifted(state["y"], y),
            "rho": shifted(state["rho"], rho),
            "scale": torch.where(kept, ys / (y @ y).clamp(min=1e-30), state["scale"]),
            "x": x,
            "g": g,
            "steps": state["steps"] + 1,
        }

    @staticmethod
    def direction(pairs: Tensors, g: torch.Tensor, free: torch.Tensor | None = None) -> torch.Tensor:
        """-H⁻¹ g by the two-loop recursion (Nocedal 1980), in the free coordinates if some are not."""
        s, y, rho, scale = pairs["s"], pairs["y"], pairs["rho"], pairs["scale"]
        if free is not None:
            s, y = s * free, y * free
            ys = (s * y).sum(1)
            known = (rho > 0) & (ys > _LEAST)
            rho = torch.where(known, 1 / torch.where(known, ys, torch.ones_like(ys)), torch.zeros_like(ys))
        q = -g
        alphas = []
        for i in reversed(range(len(rho))):
            alphas.append(rho[i] * (s[i] @ q))
            q = q - alphas[-1] * y[i]
        r = q * scale
        for i in range(len(rho)):
            beta = rho[i] * (y[i] @ r)
            r = r + (alphas[-1 - i] - beta) * s[i]
        return r


class Lbfgs(SecondOrder):
    """BFGS from the last few changes, in their memory.

    Without ``line_search`` every step has the learning rate's length, as ``torch.optim.LBFGS`` with one iteration a
    step.
    """

    name = "lbfgs"
    formula = "d = -C g by the two-loop recursion over the last m pairs (s, y); w = w + t * d"
    prefer = "first among second-order methods, for all rows at once"
    source = "Liu & Nocedal 1989"
    settings: ClassVar[Mapping[str, float]] = {"learning_rate": 1.0, "memory": 0.25}
    choices: ClassVar[Mapping[str, tuple[Value, ...]]] = {"line_search": (True, False), "history": (10, 5, 20, 50, 100)}

    def init(self, parameters: Tensors) -> Tensors:
        """No pairs."""
        return _Pairs.init(Flat(parameters).join(parameters), int(self.options["history"]))

    def step(self, problem: Problem, state: Tensors, parameters: Tensors, settings: Tensors) -> tuple[Tensors, Tensors]:
        """See ``formula``."""
        flat = Flat(parameters)
        x, g = flat.join(parameters), flat.join(problem.gradients(parameters))
        pairs = _Pairs.pushed(state, x, g)
        d = downhill(_Pairs.direction(pairs, g), g)
        first = (1 / g.abs().sum().clamp(min=1e-30)).clamp(max=1.0)
        t = settings["learning_rate"] * torch.where(state["steps"] > 0, torch.ones_like(first), first)
        if not self.options["line_search"]:
            return flat.split(x + t * d), pairs
        line = Line(problem, flat, x, g, d)
        return flat.split(line.at(line.search(t))), pairs

    def bytes(self, parameters: int, rows: int, outputs: int, itemsize: int = 4) -> int:
        """Pairs of vectors, old and new."""
        return itemsize * parameters * (4 * int(self.options["history"]) + 8)


class LbfgsB(SecondOrder):
    """L-BFGS within bounds: every parameter stays between ``lower`` and ``upper``.

    Projected quasi-Newton steps: parameters at a bound that the gradient pushes against it are held, the others move
    along L-BFGS's direction, and the search runs along the projected path (Bertsekas 1982; Kim et al. 2010). It
    reaches the optima of L-BFGS-B (Byrd et al. 1995) by a simpler choice of the held parameters.
    """

    name = "lbfgsb"
    formula = "w = min(upper, max(lower, w + t * d)), d = -C g in the parameters that no bound holds"
    prefer = "when weights have bounds: physical constants, mixtures, monotone networks (lower = 0)"
    source = "Byrd et al. 1995; Bertsekas 1982"
    settings: ClassVar[Mapping[str, float]] = {"learning_rate": 1.0, "lower": -3.0, "upper": 3.0, "memory": 0.25}
    choices: ClassVar[Mapping[str, tuple[Value, ...]]] = {"history": (10, 5, 20, 50, 100)}

    def __init__(self, options: Mapping[str, Value]) -> None:
        """Check that there is something between the bounds.

        Raises:
            UserError: there is not.
        """
        super().__init__(options)
        lower, upper = (float(options.get(name, self.settings[name])) for name in ("lower", "upper"))
        if not lower < upper:
            raise UserError(f"optimizer.lower must be below optimizer.upper, but got {lower:g} and {upper:g}")

    def init(self, parameters: Tensors) -> Tensors:
        """No pairs."""
        return _Pairs.init(Flat(parameters).join(parameters), int(self.options["history"]))

    def step(self, problem: Problem, state: Tensors, parameters: Tensors, settings: Tensors) -> tuple[Tensors, Tensors]:
        """See ``formula``."""
        flat = Flat(parameters)
        lower, upper = settings["lower"], settings["upper"]

        def project(v: torch.Tensor) -> torch.Tensor:
            return torch.minimum(torch.maximum(v, lower), upper)

        x = project(flat.join(parameters))
        g = flat.join(problem.gradients(flat.split(x)))
        pairs = _Pairs.pushed(state, x, g)
        held = ((x <= lower) & (g > 0)) | ((x >= upper) & (g < 0))
        free = (~held).to(x.dtype)
        d = downhill(_Pairs.direction(pairs, g * free, free) * free, g * free)
        line = Line(problem, flat, x, g, d, project)
        first = (1 / g.abs().sum().clamp(min=1e-30)).clamp(max=1.0)
        t = line.search(settings["learning_rate"] * torch.where(state["steps"] > 0, torch.ones_like(first), first))
        return flat.split(line.at(t)), pairs

    bytes = Lbfgs.bytes
