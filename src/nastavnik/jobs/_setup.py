"""From what was asked to what is trained on: the table, the dataset, the workbench and the space."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from nastavnik.data import Table, read_source
from nastavnik.dataset import FEW_ROWS, FEWEST_ROWS, Dataset, make_dataset
from nastavnik.errors import UserError
from nastavnik.nets import Family
from nastavnik.population import Population
from nastavnik.recipe import Recipe, Value
from nastavnik.runs import Clock, Deadline, FitRequest, RunFolder, target_words
from nastavnik.selection import (
    SAMPLERS,
    Search,
    Strategy,
    Workbench,
    compare_likelihoods,
    families_for,
    suitable,
    table_space,
)
from nastavnik.space import Choice, Limits, Space, parse_space, tree_in_words
from nastavnik.targets import Fitting
from nastavnik.trace import Trace

_MANY_THREADS = 64
_ROWS_A_SECOND, _MOST_FOLDED = 40, 5000  # of a budget, for cross-validation; and rows at most
_LITTLE_TIME = 20.0  # seconds, below which likelihoods are not compared


def read_table(request: FitRequest, folder: RunFolder, source: Any, y: Any) -> Table:
    """The source, and for a resumed run the same one as before.

    Raises:
        UserError: it cannot be read, or is not what the run was trained on.
    """
    if source is None:
        source = request.source
    if source is None:
        raise UserError("the run was made from a table in memory; give that table again as the source")
    table = read_source(source, delimiter=request.delimiter, encoding=request.encoding, header=request.header, y=y)
    given = table.origin.get("kind") in ("arrays", "pictures") and table.target is not None
    if given and request.target is not None and request.target != target_words(table.target or ""):
        raise UserError(f"y is the target, so that {request.target!r} cannot be; leave out y, or the target's name")
    before = folder.record.get("source", {}).get("sha256")
    if before is not None and before != table.origin.get("sha256"):
        raise UserError(f"{source} is not what the run in {folder.path} was trained on (its hash differs)")
    return table


def dataset_of(table: Table, request: FitRequest, *, audited: bool = True, fewest_rows: int = FEWEST_ROWS) -> Dataset:
    """The table as the request asks for it to be read and split."""
    return make_dataset(table, request, audited=audited, fewest_rows=fewest_rows, fold_below=_fold_below(request))


def _fold_below(request: FitRequest) -> int:
    """Where several networks are delivered and the time is enough, those of folds see more rows and are told apart by
    more: a fold is worth it for tables that the budget trains through some hundred times.
    """
    budget = request.budget_or_default
    if budget is None or request.deliver not in ("ensemble", "blend"):
        return FEW_ROWS
    return max(FEW_ROWS, min(_MOST_FOLDED, round(_ROWS_A_SECOND * budget)))


def prepare(dataset: Dataset, families: list[Family], request: FitRequest) -> tuple[Workbench, Space, Strategy]:
    """The table prepared for training, the space of recipes that suits its size, and how it is searched."""
    given, limits = (Space(), Limits()) if request.space is None else parse_space(request.space)

    def tree(alternatives: Mapping[str, Value]) -> Space:
        """The space, with these preparations tried beside the usual ones."""
        return space_for(dataset, families, _pinned(request), given, alternatives)

    space = tree({})
    settings = {name: v for name, v in space.fixed.items() if name.startswith(("preparation.", "likelihood."))}
    bench = Workbench(
        dataset.columns,
        dataset.task,
        dataset.split,
        families=families,
        settings=settings,
        seed=request.seed,
        device=request.device,
    )
    others = _alternatives(bench, request)
    space = tree(others) if others else space
    _check_targets(space, dataset, request)
    for recipe in _usual_recipes(space):
        _try(bench, recipe, "evidence" if "evidence" in request.pareto else request.criterion)
    return bench, space, _strategy(request, bench, space, limits, dataset)


def space_for(
    dataset: Dataset,
    families: list[Family],
    pinned: Mapping[str, Value],
    given: Space | None = None,
    alternatives: Mapping[str, Value] | None = None,
) -> Space:
    """The tree of recipes for this dataset, with some values pinned."""
    return table_space(
        min(len(train) for train, _ in dataset.split.parts),
        dataset.columns.numbers.shape[1],
        families=families,
        target=dataset.task.target,
        pinned=pinned,
        given=given,
        alternatives=alternatives,
        sorts=sorted({own.sort for own in dataset.columns.fields.values()}),
    )


def settle_likelihood(dataset: Dataset, families: list[Family], request: FitRequest, clock: Clock) -> FitRequest:
    """The request with the likelihood that suits the target best on validation rows, where there is a question.

    A short budget has no seconds for it: the usual one is taken.
    """
    if clock.budget is not None and clock.left < _LITTLE_TIME * clock.slowness:
        return request
    names = suitable(dataset.task, dataset.split)
    validation = dataset.split.parts[0][1]
    told = any(n.startswith("likelihood.") or n in ("loss.name", "preparation.target") for n in request.settings)
    if len(names) < 2 or told or request.space is not None or not _by_likelihood(request):
        return request

    def point(name: str) -> Mapping[str, Value]:
        """The default recipe with this likelihood."""
        return space_for(dataset, families, {**_pinned(request), "likelihood.name": name}).default()

    chosen, losses = compare_likelihoods(
        names,
        dataset.columns,
        dataset.task,
        dataset.split,
        families=families,
        point=point,
        seed=request.seed,
        device=request.device,
    )
    score = "nats a row" if dataset.task.strata is not None else "ranked probability score"
    others = ", ".join(f"{name} {loss:.4g}" for name, loss in losses.items())
    dataset.notes.append(
        f"likelihood {chosen}, by a short training and {len(validation)} validation rows ({score}: {others})"
    )
    return request.settled(likelihood=chosen)


def _alternatives(bench: Workbench, request: FitRequest) -> dict[str, Value]:
    """Which preparations have a plain one beside them; not on a grid, whose points are the user's own.

    Evidence and description length are of the target as it was prepared: those of different ones do not compare.
    """
    if SAMPLERS[request.sampler].name == "grid":
        return {}
    return {n: v for n, v in bench.alternatives().items() if _by_likelihood(request) or n != "preparation.target"}


def _check_targets(space: Space, dataset: Dataset, request: FitRequest) -> None:
    """Refuse preparations of the target that cannot be searched, or not by this criterion, before anything trains."""
    node = space.nodes.get("preparation.target")
    if not isinstance(node, Choice):
        return
    if not _by_likelihood(request):
        raise UserError(
            "preparation.target can be searched by validation only: evidence and description length are of the target "
            "as it was prepared; give it one value"
        )
    for option in node.options:
        dataset.task.prepare(Fitting(dataset.split.development, str(option)))


def _by_likelihood(request: FitRequest) -> bool:
    return request.criterion == "validation" and "evidence" not in request.pareto


def show_space(request: FitRequest) -> str:
    """The tree that a fit would search, drawn; nothing is trained or written."""
    check_device(request.device)
    table = read_table(request, RunFolder.create(None, request.to_json(), force=False), request.source, None)
    dataset = dataset_of(table, request, audited=False)
    families = families_for(request.families, dataset.columns)
    _, space, strategy = prepare(dataset, families, request)
    lines = [tree_in_words(space)]
    if strategy.limits != Limits():
        own = {f.name: getattr(strategy.limits, f.name) for f in fields(Limits)}
        lines.append("limits: " + ", ".join(f"{n} at most {v:g}" for n, v in own.items() if math.isfinite(v)))
    return "\n".join(lines)


def _strategy(request: FitRequest, bench: Workbench, space: Space, limits: Limits, dataset: Dataset) -> Strategy:
    """How the space is searched; what a sampler cannot do is said here."""
    if "error" in request.pareto and (dataset.task.strata is None or len(dataset.task.target.parts) > 1):
        what = "several targets" if len(dataset.task.target.parts) > 1 else "numbers"
        raise UserError(f"--pareto error is the share of wrong classes; for {what} take nll")
    own = {f.name: getattr(limits, f.name) for f in fields(Limits) if math.isfinite(getattr(limits, f.name))}
    asked = Limits.of(request.limits)
    limits = Limits.of({**own, **{n: v for n, v in vars(asked).items() if math.isfinite(v)}})
    strategy = Strategy(
        sampler=request.sampler,
        halving=request.halving,
        forecasts=request.forecasts,
        objectives=request.pareto or ("nll",),
        limits=limits,
        stop="gain" if request.ends_on_gain else "budget",
    )
    SAMPLERS[request.sampler](space, seed=request.seed, objectives=len(strategy.objectives))
    if limits != Limits():  # said before anything is written
        clock = Deadline(Clock(None))
        Search(
            bench, space, seed=request.seed, deadline=clock, networks=None, trace=Trace(), strategy=strategy
        ).drawing.draw(1, 0)
    return strategy


def _pinned(request: FitRequest) -> dict[str, Value]:
    """What is pinned: other criteria than validation ask for training by the likelihood itself."""
    plain = request.criterion == "validation" and "evidence" not in request.pareto
    own: dict[str, Value] = {} if plain else {"loss.name": "likelihood"}
    return {**own, **request.settings}


def _usual_recipes(space: Space) -> list[Recipe]:
    """The default of every family, with each of the optimizers that may be drawn."""
    families = space.nodes.get("network.family")
    spaces = [space.pin({"network.family": f}) for f in families.options] if isinstance(families, Choice) else [space]
    recipes = []
    for one in spaces:
        optimizers = one.nodes.get("optimizer.name")
        names = optimizers.options if isinstance(optimizers, Choice) else ()
        points = [one.pin({"optimizer.name": name}).default() for name in names] or [one.default()]
        recipes += [Recipe({**point, "seed": 0}) for point in points]
    return recipes


def _try(bench: Workbench, recipe: Recipe, criterion: str) -> None:
    """What cannot be built, or does not go together, says so before anything is trained or written."""
    learners = [bench.learner(recipe, part) for part in bench.parts]
    if criterion != "validation" and not learners[0].normalized:
        raise UserError(
            f"the criterion {criterion} needs a loss that is a density's negative log, {_what_is_none(recipe, bench)}"
        )
    if criterion == "evidence" and not learners[0].likelihood.curved:
        raise UserError(
            f"the criterion evidence needs curvature, which likelihood.name={learners[0].likelihood.name} has not; "
            "take --criterion description_length, or another likelihood"
        )
    Population(learners, [recipe], bench.data, total_steps=1, evaluations=0, instruments={})


def _what_is_none(recipe: Recipe, bench: Workbench) -> str:
    """Which choice makes a loss that is none."""
    if recipe["loss.name"] != "likelihood":
        return f"not loss.name={recipe['loss.name']}"
    if bench.task.class_weights != "none":
        return "which --class-weights makes it no more"
    return "which --target-weight makes it no more"


def check_device(name: str) -> None:
    """Refuse a device that this machine does not have."""
    import torch

    known = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not known.get(name.split(":")[0], False):
        here = ", ".join(n for n, available in known.items() if available)
        raise UserError(f"there is no device {name!r} on this machine; there is {here}")
    try:
        index = torch.device(name).index or 0
    except RuntimeError as error:
        raise UserError(f"there is no device {name!r}; write cpu, cuda, cuda:1 or mps") from error
    if index >= (torch.cuda.device_count() if name.startswith("cuda") else 1):
        raise UserError(f"there is no device {name!r} on this machine: its number is too large")


def check_threads(threads: int | None) -> None:
    """Refuse so many threads that the machine would do nothing but change between them.

    Raises:
        UserError: more than 64, and more than four for each of its processors.
    """
    here = os.cpu_count() or 1
    most = max(_MANY_THREADS, 4 * here)
    if threads is not None and threads > most:
        raise UserError(f"--threads must be at most {most} on this machine, which has {here} processors, not {threads}")


def use_threads(request: FitRequest, folder: RunFolder) -> int:
    """Set torch's threads as asked, or as a resumed run had them; the number in use."""
    import torch

    threads = request.threads or folder.record.get("threads")
    if threads is not None:
        torch.set_num_threads(threads)
    return torch.get_num_threads()
