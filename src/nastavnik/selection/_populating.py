"""From recipes to populations: how many memory holds side by side, and one population of each shape."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

from nastavnik.nets import FAMILIES
from nastavnik.population import Learner, Population, estimate, memory_of
from nastavnik.recipe import Recipe
from nastavnik.selection._workbench import Workbench
from nastavnik.trace import Trace

_PATIENCE = 8  # evaluations
_EVALUATIONS = 20  # in a whole training
_MEMORY = 0.7  # of a device, for a bracket
_BLOCK_PARAMETERS = 4_000_000  # networks run together have at most about so many parameters


def fitting(bench: Workbench, recipes: Sequence[Recipe], usual: Learner) -> int:
    """How many of the first recipes memory holds side by side, all folds; at least one.

    Where networks like the usual one are far from filling it, they are not looked at one by one.
    """
    room = _MEMORY * memory_of(bench.data.device)
    rough = 6 * len(recipes) * bench.folds * sum(p.numel() * p.itemsize for p in usual.parameters())
    if rough < 0.1 * room:
        return len(recipes)
    for count, recipe in enumerate(recipes):
        own = bench.of(recipe)
        learner = own.learner(recipe, own.parts[0])
        room -= estimate(learner, recipe, own.data, own.folds, block=_block(learner), way="batched", judged=True)
        if count and room < 0:
            return count
    return len(recipes)


def populate(
    bench: Workbench,
    members: Sequence[tuple[int, Recipe]],
    *,
    first: int,
    total_steps: int,
    trace: Trace,
    engine: str,
    measure: bool,
) -> Population:
    """The population of recipes of one shape, each with its place in the bracket; ``first`` numbers the networks."""
    own = bench.of(members[0][1])
    learners = [own.learner(recipe, part) for _, recipe in members for part in own.parts]
    return Population(
        learners,
        [recipe for _, recipe in members],
        own.data,
        total_steps=total_steps,
        numbers=[first + i * own.folds + g for i, _ in members for g in range(own.folds)],
        patience=_PATIENCE,
        evaluations=_EVALUATIONS,
        block=_block(learners[0]),
        trace=trace,
        engine=engine,
        measure=measure,
        kin=_kin(own, members[0][1]),
    )


def _kin(bench: Workbench, recipe: Recipe) -> Hashable:
    """A name of the recipe's step; none where a module that is not ours may hold what its settings do not tell."""
    name = str(recipe["network.family"])
    if FAMILIES.get(name) not in bench.families:
        return None
    return tuple(pair for pair in recipe.shape if pair[0] != "epochs")


def _block(learner: Learner) -> int:
    """Networks of this size that run together."""
    return max(1, min(64, _BLOCK_PARAMETERS // sum(p.numel() for p in learner.parameters())))
