"""What a population takes in memory, said before it is trained."""

from __future__ import annotations

import copy
import os
import sys

import torch
from torch import nn

from nastavnik.compiler import NotCompilable, peak_bytes
from nastavnik.errors import UserError
from nastavnik.population._data import Data
from nastavnik.population._learner import Learner
from nastavnik.population._step import State, make_step
from nastavnik.recipe import Recipe
from nastavnik.training import NOISE, Method
from nastavnik.training.optimizers import Optimizer, SecondOrder
from nastavnik.training.regularizers import Batch
from nastavnik.training.schedules import Time

EVALUATION = 4 * 2**20  # bytes of an evaluation's temporaries
_LOADED = {"sequential": 30 * 2**20, "compiled": 36 * 2**20, "batched": 110 * 2**20}  # code loaded on first use
_TORN = 3.3  # what vmap and the allocator make of a step's temporaries
_OBJECT = 3 * 2**10  # a module's or tensor's own bytes in Python
_EXAMPLE_ROWS = 8
_TOGETHER = 0.1  # of a device's memory, for curvature matrices of networks stepped together


def evaluation_rows(learner: Learner, data: Data, networks: int) -> int:
    """Rows of one evaluation call of so many networks."""
    one = _forward_bytes(learner, data) * networks
    return int(max(16, min(8192, EVALUATION // max(one, 1))))


def estimate(
    learner: Learner, recipe: Recipe, data: Data, networks: int, *, block: int, way: str, judged: bool, scratch: int = 0
) -> int:
    """Bytes at the peak of training ``networks`` copies of a learner, the learners they start from included.

    Args:
        learner: one of them.
        recipe: its recipe.
        data: what it is trained on; resident already, and not counted.
        networks: K.
        block: how many run together.
        way: sequential, batched or compiled.
        judged: whether each network's best moment is kept.
        scratch: bytes of temporary memory of a compiled step, all threads together.
    """
    optimizer = Method.of(recipe).optimizer
    parameters = {name: p.detach() for name, p in learner.named_parameters()}
    weights = _bytes(learner)
    slots = sum(t.numel() * t.itemsize for t in optimizer.init(parameters).values())
    objects = _OBJECT * sum(1 for m in learner.modules() for _ in (m, *m.parameters(recurse=False)))
    copies = 3 if judged else 2  # the learners, the state, the best moment
    total = _LOADED[way] + networks * (copies * weights + slots + objects)
    some = 1 if way == "sequential" else min(block, networks)
    rows = min(max(len(rows) for rows in data.validation), evaluation_rows(learner, data, some))
    total += 2 * some * rows * _forward_bytes(learner, data)
    if way == "compiled":
        return total + scratch
    total += round(_TORN * some * _step_bytes(learner, recipe, data))
    joined = round(1.5 * networks * (weights + slots)) if networks > some > 1 else 0  # blocks are put together anew
    return total + joined


def check_memory(optimizer: Optimizer, learner: Learner, recipe: Recipe, rows: int, device: torch.device) -> int:
    """How many networks a second-order optimizer may step together; as many as you like for the others.

    Raises:
        UserError: the loss has no curvature where it is needed, or one network alone needs more than
            ``optimizer.memory`` (gigabytes) allows.
    """
    if not isinstance(optimizer, SecondOrder):
        return sys.maxsize
    straight = [part for part in (learner.likelihood, learner.loss) if not part.curved]
    if straight and optimizer.needs_curvature:
        raise UserError(
            f"optimizer.name={optimizer.name} divides by the loss's second derivative in the outputs, and "
            f"{straight[0].name} has none; take lbfgs or levenberg_marquardt"
        )
    parameters = [p for p in learner.parameters() if p.requires_grad]
    size = sum(p.numel() for p in parameters)
    needed = optimizer.bytes(size, rows, learner.likelihood.outputs, parameters[0].itemsize)
    limit = recipe.number("optimizer.memory", optimizer.settings["memory"]) * 2**30
    if needed > limit:
        raise UserError(
            f"optimizer.name={optimizer.name} needs {needed / 2**30:.2g} GB for a network of {size:,} parameters and "
            f"batches of {rows:,} rows; optimizer.memory allows {limit / 2**30:g} GB. Take lbfgs, a smaller network "
            "(such as network.width=8) or raise optimizer.memory"
        )
    return max(1, int(_TOGETHER * memory_of(device) / max(needed, 1)))


def memory_of(device: torch.device) -> float:
    """Bytes a device has in all (so that decisions repeat); infinite where nobody can tell."""
    if device.type == "cuda":
        return float(torch.cuda.get_device_properties(device).total_memory)
    try:
        return float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    except (AttributeError, ValueError, OSError):
        return float("inf")


def ran_out_of_memory(error: BaseException) -> bool:
    """Whether it was memory that was lacking, which smaller blocks mend."""
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or "allocate memory" in str(error)


def _bytes(module: nn.Module) -> int:
    return sum(t.numel() * t.itemsize for t in (*module.parameters(), *module.buffers()))


def _forward_bytes(learner: Learner, data: Data) -> int:
    """The temporaries of an evaluation of one network, for a row."""
    module = copy.deepcopy(learner).to(data.device).eval()
    inputs, _ = data.rows_of(0, torch.arange(_EXAMPLE_ROWS, device=data.device) % len(data.targets[0]))
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            return peak_bytes(lambda *given: [module(*given)], inputs) // _EXAMPLE_ROWS
    except NotCompilable:
        return 0


def _step_bytes(learner: Learner, recipe: Recipe, data: Data) -> int:
    """The temporaries of a step of one network, its new state included."""
    module = copy.deepcopy(learner).to(data.device)
    method = Method.of(recipe)
    step = make_step(module, {}, method, {}, alone=True)
    parameters = {name: p.detach() for name, p in module.named_parameters() if p.requires_grad}
    buffers = dict(module.named_buffers()) | {
        n: p.detach() for n, p in module.named_parameters() if not p.requires_grad
    }
    rows = data.train[0][: data.batch_size(recipe.whole("batch_size"))]
    inputs, targets = data.rows_of(0, rows)
    state = State(parameters, buffers, method.optimizer.init(parameters))
    if isinstance(method.optimizer, SecondOrder):
        sizes = sum(p.numel() for p in parameters.values()), len(rows), module.likelihood.outputs
        return method.optimizer.bytes(*sizes, itemsize=next(iter(parameters.values())).itemsize)
    settings = {name: torch.tensor(recipe.number(name, default)) for name, default in method.settings.items()}
    settings |= {NOISE: torch.zeros((), dtype=torch.int32)} if method.noisy else {}
    half = torch.tensor(0.5)

    def run(*given: torch.Tensor) -> list[torch.Tensor]:
        new, _ = step(state, Batch(given[:-1], given[-1]), settings, Time(half, half, half))
        return [t for part in new for t in part.values()]

    try:
        with torch.random.fork_rng(devices=[]):
            return peak_bytes(run, [*inputs, targets])
    except NotCompilable:
        return 0
