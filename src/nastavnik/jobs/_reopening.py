"""A finished run taken up again: its dataset, and its search where the last checkpoint was written."""

from __future__ import annotations

from nastavnik.clock import Clock, Deadline
from nastavnik.dataset import Dataset
from nastavnik.jobs._checkpoint import read_checkpoint, restore
from nastavnik.jobs._setup import dataset_of, prepare, read_table
from nastavnik.nets import Family
from nastavnik.request import FitRequest
from nastavnik.rooms import limited
from nastavnik.run_folder import RunFolder
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
