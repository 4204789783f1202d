"""The networks a search keeps, as tensors and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from nastavnik.population import Learner, tensors_of
from nastavnik.selection._candidate import Candidate
from nastavnik.selection._workbench import Workbench

Pool = dict[int, tuple[Learner, ...]]


def pool_tensors(pool: Pool) -> dict[str, torch.Tensor]:
    """Every tensor of every network, by candidate, part and name."""
    return {
        f"{number}.{g}.{name}": tensor.detach().cpu().contiguous().clone()
        for number, learners in pool.items()
        for g, learner in enumerate(learners)
        for name, tensor in tensors_of(learner).items()
    }


def pool_of(history: Sequence[Candidate], bench: Workbench, tensors: Mapping[str, torch.Tensor]) -> Pool:
    """The networks that ``pool_tensors`` wrote.

    Raises:
        ValueError: a tensor has another shape than the network it is said to be of.
    """
    pooled = {int(name.split(".")[0]) for name in tensors if name.split(".")[0].isdigit()}
    pool: Pool = {}
    for candidate in (c for c in history if c.number in pooled):
        own = bench.of(candidate.recipe)
        learners = []
        for g, part in enumerate(own.parts):
            start = f"{candidate.number}.{g}."
            learner = own.learner(candidate.recipe, part)
            with torch.no_grad():
                for name, tensor in tensors_of(learner).items():
                    saved = tensors[start + name]
                    if tensor.shape != saved.shape:
                        raise ValueError(f"{name} has another shape")
                    tensor.copy_(saved)
            learners.append(learner.to(own.device).eval())
        pool[candidate.number] = tuple(learners)
    return pool
