"""A finished run taken up again: its dataset, and its search where the last checkpoint was written."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nastavnik.dataset import Dataset
from nastavnik.errors import UserError
from nastavnik.jobs._checkpoint import read_checkpoint, restore
from nastavnik.jobs._setup import dataset_of, prepare, read_table
from nastavnik.nets import Family
from nastavnik.recipe import Recipe
from nastavnik.rooms import limited
from nastavnik.runs import Clock, Deadline, FitRequest, RunFolder
from nastavnik.schemas import RESULT
from nastavnik.selection import Search, families_for
from nastavnik.trace import Trace


def reopened(folder: RunFolder, family: Family | None, clock: Clock) -> tuple[Dataset, Search]:
    """The run's dataset, and its search where the last checkpoint was written."""
    request = FitRequest.from_json(folder.record["asked"])
    with limited(request.memory):
        dataset = dataset_of(read_table(request, folder, None, None), request, audited=False)
    families = [family] if family is not None else families_for(request.families, dataset.columns)
    bench, space, strategy = prepare(dataset, families, request)
    search = Search(
        bench, space, seed=request.seed, deadline=Deadline(clock, 0.0), networks=None, trace=Trace(), strategy=strategy
    )
    checkpoint = read_checkpoint(folder)
    if checkpoint is not None:
        restore(search, folder, checkpoint)
    return dataset, search


@contextmanager
def ended_run(run: str | Path, family: Family | None, clock: Clock) -> Iterator[tuple[RunFolder, Dataset, Search]]:
    """A run that has ended, taken up again while nobody else may: its folder, dataset and search.

    Raises:
        UserError: there is no such run, or it could go on.
    """
    folder = _finished(run)
    folder.claim()
    try:
        dataset, search = reopened(folder, family, clock)
        _check_ended(folder, search)
        yield folder, dataset, search
    finally:
        folder.release()


def asked_about(folder: RunFolder, search: Search, network: int | None) -> tuple[int, Recipe]:
    """A network's number and its recipe: the chosen one, or another of the run's; of none chosen, one that diverged."""
    if network is None and folder.status != "finished":
        return search.history[0].numbers[0], search.history[0].recipe
    if network is None:
        chosen = folder.read("result.json", RESULT)["chosen"]
        return chosen["networks"][0], Recipe.from_json(chosen["recipe"])
    for candidate in search.history:
        if network in candidate.numbers:
            return network, candidate.recipe
    known = [n for c in search.history for n in c.numbers]
    if not known:
        raise UserError(f"the checkpoint of {folder.path} is gone, so none but the chosen network can be looked at")
    raise UserError(f"there is no network {network} in this run; networks.csv has {len(known)}, from 0 to {max(known)}")


def _finished(run: str | Path) -> RunFolder:
    folder = RunFolder.resume(run)
    if not folder.record["asked"]:
        raise UserError(f"{Path(run) / 'run.json'} is damaged: it does not say what was asked")
    asked_again = Path(run) / "checkpoint" / "search.json"
    if folder.status == "failed" and not asked_again.exists():
        raise UserError(f"the checkpoint of {run} is gone, so there is no network of it that could be trained again")
    if folder.status not in ("finished", "failed") and not asked_again.exists():
        raise UserError(_unfinished(run))
    return folder


def _unfinished(run: str | Path) -> str:
    return f"{run} is not finished; finish it with 'nastavnik fit --resume {run}'"


def _check_ended(folder: RunFolder, search: Search) -> None:
    """Refuse a run that could go on: one that is not finished, unless all its networks diverged and none is left."""
    diverged = bool(search.history) and all(c.status == "diverged" for c in search.history)
    if folder.status != "finished" and not (diverged and search.bracket is None):
        raise UserError(_unfinished(folder.path or ""))
