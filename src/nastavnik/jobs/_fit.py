"""fit: which network for this data, and how good is it really?"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from torch import nn

from nastavnik.clock import Clock, Deadline
from nastavnik.data import Table, read_source
from nastavnik.dataset import Dataset, DatasetOptions, make_dataset
from nastavnik.errors import InterruptedEarly, UserError
from nastavnik.files import read_json, write_atomically, write_json
from nastavnik.jobs._deliver import Delivery, deliver
from nastavnik.jobs._record import network_table, result_record
from nastavnik.jobs._request import FitRequest, parse_budget
from nastavnik.model import Model
from nastavnik.nets import FAMILIES, Factory, Family
from nastavnik.progress import Watcher
from nastavnik.recipe import Value
from nastavnik.run_folder import RunFolder
from nastavnik.selection import Baseline, Search, Workbench, families_named, fit_baselines, table_space
from nastavnik.space import Space
from nastavnik.trace import Trace

_BASELINE_SHARE = 0.2  # of a budget of time, at most
_FINISH_SECONDS = 4.0  # evaluation, importance and report
_FINISH_SHARE = 0.02


@dataclass(frozen=True)
class Run:
    """A finished fit: ``result`` (DESIGN's ``result.json``), ``model``, ``trace`` (tidy), ``networks`` (a row each)."""

    model: Model
    result: dict[str, Any]
    trace: pd.DataFrame
    networks: pd.DataFrame
    dataset: Dataset
    folder: Path | None


def fit(
    source: Any = None,
    y: Any = None,
    *,
    target: str | None = None,
    out: str | Path | None = None,
    resume: str | Path | None = None,
    budget: float | str | None = None,
    networks: int | None = None,
    family: str | list[str] | Callable[[int, int], nn.Module] | Family | None = None,
    force: bool = False,
    watcher: Watcher | None = None,
    settings: Mapping[str, Value] | None = None,
    **options: Any,
) -> Run:
    """Train a population of networks on a table, choose among them, and say how good the choice is.

    Args:
        source: a DataFrame, a path, a folder of IDX files, the name of a built-in set, or an array of inputs.
        y: the target's values where ``source`` is an array or a frame of inputs.
        target: the column to be predicted.
        out: the run's folder; without it nothing is written.
        resume: a run's folder to go on with; ``source`` is then needed only if it was no file.
        budget: a span of time (``"5m"``, seconds), counted from this call.
        networks: how many networks to train; makes the result repeatable byte by byte.
        family: names of families, or your own ``make(inputs, outputs) -> nn.Module``.
        force: replace an earlier run in ``out``.
        watcher: hears what the fit does.
        settings: parts of the recipe that are given and not searched, by dotted name.
        **options: the other fields of ``FitRequest``, as on the command line.

    Returns:
        The finished run.

    Raises:
        UserError: anything the caller can mend, in one sentence; nothing is left half written.

    Example:
        >>> run = nastavnik.fit(frame, target="price", networks=32)  # doctest: +SKIP
        >>> run.model.predict(frame)  # doctest: +SKIP
    """
    asked: dict[str, Any] = {**options, "budget": parse_budget(budget), "networks": networks}
    if resume is not None:
        if target is not None or options or settings or family is not None or out is not None:
            raise UserError("resume goes on with what was asked; only budget and networks may be given beside it")
        folder = RunFolder.resume(resume)
        request = FitRequest.from_json({**folder.record["asked"], **{k: v for k, v in asked.items() if v is not None}})
    else:
        names, own = families_of(family)
        known = set(FitRequest.__dataclass_fields__)
        for name in asked:
            if name not in known:
                raise TypeError(f"fit() got an unexpected keyword argument {name!r}")
        path = str(source) if isinstance(source, (str, Path)) else None
        request = FitRequest(**asked, source=path, target=target, families=names, settings=dict(settings or {}))
        folder = RunFolder.create(out, request.to_json(), force=force)
        return fit_request(request, folder, source=source, y=y, family=own, watcher=watcher)
    _, own = families_of(family)
    return fit_request(request, folder, source=source, y=y, family=own, watcher=watcher)


def fit_request(
    request: FitRequest,
    folder: RunFolder,
    *,
    source: Any = None,
    y: Any = None,
    family: Family | None = None,
    watcher: Watcher | None = None,
    clock: Clock | None = None,
    extras: bool = True,
    fewest_rows: int | None = None,
) -> Run:
    """The job itself: read, split, try baselines, search, choose, test once, deliver.

    ``extras=False`` leaves out baselines, importance and report (the estimators do).
    """
    watcher = watcher or Watcher()
    clock = clock or Clock()
    clock.budget = request.budget_or_default
    watcher.begin(clock)
    resumed = (folder.path is not None) and (folder.path / "checkpoint" / "search.json").exists()
    try:
        _check_device(request.device)
        watcher.doing("reading the table")
        table = _read(request, folder, source, y)
        dataset = make_dataset(table, _dataset_options(request, fewest_rows))
        families = [family] if family is not None else _named(request.families)
        bench, space = _prepare(dataset, families, request)
    except UserError:
        if not resumed and folder.status == "running":
            folder.abandon()
        raise
    folder.begin()
    folder.write(source=table.origin, threads=_use_threads(request.threads), way="batched", status="running")
    folder.write_json("dataset.json", dataset.to_json())
    for note in [f"{dataset.task.target}: {dataset.task.kind} ({dataset.task.why})", *dataset.notes]:
        watcher.note(note)
    with _interruptible(clock):
        baselines = _baselines(dataset, request, clock, watcher) if extras else []
        trace = _trace(folder, resumed)
        deadline = Deadline(clock, _finish_reserve(clock))
        networks = None if request.networks is None else _search_networks(request, bench)
        search = Search(
            bench, space, seed=request.seed, deadline=deadline, networks=networks, trace=trace, watcher=watcher
        )
        if resumed:
            _restore(search, folder)
        search.run(lambda: _checkpoint(search, folder, deadline, request))
        if not search.ranking:
            folder.write(status="interrupted")
            raise InterruptedEarly(_nothing_scored(search, clock, folder))
        watcher.doing("choosing and testing")
        delivery = deliver(
            search, dataset, request, baselines, touches=_touches(folder) + 1, expired=lambda: clock.left < 1.5
        )
    result = result_record(delivery, search, request, clock)
    _write(folder, delivery, search, result, dataset, extras)
    status = "interrupted" if clock.stop_requested else "finished"
    folder.write(status=status, timings={"seconds": clock.elapsed})
    return Run(delivery.model, result, trace.frame(), network_table(search, delivery), dataset, folder.path)


def families_of(family: Any) -> tuple[tuple[str, ...], Family | None]:
    """Names, or the user's own factory as a family."""
    if family is None:
        return (), None
    if isinstance(family, str):
        return tuple(family.split(",")), None
    if isinstance(family, (list, tuple)):
        return tuple(family), None
    if hasattr(family, "build") and hasattr(family, "space"):
        return (), family
    if callable(family):
        return (), Factory(family)
    raise UserError(f"family must be a name or a module factory, but got {family!r}")


def _named(names: tuple[str, ...]) -> list[Family]:
    return families_named(names) if names else list(FAMILIES.values())


def _read(request: FitRequest, folder: RunFolder, source: Any, y: Any) -> Table:
    """The source, and for a resumed run the same one as before."""
    if source is None:
        source = request.source
    if source is None:
        raise UserError("the run was made from a table in memory; give that table again as the source")
    table = read_source(source, delimiter=request.delimiter, encoding=request.encoding, y=y)
    before = folder.record.get("source", {}).get("sha256")
    if before is not None and before != table.origin.get("sha256"):
        raise UserError(f"{source} is not what the run in {folder.path} was trained on (its hash differs)")
    return table


def _dataset_options(request: FitRequest, fewest_rows: int | None) -> DatasetOptions:
    options = DatasetOptions(
        target=request.target,
        task=request.task,
        kinds=request.kinds,
        drop=request.drop,
        group=request.group,
        time=request.time,
        split=request.split,
        folds=request.folds,
        test=request.test,
        class_weights=request.class_weights,
        seed=request.seed,
        networks=request.networks,
    )
    if fewest_rows is None:
        return options
    return DatasetOptions(**{**options.__dict__, "fewest_rows": fewest_rows})


def _prepare(dataset: Dataset, families: list[Family], request: FitRequest) -> tuple[Workbench, Space]:
    rows = min(len(train) for train, _ in dataset.split.parts)
    space = table_space(
        rows,
        dataset.columns.numbers.shape[1],
        families=families,
        classification=dataset.task.is_classification,
        pinned=request.settings,
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
    return bench, space


def _check_device(name: str) -> None:
    import torch

    known = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not known.get(name.split(":")[0], False):
        here = ", ".join(n for n, available in known.items() if available)
        raise UserError(f"there is no device {name!r} on this machine; there is {here}")


def _use_threads(threads: int | None) -> int:
    import torch

    if threads is not None:
        torch.set_num_threads(threads)
    return torch.get_num_threads()


def _baselines(dataset: Dataset, request: FitRequest, clock: Clock, watcher: Watcher) -> list[Baseline]:
    rows = dataset.split.development if dataset.split.folds else dataset.split.train
    seconds = float("inf") if clock.budget is None else _BASELINE_SHARE * clock.budget
    return fit_baselines(
        dataset.columns,
        dataset.task,
        rows,
        seed=request.seed,
        seconds=seconds,
        threads=_use_threads(request.threads),
        watch=lambda name: watcher.doing(f"baseline: {name}"),
    )


def _finish_reserve(clock: Clock) -> float:
    """Seconds kept for evaluation, importance and report."""
    return _FINISH_SECONDS + _FINISH_SHARE * (clock.budget or 0.0)


def _search_networks(request: FitRequest, bench: Workbench) -> int:
    """Networks left for the search when the final training, after folds, takes its own."""
    assert request.networks is not None
    final = 0 if bench.folds == 1 else (1 if request.deliver == "single" else 4)
    return max(bench.folds, request.networks - final)


def _checkpoint(search: Search, folder: RunFolder, deadline: Deadline, request: FitRequest) -> None:
    """After each bracket: what a resumed run needs; and how long the final training will take."""
    deadline.reserve = _finish_reserve(deadline.clock) + search.final_seconds(1 if request.deliver == "single" else 4)
    if folder.path is None:
        return
    from safetensors.torch import save_file

    record, tensors = search.to_record()
    place = folder.path / "checkpoint"
    search.trace.flush(folder.path / "trace")
    write_atomically(place / f"pool-{search.generation}.safetensors", lambda part: save_file(tensors, part))
    write_json(place / "search.json", {**record, "trace_parts": len(list((folder.path / "trace").glob("part-*")))})
    for old in place.glob("pool-*.safetensors"):
        if old.name != f"pool-{search.generation}.safetensors":
            old.unlink(missing_ok=True)


def _trace(folder: RunFolder, resumed: bool) -> Trace:
    """Empty, or what the checkpoint knows of."""
    if folder.path is None:
        return Trace()
    parts = int(read_json(folder.path / "checkpoint" / "search.json")["trace_parts"]) if resumed else 0
    return Trace.read(folder.path / "trace", parts)


def _restore(search: Search, folder: RunFolder) -> None:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    assert folder.path is not None
    record = read_json(folder.path / "checkpoint" / "search.json")
    pool = folder.path / "checkpoint" / f"pool-{record['generation']}.safetensors"
    try:
        tensors = load_file(pool)
    except (OSError, SafetensorError) as error:
        raise UserError(f"the checkpoint {pool} cannot be read ({error}); start anew with --force") from error
    search.restore(record, tensors)


def _touches(folder: RunFolder) -> int:
    """How often the test part was touched before."""
    if folder.path is None or not (folder.path / "result.json").exists():
        return 0
    return int(read_json(folder.path / "result.json")["test_touches"])


def _nothing_scored(search: Search, clock: Clock, folder: RunFolder) -> str:
    if search.history:
        return (
            f"none of {len(search.history)} recipes reached a finite loss; look at the audit in dataset.json, "
            "or try --set optimizer.learning_rate=0.001"
        )
    again = f"; go on with 'nastavnik fit --resume {folder.path} --budget 5m'" if folder.path else ""
    why = "interrupted" if clock.stop_requested else "out of time"
    return f"{why} before the first network was scored{again}"


def _write(
    folder: RunFolder, delivery: Delivery, search: Search, result: dict[str, Any], dataset: Dataset, extras: bool
) -> None:
    if folder.path is None:
        return
    from nastavnik.report import model_card, write_report

    search.trace.flush(folder.path / "trace")
    table = network_table(search, delivery)
    write_atomically(folder.path / "networks.csv", lambda part: table.to_csv(part, index=False))
    delivery.model.save(folder.path / "model", model_card(result, delivery, dataset))
    if extras:
        write_report(folder.path / "report.html", result, delivery, search, dataset, folder.record)
    folder.write_json("result.json", result)


@contextmanager
def _interruptible(clock: Clock) -> Iterator[None]:
    """The first Ctrl-C asks for a clean end, the second stops at once."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handle(number: int, frame: Any) -> None:
        if clock.stop_requested:
            raise KeyboardInterrupt
        clock.stop_requested = True

    before = signal.signal(signal.SIGINT, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
