"""From what was asked to what is trained on: the table, the dataset, the workbench and the space."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from nastavnik.data import Table, read_source
from nastavnik.dataset import FEWEST_ROWS, Dataset, DatasetOptions
from nastavnik.errors import UserError
from nastavnik.nets import Family
from nastavnik.population import Population
from nastavnik.recipe import Recipe, Value
from nastavnik.request import FitRequest
from nastavnik.run_folder import RunFolder
from nastavnik.selection import Workbench, table_space
from nastavnik.space import Choice, Space


def read_table(request: FitRequest, folder: RunFolder, source: Any, y: Any) -> Table:
    """The source, and for a resumed run the same one as before.

    Raises:
        UserError: it cannot be read, or is not what the run was trained on.
    """
    if source is None:
        source = request.source
    if source is None:
        raise UserError("the run was made from a table in memory; give that table again as the source")
    table = read_source(source, delimiter=request.delimiter, encoding=request.encoding, y=y)
    before = folder.record.get("source", {}).get("sha256")
    if before is not None and before != table.origin.get("sha256"):
        raise UserError(f"{source} is not what the run in {folder.path} was trained on (its hash differs)")
    return table


def dataset_options(request: FitRequest, fewest_rows: int | None) -> DatasetOptions:
    """The part of the request that says how the table is read and split."""
    shared = {f.name for f in fields(DatasetOptions)} & {f.name for f in fields(FitRequest)}
    asked = {name: getattr(request, name) for name in shared}
    return DatasetOptions(**asked, fewest_rows=FEWEST_ROWS if fewest_rows is None else fewest_rows)


def prepare(dataset: Dataset, families: list[Family], request: FitRequest) -> tuple[Workbench, Space]:
    """The table prepared for training, and the space of recipes that suits its size."""
    rows = min(len(train) for train, _ in dataset.split.parts)
    space = table_space(
        rows,
        dataset.columns.numbers.shape[1],
        families=families,
        classification=dataset.task.is_classification,
        pinned=_pinned(request),
    )
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
    for recipe in _usual_recipes(space):
        _try(bench, recipe, request.criterion)
    return bench, space


def _pinned(request: FitRequest) -> dict[str, Value]:
    """What is pinned: other criteria than validation ask for training by the likelihood itself."""
    own = {} if request.criterion == "validation" else {"loss.name": "likelihood"}
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
            f"--criterion {criterion} needs a loss that is a density's negative log, "
            f"not loss.name={recipe['loss.name']}"
        )
    if criterion == "evidence" and not learners[0].likelihood.curved:
        raise UserError(
            f"--criterion evidence needs curvature, which likelihood.name={learners[0].likelihood.name} has not; take "
            "--criterion description_length, or another likelihood"
        )
    Population(learners, [recipe], bench.data, total_steps=1, evaluations=0, instruments={})


def check_device(name: str) -> None:
    """Refuse a device that this machine does not have."""
    import torch

    known = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not known.get(name.split(":")[0], False):
        here = ", ".join(n for n, available in known.items() if available)
        raise UserError(f"there is no device {name!r} on this machine; there is {here}")


def use_threads(request: FitRequest, folder: RunFolder) -> int:
    """Set torch's threads as asked, or as a resumed run had them; the number in use."""
    import torch

    threads = request.threads or folder.record.get("threads")
    if threads is not None:
        torch.set_num_threads(threads)
    return torch.get_num_threads()
