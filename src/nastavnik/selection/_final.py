"""The final training: what was chosen, anew on everything but the test rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from nastavnik.population import Data, Learner, Population
from nastavnik.runs import Deadline
from nastavnik.selection._candidate import Candidate
from nastavnik.selection._workbench import Part

if TYPE_CHECKING:
    from nastavnik.selection._search import Search


def train_anew(
    search: Search, candidates: Sequence[Candidate], part: Part, data: Data, first: int, deadline: Deadline | None
) -> dict[Candidate, Learner]:
    """Each candidate's recipe on other rows, for the epochs that were best before; those that stayed finite.

    Candidates of one shape train as one population. ``first`` numbers the networks, in the candidates' order; when the
    deadline passes meanwhile, those that were not done are missing.
    """
    groups: dict[object, list[int]] = {}
    for i, candidate in enumerate(candidates):
        groups.setdefault((candidate.recipe.shape, candidate.total_steps), []).append(i)
    found: dict[Candidate, Learner] = {}
    for places in groups.values():
        own, numbers = [candidates[i] for i in places], [first + i for i in places]
        found |= _train_group(search, own, part, data, numbers, deadline)
    return {c: learner for c, learner in found.items() if all(torch.isfinite(p).all() for p in learner.parameters())}


def _train_group(
    search: Search,
    candidates: Sequence[Candidate],
    part: Part,
    data: Data,
    numbers: Sequence[int],
    deadline: Deadline | None,
) -> dict[Candidate, Learner]:
    """Candidates of one shape, each taken out at its best step."""
    recipes = [c.recipe for c in candidates]
    bench = search.bench.of(recipes[0])
    batch = bench.data.batch_size(recipes[0].whole("batch_size"))
    stretch = data.steps_per_epoch(batch) / bench.data.steps_per_epoch(batch)
    total = max(1, round(candidates[0].total_steps * stretch))
    population = Population(
        [bench.learner(recipe, part) for recipe in recipes],
        recipes,
        data,
        total_steps=total,
        numbers=numbers,
        evaluations=0,
        block=len(recipes),
        trace=search.trace,
        measure=search.networks is None,
    )
    found: dict[Candidate, Learner] = {}
    living = [(c, max(1, min(total, round(c.best_step * stretch)))) for c in candidates]
    for stop in sorted({end for _, end in living}):
        population.train(stop, deadline)
        if population.step < stop:
            break
        found |= {c: population.network(i) for i, (c, end) in enumerate(living) if end == stop}
        population.release(np.array([end == stop for _, end in living]), "finished")
        living = [(c, end) for c, end in living if end > stop]
    search.network_steps += population.network_steps
    population.harvest()
    return found
